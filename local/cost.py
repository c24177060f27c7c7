"""`make cost`: what a million events cost in AWS, from what a fixed workload asks of the services here.

A proxy between the functions of the local stack and the emulator counts every request that AWS bills: read and write units by the
sizes of items, SQS requests by 64 KB, KMS. Lambda's pollers ask the emulator directly: one receive and one deletion is counted for
each batch. Prices are in prices.toml. EVENTS=4000 are published BATCH=10 a request, RATE=20 requests a second, with one webhook
that takes all of them and one S3 integration.

Seconds of Lambda are this machine's, of this build, with the memory that the template gives: they say which function costs, not
what Graviton would need.
"""

import asyncio
import concurrent.futures
import contextlib
import http.client
import http.server
import json
import math
import multiprocessing
import os
import random
import re
import secrets
import sys
import threading
import time
import tomllib
from collections import Counter

from calls import call, expect
from dev import deployed, set_variables
from emulator import ROOT, Failure, say, status
from stack import FUNCTIONS, STACK, client, running
from variants import MARK, wait_until_live

EVENTS, BATCH, RATE = (int(os.environ.get(name) or default) for name, default in (("EVENTS", 4_000), ("BATCH", 10), ("RATE", 20)))
# API Gateway's access log, and Lambda's lines that are not written (SystemLogLevel).
ACCESS_LOG_BYTES = 400
DEADLINE_SECONDS = 240
STORED_DAYS = 45
KB = 1024


# --- What DynamoDB bills: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html ---


def size(value: dict) -> int:
    """The bytes of an attribute's value."""
    ((kind, it),) = value.items()
    if kind == "B":
        return len(it) * 3 // 4
    if kind == "N":
        return len(it) // 2 + 1
    if kind in ("L", "M"):
        inner = it.items() if kind == "M" else enumerate(it)
        return 3 + sum(1 + (len(name) if kind == "M" else 0) + size(of) for name, of in inner)
    return len(it.encode()) if kind == "S" else 1


def item_size(item: dict) -> int:
    return sum(len(name) + size(value) for name, value in item.items())


