"""What an upstream may send, what it may not, and what Keyward makes of it: RFC 9113, row by row."""

from dataclasses import dataclass
from typing import Callable

from hyperframe import frame as frames

from wire import *

BROKEN = "502 upstream_protocol"
CUT = "reset INTERNAL_ERROR"
FINE = "200 fine"


@dataclass(frozen=True)
class Row:
    """What is sent on the stream of a request; what the agent sees; and what the upstream is told, if
    anything: `reset CODE`, `goaway CODE`.

    What ends the whole stream also ends the exchanges of others on it, who have done nothing: so each that is
    idempotent goes out once more, also the one that was at fault; and three times in all what was not processed."""

    section: str
    name: str
    frames: Callable[[Link, int], bytes]
    expected: str
    told: str | None = None
    opening: bytes = settings()
    # Of the request.
    method: str = "GET"
    body: bytes = b""
    # How often the request comes.
    times: int = 1


def row(section, name, frames, expected, told=None, **more):
    return Row(section, name, frames, expected, told, **more)


def head(stream, *more, status="200", end=False):
    return headers(stream, [(":status", status), *more], end)


def fine(stream):
    return head(stream) + data(stream, b"fine")


def after(first):
    """A sound answer after something that does not matter."""
    return lambda link, s: (first(s) if callable(first) else first) + fine(s)


def instead(*fields, end=False):
    """An answer with these fields and no others."""
    return lambda link, s: headers(s, list(fields), end) + (b"" if end else data(s, b"fine"))


def field(name, value):
    return instead((":status", "200"), (name, value))


def length(declared, *parts, end=False):
    return lambda link, s: head(s, ("content-length", declared), end=end) + b"".join(data(s, part, end=part is parts[-1]) for part in parts)


def trailers(*fields, end=True, then=lambda s: b""):
    return lambda link, s: head(s) + data(s, b"fine", end=False) + headers(s, list(fields), end=end) + then(s)


def only(first):
    return lambda link, s: first(s) if callable(first) else first


def begun(then):
    """An answer that is begun and then broken."""
    return lambda link, s: head(s) + data(s, b"fi", end=False) + then(s)


def broken_off(link, stream):
    """GOAWAY with a fault, and the end."""
    link.send(head(stream), data(stream, b"fi", end=False), goaway(stream, "INTERNAL_ERROR"))
    link.close()
    return b""


def within_windows(link, stream):
    """Takes the upload in small pieces, and sees that not a byte more comes than there is room for."""
    got, granted = 0, 10
    while True:
        frame = link.frame()
        if isinstance(frame, frames.DataFrame):
            got += len(frame.data)
            assert got <= granted, f"{got} bytes came, and {granted} were allowed"
            if "END_STREAM" in frame.flags:
                return fine(stream)
            if got == granted:
                granted += 1_000
                link.send(window(stream, 1_000))


def answers_pings(link, stream):
    link.send(ping(b"upstream"))
    link.until(lambda frame: True if isinstance(frame, frames.PingFrame) and frame.opaque_data == b"upstream" else None)
    return fine(stream)


MALFORMED = "reset PROTOCOL_ERROR"
UNDECODED = "goaway PROTOCOL_ERROR"

