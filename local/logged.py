"""What the functions of a stack have logged: all of it, however much. The emulator answers one call with the first 10,000 events and says
of no more, where AWS gives a token for the rest; so it is asked again from the last one on."""


def logged(reader, group: str, since: int = 0):
    """The events of a group from `since` on (milliseconds), in the order of their times."""
    seen = set()
    while True:
        pages = reader.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since)
        found = [((event["timestamp"], event.get("logStreamName"), event["message"]), event) for page in pages for event in page["events"]]
        new = [(key, event) for key, event in found if key not in seen]
        if not new:
            return
        yield from (event for _, event in new)
        since = max(event["timestamp"] for _, event in new)
        seen = {key for key, event in found if event["timestamp"] == since}