class Counted:
    """What was asked of each service, by name of what is billed. Knows every item that was written, to know what a read touches."""

    def __init__(self) -> None:
        self.lock, self.totals, self.by = threading.Lock(), Counter(), Counter()
        self.items: dict[tuple, tuple[int, tuple]] = {}

    def add(self, what: str, count: float, of: str) -> None:
        self.totals[what] += count
        self.by[what, of] += count

    def key(self, table: str, item: dict) -> tuple:
        return table, item["pk"]["S"], item["sk"]["S"]

    def write(self, table: str, key: tuple, item: dict | None, times: int, of: str) -> None:
        """Puts an item, or deletes it. An index is written where its keys come, go or change."""
        old, old_indexes = self.items.get(key, (0, ()))
        new = item_size(item) if item else 0
        indexes = tuple(json.dumps([item.get(name) for name in names]) if item and names[0] in item else None for names in (("wake_partition", "wake_at"), ("export_partition", "export_key")))
        units = max(1, math.ceil(max(old, new) / KB))
        before = old_indexes or (None, None)
        units += sum((was is not None) + (now is not None) for was, now in zip(before, indexes) if was != now)
        self.add("write_units", units * times, of)
        if item:
            self.items[key] = (new, indexes)
        else:
            self.items.pop(key, None)

    def read(self, table: str, items: list, is_consistent: bool, of: str) -> None:
        touched = sum(max(self.items.get(self.key(table, item), (0, ()))[0] if {"pk", "sk"} <= item.keys() else 0, item_size(item)) for item in items)
        self.add("read_units", max(1, math.ceil(touched / 4 / KB)) * (1 if is_consistent else 0.5), of)

    def dynamodb(self, operation: str, asked: dict, answered: dict, of: str) -> None:
        table = asked.get("TableName", "")
        match operation:
            case "PutItem":
                self.write(table, self.key(table, asked["Item"]), asked["Item"], 1, of)
            case "DeleteItem":
                self.write(table, self.key(table, asked["Key"]), None, 1, of)
            case "UpdateItem":
                known = self.items.get(self.key(table, asked["Key"]), (KB, ()))[0]
                self.add("write_units", max(1, math.ceil(known / KB)), of)
            case "TransactWriteItems":
                for it in asked["TransactItems"]:
                    ((kind, what),) = it.items()
                    item = what.get("Item")
                    self.write(what["TableName"], self.key(what["TableName"], item or what["Key"]), item, 2, of)
            case "BatchWriteItem":
                for name, requests in asked["RequestItems"].items():
                    for request in requests:
                        item = request.get("PutRequest", {}).get("Item")
                        self.write(name, self.key(name, item or request["DeleteRequest"]["Key"]), item, 1, of)
            case "GetItem":
                self.read(table, [answered["Item"]] if "Item" in answered else [], asked.get("ConsistentRead", False), of)
            case "Query":
                self.read(table, answered.get("Items", []), asked.get("ConsistentRead", False), of)
            case _:
                raise ValueError(f"DynamoDB's {operation} is not counted yet")

    def request(self, target: str, asked: dict, answered: dict) -> None:
        service, _, operation = target.partition(".")
        with self.lock:
            if service.startswith("DynamoDB"):
                self.dynamodb(operation, asked, answered, operation)
            elif service == "AmazonSQS":
                entries = asked.get("Entries", [asked])
                chunks = max(1, math.ceil(sum(len(entry.get("MessageBody", "")) for entry in entries) / 64 / KB))
                self.add("sqs_requests", chunks, operation)
                if any("MessageGroupId" in entry for entry in entries):
                    self.add("fair_queue_requests", chunks, operation)
            elif service == "TrentService":
                self.add("kms_requests", 1, operation)


class Proxy:
    """Between the functions and the emulator."""

    def __init__(self, port: int, counted: Counted) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                upstream.request(self.command, self.path, body, {name: value for name, value in self.headers.items() if name.lower() != "connection"})
                answer = upstream.getresponse()
                data = answer.read()
                upstream.close()
                target = self.headers.get("x-amz-target")
                if target and answer.status == 200:
                    counted.request(target, json.loads(body or b"{}"), json.loads(data or b"{}"))
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_one

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Receiver:
    """A process of its own, which takes every webhook at once and counts the events."""

    def __init__(self) -> None:
        self.count, self.bytes, self.port = (multiprocessing.Value("q", 0) for _ in range(3))
        self.process = multiprocessing.Process(target=lambda: asyncio.run(self.serve()), daemon=True)
        self.process.start()
        while not self.port.value:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.port.value}/"

    async def serve(self) -> None:
        ids = set()

        async def connected(reader, writer) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).lower()
                    length = int(re.search(rb"content-length: (\d+)", head)[1])
                    await reader.readexactly(length)
                    ids.add(re.search(rb"webhook-id: (\S+)", head)[1])
                    self.count.value, self.bytes.value = len(ids), len(head) + length
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()


def order(number: int) -> dict:
    """An event of about 1 KB, which zstd shrinks as it does orders."""
    line = lambda: {"product_id": random.randrange(10**8), "sku": f"SKU-{random.randrange(10**6)}", "quantity": random.randrange(9), "price": random.randrange(10**4) / 100}
    return {"number": str(number), "customer": secrets.token_hex(8), "lines": [line() for _ in range(10)]}


