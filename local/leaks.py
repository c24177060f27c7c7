"""Searches all that a run has written on the local stack for the secrets that the tests used: every item of every table,
every message that waits, every line that functions and emulator have logged. `make test` ends with it.
"""

import base64
import re
import sys

from emulator import LOG_FILE, ROOT, Failure, read_state
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


def logs(port: int):
    reader = client("logs", port)
    for page in reader.get_paginator("describe_log_groups").paginate():
        for group in page["logGroups"]:
            for event in logged(reader, group["logGroupName"]):
                yield f"log {group['logGroupName']}", event["message"]
    with LOG_FILE.open(errors="replace") as lines:
        for line in lines:
            yield f"log {LOG_FILE.name}", line


def main() -> int:
    port = read_state().get("port")
    if not port:
        raise Failure("The stack is not up: make up")
    wanted = secrets() | {read_state()["customer"]["secret"]}
    encoded = {base64.b64encode(secret.encode()).decode().rstrip("=")[:-1]: secret for secret in wanted}
    searched, leaks, masks = {}, [], 0
    for source in (tables, queues, logs):
        for place, text in source(port):
            kind = place.split()[0]
            searched[kind] = searched.get(kind, 0) + 1
            masks += '"mask"' in text
            for form in [*wanted, *encoded]:
                if form in text:
                    leaks.append(f"{encoded.get(form, form)} is in {place}: {text[:300]}")
    for leak in leaks:
        print(leak)
    print(f"leaks: {len(leaks)} of {len(wanted)} secrets in {searched}; {masks} integrations with masks")
    # A search of nothing finds nothing: there must have been something to find, of every kind.
    return 0 if not leaks and len(wanted) >= 5 and masks and {"table", "log"} <= searched.keys() else 1


if __name__ == "__main__":
    sys.exit(main())
