"""What the local stack does, live: rates, latencies, failures and backlog, and a line for each integration, from what its functions log.

    watch.py             until Ctrl-C
    watch.py --once      one picture of the last minutes, as text

Needs rich, which SAM CLI brings (.venv/tools).
"""

import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

import emulator
import stack
from figures import Window, percentile

# Over how many seconds rates are taken, and how often they are.
WINDOW = 10
PAUSE = 1
# How far back the first look goes, in seconds: what happened before is in the counts of integrations.
BACK = 300
# For how many milliseconds lines are read again.
OVERLAP = 3_000
FAILURES = ("Failed3xx", "Failed4xx", "Failed5xx", "FailedTimeout", "FailedConnection", "FailedDns", "FailedTls", "FailedProtocol", "FailedBlocked", "FailedSocket")


class Logs:
    """The lines that functions have logged since the last look."""

    def __init__(self, port: int, since: float):
        self.reader = stack.client("logs", port)
        self.since = {name: int(since * 1000) for name in stack.FUNCTIONS}
        # Lines may come a little later than newer ones: those of the last seconds are read again, and known again.
        self.seen: dict[tuple, int] = {}

    def new(self):
        for name in stack.FUNCTIONS:
            group = f"/aws/lambda/{stack.STACK}/{name}"
            for page in self.reader.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=self.since[name]):
                for event in page["events"]:
                    line = (name, event["timestamp"], event["message"])
                    if line not in self.seen:
                        self.seen[line] = event["timestamp"]
                        yield event["timestamp"] / 1000, name, event["message"]
        newest = max(self.seen.values(), default=0)
        self.seen = {line: at for line, at in self.seen.items() if at > newest - OVERLAP}
        self.since = {name: max(at, newest - OVERLAP) for name, at in self.since.items()}


def rates(window: Window) -> Table:
    table = Table(title=f"the last {window.seconds:.0f} seconds", title_justify="left", expand=True)
    for name in ("", "events a second", "p50", "p99", "what fails"):
        table.add_column(name, justify="left" if name in ("", "what fails") else "right")

    def row(name: str, count: float, latency: str, functions: tuple, bad: dict) -> None:
        values = window.values(latency, *functions) if latency else {}
        times = [f"{percentile(values, percent):.0f} ms" if values else "" for percent in (50, 99)]
        fails = ", ".join(f"{what} {number:.0f}" for what, number in bad.items() if number)
        table.add_row(name, f"{count / window.seconds:.1f}", *times, Text(fails, style="red"))

    def failures(*functions: str) -> dict:
        named = {name.removeprefix("Failed"): window.sum(name, *functions) for name in FAILURES}
        others = {"rejected": "EventsRejected", "put aside": "EventsParked", "handed back": "TasksHandedBack"}
        return named | {name: window.sum(metric, *functions) for name, metric in others.items()}

    row("accepted", window.sum("EventsAccepted"), "", (), {})
    row("appended", window.sum("EventsAppended"), "", (), {"again": window.sum("EventsRepeated"), "unreadable": window.sum("EventsUnreadable"), "handed back": window.sum("TasksHandedBack", "ingest")})
    row("delivered live", window.count("Latency", "delivery"), "Latency", ("delivery",), failures("delivery"))
    row("delivered by replay", window.count("Latency", "replay"), "Latency", ("replay",), failures("replay"))
    row("receivers", window.count("ReceiverLatency"), "ReceiverLatency", (), {})
    row("exported", window.sum("FileLines"), "ExportLag", ("export",), {"uploads": window.sum("ExportsFailed"), "handed back": window.sum("TasksHandedBack", "export")})
    return table


def backlog(window: Window) -> Text:
    owed = window.values("BacklogAge")
    parts = [f"oldest owed event {max(owed) / 1000:.0f} s" if owed else "nothing owed"]
    waiting = window.values("RetriesWaiting")
    parts.append(f"{max(waiting):.0f} events of one stream wait" if waiting else "nothing waits")
    parts.append(f"{window.sum('Interruptions'):.0f} interrupted, {window.sum('Resumptions'):.0f} resumed")
    return Text("backlog: " + "; ".join(parts))


def integrations(window: Window) -> Table:
    table = Table(title="integrations", title_justify="left", expand=True)
    for name in ("integration", "delivered", "longest", "failed", "rejected", "files", "lines", "last"):
        table.add_column(name, justify="left" if name in ("integration", "last") else "right")
    for (tenant, name), it in sorted(window.integrations.items()):
        longest = f"{it.longest} ms" if it.delivered else ""
        delivered, *others = (str(number or "") for number in (it.delivered, it.failed, it.rejected, it.files, it.lines))
        table.add_row(f"{tenant}/{name}", delivered, longest, *others, it.last)
    return table


def picture(window: Window) -> Group:
    if not window.lines and not window.integrations:
        return Group(Text("Nothing has happened yet. Publish something: `make demo`, or the README's first calls."))
    return Group(rates(window), backlog(window), integrations(window))


def watch() -> None:
    is_once = "--once" in sys.argv[1:]
    port, _ = stack.running()
    window = Window(BACK if is_once else WINDOW)
    logs = Logs(port, time.time() - BACK)

    def look() -> Group:
        for at, function, text in logs.new():
            window.add(at, function, text)
        window.forget(time.time())
        return picture(window)

    if is_once:
        Console(width=160).print(look())
        return
    with Live(look(), refresh_per_second=4, screen=sys.stdout.isatty()) as live:
        while True:
            time.sleep(PAUSE)
            live.update(look())


def main() -> int:
    try:
        return emulator.status(watch)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
