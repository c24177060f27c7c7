"""Searches all that a run has written on local stacks for the secrets that the tests used: every item of every table, every
message that waits, every line that functions and emulator have logged. `make test` ends with it.

    leaks.py [STACK ...]    these stacks (local)
"""

import base64
import json
import re
import sys
from pathlib import Path

from emulator import DEFAULT_STACK, LOG_FILE, ROOT, STATE_FILE, Failure
from logged import logged
from stack import client

# Texts in tests, demo and document that go into api_key and aws_secret_access_key, and are long enough to be recognised.
NAMED = re.compile(r'"(?:api_key|aws_secret_access_key)"\s*:\s*(?:json!\()?"([^"*]{12,})"')
FILES = ["tests/it/*.rs", "demo/src/*.rs", "openapi.json"]


def secrets() -> set[str]:
    found = set()
    for pattern in FILES:
        for path in ROOT.glob(pattern):
            text = path.read_text()
            found |= set(NAMED.findall(text)) | set(re.findall(r"\b[a-z]+-(?:api|access)-key-[0-9a-f]{8}\b", text))
    return found


def tables(port: int):
    dynamodb = client("dynamodb", port)
    for page in dynamodb.get_paginator("list_tables").paginate():
        for table in page["TableNames"]:
            for items in dynamodb.get_paginator("scan").paginate(TableName=table):
                for item in items["Items"]:
                    yield f"table {table}", repr(item)


def queues(port: int):
    sqs = client("sqs", port)
    for page in sqs.get_paginator("list_queues").paginate():
        for url in page.get("QueueUrls", []):
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
            for message in answer.get("Messages", []):
                yield f"queue {url}", message["Body"]


def logs(port: int, folder: Path):
    reader = client("logs", port)
    for page in reader.get_paginator("describe_log_groups").paginate():
        for group in page["logGroups"]:
            for event in logged(reader, group["logGroupName"]):
                yield f"log {group['logGroupName']}", event["message"]
    with (folder / LOG_FILE.name).open(errors="replace") as lines:
        for line in lines:
            yield f"log {LOG_FILE.name}", line


def written(folder: Path, port: int):
    """All texts of a stack, each with its place."""
    yield from tables(port)
    yield from queues(port)
    yield from logs(port, folder)


def main() -> int:
    stacks = {}
    for name in sys.argv[1:] or [DEFAULT_STACK]:
        state = ROOT / "target" / name / STATE_FILE.name
        if not state.exists():
            raise Failure(f"The stack {name} is not up.")
        stacks[state.parent] = json.loads(state.read_text())
    wanted = secrets() | {state["customer"]["secret"] for state in stacks.values()}
    encoded = {base64.b64encode(secret.encode()).decode().rstrip("=")[:-1]: secret for secret in wanted}
    searched, leaks, masks = {}, [], 0
    for folder, state in stacks.items():
        for place, text in written(folder, state["port"]):
            kind = place.split()[0]
            searched[kind] = searched.get(kind, 0) + 1
            masks += '"mask"' in text
            for form in [*wanted, *encoded]:
                if form in text:
                    leaks.append(f"{encoded.get(form, form)} is in {place} of {folder.name}: {text[:300]}")
    for leak in leaks:
        print(leak)
    print(f"leaks: {len(leaks)} of {len(wanted)} secrets in {searched}; {masks} integrations with masks")
    # A search of nothing finds nothing: there must have been something to find, of every kind.
    return 0 if not leaks and len(wanted) >= 5 and masks and {"table", "log"} <= searched.keys() else 1


if __name__ == "__main__":
    sys.exit(main())
