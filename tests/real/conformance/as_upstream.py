"""Runs the table of `upstreams` behind Keyward. Says the upstream's port, reads where Keyward is, then says
what is not as it should be; ends with 0 when all is. The agent is `h2`, which takes nothing that RFC 9113
does not allow of a server."""

import json
import sys
import threading

import h2.config
import h2.connection
import h2.events
from h2.exceptions import ProtocolError
from hyperframe import frame as frames

import upstreams
from wire import *

HOST = "script.acme.test"
FIRST = upstreams.FINE


class Stage:
    """The row that is played, and what became of it at the upstream."""

    def __init__(self):
        self.row = None
        self.links, self.asked, self.told, self.faults = [], [], [], []

    def begin(self, row):
        self.row = row
        self.asked, self.told, self.faults = [], [], []

    def end(self):
        """Ends all streams, so that the next row has one of its own."""
        for thread, link in self.links:
            link.close()
            thread.join(PATIENCE)
        self.links = []

    def listen(self, listening):
        for tls in accepted(listening, "h2"):
            link = Link(tls)
            thread = threading.Thread(target=self.serve, args=(link, self.row), daemon=True)
            self.links.append((thread, link))
            thread.start()

    def serve(self, link, row):
        try:
            assert link.exactly(len(PREFACE)) == PREFACE, "no preface"
            link.send(row.opening)
            while True:
                self.met(link, row, link.frame())
        except Closed:
            pass
        except AssertionError as fault:
            self.faults.append(str(fault))
        except OSError:
            pass

    def met(self, link, row, frame):
        if frame.fields is not None and dict(frame.fields)[":path"] == "/first":
            link.send(upstreams.fine(frame.stream_id))
        elif frame.fields is not None:
            self.asked.append(dict(frame.fields))
            link.send(row.frames(link, frame.stream_id))
        elif isinstance(frame, frames.GoAwayFrame) and code(frame) != "NO_ERROR":
            self.told.append(f"goaway {code(frame)}")
        elif isinstance(frame, frames.RstStreamFrame):
            self.told.append(f"reset {code(frame)}")


class Agent:
    """A tunnel with HTTP/2 in it."""

    def __init__(self, to):
        self.to = to
        self.tls = tunnel(to, HOST, ["h2"])
        self.tls.settimeout(PATIENCE)
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.connection.initiate_connection()

    def ask(self, method, path, body, expected):
        """One exchange; what is seen of it."""
        stream = self.connection.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "https"), (":authority", HOST), (":path", path)]
        fields.append(("x-api-key", self.to["placeholder"]))
        self.connection.send_headers(stream, fields, end_stream=not body)
        for at in range(0, len(body), 10_000):
            self.connection.send_data(stream, body[at : at + 10_000], end_stream=at + 10_000 >= len(body))
        self.tls.sendall(self.connection.data_to_send())
        seen = {"status": None, "error": None, "body": b"", "trailers": []}
        while piece := self.tls.recv(65_536):
            for event in self.connection.receive_data(piece):
                if ended := self.met(event, seen):
                    return ended
                if expected == "begun" and seen["body"]:
                    return "begun"
            self.tls.sendall(self.connection.data_to_send())
        return "closed"

    def met(self, event, seen):
        match event:
            case h2.events.ResponseReceived():
                head = {name.decode(): value.decode() for name, value in event.headers}
                seen["status"], seen["error"] = head[":status"], head.get("keyward-error")
                assert "set-cookie" not in head and "alt-svc" not in head, head
            case h2.events.DataReceived():
                seen["body"] += event.data
            case h2.events.TrailersReceived():
                seen["trailers"] = [name.decode() for name, _ in event.headers]
            case h2.events.StreamReset():
                return f"reset {CODES[event.error_code]}"
            case h2.events.StreamEnded():
                return told(seen)
            case h2.events.ConnectionTerminated():
                return f"goaway {event.error_code}"
        return None

    def run(self, row):
        """The row's exchange. Where it is about an upload, another one comes before it on the same stream of the
        upstream, whose settings hold then."""
        if row.body:
            assert self.ask("GET", "/first", b"", FIRST) == FIRST
        return self.ask(row.method, "/asked", row.body, row.expected)


def told(seen):
    if seen["error"]:
        return f"{seen['status']} {seen['error']}"
    return " ".join([seen["status"], seen["body"].decode(), *seen["trailers"]])


def run(stage, row, to):
    """All that is not as it should be."""
    stage.begin(row)
    agent = Agent(to)
    try:
        seen = agent.run(row)
    except (AssertionError, ProtocolError, OSError) as fault:
        seen = f"{type(fault).__name__}: {fault}"
    # What the upstream is told may come a moment after what the agent is told: until the end of its streams.
    began = time.monotonic()
    while row.told and row.told not in stage.told and time.monotonic() - began < PATIENCE:
        time.sleep(0.01)
    agent.tls.close()
    stage.end()
    wrong = list(stage.faults)
    if seen != row.expected:
        wrong.append(f"the agent was due {row.expected}, but it got {seen}")
    if len(stage.asked) != row.times:
        wrong.append(f"the request came {len(stage.asked)} times and not {row.times}")
    if (row.told not in stage.told) if row.told else any(one not in ("reset CANCEL", "reset NO_ERROR") for one in stage.told):
        wrong.append(f"the upstream was due {row.told}, but it was told {stage.told}")
    if any(asked.get("x-api-key") != to["live"] for asked in stage.asked):
        wrong.append("the upstream did not get the live key")
    return wrong


def main():
    stage, listening = Stage(), listener()
    threading.Thread(target=stage.listen, args=(listening,), daemon=True).start()
    print(json.dumps({HOST: listening.getsockname()[1]}), flush=True)
    to = json.loads(sys.stdin.readline())
    wrong = []
    for row in upstreams.ROWS:
        wrong += [f"§{row.section} {row.name}: {fault}" for fault in run(stage, row, to)]
    print("\n".join([*wrong, f"{len(upstreams.ROWS)} rows, {len(wrong)} faults"]))
    sys.exit(1 if wrong else 0)


main()
