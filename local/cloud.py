"""`make build-cloud`: builds the six functions for AWS into .aws-sam/cloud, and checks that Lambda can load them.

    ARCH=arm64 (default) or x86_64

SAM CLI and cargo-lambda come from .venv/tools, zig from .venv/cloud. Rust's part for the processor has to be there.
"""

import os
import subprocess
import sys
import time

from emulator import ROOT, Failure, say, status
from stack import FUNCTIONS

TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
MACHINES = {"arm64": "EM_AARCH64", "x86_64": "EM_X86_64"}
BUILD = ROOT / ".aws-sam" / "cloud"
# The glibc of provided.al2023, which is Amazon Linux 2023: https://docs.aws.amazon.com/linux/al2023/ug/compare-with-al2.html
GLIBC = (2, 34)


def build(arch: str) -> None:
    target = TARGETS[arch]
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    if not os.path.isdir(f"{sysroot}/lib/rustlib/{target}/lib"):
        raise Failure(f"Rust has no {target} here: rustup target add {target}")
    venvs = ROOT / ".venv"
    environment = {name: value for name, value in os.environ.items() if name not in ("CARGO_BUILD_TARGET", "CARGO_LAMBDA_COMPILER", "SAM_BUILD_MODE")}
    environment |= {"PATH": os.pathsep.join([str(venvs / "cloud" / "bin"), str(venvs / "tools" / "bin"), os.environ["PATH"]]), "SAM_CLI_TELEMETRY": "0"}
    sam = [venvs / "tools" / "bin" / "sam", "build", "--build-dir", BUILD, "--parameter-overrides", f"Architecture={arch}"]
    if subprocess.run(sam, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL).returncode:
        raise Failure("The functions were not built.")


def newest(binary: str, arch: str) -> tuple[int, ...]:
    """The newest glibc that a binary asks for."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerNeedSection

    with open(binary, "rb") as file:
        elf = ELFFile(file)
        if elf["e_machine"] != MACHINES[arch]:
            raise Failure(f"{binary} is for {elf['e_machine']}, not for {arch}.")
        needed = [section for section in elf.iter_sections() if isinstance(section, GNUVerNeedSection)]
        names = [auxiliary.name for section in needed for _, auxiliaries in section.iter_versions() for auxiliary in auxiliaries]
    versions = [tuple(map(int, name.removeprefix("GLIBC_").split("."))) for name in names if name.startswith("GLIBC_2")]
    if not versions:
        raise Failure(f"{binary} asks for no glibc: this check has read nothing.")
    return max(versions)


def main() -> int:
    arch = os.environ.get("ARCH") or "arm64"
    if arch not in TARGETS:
        print(f"ARCH={arch} is none of {', '.join(TARGETS)}.", file=sys.stderr)
        return 2
    return status(lambda: checked(arch))


def checked(arch: str) -> None:
    started = time.monotonic()
    build(arch)
    for name in FUNCTIONS:
        binary = BUILD / f"{name.capitalize()}Function" / "bootstrap"
        version = newest(str(binary), arch)
        say(f"{name:9} {binary.stat().st_size / 1e6:5.1f} MB, glibc {'.'.join(map(str, version))}")
        if version > GLIBC:
            raise Failure(f"{name} asks for a newer glibc than provided.al2023 has, {'.'.join(map(str, GLIBC))}: Lambda could not load it.")
    say(f"built for {arch} in {time.monotonic() - started:.0f} s\nnext: .venv/tools/bin/sam deploy --template .aws-sam/cloud/template.yaml --parameter-overrides Architecture={arch} … (docs/deploy.md)")


if __name__ == "__main__":
    sys.exit(main())
