"""What a deployment can be besides the local stack: one that takes over restored tables, with an issuer of its own, and with shares of
the account's concurrency; a tenant more in the local stack; and a function of it under development.

    . target/local/env && .venv/emulator/bin/python -B local/variants.py

Runs the blocks of docs/operations.md that restore and protect, deploys a second stack with what the former prints, and uses that one
with tokens that are signed here. The emulator restores what is there now, whatever the moment. Needs the local stack; removes what it has made.
"""

import base64
import datetime
import http.server
import ipaddress
import json
import os
import re
import secrets
import signal
import ssl
import subprocess
import sys
import threading
import time
import tomllib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from calls import call, expect
from emulator import ROOT, STATE_DIR, Failure, endpoint, say, status
from readme import SHELL
from stack import STACK, TOOLS, build_environment, client, granted, outputs_of, run, running

VARIANT = "event-stream-variant"
AUDIENCE = "event-stream"
DEADLINE_SECONDS = 90
MARK = secrets.token_hex(4)


# --- An issuer of tokens, and a receiver, on this machine ---


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Serves its keys over https, and signs tokens. The emulator trusts its certificate (launcher.py)."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.url = f"https://127.0.0.1:{self.server.server_port}"
        pem = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (STATE_DIR / "issuer.key").write_bytes(pem)
        (STATE_DIR / "issuer.pem").write_bytes(self.certificate().public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(STATE_DIR / "issuer.pem", STATE_DIR / "issuer.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def certificate(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(name, name, self.key.public_key(), x509.random_serial_number(), now - datetime.timedelta(hours=1), now + datetime.timedelta(days=1))
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return builder.add_extension(names, critical=False).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(self.key, hashes.SHA256())

    def handler(self):
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                numbers = issuer.key.public_key().public_numbers()
                key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k1", "n": encoded(numbers.n.to_bytes(256, "big")), "e": encoded(b"\1\0\1")}
                pages = {"/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"}, "/keys": {"keys": [key]}}
                body = json.dumps(pages.get(self.path, {})).encode()
                self.send_response(200 if self.path in pages else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Handler

    def token(self, key=None, **claims) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "iat": now, "exp": now + 3600, **claims}
        text = f"{encoded(json.dumps({'alg': 'RS256', 'kid': 'k1', 'typ': 'JWT'}).encode())}.{encoded(json.dumps(claims).encode())}"
        return f"{text}.{encoded((key or self.key).sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


class Receiver:
    """Keeps what arrives: body and key."""

    def __init__(self) -> None:
        arrived = self.arrived = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                arrived.append((json.loads(body), self.headers["authorization"]))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, number: str) -> str:
        """The header with the API key, of the event with this number."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            for body, key in list(self.arrived):
                if body["payload"].get("number") == number:
                    return key
            time.sleep(0.1)
        raise Failure(f"{number} did not arrive in {DEADLINE_SECONDS} s; what did: {self.arrived}")


def wait_until_live(url: str, token: str) -> None:
    """Waits until the webhook at this address of the API has caught up."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while call(url, token)[1]["pending"]["catching_up"]:
        if time.monotonic() > deadline:
            raise Failure("the webhook does not become live")
        time.sleep(0.5)


# --- What is tried ---


