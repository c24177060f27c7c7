"""Calls of the API, and what they are expected to find."""

import json
import urllib.error
import urllib.request

from emulator import Failure


def call(url: str, token: str, method: str = "GET", body=None) -> tuple[int, dict]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"authorization": f"Bearer {token}", "content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read() or b"{}")


def expect(what: str, found, wanted) -> None:
    if found != wanted:
        raise Failure(f"{what}: {found}, not {wanted}")
