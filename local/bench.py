"""`make bench` and `make bench-compare`: builds what the cloud runs, and measures it.

    bench.py                    all functions, each beside its floor
    bench.py compare COMMIT     the same, and beside it the functions of another commit, in turn
    bench.py growth             what an event costs with more integrations, and with more events in the event log

The first build takes some minutes. What .cargo/config.toml says holds for both builds of a comparison: cargo looks for it in folders above.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from emulator import ROOT, Failure, say, status
from stack import FUNCTIONS

TARGET = ROOT / "target" / "bench"
BASE = TARGET / "base"


def build(source: Path, target: Path, environment: dict) -> Path:
    """The release binaries of a working copy; the folder in which they are."""
    packages = [part for name in FUNCTIONS for part in ("--package", name)]
    command = ["cargo", "build", "--release", "--locked", "--bins", *packages, "--target-dir", target]
    if subprocess.run(command, cwd=source, env=environment).returncode:
        raise Failure(f"The functions of {source} were not built.")
    return target / environment["CARGO_BUILD_TARGET"] / "release"


def checked_out(commit: str) -> Path:
    """The files of a commit, without a worktree that would have to be removed again."""
    found = subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if found.returncode:
        raise Failure(f"There is no commit {commit!r}: make bench-compare BASE=<commit>")
    shutil.rmtree(BASE, ignore_errors=True)
    BASE.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", found.stdout.strip()], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "--extract", "--directory", BASE], input=archive, check=True)
    # The page that the api function embeds is made once: it is not what is compared.
    if (ROOT / "target" / "console").is_dir():
        shutil.copytree(ROOT / "target" / "console", BASE / "target" / "console")
    return BASE


def measured(benchmark: str, environment: dict) -> None:
    command = ["cargo", "bench", "--quiet", "--manifest-path", "bench/Cargo.toml", "--target-dir", TARGET, "--bench", benchmark]
    # Built on all processors, measured on one: between two, each exchange would wake up the other one, which takes as much again.
    if subprocess.run([*command, "--no-run"], cwd=ROOT, env=environment).returncode:
        raise Failure("The benchmark was not built.")
    if subprocess.run(command, cwd=ROOT, env=environment, preexec_fn=on_one_processor).returncode:
        raise Failure("The benchmark failed.")


def on_one_processor() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def run(arguments: list[str]) -> None:
    environment = dict(os.environ)
    environment["BENCH_FUNCTIONS"] = str(build(ROOT, ROOT / "target", environment))
    match arguments:
        case []:
            measured("functions", environment)
        case ["growth"]:
            measured("growth", environment)
        case ["compare", commit] if commit:
            environment["BENCH_BASE"] = str(build(checked_out(commit), TARGET / "base-target", environment))
            say(f"compared to {commit}, whose functions are in {environment['BENCH_BASE']}")
            measured("functions", environment)
        case _:
            raise Failure(__doc__)


if __name__ == "__main__":
    sys.exit(status(lambda: run(sys.argv[1:])))