FRAMES = [
    row("4.1", "a sound answer", after(b""), FINE),
    row("4.1", "a frame of an unknown type", after(raw(0xBE, 0xFF, 0, b"unknown")), FINE),
    row("4.1", "ALTSVC and ORIGIN", after(raw(0xA, 0, 0, b"\0\0h2=\":1\"") + raw(0xC, 0, 0, b"\0\1a")), FINE),
    row("4.1", "a priority", after(lambda s: raw(PRIORITY, 0, s, bytes(5))), FINE),
    row("4.2", "DATA beyond the largest size", begun(lambda s: data(s, b"x" * 16_385)), CUT, "goaway FRAME_SIZE_ERROR"),
    row("4.3", "PING within a head", lambda link, s: raw(HEADERS, 0, s, block([(":status", "200")])) + ping() + continuation(s, b""), BROKEN, "goaway PROTOCOL_ERROR", times=2),
    row("4.3", "CONTINUATION of another stream", lambda link, s: raw(HEADERS, 0, s, block([(":status", "200")])) + continuation(s + 2, b""), BROKEN, "goaway PROTOCOL_ERROR", times=2),
    row("4.3", "CONTINUATION after a whole head", begun(lambda s: continuation(s, b"")), CUT, "goaway PROTOCOL_ERROR"),
    row("4.3", "a head in two frames", lambda link, s: raw(HEADERS, 0, s, block([(":status", "200")])) + continuation(s, b"") + data(s, b"fine"), FINE),
    row("4.3", "no HPACK", lambda link, s: headers(s, b"\xff" * 6), BROKEN, "goaway PROTOCOL_ERROR", times=2),
    row("5.1", "DATA before the head", lambda link, s: data(s, b"fine"), BROKEN, "goaway PROTOCOL_ERROR", times=2),
    row("5.1", "a head on a stream that nobody opened", lambda link, s: head(s + 2) , BROKEN, "goaway PROTOCOL_ERROR", times=2),
    row("5.1", "DATA on a stream that nobody opened", lambda link, s: data(s + 2, b"x"), BROKEN, "goaway PROTOCOL_ERROR", times=2),
    row("5.1", "a head on a stream of the upstream's own", lambda link, s: head(2), BROKEN, "goaway PROTOCOL_ERROR", times=2),
    row("6.1", "DATA on stream 0", begun(lambda s: data(0, b"x")), CUT, "goaway PROTOCOL_ERROR"),
    row("6.1", "DATA with padding", lambda link, s: head(s) + raw(DATA, PADDED | END_STREAM, s, b"\7fine" + bytes(7)), FINE),
    row("6.1", "DATA with more padding than frame", begun(lambda s: raw(DATA, PADDED, s, b"\xffab")), CUT, "goaway PROTOCOL_ERROR"),
    row("6.5", "a setting that nobody knows", after(settings((0xFFFF, 1))), FINE),
    # The crate should end all, but nothing can come of it: a push is refused.
    row("6.5.2", "ENABLE_PUSH of 1", after(settings((ENABLE_PUSH, 1))), FINE),
    row("6.5.2", "a window of 2^31", only(settings((INITIAL_WINDOW, 1 << 31))), BROKEN, "goaway PROTOCOL_ERROR", times=2),
    row("6.5.2", "frames of 16,383 bytes", only(settings((MAX_FRAME, 16_383))), BROKEN, "goaway PROTOCOL_ERROR", times=2),
    row("6.6", "PUSH_PROMISE", lambda link, s: raw(PUSH_PROMISE, END_HEADERS, s, b"\0\0\0\2" + block([(":method", "GET")])) + fine(s), BROKEN, "goaway PROTOCOL_ERROR", times=2),
    row("6.7", "PING", answers_pings, FINE),
    row("6.7", "PING on a stream", begun(lambda s: ping(stream=s)), CUT, "goaway PROTOCOL_ERROR"),
    row("6.9", "an upload in the room that there is", within_windows, FINE, opening=settings((INITIAL_WINDOW, 10)), method="POST", body=b"x" * 20_000),
    row("6.9", "WINDOW_UPDATE by nothing", begun(lambda s: window(0, 0)), CUT, "goaway PROTOCOL_ERROR"),
    row("6.9.1", "a window beyond 2^31", begun(lambda s: window(0, 0x7FFFFFFF) * 2), CUT, "goaway FLOW_CONTROL_ERROR"),
    row("6.9.1", "a stream's window beyond 2^31", begun(lambda s: window(s, 0x7FFFFFFF) * 2), CUT, "reset FLOW_CONTROL_ERROR", opening=settings((INITIAL_WINDOW, 10)), method="POST", body=b"x" * 20_000),
    row("6.9.1", "more than there is room for", begun(lambda s: data(s, b"x" * 16_384, end=False) * 60), "begun", "reset FLOW_CONTROL_ERROR"),
]

STATES = [
    row("5.4.2", "a reset before the answer", only(lambda s: reset(s, "CANCEL")), BROKEN),
    row("5.4.2", "a reset within the answer", begun(lambda s: reset(s, "INTERNAL_ERROR")), CUT),
    row("5.4.2", "a reset by CANCEL within the answer", begun(lambda s: reset(s, "CANCEL")), "reset CANCEL"),
    row("8.1", "an answer to an upload that nobody wants", lambda link, s: fine(s) + reset(s, "NO_ERROR"), FINE, opening=settings((INITIAL_WINDOW, 10)), method="POST", body=b"x" * 20_000),
    row("8.7", "REFUSED_STREAM", only(lambda s: reset(s, "REFUSED_STREAM")), BROKEN, times=3),
    row("8.7", "GOAWAY that leaves the request out", only(goaway(0)), BROKEN, times=3),
    row("6.8", "GOAWAY, and the answer", after(lambda s: goaway(s)), FINE),
    row("6.8", "GOAWAY with a fault within the answer", broken_off, CUT),
    row("8.1", "DATA after the end", lambda link, s: fine(s) + data(s, b"more"), FINE, "reset STREAM_CLOSED"),
]

