"""Attacks the API of the local stack from its OpenAPI document, with schemathesis: good requests, bad ones, and sequences.

    attack.py [EXAMPLES]    examples per operation and phase (20); 400 make some 10,000 requests

No answer may be a 5xx, and none may have a status, a media type or a body that the document does not have. Works as the
second tenant, whose integrations are deleted before and after. The environment is target/local/env.
"""

import http.server
import os
import subprocess
import sys
import threading

from attack_hooks import empty
from emulator import ROOT, STATE_DIR

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "ignored_auth",
]


class Receiver(http.server.BaseHTTPRequestHandler):
    """Where webhooks go meanwhile: takes every other event, and rejects the rest. It asks for no second attempt, so that
    nothing is left in the queues when the attack is over."""

    protocol_version = "HTTP/1.1"
    received = 0

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        Receiver.received += 1
        self.send_response(204 if Receiver.received % 2 else 400)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main() -> int:
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    examples = sys.argv[1] if len(sys.argv) > 1 else "20"
    url, authorization = os.environ["EVENTSTREAM_URL"], f"Bearer {os.environ['EVENTSTREAM_TOKEN_OTHER']}"
    command = [ROOT / ".venv" / "attack" / "bin" / "schemathesis", "run", f"{url}/openapi.json", "--url", url]
    command += ["--header", f"Authorization: {authorization}", "--checks", ",".join(CHECKS)]
    command += ["--max-examples", examples, "--seed", os.environ.get("SEED", "1"), "--request-timeout", "30", "--continue-on-failure"]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "attack_hooks", "PYTHONPATH": str(ROOT / "local"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["ATTACK_RECEIVER"] = f"http://127.0.0.1:{receiver.server_port}"
    empty(url, authorization)
    try:
        # Its database of examples goes where everything else goes that a run leaves behind.
        return subprocess.run(command, cwd=STATE_DIR, env=environment).returncode
    finally:
        empty(url, authorization)
        print(f"attack: {Receiver.received} webhooks were received meanwhile")


if __name__ == "__main__":
    sys.exit(main())
