"""Starts the AWS emulator (ministack, pinned in requirements-emulator.txt), with two waits taken out and some faults mended.

As it comes, every call of a function costs about 100 ms that neither AWS nor our code would cost: 40 from Nagle's
algorithm between the emulator and the function, 50 from waiting whether a function that has answered logs something.
`stack.py` starts this; the port and the rest come from its environment.
"""

import inspect
import os
import socketserver
import ssl
import urllib.parse

from ministack import app
from ministack.core import iam_actions
from ministack.core.lambda_runtime import Worker
from ministack.services import lambda_svc

socketserver.StreamRequestHandler.disable_nagle_algorithm = True

# Log lines that come later than this are reported with the function's next call; none is lost.
assert "first_line_wait" in inspect.signature(Worker._drain_stderr_bounded).parameters, "ministack has changed"
drain = Worker._drain_stderr_bounded
Worker._drain_stderr_bounded = lambda self, first_line_wait=0.001: drain(
    self, first_line_wait=first_line_wait, idle_confirm=0.001, hard_cap=0.1
)

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

app.main()
