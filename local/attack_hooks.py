"""What schemathesis is not let loose with: receivers stay on this machine, and a full tenant is emptied again."""

import json
import os
import re

import requests
import schemathesis


RECEIVER = os.environ.get("ATTACK_RECEIVER", "")


def on_this_machine(value):
    """The same body with every URL's scheme and host replaced by those of the attack's own receiver."""
    if isinstance(value, dict):
        return {key: on_this_machine(it) for key, it in value.items()}
    if isinstance(value, list):
        return [on_this_machine(it) for it in value]
    if isinstance(value, str) and re.match(r"(?i)\s*https?:", value):
        return re.sub(r"(?i)^\s*https?:[/\\]*[^/\\?#]*", RECEIVER, value)
    return value


@schemathesis.serializer("application/x-ndjson", "application/ndjson")
def lines(context, value):
    return (value if isinstance(value, str) else json.dumps(value)).encode(errors="surrogatepass")


@schemathesis.hook
def before_call(context, case, kwargs):
    if isinstance(case.body, (dict, list)):
        case.body = on_this_machine(case.body)


@schemathesis.hook
def after_call(context, case, response):
    if response.status_code == 409 and b"limit_exceeded" in response.content:
        empty(response.request.url.split("/api/v1/")[0], response.request.headers["authorization"])


def empty(url: str, authorization: str) -> None:
    """Deletes every integration of the token's tenant."""
    base, headers = f"{url}/api/v1/org/integrations/eventstream", {"authorization": authorization}
    for integration in requests.get(base, headers=headers, timeout=30).json().get("integrations", []):
        requests.delete(f"{base}/{integration['id']}", headers=headers, timeout=30)
