"""What the log lines of functions say, as figures: of the embedded metric format's lines, and of those that name an integration."""

import collections
import json
import math


def metrics(line: dict) -> dict[str, list[tuple[float, int]]]:
    """The metrics of a line of the embedded metric format, each with its values and how often each occurred; empty for any other line."""
    found = {}
    for directive in line.get("_aws", {}).get("CloudWatchMetrics", []):
        for metric in directive["Metrics"]:
            value = line[metric["Name"]]
            found[metric["Name"]] = list(zip(value["Values"], value["Counts"])) if isinstance(value, dict) else [(value, 1)]
    return found


def percentile(values: collections.Counter, percent: float) -> float:
    """By the nearest rank; 0 of nothing."""
    rank = math.ceil(sum(values.values()) * percent / 100)
    for value in sorted(values):
        rank -= values[value]
        if rank <= 0:
            return value
    return 0


class Integration:
    """What the lines of one integration say."""

    def __init__(self):
        self.delivered = self.failed = self.rejected = self.files = self.lines = 0
        self.longest = 0
        self.last = ""


class Window:
    """The lines of the last so many seconds, and what they add up to."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.lines: list[tuple[float, str, dict]] = []
        self.integrations: dict[tuple[str, str], Integration] = {}

    def add(self, at: float, function: str, text: str) -> None:
        """A line of a function's log, written at this second."""
        try:
            line = json.loads(text)
        except ValueError:
            return  # Lambda's own
        if not isinstance(line, dict):
            return
        if "_aws" in line:
            self.lines.append((at, function, line))
        elif "integration" in line:
            self.note(line)

    def note(self, line: dict) -> None:
        one = self.integrations.setdefault((line.get("tenant", ""), line["integration"]), Integration())
        match line.get("message"):
            case "delivered":
                one.delivered += line["count"]
                one.longest = line["latency_ms"]
            case "failed" | "gone" | "an upload failed":
                one.failed += 1 + line.get("omitted", 0)
                one.last = line.get("reason", "")
            case "rejected":
                one.rejected += 1 + line.get("omitted", 0)
                one.last = line.get("reason", "")
            case "exported":
                one.files += 1
                one.lines += line["lines"]
            case "the integration changes":
                one.last = line.get("action", "")

    def forget(self, now: float) -> None:
        self.lines = [it for it in self.lines if it[0] > now - self.seconds]

    def values(self, metric: str, *functions: str) -> collections.Counter:
        """The values of a metric in the window, of these functions or of all."""
        found = collections.Counter()
        for _, function, line in self.lines:
            if not functions or function in functions:
                for value, count in metrics(line).get(metric, []):
                    found[value] += count
        return found

    def sum(self, metric: str, *functions: str) -> float:
        return sum(value * count for value, count in self.values(metric, *functions).items())

    def count(self, metric: str, *functions: str) -> int:
        """How often a metric was measured."""
        return sum(self.values(metric, *functions).values())