@contextlib.contextmanager
def behind(port: int, proxy: Proxy):
    """All functions reach the services through the proxy, until the end."""
    functions, before = client("lambda", port), {}
    try:
        for name in FUNCTIONS:
            found = deployed(port, name)
            before[found["FunctionName"]] = found["Environment"]["Variables"]
            # The emulator sets AWS_ENDPOINT_URL itself; that of a service goes before it.
            through = {f"AWS_ENDPOINT_URL_{service}": proxy.url for service in ("DYNAMODB", "KMS", "SQS")}
            set_variables(functions, found["FunctionName"], before[found["FunctionName"]] | through)
        yield
    finally:
        for name, variables in before.items():
            set_variables(functions, name, variables)


def ran(port: int, since: float) -> dict:
    """For each function: invocations, GB-seconds and bytes of its log lines."""
    logs, found = client("logs", port), {}
    for name in FUNCTIONS:
        memory = deployed(port, name)["MemorySize"] / 1_024
        calls = seconds = lines = 0
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{STACK}/{name}", startTime=int(since * 1_000)):
            for event in page["events"]:
                if report := re.search(r"^REPORT .*Billed Duration: (\d+)", event["message"]):
                    calls, seconds = calls + 1, seconds + int(report[1]) / 1_000
                elif not event["message"].startswith(("START ", "END ")):
                    lines += len(event["message"]) + 26  # what CloudWatch adds to each
        found[name] = {"calls": calls, "gb_seconds": seconds * memory, "log_bytes": lines}
    return found


def workload(port: int, mark: str, counted: Counted) -> tuple[int, dict]:
    """Publishes, and waits until everything is in the webhook's receiver and in files. The bytes of a webhook, and what functions did."""
    ours, token = f"{os.environ['EVENTSTREAM_URL']}/api/v1/org", os.environ["EVENTSTREAM_TOKEN"]
    integrations, receiver, bucket, name = f"{ours}/integrations/eventstream/", Receiver(), f"cost-{mark}", f"c{mark}.created"
    store = client("s3", port)
    store.create_bucket(Bucket=bucket)
    key = {"aws_access_key_id": os.environ["EVENTSTREAM_BUCKET_ACCESS_KEY_ID"], "aws_secret_access_key": os.environ["EVENTSTREAM_BUCKET_SECRET_ACCESS_KEY"]}
    only = {"filter_conditions": {"event_filter": [name]}, "integration_type": "permanent"}
    expect("webhook", call(integrations, token, "POST", {"id": f"hook-{mark}", "callback_parameters": {"callback_url": receiver.url}, **only})[0], 200)
    expect("files", call(integrations, token, "POST", {"id": f"files-{mark}", "s3_parameters": {**key, "aws_region": "us-east-1", "bucket": bucket}, **only})[0], 200)
    deadline = time.monotonic() + DEADLINE_SECONDS
    wait_until_live(f"{integrations}hook-{mark}", token)
    with counted.lock:
        counted.totals.clear()
        counted.by.clear()
        counted.items.clear()
    since = time.time()

    def publish(first: int) -> None:
        time.sleep(max(0.0, since + first / BATCH / RATE - time.time()))
        events = [{"name": name, "payload": order(first + n)} for n in range(BATCH)]
        expect("published", call(f"{ours}/events", token, "POST", events)[0], 202)

    with concurrent.futures.ThreadPoolExecutor(16) as side_by_side:
        list(side_by_side.map(publish, range(0, EVENTS, BATCH)))
    lines = 0
    while lines < EVENTS or receiver.count.value < EVENTS:
        if time.monotonic() > deadline + EVENTS / BATCH / RATE:
            raise Failure(f"{receiver.count.value} webhooks and {lines} lines of {EVENTS} came in time")
        time.sleep(2)
        lines = sum(store.get_object(Bucket=bucket, Key=it["Key"])["Body"].read().count(b"\n") for it in store.list_objects_v2(Bucket=bucket).get("Contents", []))
    found = ran(port, since)
    for path in (f"hook-{mark}", f"files-{mark}"):
        expect("deleted", call(integrations + path, token, "DELETE")[0], 204)
    receiver.process.terminate()
    return receiver.bytes.value, found


