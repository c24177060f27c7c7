"""What the functions link: every crate from crates.io, with a licence that deny.toml allows.

    supply.py            checks; prints nothing when all is well
    supply.py report     also prints how many crates each function links, and which come in two versions

Asks cargo only, so that it runs wherever the project builds. cargo-deny checks the same and advisories besides.
"""

import json
import re
import subprocess
import sys
import tomllib

from emulator import ROOT
from stack import FUNCTIONS

TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]  # as in deny.toml
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def cargo(*arguments: str) -> str:
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def is_allowed(expression: str, allowed: set[str]) -> bool:
    """An SPDX expression: OR of ANDs, with parentheses. `/` is an old way to write OR."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either() -> bool:
        result = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            result = both() or result
        return result

    def both() -> bool:
        result = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            result = one() and result
        return result

    def one() -> bool:
        token = tokens.pop(0)
        if token == "(":
            result = either()
            tokens.pop(0)
            return result
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token = f"{token} WITH {tokens.pop(0)}"
        return token in allowed

    return either() and not tokens


def linked(function: str) -> set[str]:
    """Name and version of every crate that ends in a function's binary, itself and ours left out."""
    tree = cargo("tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--package", function)
    lines = {line.split(" (")[0] for line in tree.splitlines() if line}
    return {line for line in lines if not line.startswith(tuple(f"{ours} v0.1.0" for ours in ["shared", *FUNCTIONS]))}


def main() -> int:
    allowed = set(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
    assert is_allowed("(MIT OR GPL-3.0) AND ISC", allowed) and not is_allowed("MIT AND GPL-3.0", allowed)
    wrong, packages = [], {}
    for target in TARGETS:
        metadata = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", target))
        used = {node["id"] for node in metadata["resolve"]["nodes"]}
        packages |= {package["id"]: package for package in metadata["packages"] if package["id"] in used}
    for package in packages.values():
        name = f"{package['name']} {package['version']}"
        if package["source"] not in (None, CRATES_IO):
            wrong.append(f"{name} comes from {package['source']}")
        if not package["license"] or not is_allowed(package["license"], allowed):
            wrong.append(f"{name} has the licence {package['license']}")
    if sys.argv[1:] == ["report"]:
        for function in FUNCTIONS:
            crates = linked(function)
            names = [crate.split()[0] for crate in crates]
            twice = sorted({name for name in names if names.count(name) > 1})
            print(f"{function:9} {len(crates)} crates; in more than one version: {', '.join(twice) or 'none'}")
    for it in wrong:
        print(it)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
