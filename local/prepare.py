"""What has to be there before the local stack can start: virtual environments, the console's files, and the compiled functions.

On a new machine cargo takes minutes: meanwhile the rest is installed. Then the api function, which embeds the console's files, is compiled.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import venvs
from emulator import ROOT, Failure, status
from stack import FUNCTIONS, build_environment

CONSOLE = [ROOT / ".venv" / "receivers" / "bin" / "python", "-B", ROOT / "local" / "console.py", "files"]


def run(command: list, environment: dict | None = None) -> None:
    if subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL).returncode:
        raise Failure(f"`{' '.join(map(str, command))}` failed.")


def compiled(binaries: list[str]) -> None:
    run(["cargo", "build", "--locked", *(part for name in binaries for part in ("--bin", name))], build_environment(0))


def installed() -> None:
    venvs.make_all(["emulator", "receivers", "tools"])
    run(CONSOLE)


def prepare() -> None:
    with ThreadPoolExecutor() as side_by_side:
        installing = side_by_side.submit(installed)
        if not (ROOT / "target" / "console.made").exists():
            side_by_side.submit(compiled, [name for name in FUNCTIONS if name != "api"]).result()
        installing.result()
    compiled([*FUNCTIONS, "demo"])


if __name__ == "__main__":
    sys.exit(status(prepare))
