"""`make kill`: the demo's load while function processes are killed at random moments. Nothing may be lost.

Webhooks may repeat, since SQS hands out again what a killed process held; files may not. Takes some minutes: what a killed
process held comes back when its visibility time-out is over.
"""

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import emulator
from emulator import ROOT
from stack import host_triple

KILLS = 25
# Events flow for about half a minute, so that kills hit every stage.
DEMO = [str(ROOT / "target" / host_triple() / "debug" / "demo"), "--events", "8000", "--bus-events", "200"]
DEMO += ["--deadline", "900", "--settle", "130", "--webhook-duplicates-allowed"]


def functions() -> list[int]:
    """The function processes: marked as the emulator's, and not the emulator itself."""
    main = emulator.read_state().get("pid")
    return [pid for pid in emulator.processes() if pid != main and "bootstrap" in command(pid)]


def command(pid: int) -> str:
    return read(pid, "cmdline").replace("\0", " ")


def name(pid: int) -> str:
    """The function's name in the template."""
    variables = dict(part.partition("=")[::2] for part in read(pid, "environ").split("\0"))
    found = re.search(r"-(\w+)Function-", variables.get("AWS_LAMBDA_FUNCTION_NAME", ""))
    return found.group(1).lower() if found else "other"


def read(pid: int, what: str) -> str:
    try:
        return Path(f"/proc/{pid}/{what}").read_text(errors="replace")
    except OSError:  # gone
        return ""


def main() -> int:
    env = ". target/local/env && exec " + " ".join(DEMO)
    demo = subprocess.Popen(["sh", "-c", env], cwd=ROOT, env=dict(os.environ))
    killed: dict[str, int] = {}
    try:
        while demo.poll() is None:
            time.sleep(random.uniform(0.2, 2.5))
            victims = functions()
            if victims and sum(killed.values()) < KILLS:
                pid = random.choice(victims)
                victim = name(pid)
                emulator.send([pid], 9)
                killed[victim] = killed.get(victim, 0) + 1
    finally:
        if demo.poll() is None:
            demo.terminate()
    total = sum(killed.values())
    print(f"kill: killed={total} {' '.join(f'{victim}={count}' for victim, count in sorted(killed.items()))} demo_status={demo.returncode}")
    return demo.returncode or (0 if total >= 20 else 1)


if __name__ == "__main__":
    sys.exit(main())
