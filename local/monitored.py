"""What is watched, against what the local stack does: alarms ring, dashboard and saved queries name what is there, and the lines of
metrics are as short as promised.

    . target/local/env && .venv/emulator/bin/python -B local/monitored.py

Makes some traffic of its own: events that a receiver takes, rejects and refuses, and files. Then it holds the deployed alarms, dashboard
and queries (monitoring.json) against what the functions have logged. The emulator evaluates an alarm when a value arrives, and
makes no metrics of log lines: what CloudWatch does, this does from the same lines. It does not evaluate missing data.
"""

import http.server
import json
import os
import re
import secrets
import sys
import threading
import time

from calls import call, expect
from emulator import ROOT, Failure, say, status
from figures import metrics
from logged import logged
from stack import FUNCTIONS, STACK, client, running

DEADLINE_SECONDS = 150
# The most that metrics may add to the log for each invocation, in bytes, as a mean.
MEAN_LINE = 300
MARK = f"m{secrets.token_hex(4)}"
# In every payload, and in no line.
PAYLOAD = f"payload-of-{MARK}"
# What our queries filter by, and no log line of ours has as a field: CloudWatch's own fields and the words of its language.
WORDS = set("fields filter stats sort limit by as and or like desc asc ispresent count avg max sum pct".split())


class Receiver:
    """Answers with the status that the path says."""

    def __init__(self) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(int(self.path[1:]))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def lines(port: int) -> dict[str, list[dict]]:
    """What each function has logged: its own lines, which are JSON."""
    reader, found = client("logs", port), {}
    for name in FUNCTIONS:
        texts = [event["message"] for event in logged(reader, f"/aws/lambda/{STACK}/{name}")]
        found[name] = [json.loads(text) | {"": len(text.encode())} for text in texts if text.startswith("{")]
    return found


# --- Traffic ---


def traffic(port: int) -> tuple[str, str]:
    """Integrations of each kind and an event for them; returns its id and its request's."""
    base, token = os.environ["EVENTSTREAM_URL"] + "/api/v1/org", os.environ["EVENTSTREAM_TOKEN"]
    receiver, there = Receiver(), f"{base}/integrations/eventstream/"
    key = {"aws_access_key_id": os.environ["EVENTSTREAM_BUCKET_ACCESS_KEY_ID"], "aws_secret_access_key": os.environ["EVENTSTREAM_BUCKET_SECRET_ACCESS_KEY"]}
    bucket = f"monitored-{MARK}"
    client("s3", port).create_bucket(Bucket=bucket)
    targets = {name: {"callback_parameters": {"callback_url": f"{receiver.url}/{name}"}} for name in ("204", "400", "410", "503")}
    targets["files"] = {"s3_parameters": {**key, "aws_region": "us-east-1", "bucket": bucket}}
    targets["refused"] = {"s3_parameters": {**key, "aws_region": "us-east-1", "bucket": f"{bucket}-missing"}}
    name = f"monitored.{MARK}"
    for target, parameters in targets.items():
        body = {"id": f"{target}-{MARK}", "integration_type": "permanent", "filter_conditions": {"event_filter": [name]}, **parameters}
        answer = call(there, token, "POST", body)
        expect(f"the registration of {target}, {answer[1]}", answer[0], 200)
    published = call(f"{base}/events", token, "POST", {"name": name, "payload": {"note": PAYLOAD}})
    expect("publishing", published[0], 202)
    event = published[1]["accepted"][0]["id"]

    # As long as anything of what the queries look for is missing; a further event shows that the webhook is live.
    wanted = {"accepted", "appended", "delivered", "failed", "rejected", "gone", "exported", "an upload failed", "the integration changes"}
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        found = lines(port)
        missing = wanted - {line.get("message") for each in found.values() for line in each if line.get("integration", MARK).endswith(MARK)}
        if not missing:
            break
        if time.monotonic() > deadline:
            raise Failure(f"These lines are in no log: {missing}")
        time.sleep(1)
        call(f"{base}/events", token, "POST", {"name": name, "payload": {"note": PAYLOAD}})
    for target in targets:
        call(f"{there}{target}-{MARK}", token, "DELETE")
    receiver.server.shutdown()
    accepted = next(line for line in found["api"] if event in line.get("event", ""))
    return event, accepted["request_id"]


# --- The log ---


def way(found: dict, event: str, request: str) -> None:
    """One id finds the whole way."""
    said = {line["message"] for each in found.values() for line in each if event in line.get("event", "")}
    expect("an event's lines", {"accepted", "appended", "delivered", "failed", "rejected"} - said, set())
    appended = [line for line in found["ingest"] if request in line.get("request_id", "")]
    expect("a request's lines in ingest", [event in line["event"] for line in appended], [True])
    segment = appended[0]["segment"]
    files = [line for line in found["export"] if line.get("message") == "exported" and line["integration"] == f"files-{MARK}"]
    if not any(line["from"] <= segment < line["until"] for line in files):
        raise Failure(f"The segment {segment} is in the range of no file: {files}")
    for name, each in found.items():
        for line in each:
            if PAYLOAD in json.dumps(line):
                raise Failure(f"A line of {name} shows a payload: {line}")
            if "_aws" not in line and not {"timestamp", "level", "message", "target"} <= line.keys():
                raise Failure(f"A line of {name} lacks fields: {line}")


def short(found: dict) -> None:
    """Metrics are one line an invocation, and short."""
    sizes = {name: [line[""] for line in each if "_aws" in line] for name, each in found.items()}
    every = [size for bytes_of in sizes.values() for size in bytes_of]
    means = ", ".join(f"{name} {sum(bytes_of) / len(bytes_of):.0f}" for name, bytes_of in sizes.items())
    say(f"metrics: {len(every)} lines of {sum(every) / len(every):.0f} bytes on average ({means}), {max(every)} at the most")
    if sum(every) / len(every) > MEAN_LINE:
        raise Failure(f"Metrics have more than {MEAN_LINE} bytes for each invocation.")


