"""Starts the AWS emulator (ministack, pinned in requirements-emulator.txt), with some waits taken out and some faults mended.

As it comes, every call of a function costs about 100 ms that neither AWS nor our code would cost: 40 from Nagle's
algorithm between the emulator and the function, 50 from waiting whether a function that has answered logs something.
Up to 50 more come from a poller of queues that was woken up for another queue.
`stack.py` starts this; the port and the rest come from its environment.
"""

import contextvars
import inspect
import os
import socketserver
import ssl
import sys
import urllib.parse

from awscrt import checksums
from ministack import app
from ministack.core import iam_actions
from ministack.core.lambda_runtime import Worker
from ministack.services import cloudwatch, lambda_svc, s3, sqs
from ministack.services.cloudformation import provisioners

socketserver.StreamRequestHandler.disable_nagle_algorithm = True

# Log lines that come later than this are reported with the function's next call; none is lost.
assert "first_line_wait" in inspect.signature(Worker._drain_stderr_bounded).parameters, "ministack has changed"
drain = Worker._drain_stderr_bounded
Worker._drain_stderr_bounded = lambda self, first_line_wait=0.001: drain(
    self, first_line_wait=first_line_wait, idle_confirm=0.001, hard_cap=0.1
)

# A poller that was woken up for nothing sleeps for so long before it looks again.
assert lambda_svc._ESM_IDLE_WAKE_GAP_SECONDS == 0.05, "ministack has changed"
lambda_svc._ESM_IDLE_WAKE_GAP_SECONDS = 0.002
# Of the emulator's threads, each keeps the interpreter for 5 ms while others wait, and an event is handed from one to the next a dozen times.
sys.setswitchinterval(0.0005)

# In Python the CRC-64 of a file takes 7 s for 50 MiB, in which nothing else is answered.
assert s3._crc64nvme(b"123456789") == checksums.crc64nvme(b"123456789"), "ministack has changed"
s3._crc64nvme = checksums.crc64nvme

# An issuer of tokens on this machine (variants.py) has a certificate of its own, which is here while it is there.
ISSUER = "issuer.pem"
https_context = ssl._create_default_https_context


def trusting(*arguments, **named):
    context = https_context(*arguments, **named)
    if os.path.exists(ISSUER):
        context.load_verify_locations(ISSUER)
    return context


ssl._create_default_https_context = trusting

# A template's parameters are strings, also those of type Number; here the emulator compares one with a number, and stops polling.
concurrency = lambda_svc._sqs_esm_concurrency
lambda_svc._sqs_esm_concurrency = lambda *arguments: int(concurrency(*arguments))

# Policies hold here as in AWS (AUTH), and ours deny plain HTTP: the loopback interface counts as encrypted.
pin_request_origin = app.pin_request_origin
app.pin_request_origin = lambda source_ip, secure_transport: pin_request_origin(source_ip, True)

# In AWS, a batch of messages needs the permission for one message; the emulator asks for one that IAM does not have.
extract = iam_actions.extract_iam_action
iam_actions.extract_iam_action = lambda *request: (extract(*request) or "").removesuffix("Batch") or None

# A condition on the external id holds for the caller that assumes a role, too; the emulator gives it to the role's trust policy only.
context = iam_actions.request_tag_context


def with_external_id(service: str, action: str, body: bytes, parameters: dict) -> dict:
    given = urllib.parse.parse_qs(body.decode("utf-8", "replace")).get("ExternalId") if action == "sts:AssumeRole" else None
    return context(service, action, body, parameters) | ({"sts:externalid": given[0]} if given else {})


iam_actions.request_tag_context = with_external_id

# The emulator forgets the trace of a message that is sent in a batch.
batch_entries = contextvars.ContextVar("batch_entries", default=iter(()))
send_message, send_batch = sqs._act_send_message, sqs._act_send_message_batch


def send_one(data: dict, url: str) -> dict:
    entry = next(batch_entries.get(), {})
    return send_message(data | {"MessageSystemAttributes": entry["MessageSystemAttributes"]} if "MessageSystemAttributes" in entry else data, url)


def send_many(data: dict, url: str) -> dict:
    token = batch_entries.set(iter(data.get("Entries", [])))
    try:
        return send_batch(data, url)
    finally:
        batch_entries.reset(token)


sqs._act_send_message = send_one
sqs._HANDLERS["SendMessageBatch"] = send_many

# Two kinds of resources that the emulator's CloudFormation does not know: composite alarms, which its CloudWatch has, and saved queries,
# which nothing here reads.


def composite_alarm(name: str, properties: dict) -> tuple[str, dict]:
    refused = cloudwatch._put_composite_alarm({}, properties | {"AlarmName": name}, False, True)
    if refused[0] >= 400:
        raise ValueError(f"AWS::CloudWatch::CompositeAlarm: {refused[2]}")
    return name, {"Arn": cloudwatch._composite_alarms[name]["AlarmArn"]}


provisioners._RESOURCE_HANDLERS |= {
    "AWS::CloudWatch::CompositeAlarm": {
        "create": lambda logical_id, properties, stack_name: composite_alarm(f"{stack_name}-{logical_id}", properties),
        "update": lambda physical_id, old, properties, stack_name: composite_alarm(physical_id, properties),
        "delete": lambda physical_id, properties: cloudwatch._composite_alarms.pop(physical_id, None),
    },
    "AWS::Logs::QueryDefinition": {
        "create": lambda logical_id, properties, stack_name: (f"{stack_name}-{logical_id}", {}),
        "update": lambda physical_id, old, properties, stack_name: (physical_id, {}),
        "delete": lambda physical_id, properties: None,
    },
}

app.main()
