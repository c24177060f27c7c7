"""The documents: links lead somewhere, lines have at most 100 columns, and each test of docs/invariants.md exists in its file.

Prints nothing when all is well. Tables, blocks of code and lines that are one command may be longer.
"""

import re
import sys

from emulator import ROOT

COLUMNS = 100
# How long a document may be, in lines.
LONGEST = {"README.md": 199, "ARCHITECTURE.md": 250}
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").rglob("*.md"))


def is_long(line: str) -> bool:
    text = re.sub(r"\]\([^)]*\)", "]", line)  # the address of a link
    return len(text) > COLUMNS and not text.startswith("|") and not re.fullmatch(r"\s*`[^`]*`[:.,]?|.*\*\* `aws [^`]*`:", text)


def layout(name: str, text: str) -> list[str]:
    lines = text.splitlines()
    wrong = []
    if len(lines) > LONGEST.get(name, len(lines)):
        wrong.append(f"{name} has {len(lines)} lines, and may have {LONGEST[name]}")
    is_code = False
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            is_code = not is_code
        elif not is_code and is_long(line):
            wrong.append(f"{name}:{number} has more than {COLUMNS} columns")
    return wrong


def links(name: str, text: str) -> list[str]:
    folder = (ROOT / name).parent
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", text)
    return [f"{name} links to {target}, which is not there" for target in targets if not (folder / target).exists()]


def invariants(text: str) -> list[str]:
    wrong, path = [], None
    for name in re.findall(r"`([^`]+)`", text):
        if name.endswith(".rs"):
            path = ROOT / name
            if not path.exists():
                wrong.append(f"docs/invariants.md names {name}, which is not there")
        elif re.fullmatch(r"[a-z0-9_]{12,}", name) and (path is None or not path.exists() or f"fn {name}(" not in path.read_text()):
            wrong.append(f"docs/invariants.md names the test {name}, which is not in {path and path.relative_to(ROOT)}")
    return wrong


def main() -> int:
    wrong = []
    for path in DOCUMENTS:
        name, text = str(path.relative_to(ROOT)), path.read_text()
        wrong += layout(name, text) + links(name, text)
    wrong += invariants((ROOT / "docs" / "invariants.md").read_text())
    for it in wrong:
        print(it)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