def documented(stack: str, *begin: str) -> str:
    """What the blocks of docs/operations.md print that begin so, run by the AWS CLI for a stack."""
    text = (ROOT / "docs" / "operations.md").read_text()
    found = [block for block in SHELL.findall(text) if block.startswith(("stack=", *begin))]
    expect("blocks of docs/operations.md", len(found), 1 + len(begin))
    commands = "set -euo pipefail\n" + "\n".join(found)
    commands = commands.replace("stack=event-stream\n", f"stack={stack}\n").replace("restored=event-stream-restored", f"restored=restored-{MARK}")
    environment = dict(os.environ, PATH=f"{ROOT / '.venv' / 'readme' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(["bash", "-c", commands], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise Failure(f"docs/operations.md, {begin}:\n{done.stdout}{done.stderr}")
    return done.stdout


def deploy(port: int, overrides: list[str]) -> dict:
    """Deploys what `make up` has built once more, as another stack."""
    local = tomllib.loads((ROOT / "samconfig.toml").read_text())["local"]["deploy"]["parameters"]["parameter_overrides"]
    sam = [TOOLS / "sam", "deploy", "--config-env", "local", "--stack-name", VARIANT, "--parameter-overrides", *local, *overrides]
    run(sam, build_environment(port))
    return outputs_of(client("cloudformation", port), VARIANT)


def remove(port: int) -> None:
    """The variant goes, and the tables that it took over stay; then they go, too."""
    stacks, tables = client("cloudformation", port), client("dynamodb", port)
    stacks.delete_stack(StackName=VARIANT)
    stacks.get_waiter("stack_delete_complete").wait(StackName=VARIANT, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    for name in ("integrations", "events"):
        tables.delete_table(TableName=f"restored-{MARK}-{name}")  # fails where it is not there any more


def adopted(port: int, receiver: Receiver) -> None:
    issuer, hook = Issuer(), f"hook-{MARK}"
    ours, token = f"{os.environ['EVENTSTREAM_URL']}/api/v1/org", os.environ["EVENTSTREAM_TOKEN"]
    body = {"id": hook, "integration_type": "permanent", "callback_parameters": {"callback_url": receiver.url, "api_key": f"key-of-{MARK}"}, "filter_conditions": {"event_filter": [f"v{MARK}.created"]}}
    expect("registered", call(f"{ours}/integrations/eventstream/", token, "POST", body)[0], 200)
    publish = lambda number: {"name": f"v{MARK}.created", "payload": {"number": number}}
    expect("published", call(f"{ours}/events", token, "POST", publish("before"))[0], 202)
    receiver.wait("before")
    parameters = documented(STACK, "restored=").split()
    expect("deleted", call(f"{ours}/integrations/eventstream/{hook}", token, "DELETE")[0], 204)
    outs = deploy(port, [*parameters, f"TokenIssuer={issuer.url}", f"TokenAudience=other,{AUDIENCE}", "TenantClaim=org", "ReservedConcurrency=true"])
    try:
        documented(VARIANT, "aws cloudformation set-stack-policy")
        expect("tables", (outs["IntegrationsTableName"], outs["EventsTableName"]), (f"restored-{MARK}-integrations", f"restored-{MARK}-events"))
        theirs = f"{endpoint(port)}/_aws/execute-api/{outs['ApiId']}/api/v1/org"
        good, path = issuer.token(org="acme"), f"{theirs}/integrations/eventstream/{hook}"
        for why, refused, status in [
            ("a token of another key", issuer.token(key=rsa.generate_private_key(public_exponent=65537, key_size=2048), org="acme"), 401),
            ("another audience", issuer.token(org="acme", aud="elsewhere"), 401),
            ("another issuer", issuer.token(org="acme", iss="https://elsewhere.example"), 401),
            ("an old token", issuer.token(org="acme", exp=int(time.time()) - 60), 401),
            ("no tenant", issuer.token(), 403),
            ("another tenant", issuer.token(org="globex"), 404),
            ("the local stack's token", token, 401),
        ]:
            expect(why, call(path, refused)[0], status)
        status, shown = call(path, good)
        expect("the restored integration", (status, shown.get("status"), shown.get("callback_parameters", {}).get("callback_url")), (200, "running", receiver.url))
        expect("published", call(f"{theirs}/events", good, "POST", publish("after"))[0], 202)
        expect("the key that was restored", receiver.wait("after"), f"Bearer key-of-{MARK}")
        expect("arrived", sorted(body["payload"]["number"] for body, _ in receiver.arrived), ["after", "before"])
    finally:
        remove(port)
    for name in ("issuer.key", "issuer.pem"):
        (STATE_DIR / name).unlink(missing_ok=True)


def tenant(port: int) -> None:
    """`make tenant`: a new tenant has a client, whose token is the tenant's; asked again, no second one is made."""
    name = f"t-{MARK}"
    make = lambda: run([sys.executable, "-B", ROOT / "local" / "tenant.py"], dict(os.environ, NAME=name, STACK=""))
    made = dict(re.findall(r"^(\w+) +(\S+)$", make(), re.MULTILINE))
    again = make()
    expect("made again", (made["client_id"] in again, "already" in again, "client_secret" in again), (True, True, False))
    token = granted(port, made["client_id"], made["client_secret"])
    ours = f"{os.environ['EVENTSTREAM_URL']}/api/v1/org/integrations/eventstream"
    expect("a new tenant's integrations", call(f"{ours}/", token), (200, {"integrations": []}))


def dev(port: int, receiver: Receiver) -> None:
    """`make dev`: a webhook goes through a function that cargo-lambda runs, and after it through the emulator's again."""
    ours, token, hook = f"{os.environ['EVENTSTREAM_URL']}/api/v1/org", os.environ["EVENTSTREAM_TOKEN"], f"dev-{MARK}"
    body = {"id": hook, "integration_type": "permanent", "callback_parameters": {"callback_url": receiver.url}, "filter_conditions": {"event_filter": [f"d{MARK}.created"]}}
    expect("registered", call(f"{ours}/integrations/eventstream/", token, "POST", body)[0], 200)

    def sent(number: str) -> None:
        expect("published", call(f"{ours}/events", token, "POST", {"name": f"d{MARK}.created", "payload": {"number": number}})[0], 202)
        receiver.wait(number)

    wait_until_live(f"{ours}/integrations/eventstream/{hook}", token)  # until then replay sends
    deadline = time.monotonic() + DEADLINE_SECONDS
    with open(STATE_DIR / "dev.log", "w+") as log:
        command = [sys.executable, "-B", ROOT / "local" / "dev.py"]
        process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ, FUNCTION="delivery"), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        said = lambda: (STATE_DIR / "dev.log").read_text(errors="replace")
        try:
            while "dev: calls of delivery" not in said():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Failure(f"make dev:\n{said()}")
                time.sleep(0.2)
            sent("by cargo-lambda")
        finally:
            process.send_signal(signal.SIGTERM)  # SIGINT is ignored where this runs in the background
            process.wait(timeout=60)
        if "Running" not in said():
            raise Failure(f"cargo-lambda has started no function:\n{said()}")
    sent("by the emulator")
    expect("deleted", call(f"{ours}/integrations/eventstream/{hook}", token, "DELETE")[0], 204)


def variants() -> None:
    (port, _), started, receiver = running(), time.monotonic(), Receiver()
    adopted(port, receiver)
    tenant(port)
    dev(port, receiver)
    say(f"variants: a stack on restored tables with an issuer of its own, a tenant more, and a function under development, in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    sys.exit(status(variants))
