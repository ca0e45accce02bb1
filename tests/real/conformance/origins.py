"""Upstreams that note what they receive and judge it strictly: one of HTTP/2, by `h2`, and one of HTTP/1.1,
by its grammar. What is not allowed there is a fault, whoever let it through."""

import re
import threading
from collections import defaultdict

import h2.config
import h2.connection
import h2.events
from h2.exceptions import ProtocolError

from wire import accepted, listener

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
TARGET = re.compile(rb"/[!$&'()*+,;=:@/?%._~0-9A-Za-z-]*")


class Seen:
    """Requests by their path: fields, body, trailers, and whether they came whole."""

    def __init__(self):
        self.requests = defaultdict(list)
        self.faults = []

    def note(self, path, fields, body, trailers, whole):
        self.requests[path].append((fields, bytes(body), trailers, whole))


class Origin:
    """Listens; each stream has a thread of its own."""

    def __init__(self, protocol, serve):
        self.seen = Seen()
        listening = listener()
        self.port = listening.getsockname()[1]

        def accept():
            for tls in accepted(listening, protocol):
                threading.Thread(target=self.served, args=(serve, tls), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    def served(self, serve, tls):
        try:
            serve(tls, self.seen)
        except (OSError, EOFError):
            pass
        except (ProtocolError, AssertionError) as fault:
            self.seen.faults.append(f"{type(fault).__name__}: {fault}")
        finally:
            tls.close()


def http2(tls, seen):
    """`h2` refuses what RFC 9113 does not allow of a client."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    tls.sendall(connection.data_to_send())
    under_way = {}
    while piece := tls.recv(65_536):
        for event in connection.receive_data(piece):
            stream = getattr(event, "stream_id", None)
            match event:
                case h2.events.RequestReceived():
                    under_way[stream] = [event.headers, bytearray(), []]
                case h2.events.DataReceived():
                    under_way[stream][1] += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, stream)
                case h2.events.TrailersReceived():
                    under_way[stream][2] = event.headers
                case h2.events.StreamEnded():
                    note(seen, *under_way.pop(stream), True)
                    connection.send_headers(stream, [(":status", "200")])
                    connection.send_data(stream, b"fine", end_stream=True)
                case h2.events.StreamReset() if stream in under_way:
                    note(seen, *under_way.pop(stream), False)
        tls.sendall(connection.data_to_send())


def note(seen, fields, body, trailers, whole):
    seen.note(dict(fields)[b":path"].decode(), fields, body, trailers, whole)


class Reader:
    """Lines and lengths of one stream."""

    def __init__(self, tls):
        self.tls, self.read = tls, b""

    def more(self):
        piece = self.tls.recv(65_536)
        if not piece:
            raise EOFError
        self.read += piece

    def line(self):
        while b"\r\n" not in self.read:
            assert b"\n" not in self.read, "a line feed alone"
            self.more()
        line, self.read = self.read.split(b"\r\n", 1)
        return line

    def exactly(self, count):
        while len(self.read) < count:
            self.more()
        taken, self.read = self.read[:count], self.read[count:]
        return taken

    def fields(self):
        fields = []
        while line := self.line():
            name, colon, value = line.partition(b":")
            assert colon and TOKEN.fullmatch(name), f"a field line {line}"
            assert not re.search(rb"[\0\r\n]", value), f"a value {value}"
            fields.append((name.lower(), value.strip(b" \t")))
        return fields


def http1(tls, seen):
    """RFC 9112, without any leniency: one framing, one `Host`, nothing between requests."""
    reader = Reader(tls)
    while True:
        method, target, version = reader.line().split(b" ")
        assert TOKEN.fullmatch(method) and TARGET.fullmatch(target) and version == b"HTTP/1.1", target
        fields = reader.fields()
        of = lambda name: [value for field, value in fields if field == name]
        assert len(of(b"host")) == 1, "not one Host"
        codings, lengths = of(b"transfer-encoding"), of(b"content-length")
        assert len(codings) + len(lengths) <= 1, "two framings"
        body, trailers = b"", []
        try:
            if codings:
                assert codings == [b"chunked"]
                while size := int(reader.line(), 16):
                    body += reader.exactly(size)
                    assert reader.exactly(2) == b"\r\n"
                trailers = reader.fields()
            elif lengths:
                assert re.fullmatch(rb"[0-9]+", lengths[0])
                body = reader.exactly(int(lengths[0]))
        except (EOFError, OSError):
            seen.note(target.decode(), fields, body, trailers, False)
            raise
        seen.note(target.decode(), fields, body, trailers, True)
        tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
