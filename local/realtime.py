"""How late events are while a receiver fails, on the local stack: promises of time, each with a receiver of its own.

    . target/local/env && .venv/emulator/bin/python -B local/realtime.py            all of them, some minutes
    . target/local/env && .venv/emulator/bin/python -B local/realtime.py short      those of a minute, as make test runs them

Each story registers a webhook, waits until it is live, publishes, and measures from the call that publishes an event to the request that
the receiver accepts.
"""

import http.server
import json
import os
import secrets
import socketserver
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from calls import call, expect
from emulator import Failure, say, status

MARK = secrets.token_hex(4)
BASE = f"{os.environ['EVENTSTREAM_URL']}/api/v1/org"
TOKEN = os.environ["EVENTSTREAM_TOKEN"]
INTEGRATIONS = f"{BASE}/integrations/eventstream"
LIVE_SECONDS = 90
PUBLISHERS = 8


class Receiver:
    """Answers each event as `behave` says: a status, after what it does itself; a status of 0 leaves the body without an end."""

    def __init__(self, behave, is_serial: bool = False) -> None:
        self.lock, self.accepted, self.requests, self.refused, self.at_a_time, self.most = threading.Lock(), {}, 0, 0, 0, []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with receiver.lock:
                    receiver.requests += 1
                    receiver.at_a_time += 1
                    receiver.most.append((time.monotonic(), receiver.at_a_time))
                    request, here = receiver.requests, receiver.at_a_time
                status = behave(body["payload"]["n"], request, here)
                with receiver.lock:
                    receiver.at_a_time -= 1
                    if status in (0, 204, 200):
                        receiver.accepted.setdefault(body["payload"]["n"], time.monotonic())
                    else:
                        receiver.refused += 1
                self.send_response(status or 200)
                self.send_header("content-length", "0" if status else "40")
                self.end_headers()
                if not status:
                    self.wfile.write(b"not all of it")
                    self.wfile.flush()
                    self.connection.settimeout(40)
                    self.rfile.read(1)

            def log_message(self, *_):
                pass

        class Threads(http.server.ThreadingHTTPServer):
            request_queue_size = 1024
            daemon_threads = True

            def handle_error(self, *_):  # a connection that the sender has closed
                pass

        class One(socketserver.TCPServer):
            request_queue_size = 128
            allow_reuse_address = True

            def handle_error(self, *_):
                pass

        self.server = (One if is_serial else Threads)(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Webhook:
    """A live webhook to a receiver, and the events that are published for it."""

    def __init__(self, name: str, receiver: Receiver) -> None:
        self.receiver, self.id, self.event, self.published = receiver, f"{name}-{MARK}", f"realtime.{name.replace('-', '_')}_{MARK}", {}
        body = {"id": self.id, "integration_type": "permanent", "callback_parameters": {"callback_url": receiver.url}, "filter_conditions": {"event_filter": [self.event]}}
        answer = call(f"{INTEGRATIONS}/", TOKEN, "POST", body)
        expect(f"the registration of {self.id}, {answer[1]}", answer[0], 200)
        deadline = time.monotonic() + LIVE_SECONDS
        while call(f"{INTEGRATIONS}/{self.id}", TOKEN)[1]["pending"]["catching_up"]:
            if time.monotonic() > deadline:
                raise Failure(f"{self.id} does not become live.")
            time.sleep(0.5)

    def one(self, n: int) -> None:
        self.published[n] = time.monotonic()
        answer = call(f"{BASE}/events", TOKEN, "POST", {"name": self.event, "payload": {"n": n}})
        expect("publishing", answer[0], 202)

    def steadily(self, rate: float, seconds: float) -> int:
        """Publishes one event a request at this rate; returns how many."""
        count, started = int(rate * seconds), time.monotonic()
        with ThreadPoolExecutor(PUBLISHERS) as publishers:
            for n in range(count):
                time.sleep(max(0.0, started + n / rate - time.monotonic()))
                publishers.submit(self.one, n)
        return count

    def at_once(self, count: int) -> None:
        self.published |= dict.fromkeys(range(count), time.monotonic())
        for begin in range(0, count, 500):
            events = [{"name": self.event, "payload": {"n": n}} for n in range(begin, min(begin + 500, count))]
            expect("publishing", call(f"{BASE}/events", TOKEN, "POST", events)[0], 202)

    def wait(self, wanted: set[int], seconds: float) -> None:
        """Until these events are accepted; after `seconds` the story says what is missing."""
        deadline = time.monotonic() + seconds
        while not wanted <= self.receiver.accepted.keys():
            if time.monotonic() > deadline:
                missing = wanted - self.receiver.accepted.keys()
                raise Failure(f"{self.id}: {len(missing)} of {len(wanted)} events are not there after {seconds:.0f} s: {sorted(missing)[:5]} …")
            time.sleep(0.05)

    def lateness(self, of: set[int]) -> list[float]:
        return sorted(self.receiver.accepted[n] - self.published[n] for n in of)

    def entries(self, *actions: str) -> int:
        return sum(it["action"] in actions for it in call(f"{INTEGRATIONS}/{self.id}/log", TOKEN)[1]["entries"])

    def end(self) -> None:
        call(f"{INTEGRATIONS}/{self.id}", TOKEN, "DELETE")
        self.receiver.server.shutdown()


def said(name: str, late: list[float], more: str = "") -> str:
    pick = lambda share: late[min(len(late) - 1, int(len(late) * share))]
    return f"{name}: {len(late)} events, p50 {pick(0.5):.2f} s, p99 {pick(0.99):.2f} s, the last {late[-1]:.2f} s{more}"


def nearly_all_in_time(hook: Webhook, name: str, others: set[int]) -> None:
    late = hook.lateness(others)
    slow = sum(it > 2 for it in late)
    say(said(name, late, f"; {slow} later than 2 s"))
    if slow > 0.02 * len(late):
        raise Failure(f"{name}: {slow} of {len(late)} events are later than 2 s.")
    expect(f"{name}: interruptions", hook.entries("delivery_interrupted"), 0)


# --- Stories ---


def hiccups(seconds: float) -> None:
    """Accepts all, but answers one request in 300 with 502."""
    hook = Webhook("hiccups", Receiver(lambda n, request, here: 502 if request % 300 == 150 else 204))
    try:
        every = set(range(hook.steadily(30, seconds)))
        hook.wait(every, 60)
        nearly_all_in_time(hook, "one 502 in 300 requests", every)
    finally:
        hook.end()


def poison(seconds: float) -> None:
    """Never accepts one event in 20."""
    hook = Webhook("poison", Receiver(lambda n, request, here: 500 if n % 20 == 7 else 204))
    try:
        good = {n for n in range(hook.steadily(10, seconds)) if n % 20 != 7}
        hook.wait(good, 60)
        nearly_all_in_time(hook, "one event in 20 never accepted", good)
    finally:
        hook.end()


def endless() -> None:
    """Answers 200 at once, with a body that does not end."""
    hook = Webhook("endless", Receiver(lambda n, request, here: 0))
    try:
        hook.at_once(24)
        hook.wait(set(range(24)), 30)
        late = hook.lateness(set(range(24)))
        say(said("a body without an end", late))
        if late[-1] > 5:
            raise Failure(f"a body without an end: the last event is {late[-1]:.1f} s late.")
    finally:
        hook.end()


def serial() -> None:
    """Serves one connection at a time, and keeps it."""
    hook = Webhook("serial", Receiver(lambda n, request, here: 204, is_serial=True))
    try:
        hook.at_once(30)
        hook.wait(set(range(30)), 60)
        say(said("one connection at a time", hook.lateness(set(range(30)))))
        expect("one connection at a time: interruptions", hook.entries("delivery_interrupted"), 0)
    finally:
        hook.end()


def parallel() -> None:
    """Takes 12 s for each request, and any number at a time."""

    def slowly(n: int, request: int, here: int) -> int:
        time.sleep(12)
        return 204

    hook = Webhook("parallel", Receiver(slowly))
    try:
        started = time.monotonic()
        hook.at_once(400)
        while time.monotonic() < started + 90:
            time.sleep(0.5)
        most = max((many for at, many in hook.receiver.most if at > started + 60), default=0)
        say(f"12 s for each request: {len(hook.receiver.accepted)} accepted in 90 s, {most} at a time after a minute")
        if most < 20:
            raise Failure(f"12 s for each request: {most} at a time after a minute.")
    finally:
        hook.end()


def outage(seconds: float) -> None:
    """Answers 503 for some minutes, then all is well."""
    down = {"is": True, "since": None}

    def answer(n: int, request: int, here: int) -> int:
        if down["is"]:
            return 503
        down["since"] = down["since"] or time.monotonic()
        return 204

    hook = Webhook("outage", Receiver(answer))
    try:
        count = hook.steadily(2, seconds)
        down["is"] = False
        hook.wait(set(range(count)), 240)
        last = max(hook.receiver.accepted.values()) - down["since"]
        say(f"an outage of {seconds:.0f} s: all {count} events within {last:.1f} s of the first success")
        if last > 60:
            raise Failure(f"an outage: the last event came {last:.0f} s after the first success.")
    finally:
        hook.end()


def weak() -> None:
    """Takes five requests at a time, each for 0.2 s, and answers 429 beyond."""

    def answer(n: int, request: int, here: int) -> int:
        if here > 5:
            return 429
        time.sleep(0.2)
        return 204

    hook = Webhook("weak", Receiver(answer))
    try:
        hook.at_once(1_000)
        hook.wait(set(range(1_000)), 120)
        last, share = hook.lateness(set(range(1_000)))[-1], hook.receiver.refused / hook.receiver.requests
        say(f"five at a time: 1,000 events in {last:.1f} s, {share:.1%} of the requests refused")
        if last > 60 or share > 0.03:
            raise Failure(f"five at a time: {last:.0f} s, {share:.1%} refused.")
    finally:
        hook.end()


def realtime() -> None:
    is_short = sys.argv[1:] == ["short"]
    # What publishes steadily is measured by itself; what waits may wait together.
    rounds = [[endless, serial], [lambda: hiccups(20)], [lambda: poison(20)]] if is_short else [[endless, serial], [lambda: hiccups(75)], [lambda: poison(75)], [parallel, lambda: outage(180)], [weak]]
    failures = []
    for stories in rounds:
        with ThreadPoolExecutor() as together:
            for done in [together.submit(story) for story in stories]:
                try:
                    done.result()
                except Failure as failure:
                    failures.append(str(failure))
                    say(f"FAILED: {failure}")
    if failures:
        raise Failure("\n".join(failures))


if __name__ == "__main__":
    sys.exit(status(realtime))