def report(counted: Counted, webhook_bytes: float, functions: dict, events_bytes: int, prices: dict) -> None:
    calls = {name: of["calls"] for name, of in functions.items()}
    batches = sum(calls[name] for name in ("ingest", "delivery"))
    counts = {
        "HTTP API, requests": (EVENTS / BATCH, prices["api_gateway"]["http_api_requests"]),
        "Lambda, requests": (sum(calls.values()), prices["lambda"]["requests"]),
        "Lambda, GB-seconds": (sum(of["gb_seconds"] for of in functions.values()), prices["lambda"]["gb_seconds_arm64"]),
        "SQS, requests": (counted.totals["sqs_requests"] + 2 * batches, prices["sqs"]["requests"]),
        "SQS, of messages with a group": (counted.totals["fair_queue_requests"] + 2 * batches, prices["sqs"]["fair_queue_requests"]),
        "DynamoDB, write units": (counted.totals["write_units"], prices["dynamodb"]["write_units"]),
        "DynamoDB, read units": (counted.totals["read_units"], prices["dynamodb"]["read_units"]),
        "KMS, requests": (counted.totals["kms_requests"], prices["kms"]["requests"]),
    }
    say(f"| of one million events, {BATCH} a request, {RATE} requests a second | count | USD |\n|---|---|---|")
    total = 0.0
    for name, (count, price) in counts.items():
        million = count * 1e6 / EVENTS
        total += million * price
        say(f"| {name} | {million:,.0f} | {million * price:.2f} |")
    say(f"| **requests and time** | | **{total:.2f}** |")
    apart = {
        f"log lines, {sum(of['log_bytes'] for of in functions.values()) / EVENTS + ACCESS_LOG_BYTES / BATCH:.0f} bytes an event": (sum(of["log_bytes"] for of in functions.values()) / EVENTS + ACCESS_LOG_BYTES / BATCH) / 1e3 * prices["cloudwatch"]["log_gb"],
        f"event log, {events_bytes / EVENTS:.0f} bytes an event, {STORED_DAYS} days": events_bytes / EVENTS / 1e3 * STORED_DAYS / 30 * prices["dynamodb"]["storage_gb_month"],
        "its recovery to a point in time": events_bytes / EVENTS / 1e3 * STORED_DAYS / 30 * prices["dynamodb"]["recovery_gb_month"],
        f"webhooks over the internet, {webhook_bytes} bytes each": webhook_bytes / 1e3 * prices["transfer"]["out_gb"],
    }
    for name, price in apart.items():
        say(f"| {name} | | {price:.2f} |")
    bus, hose = prices["event_bridge"], prices["firehose"]
    destinations = (bus["custom_events"] + bus["api_destinations"]) * 1e6
    files = math.ceil(webhook_bytes / KB / hose["record_kb"]) * hose["record_kb"] / KB / KB * 1e6 * hose["ingested_gb"]
    say(f"| EventBridge with an API destination, and Firehose, for the same | | {destinations:.2f} + {files:.2f} |")
    say("\nby function: " + ", ".join(f"{name} {of['calls']} calls {of['gb_seconds']:.2f} GB-s {of['log_bytes']} log bytes" for name, of in functions.items()))
    say("by request: " + ", ".join(f"{what} {operation} {count:g}" for (what, operation), count in sorted(counted.by.items())))


def cost() -> None:
    port, outs = running()
    counted = Counted()
    # The proxy is slow: how long functions take is measured without it.
    webhook_bytes, functions = workload(port, f"{MARK}a", counted)
    with behind(port, Proxy(port, counted)):
        workload(port, f"{MARK}b", counted)
    stored = sum(bytes for (table, *_), (bytes, _) in counted.items.items() if table == outs["EventsTableName"])
    report(counted, webhook_bytes, functions, stored, tomllib.loads((ROOT / "local" / "prices.toml").read_text()))


if __name__ == "__main__":
    sys.exit(status(cost))
