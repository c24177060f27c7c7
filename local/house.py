"""The walls of the house: what the crate `domain` may not link, who links the HTTP client, no import cycle between files, and one
set of features for each dependency.

    house.py            checks; prints nothing when all is well
    house.py report     also prints the longest files of each crate

A crate's root (lib.rs, main.rs) counts for none of this: it names the modules, and holds the `App` that they use.
"""

import pathlib
import re
import subprocess
import sys

from emulator import ROOT
from stack import FUNCTIONS

# The rules are pure: with any of these they could do I/O, or would take minutes to compile.
NOT_IN_DOMAIN = re.compile(r"^(aws[-_]|tokio|hyper|reqwest|lambda)")
# Who posts to receivers: delivery what is live, replay what is served.
CALLS_RECEIVERS = {"delivery", "replay"}
# Crates, each by the folder of its root.
CRATES = ["domain/src", "properties/src", "shared/src", "receivers/src", "monitoring/src", "simulation/src", "demo/src", "tests/src", "tests/it", "bench/src"]
CRATES += [f"functions/{function}/src" for function in FUNCTIONS]
ROOTS = {"lib.rs", "main.rs"}


def linked(crate: str) -> set[str]:
    tree = ["cargo", "tree", "--locked", "--edges", "normal", "--prefix", "none", "--package", crate]
    lines = subprocess.run(tree, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return {line.split(" ")[0] for line in lines}


def features(edges: str) -> dict[str, set[str]]:
    """For each package that the host's build of the workspace has over these edges: its features, once for each way in which it is built."""
    tree = ["cargo", "tree", "--locked", "--workspace", "--edges", edges, "--prefix", "none", "--format", "{p}|{f}|"]
    lines = subprocess.run(tree, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = {}
    for line in filter(None, lines):
        package, names, _ = line.split("|")
        found.setdefault(package, set()).add(names)
    return found


def compiled_twice() -> list[str]:
    """The packages to which dev-dependencies add features: the tests compile them again, and all that depends on them."""
    built, tested = features("normal,build"), features("normal,build,dev")
    problems = []
    for package in sorted(package for package in built if tested[package] != built[package]):
        before, after = (" and ".join(f"[{names}]" for names in sorted(found)) for found in (built[package], tested[package]))
        spec = "@".join(package.split(" ")[:2]).replace("@v", "@")
        problems.append(
            f"{package} is compiled once more for the tests, since a dev-dependency changes its features from {before} to {after}: add these in "
            "[workspace.dependencies] of Cargo.toml, or replace the dev-dependency "
            f"(`cargo tree --workspace --edges features --invert {spec}` shows it)"
        )
    return problems


def module_of(path: pathlib.Path, root: pathlib.Path) -> tuple[str, ...]:
    return path.relative_to(root).with_suffix("").parts


def paths_of(text: str, module: tuple[str, ...]) -> set[tuple[str, ...]]:
    """The modules and items that a file names, as paths from its crate's root. In its tests, `super` is the file itself."""
    text = re.sub(r"//.*", "", text)
    code, _, tests = text.partition("mod tests {")
    found = set()
    for part, here in ((code, module), (tests, (*module, "tests"))):
        for tree in re.findall(r"\b((?:crate|self|super)(?:(?:::\w+)*::\{[^;]*?\}|(?:::\w+)+))", part):
            found |= {absolute(names, here) for names in leaves(tree)}
        for child in re.findall(r"^(?:pub(?:\([a-z]+\))? )?mod (\w+);", part, re.MULTILINE):
            if re.search(rf"(?<![:\w]){child}::", part):
                found.add((*here, child))
    return found


def leaves(tree: str) -> list[list[str]]:
    """`a::{b, c::{d, e}}` as the paths that it means."""
    head, brace, rest = tree.partition("{")
    names = [name for name in head.split("::") if name]
    if not brace:
        return [names]
    parts, depth, part = [], 0, ""
    for letter in rest.rsplit("}", 1)[0]:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += letter
    return [names + below for piece in (*parts, part) if piece.strip() for below in leaves(piece.strip().split(" as ")[0])]


def absolute(names: list[str], here: tuple[str, ...]) -> tuple[str, ...]:
    if names[0] == "crate":
        return tuple(names[1:])
    while names and names[0] in ("self", "super"):
        here = here[:-1] if names[0] == "super" else here
        names = names[1:]
    return (*here, *names)


def imports(root: pathlib.Path) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """For each file, the other files that it names."""
    files = {module_of(path, root): path for path in root.rglob("*.rs") if path.name not in ROOTS}
    graph = {}
    for module, path in files.items():
        graph[module] = set()
        for names in paths_of(path.read_text(), module):
            known = [names[:length] for length in range(len(names), 0, -1) if names[:length] in files]
            graph[module] |= {known[0]} - {module} if known else set()
    return graph


def cycles(graph: dict) -> list[list[str]]:
    """Files that import each other, in circles: the strongly connected components of more than one file."""

    def reach(start: tuple) -> set:
        seen, agenda = set(), [start]
        while agenda:
            for other in graph[agenda.pop()] - seen:
                seen.add(other)
                agenda.append(other)
        return seen

    reached = {module: reach(module) for module in graph}
    found = {frozenset(other for other in reached[module] if module in reached[other]) for module in graph if module in reached[module]}
    return [sorted("/".join(module) for module in circle) for circle in found]


def main() -> int:
    problems = []
    for crate in sorted(name for name in linked("domain") if NOT_IN_DOMAIN.match(name)):
        problems.append(f"domain links {crate}: it is pure")
    for function in FUNCTIONS:
        if ("receivers" in linked(function)) != (function in CALLS_RECEIVERS):
            problems.append(f"{function}: only {', '.join(sorted(CALLS_RECEIVERS))} call receivers, and link the crate")
    problems += compiled_twice()
    for folder in CRATES:
        for circle in cycles(imports(ROOT / folder)):
            problems.append(f"{folder}: these files import each other in a circle: {', '.join(circle)}")
        if "report" in sys.argv:
            sizes = sorted(((len(path.read_text().splitlines()), path) for path in (ROOT / folder).rglob("*.rs")), reverse=True)
            print(folder, *(f"{path.relative_to(ROOT / folder)} {size}" for size, path in sizes[:4]), sep="  ")
    for problem in problems:
        print(f"house: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