MESSAGES = [
    row("8.3.2", "no status", instead(("x-a", "b")), BROKEN, MALFORMED),
    row("8.3.2", "two statuses", instead((":status", "200"), (":status", "404")), BROKEN, MALFORMED),
    row("8.3.2", "a status of letters", instead((":status", "abc")), BROKEN, UNDECODED, times=2),
    row("8.3.2", "a status of four digits", instead((":status", "2000")), BROKEN, UNDECODED, times=2),
    row("8.3.2", "a status of 99", instead((":status", "099")), BROKEN, UNDECODED, times=2),
    row("8.3.2", "a status of 600", instead((":status", "600")), BROKEN),
    # The crate drops it instead of the answer.
    row("8.3", "a request's pseudo-header field", instead((":status", "200"), (":path", "/")), FINE),
    row("8.3", "a pseudo-header field that nobody knows", instead((":status", "200"), (":other", "b")), BROKEN, UNDECODED, times=2),
    row("8.3", "a pseudo-header field after another", instead(("x-a", "b"), (":status", "200")), BROKEN, MALFORMED),
    row("8.6", "101", instead((":status", "101")), BROKEN, UNDECODED, times=2),
    row("8.1", "an interim answer that ends", instead((":status", "103"), end=True), BROKEN),
    row("8.1", "100 before the answer", after(lambda s: head(s, status="100")), FINE),
    row("8.1", "103 before the answer", after(lambda s: head(s, ("link", "</a>"), status="103")), FINE),
    row("8.1", "interim answers without end", lambda link, s: head(s, status="102") * 30, BROKEN, "reset CANCEL"),
    row("8.2.1", "a capital", field("X-A", "b"), BROKEN, UNDECODED, times=2),
    row("8.2.1", "a line feed", field("x-a", "b\nset-cookie: c"), BROKEN, UNDECODED, times=2),
    row("8.2.1", "a carriage return", field("x-a", "b\rset-cookie: c"), BROKEN, UNDECODED, times=2),
    row("8.2.1", "NUL", field("x-a", "b\0c"), BROKEN, UNDECODED, times=2),
    row("8.2.1", "blanks round a value", field("x-a", "\t b "), FINE),
    row("8.2.2", "connection", field("connection", "close"), BROKEN, MALFORMED),
    row("8.2.2", "transfer-encoding", field("transfer-encoding", "chunked"), BROKEN, MALFORMED),
    row("8.1.1", "a body that is longer than its length", length("3", b"fine"), CUT, MALFORMED),
    row("8.1.1", "a body that is shorter than its length", length("5", b"fine"), CUT, MALFORMED),
    row("8.1.1", "a length and no body", length("4", end=True), BROKEN),
    row("8.1.1", "a length that is none", length("+4", b"fine"), BROKEN, MALFORMED),
    row("8.1.1", "two lengths", lambda link, s: head(s, ("content-length", "4"), ("content-length", "5")) + data(s, b"fine"), BROKEN, MALFORMED),
    row("8.1.1", "a body of its length", length("4", b"fi", b"ne"), FINE),
    row("8.1.1", "a length without body for HEAD", length("4", end=True), "200 ", method="HEAD"),
    row("8.1", "sound trailers", trailers(("x-checksum", "1")), "200 fine x-checksum"),
    row("8.1", "pseudo-header fields in trailers", trailers((":status", "404"), ("x-a", "b")), "200 fine x-a"),
    row("8.1", "a capital in trailers", trailers(("X-A", "b")), CUT, UNDECODED),
    row("8.1", "a field of HTTP/1.1 in trailers", trailers(("connection", "close")), CUT, MALFORMED),
    row("8.1", "trailers that do not end the answer", trailers(("x-a", "b"), end=False), CUT, MALFORMED),
    row("10.5.1", "a head beyond the limit", field("x-a", "x" * 16_000), FINE),
]

ROWS = FRAMES + STATES + MESSAGES
