"""Compiles the tests, and everything else with them, and runs what was compiled.

    compiled.py make           compiles; a warning of rustc or of clippy fails it
    compiled.py run it         runs the integration tests
    compiled.py run others     runs all other tests, those in documentation as well

The compiler is clippy's (stack.py, LINTED), and cargo repeats the warnings of what was compiled before. The programs are run as cargo runs
them, but for the integration tests, which wait most of the time: they run beside the others, several at a time on each core.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from emulator import ROOT

SELECTION = ["--locked", "--workspace", "--features", "tests/emulator"]
PROGRAMS = ROOT / "target" / "test" / "programs.json"
INTEGRATION = "it"
THREADS = 8


def make() -> int:
    command = ["cargo", "test", *SELECTION, "--no-run", "--message-format", "json"]
    cargo = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    warnings, programs = 0, []
    for line in cargo.stdout:
        it = json.loads(line)
        if it["reason"] == "compiler-message" and it["message"]["level"] in ("warning", "error"):
            warnings += 1
            print(it["message"]["rendered"], flush=True)
        if it["reason"] == "compiler-artifact" and it["profile"]["test"] and it["executable"]:
            programs.append({"name": it["target"]["name"], "file": it["executable"], "folder": str(Path(it["manifest_path"]).parent)})
    PROGRAMS.parent.mkdir(parents=True, exist_ok=True)
    PROGRAMS.write_text(json.dumps(programs))
    print(f"compiled: {len(programs)} programs of tests, {warnings} warnings")
    return cargo.wait() or (1 if warnings or not programs else 0)


def run(programs: list[dict], threads: int | None) -> int:
    more = {"RUST_TEST_THREADS": str(threads)} if threads else {}
    failed = 0
    for it in programs:
        print(f"\n{it['name']} ({Path(it['file']).name})", flush=True)
        failed |= bool(subprocess.run([it["file"]], cwd=it["folder"], env={**os.environ, **more}, stdin=subprocess.DEVNULL).returncode)
    return failed


def main() -> int:
    match sys.argv[1:]:
        case ["make"]:
            return make()
        case ["run", "it"]:
            return run([it for it in json.loads(PROGRAMS.read_text()) if it["name"] == INTEGRATION], THREADS)
        case ["run", "others"]:
            failed = run([it for it in json.loads(PROGRAMS.read_text()) if it["name"] != INTEGRATION], None)
            documents = subprocess.run(["cargo", "test", *SELECTION, "--doc", "--quiet"], cwd=ROOT, stdin=subprocess.DEVNULL)
            return failed or documents.returncode
        case _:
            print(__doc__)
            return 2


if __name__ == "__main__":
    sys.exit(main())
