"""Makes virtual environments in .venv from their pinned lists; does nothing while a list has not changed.

    venvs.py emulator tools    these

Several, because the emulator, SAM CLI, schemathesis, checkov and the AWS CLI want different releases of the same libraries. Needs Python 3.11
or later, nothing else.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENVS = HERE.parent / ".venv"


def make(name: str) -> None:
    VENVS.mkdir(exist_ok=True)
    with open(VENVS / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        install(name)


def install(name: str) -> None:
    requirements = HERE / f"requirements-{name}.txt"
    venv = VENVS / name
    # The path is part of it: scripts in a virtual environment name it, so a moved folder needs a new one.
    wanted = hashlib.sha256(f"{venv} {sys.version}".encode() + requirements.read_bytes()).hexdigest()
    stamp = venv / ".installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing {name} into .venv/{name} …", flush=True)
    started = time.monotonic()
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    # --no-deps: the lists are complete, and what they leave out is left out on purpose. --no-compile: most is never imported.
    pip = [venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "-r", requirements], check=True)
    stamp.write_text(wanted)
    print(f"installed {name} in {time.monotonic() - started:.0f} s", flush=True)


def make_all(names: list[str]) -> None:
    """Makes them side by side."""
    if sys.version_info < (3, 11):
        sys.exit(f"The local stack needs Python 3.11 or later; {sys.executable} is {sys.version.split()[0]}.")
    try:
        with ThreadPoolExecutor() as side_by_side:
            list(side_by_side.map(make, names))
    except subprocess.CalledProcessError as failed:
        sys.exit(f"Installing failed: {' '.join(map(str, failed.cmd))}")


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    make_all(sys.argv[1:])
