"""Runs the table of `agents` against Keyward. Says the upstreams' ports, reads where Keyward is, then says
what is not as it should be; ends with 0 when all is."""

import json
import sys
import time

from hyperframe import frame as frames

import agents
import origins
from wire import *

HOSTS = {"two.acme.test": "HTTP/2", "one.acme.test": "HTTP/1.1"}


def sound(host, path, placeholder):
    return [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", path), ("x-api-key", placeholder)]


def outcome(link, stream):
    """What becomes of the stream: an answer that ends, its reset, or the end of all."""
    status = []

    def told(frame):
        if isinstance(frame, frames.GoAwayFrame) and code(frame) != "NO_ERROR":
            return f"goaway {code(frame)}"
        if frame.stream_id != stream:
            return None
        if isinstance(frame, frames.RstStreamFrame):
            # After an answer that has ended, `NO_ERROR` says that the rest of the request is not wanted.
            return f"reset {code(frame)}"
        if frame.fields is not None:
            status.append(dict(frame.fields)[":status"])
        return status[-1] if "END_STREAM" in frame.flags else None

    try:
        return link.until(told)
    except Closed:
        return "closed"
    except AssertionError as silent:
        return str(silent)


def goes_on(link, fields):
    """Whether the connection still answers PING and, on a later stream, a sound request."""
    link.send(ping(b"still up"))
    link.until(lambda frame: True if isinstance(frame, frames.PingFrame) and frame.opaque_data == b"still up" else None)
    link.send(headers(99, fields))
    return outcome(link, 99) == "200"


def run(row, to, host, number):
    """What is not as it should be; the path that the request had."""
    path = f"/{number}"
    fields = sound(host, path, to["placeholder"])
    link = Link(tunnel(to, host, ["h2"]))
    link.send(row.opening, row.frames(fields))
    seen = outcome(link, row.stream)
    # A frame on a stream that has been answered.
    if seen == "200" and row.expected.startswith(("reset", "goaway")):
        seen = outcome(link, row.stream)
    wrong = None if seen == row.expected else f"{row.expected} was due, but it was {seen}"
    if wrong is None and not seen.startswith(("goaway", "closed")) and "GOAWAY" not in row.name:
        if not goes_on(link, sound(host, f"{path}/next", to["placeholder"])):
            wrong = "the connection does not go on"
    link.close()
    return wrong


def received(row, seen, number, live):
    """What is wrong with what the upstream got of it."""
    got = seen.requests.pop(f"/{number}", [])
    whole = [request for request in got if request[3]]
    wanted = {"whole": (1,), "cut": (0,), "nothing": (0,), "whole or cut": (0, 1)}[row.reaches]
    if len(whole) not in wanted or row.reaches == "nothing" and got:
        return f"the upstream got it {len(got)} times, {len(whole)} times whole"
    for fields, _, _, _ in got:
        keys = [value.decode() for name, value in fields if name == b"x-api-key"]
        if keys != [live]:
            return f"{len(keys)} keys, not the live one"
    return None


def main():
    servers = {"two.acme.test": origins.Origin("h2", origins.http2), "one.acme.test": origins.Origin("http/1.1", origins.http1)}
    print(json.dumps({host: server.port for host, server in servers.items()}), flush=True)
    to = json.loads(sys.stdin.readline())
    wrong = []
    for host, server in servers.items():
        for number, row in enumerate(agents.ROWS):
            fault = run(row, to, host, number)
            if fault:
                wrong.append(f"§{row.section} {row.name}, before {HOSTS[host]}: {fault}")
        # What was cut is noted when its stream ends.
        time.sleep(0.5)
        for number, row in enumerate(agents.ROWS):
            fault = received(row, server.seen, number, to["live"])
            if fault:
                wrong.append(f"§{row.section} {row.name}, before {HOSTS[host]}: {fault}")
        others = [path for path in server.seen.requests if not path.endswith("/next")]
        wrong += [f"{HOSTS[host]}: the upstream also got {path}" for path in others]
        wrong += [f"{HOSTS[host]}: the upstream says {fault}" for fault in server.seen.faults]
    print("\n".join([*wrong, f"{len(agents.ROWS)} rows before {len(servers)} upstreams, {len(wrong)} faults"]))
    sys.exit(1 if wrong else 0)


main()