# --- Alarms, dashboard, queries ---


def datum(name: str, dimensions: list, value: float, count: int) -> dict:
    return {"MetricName": name, "Dimensions": dimensions, "Values": [value], "Counts": [count]}


def written(port: int, function: str, metric: str) -> dict:
    """A line of a function with this metric: on a new stack, what is done once a minute may not have been done yet."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        for line in lines(port)[function]:
            if metric in metrics(line):
                return line
        if time.monotonic() > deadline:
            raise Failure(f"{function} has written no line with {metric}.")
        time.sleep(1)


def alarms(port: int, template: dict) -> None:
    watch = client("cloudwatch", port)
    pages = [*watch.get_paginator("describe_alarms").paginate(AlarmTypes=["MetricAlarm", "CompositeAlarm"])]
    deployed = [it for page in pages for it in page["MetricAlarms"] if f"{STACK}-Monitoring-" in it["AlarmName"]]
    late = next(it for page in pages for it in page["CompositeAlarms"] if f"{STACK}-Monitoring-" in it["AlarmName"])
    # The tick's alarm is for a rate of five minutes.
    described = [name for name, it in template["Resources"].items() if it["Type"] == "AWS::CloudWatch::Alarm" and it["Condition"] == "HasAlarms"]
    expect("deployed alarms", len(deployed), len(described))

    def state(name: str) -> str:
        answer = watch.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        return (answer["MetricAlarms"] + answer["CompositeAlarms"])[0]["StateValue"]

    expect("the composite alarm before", state(late["AlarmName"]), "OK")
    for it in deployed:
        name, namespace, metric, dimensions = it["AlarmName"], it["Namespace"], it["MetricName"], it["Dimensions"]
        if any("$" in each["Value"] for each in dimensions) or not dimensions:
            raise Failure(f"{name} watches nothing: {dimensions}")
        put = lambda value, count=1: watch.put_metric_data(Namespace=namespace, MetricData=[datum(metric, dimensions, value, count)])
        rings_below = it["ComparisonOperator"] == "LessThanThreshold"
        expect(f"missing data of {name}", it["TreatMissingData"], "breaching" if rings_below else "notBreaching")
        if rings_below:
            # A line of metrics that a function has written, as CloudWatch reads it.
            line = written(port, dimensions[0]["Value"], metric)
            expect(f"the namespace of {name}", line["_aws"]["CloudWatchMetrics"][0]["Namespace"], namespace)
            put(0)
            expect(f"{name} of nothing", state(name), "ALARM")
            put(metrics(line)[metric][0][0])
            expect(f"{name} of one", state(name), "OK")
            continue
        # The emulator adds up what all functions and queues of the last minutes have shown: against a percentile of it, many are needed.
        put(it["Threshold"] + 1, count=10_000 if "ExtendedStatistic" in it else 1)
        expect(f"{name} above its threshold", state(name), "ALARM")
        if late["AlarmRule"].find(name) >= 0:
            expect("the composite alarm", state(late["AlarmName"]), "ALARM")
    say(f"alarms: {len(deployed)} ring, and one of all that mean that events are late")


def dashboard(port: int) -> None:
    body = json.loads(client("cloudwatch", port).get_dashboard(DashboardName=STACK)["DashboardBody"])
    widgets = [widget for widget in body["widgets"] if widget["type"] == "metric"]
    taken = set()
    for widget in body["widgets"]:
        cells = {(x, y) for x in range(widget["x"], widget["x"] + widget["width"]) for y in range(widget["y"], widget["y"] + widget["height"])}
        if cells & taken or widget["x"] + widget["width"] > 24:
            raise Failure(f"A widget is on another one, or beyond the edge: {widget}")
        taken |= cells
    names = [metric for widget in widgets for metric in widget["properties"]["metrics"]]
    if not widgets or any("$" in json.dumps(metric) for metric in names):
        raise Failure(f"The dashboard has names that are not replaced: {names}")
    # CloudWatch takes 500 metrics on a graph, and 2,500 on a dashboard.
    say(f"dashboard: {len(widgets)} graphs of {len(names)} metrics")


def queries(found: dict, template: dict) -> None:
    definitions = [it["Properties"] for it in template["Resources"].values() if it["Type"] == "AWS::Logs::QueryDefinition"]
    for query in definitions:
        text = query["QueryString"]
        names = [re.sub(r".*/", "", it["Fn::Sub"]) for it in query["LogGroupNames"]]
        there = [line for name in names for line in found[name]]
        for message in re.findall(r"message = '([^']*)'", text):
            if not any(line.get("message") == message for line in there):
                raise Failure(f"{query['Name']} looks for {message!r}, which is in no line of {names}")
        made = set(re.findall(r"\bas (\w+)", text))
        fields = set(re.findall(r"(?<![\w@])[A-Za-z_]\w*", re.sub(r"'[^']*'|/[^/]*/", "", text))) - WORDS - made
        known = {field for line in there for field in line} | {metric for line in there for metric in metrics(line)}
        # What no failure was there for is known from the code.
        expect(f"fields of {query['Name']} that no line has", fields - known - {"error"}, set())
    say(f"queries: {len(definitions)}, of fields and messages that lines have")


def monitored() -> None:
    port, _ = running()
    event, request = traffic(port)
    found = lines(port)
    template = json.loads((ROOT / "monitoring.json").read_text())
    way(found, event, request)
    short(found)
    queries(found, template)
    dashboard(port)
    alarms(port, template)


if __name__ == "__main__":
    sys.exit(status(monitored))
