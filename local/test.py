"""All tests, as `make test` and the build server run them: each step with its time, the first failure ends it.

Starts the local stack, and stops it in any case; a stack that was up before stays up.
"""

import os
import signal
import subprocess
import sys
import time

import emulator
from emulator import ROOT

CARGO_TEST = ["cargo", "test", "--locked", "--workspace", "--features", "tests/emulator"]


def stack(command: str) -> list:
    return [emulator.PYTHON, "-B", ROOT / "local" / "stack.py", command]


def with_stack(*command) -> list:
    return ["sh", "-c", '. target/local/env && exec "$@"', "sh", *command]


CONSOLE_PYTHON = ROOT / ".venv" / "receivers" / "bin" / "python"

STEPS = {
    "formatting": ["cargo", "fmt", "--all", "--check"],
    "house": [emulator.PYTHON, "-B", ROOT / "local" / "house.py"],
    "documents": [emulator.PYTHON, "-B", ROOT / "local" / "docs.py"],
    "clippy": ["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"],
    "console types": [CONSOLE_PYTHON, "-B", ROOT / "local" / "console.py", "check"],
    "template": ["make", "--no-print-directory", "lint-template"],
    "licences": [emulator.PYTHON, "-B", ROOT / "local" / "supply.py"],
    "make up": stack("up"),
    "cargo test": with_stack(*CARGO_TEST),
    "attack": with_stack(ROOT / ".venv" / "attack" / "bin" / "python", "-B", ROOT / "local" / "attack.py", "3"),
    "readme": with_stack(ROOT / ".venv" / "readme" / "bin" / "python", "-B", ROOT / "local" / "readme.py"),
    "receivers": with_stack(ROOT / ".venv" / "receivers" / "bin" / "python", "-B", ROOT / "local" / "receiving.py"),
    "console": with_stack(CONSOLE_PYTHON, "-B", ROOT / "local" / "console.py", "stories"),
    "monitored": with_stack(emulator.PYTHON, "-B", ROOT / "local" / "monitored.py"),
    "watch": with_stack(ROOT / ".venv" / "tools" / "bin" / "python", "-B", ROOT / "local" / "watch.py", "--once"),
    "variants": with_stack(emulator.PYTHON, "-B", ROOT / "local" / "variants.py"),
    "leaks": [emulator.PYTHON, "-B", ROOT / "local" / "leaks.py"],
}


def run(command: list, results: list[str]) -> int:
    """Runs one step with its output passed on, and keeps cargo's result lines to be shown again at the end."""
    environment = dict(os.environ)
    if sys.stdout.isatty():
        environment.setdefault("CARGO_TERM_COLOR", "always")
    step = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    try:
        for line in step.stdout:
            print(line, end="", flush=True)
            if line.startswith("test result:"):
                results.append(line.rstrip())
        return step.wait()
    finally:
        if step.poll() is None:  # interrupted
            step.terminate()
            step.wait()


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as with Ctrl-C: what was started is stopped
    was_up = bool(emulator.processes())
    status, results, times = 0, [], []
    try:
        for name, command in STEPS.items():
            print(f"\n=== {name}", flush=True)
            started = time.monotonic()
            status = run(command, results)
            times.append((name, time.monotonic() - started, status))
            if status:
                break
    except KeyboardInterrupt:
        status = 130
    finally:
        if not was_up:
            print("\n=== make down", flush=True)
            started = time.monotonic()
            down = subprocess.run(stack("down"), cwd=ROOT).returncode
            times.append(("make down", time.monotonic() - started, down))
            status = status or down
        print()
        for result in results:
            print(result)
        for name, seconds, failed in times:
            print(f"{seconds:8.1f} s  {name}{'  FAILED' if failed else ''}")
        print("all tests passed" if status == 0 else f"tests FAILED (status {status})", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
