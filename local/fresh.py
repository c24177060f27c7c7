"""The two commands as on a new machine: `make demo` and `make test`, in an empty clone of what is committed.

Nothing that lies on this machine helps: HOME holds the configuration of cargo, rustup, pip and npm and nothing else, TMPDIR is empty, the
system's folders for temporary files are hidden behind empty ones (where user namespaces are allowed), and PATH has the system's own
programs, cargo and this Python. Downloads come from the registries once more. All of it is in target/fresh, which each run begins anew.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from emulator import ROOT, Failure, free_port, say, status

FRESH = ROOT / "target" / "fresh"
CLONE, HOME, TEMPORARY, BIN = (FRESH / name for name in ("clone", "home", "tmp", "bin"))
INSIDE = "inside"
COMMANDS = ["make demo", "make test", "make down"]
# What a user has set up for the package clients, in the home folder and in the environment.
CONFIGURATION = [".cargo/config.toml", ".cargo/credentials.toml", ".npmrc", ".pip/pip.conf", ".config/pip/pip.conf"]
VARIABLES = ("CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "RUSTUP_", "PIP_", "NPM_CONFIG_", "SSL_CERT_")
NAMES = ("LANG", "TERM", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
# rustup's programs find the toolchain by the name that they are called by.
RUST = ("cargo", "cargo-clippy", "cargo-fmt", "clippy-driver", "rustc", "rustdoc", "rustfmt", "rustup")
HIDE = "mount -t tmpfs none /tmp && mount -t tmpfs none /var/tmp && "


def kept() -> dict:
    """The variables of the package clients."""
    named = lambda name: name.upper() in NAMES or name.upper().startswith(VARIABLES)
    return {name: value for name, value in os.environ.items() if named(name)}


def furnished() -> dict:
    """Makes the folders; returns the environment in them."""
    shutil.rmtree(FRESH, ignore_errors=True)
    for folder in (HOME, TEMPORARY, BIN):
        folder.mkdir(parents=True)
    for name in CONFIGURATION:
        if (Path.home() / name).exists():
            (HOME / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path.home() / name, HOME / name)
    for name in RUST:
        if found := shutil.which(name):
            (BIN / name).symlink_to(found)
    (BIN / "python3").symlink_to(os.path.realpath(sys.executable))
    toolchains = os.environ.get("RUSTUP_HOME") or Path.home() / ".rustup"
    return kept() | {
        "HOME": str(HOME),
        "TMPDIR": str(TEMPORARY),
        "PATH": f"{BIN}:/usr/bin:/bin",
        "RUSTUP_HOME": str(toolchains),  # a toolchain is what a new machine has
        "PORT": str(free_port()),
    }


def hiding() -> list:
    """The command before a command that hides what is in the system's folders for temporary files, and changes nothing else."""
    if os.getuid() == 0:
        wrapper = ["unshare", "--mount", "sh", "-c", f'{HIDE} exec "$@"', "sh"]
    else:  # only root may mount: of a namespace of its own, in which the user is then made itself again
        again = f"unshare --map-user={os.getuid()} --map-group={os.getgid()}"
        wrapper = ["unshare", "--mount", "--map-root-user", "sh", "-c", f'{HIDE} exec {again} "$@"', "sh"]
    if shutil.which("unshare") and subprocess.run([*wrapper, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        return wrapper
    say("fresh: the system's folders for temporary files cannot be hidden here: what lies in them may help")
    return []


def fresh() -> None:
    environment = furnished()
    subprocess.run(["git", "clone", "--quiet", ROOT, CLONE], check=True)
    if subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout:
        say("fresh: what is not committed is not in the clone")
    # All in one namespace, so that one command finds the processes of another.
    inside = [*hiding(), sys.executable, "-B", Path(__file__).resolve(), INSIDE]
    whole = subprocess.Popen(inside, cwd=CLONE, env=environment, stdin=subprocess.DEVNULL)
    try:
        failed = whole.wait()
    except KeyboardInterrupt:
        whole.send_signal(signal.SIGTERM)
        whole.wait()
        raise
    if failed:
        raise Failure("The commands fail on a new machine.")
    shutil.rmtree(FRESH)


def commands() -> None:
    """Runs them here, where everything is hidden: the last one in any case."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    times, failed = [], False
    try:
        for command in COMMANDS[:-1]:
            failed = failed or one(command, times)
    finally:
        failed = one(COMMANDS[-1], times) or failed
        say("")
        for command, seconds in times:
            say(f"{seconds:8.1f} s  {command}")
    if failed:
        raise Failure("fresh: a command has failed.")


def one(command: str, times: list) -> bool:
    """Whether it fails."""
    say(f"\n##### {command}")
    started = time.monotonic()
    failed = subprocess.run(command.split(), stdin=subprocess.DEVNULL).returncode
    times.append((command, time.monotonic() - started))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(status(commands if sys.argv[1:] == [INSIDE] else fresh))
