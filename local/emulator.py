"""The emulator as a process: started detached, found again, stopped with every function that it started."""

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "local"
# Which stack of this checkout is meant: `local` is that of `make up`; `make test` has stacks of its own beside it.
STACK_VARIABLE = "EVENTSTREAM_LOCAL_STACK"
DEFAULT_STACK = "local"
NAME = os.environ.get(STACK_VARIABLE, DEFAULT_STACK)
STATE_DIR = ROOT / "target" / NAME
STATE_FILE = STATE_DIR / "stack.json"
LOG_FILE = STATE_DIR / "emulator.log"
PYTHON = ROOT / ".venv" / "emulator" / "bin" / "python"
REGION = "us-east-1"  # as in samconfig.toml

# Every process of the emulator, its functions included, inherits this variable: so they are found, and no others.
MARK = f"EVENTSTREAM_LOCAL_STACK_STATE={STATE_DIR}"

# What runs on this machine is asked without a proxy, by this program and by all that it starts.
LOOPBACK = "127.0.0.1,localhost"


def without_proxy(environment: dict) -> dict:
    """The variables that keep calls of this machine off a proxy, whatever the environment says besides."""
    names = ("NO_PROXY", "no_proxy")
    known = next((environment[name] for name in names if environment.get(name)), "")
    value = known if LOOPBACK in known else ",".join(filter(None, (known, LOOPBACK)))
    return dict.fromkeys(names, value)


os.environ.update(without_proxy(os.environ))

READY_SECONDS = 30
STOP_SECONDS = 8


class Failure(Exception):
    """What the user reads."""


def say(text: str) -> None:
    print(text, flush=True)


def status(work) -> int:
    """The status of a program that does `work`: 1 with what the user reads when it fails."""
    try:
        work()
        return 0
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1


# --- State ---


def read_state() -> dict:
    try:
        return json.loads(STATE_FILE.read_text())
    except (OSError, ValueError):
        return {}


def write(path: Path, text: str) -> None:
    """Writes a file whole or not at all; it may hold tokens, so only the user can read it."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)


def digest(paths: list[Path]) -> str:
    result = hashlib.sha256()
    for path in paths:
        result.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
        result.update(path.read_bytes())
    return result.hexdigest()


# --- Processes ---


def processes() -> list[int]:
    """The emulator and the functions that it started, also those whose emulator is gone."""
    if not Path("/proc/self/environ").exists():
        pid = read_state().get("pid")
        return [pid] if pid and is_alive(pid) else []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if MARK.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # gone, or not ours
                pass
    return found


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return True
    except OSError:
        return False


def send(pids: list[int], with_signal: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, with_signal)
        except ProcessLookupError:
            pass


def stop() -> int:
    """Ends all of them: the emulator is asked, so that it ends its functions; what is left then is not asked."""
    ours = processes()
    if not ours:
        return 0
    emulator = read_state().get("pid")
    send([emulator] if emulator in ours else ours, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while (left := processes()) and time.monotonic() < deadline:
        if emulator not in left:  # nothing would end them now
            break
        time.sleep(0.05)
    while left := processes():
        send(left, signal.SIGKILL)
        if time.monotonic() > deadline + STOP_SECONDS:
            raise Failure(f"These processes cannot be stopped: {left}")
        time.sleep(0.05)
    return len(ours)


def aws_environment(port: int) -> dict:
    return {
        "AWS_ENDPOINT_URL": endpoint(port),
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


# --- Start ---


def wait_until_ready(pid: int, port: int) -> None:
    """Waits for an emulator that runs. What does not respond is left alone, with all that is in it: it may be busy, or be out of reach."""
    deadline = time.monotonic() + READY_SECONDS
    while not is_ready(port):
        if time.monotonic() > deadline:
            raise Failure(f"The emulator runs as process {pid}, and does not respond on {endpoint(port)}. To begin afresh: make down up")
        time.sleep(0.5)


def endpoint(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def get(url: str, seconds: float = 2) -> tuple[int, bytes]:
    """Status 0 when there is no response."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()
    except (OSError, http.client.HTTPException):
        return 0, b""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_ready(port: int) -> bool:
    return get(f"{endpoint(port)}/_ministack/health")[0] == 200


def chosen_port(state: dict) -> int:
    if NAME != DEFAULT_STACK:  # beside others: any port that is free
        return state.get("port") or free_port()
    text = os.environ.get("PORT", "")
    if not text:
        return state.get("port") or 4566
    if not text.isdigit() or not 1024 <= int(text) <= 65535:
        raise Failure(f"PORT={text} is not a port between 1024 and 65535.")
    return int(text)


def start() -> tuple[int, bool]:
    """The emulator's port, and whether it is a new one."""
    state = read_state()
    code = digest([HERE / "launcher.py", HERE / "requirements-emulator.txt"])
    running = processes()
    if running and state.get("pid") in running:
        wait_until_ready(state["pid"], state["port"])
        wanted = chosen_port(state)
        if wanted != state["port"]:
            raise Failure(f"The stack runs on port {state['port']}, not {wanted}. `make down` first.")
        if state.get("code") == code:
            return state["port"], False
    if running:
        say("stopping what is left of an earlier emulator")
        stop()

    port = chosen_port(state if running else {})
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise Failure(f"Port {port} is taken by another program. Choose another one: PORT={port + 100} make up") from None

    temporary = STATE_DIR / "tmp"  # the emulator unpacks the functions here
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    # The functions inherit all of it: nothing of the user's own environment that could change what they do.
    kept = ("PATH", "HOME", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {
        **aws_environment(port),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "PERSIST_STATE": "0",
        "AUTH": "true",  # IAM: what a role or a key may not do is refused
        "LOG_LEVEL": os.environ.get("EMULATOR_LOG_LEVEL", "WARNING"),
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
        **dict([MARK.split("=", 1)]),
    }
    with open(LOG_FILE, "wb") as log:
        emulator = subprocess.Popen(
            [PYTHON, HERE / "launcher.py"],
            cwd=STATE_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # outlives this program and the terminal
        )
    write(STATE_FILE, json.dumps({"pid": emulator.pid, "port": port, "code": code}))
    deadline = time.monotonic() + READY_SECONDS
    while not is_ready(port):
        if emulator.poll() is not None or time.monotonic() > deadline:
            stop()
            raise Failure(f"The emulator did not start:\n{LOG_FILE.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
    say(f"emulator on {endpoint(port)}, process {emulator.pid}")
    return port, True
