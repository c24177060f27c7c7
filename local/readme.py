"""Runs README.md on the local stack as its reader would: every block of shell commands but those that cannot run here, and the
commands of "An event did not arrive". A command that fails, or a response of 400 and more, fails the run, and so does a block of
the other documents that no list knows.

    . target/local/env && .venv/readme/bin/python -B local/readme.py
"""

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# How the blocks begin that are not run, and why.
NOT_RUN = {
    "make build-cloud": "needs an AWS account",
    "rustup target add": "needs an AWS account",
    "stack=event-stream": "is what `local/variants.py` does",
    "aws cloudformation set-stack-policy": "is what `local/variants.py` does",
    "restored=": "is what `local/variants.py` does",
    "name=Ingest": "needs a stack in AWS",
    "cargo test --profile unit": "is what `make unit` does",
    "PROPERTY_SEED=": "repeats a property that has failed",
    "make up && . target/local/env": "is what `make test` does",
    "cargo build --bin simulate": "is what `make simulate` does",
    "out() {": "needs a stack in AWS",
    "export AWS_ENDPOINT_URL=http://localhost:4566": "needs LocalStack",
    "aws events put-rule": "names a queue of the reader's own",
}
# The block that ends what the others began: all else comes before it.
LAST = "Look, stop, start, delete:"
# An HTTP error is a failed command, and the AWS CLI is our pinned one.
PROLOGUE = """set -euo pipefail
curl() { command curl --silent --show-error --fail-with-body "$@"; echo; }
"""
# What the receiver of the first calls has to have printed, and how long it may take: a new webhook catches up first.
ARRIVES = ("R1", "R3")
DEADLINE_SECONDS = 90


OTHERS = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str) -> list[str]:
    found = SHELL.findall(text)
    others = [block for path in OTHERS for block in SHELL.findall(path.read_text())]
    unused = [start for start in NOT_RUN if not any(block.startswith(start) for block in found + others)]
    if unused:
        sys.exit(f"no document has a block that begins so any more: {unused}")
    unknown = [block for block in others if not block.startswith(tuple(NOT_RUN))]
    if unknown:
        sys.exit(f"a block that is neither run nor known: {unknown}")
    return [block for block in found if not block.startswith(tuple(NOT_RUN))]


def inline(text: str) -> list[str]:
    section = text.split("\n## An event did not arrive\n")[1].split("\n## ")[0]
    commands = re.findall(r"`((?:aws|curl) [^`]+)`", section)
    return [command for command in commands if not command.startswith("aws logs ")]  # in the cloud, as it says


def script(text: str, port: int, heard: Path) -> str:
    """The commands in the order in which they are run, with names and a port of this run's own."""
    found = blocks(text)
    last = next(block for block in found if block in text.split(LAST)[1] and "_stop" in block)
    found.remove(last)
    wait = f"""end=$((SECONDS + {DEADLINE_SECONDS}))
until {" && ".join(f"grep -q '{word}' '{heard}'" for word in ARRIVES)}; do
  [ $SECONDS -lt $end ] || {{ echo 'the webhooks did not arrive in time' >&2; exit 1; }}
  sleep 0.5
done
"""
    whole = "\n".join([PROLOGUE, *found, wait, *inline(text), last])
    whole = whole.replace("serve_forever()' &", f"serve_forever()' > '{heard}' &")
    mark = secrets.token_hex(4)
    for name in ("my-hook", "my-files", "my-exports"):
        whole = whole.replace(name, f"{name}-{mark}")
    # The stack that this runs on, which is not always that of `make up`.
    state = os.environ.get("EVENTSTREAM_LOCAL_STACK", "local")
    return whole.replace("target/local/", f"target/{state}/").replace("8000", str(port))


def main() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        commands = script((ROOT / "README.md").read_text(), port, Path(folder) / "heard")
        environment = dict(os.environ, PATH=f"{ROOT / '.venv' / 'readme' / 'bin'}:{os.environ['PATH']}")
        # Into a file: the receiver in the background would keep a pipe open.
        with open(Path(folder) / "output", "w+") as output:
            run = subprocess.Popen(
                ["bash", "-c", commands], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )
            try:
                status = run.wait(timeout=3 * DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                status = "none: the commands did not end in time"
            finally:
                with contextlib.suppress(ProcessLookupError):  # nothing is left in the background
                    os.killpg(run.pid, signal.SIGTERM)
            output.seek(0)
            if status:
                print(output.read())
                print(f"README.md: a command failed (status {status})")
    return 1 if status else 0


if __name__ == "__main__":
    started = time.monotonic()
    status = main()
    if not status:
        print(f"README.md: every command that can run here was run, in {time.monotonic() - started:.0f} s")
    sys.exit(status)
