"""What an agent may send, what it may not, and what Keyward makes of it: RFC 9113, RFC 7541 (HPACK) and
RFC 8441, row by row. Each goes before an upstream of HTTP/2 and one of HTTP/1.1."""

from dataclasses import dataclass
from typing import Callable

from hpack import Encoder

from wire import *


@dataclass(frozen=True)
class Row:
    """What is sent, given the fields of a sound request, and what must come of it: an answer's status on
    stream 1, `reset CODE` of it, or `goaway CODE`."""

    section: str
    name: str
    frames: Callable[[list], bytes]
    expected: str
    # What the upstream gets of the request: `whole`, `cut`, or nothing.
    reaches: str = "nothing"
    # Sent instead of the preface and empty SETTINGS.
    opening: bytes = PREFACE + settings()
    stream: int = 1


# A malformed message: Keyward's parser resets its stream, or ends all where it cannot decode the head. Both are
# right (§5.4.2), and so is a general code, where RFC 9113 has a more special one: what it has is beside it.
MALFORMED = "reset PROTOCOL_ERROR"
UNDECODED = "goaway PROTOCOL_ERROR"
BAD_SIZE = "goaway PROTOCOL_ERROR"  # FRAME_SIZE_ERROR, §4.2
BAD_HPACK = "goaway PROTOCOL_ERROR"  # COMPRESSION_ERROR, §4.3
BAD_STATE = "goaway PROTOCOL_ERROR"  # STREAM_CLOSED, §5.1


def row(section, name, frames, expected, **more):
    if expected.isdigit():
        more.setdefault("reaches", "whole" if expected == "200" else "nothing")
    return Row(section, name, frames, expected, **more)


def changed(fields, **pseudo):
    """With other values of pseudo-header fields; `None`: without it."""
    changed = [(name, pseudo.get(name.strip(":"), value)) for name, value in fields]
    return [(name, value) for name, value in changed if value is not None]


def post(fields, *more):
    return changed(fields, method="POST") + list(more)


def whole(fields, *more):
    return headers(1, fields + list(more))


def upload(fields, *parts, **last):
    """A POST whose body is sent as these frames."""
    return headers(1, post(fields), end=False) + b"".join(parts)


def padded(kind, flags, payload, length):
    return raw(kind, flags | PADDED, 1, bytes([length]) + payload + b"\0" * length)


def too_many_padding(kind):
    return lambda r: headers(1, post(r), end=False) * (kind == DATA) + raw(kind, PADDED | END_HEADERS, 1, b"\xff" + b"ab")


def pieces(fields, count):
    """A request whose head is in so many frames."""
    whole = block(fields)
    size = len(whole) // count + 1
    parts = [whole[at : at + size] for at in range(0, len(whole), size)]
    first = raw(HEADERS, END_STREAM, 1, parts[0])
    rest = [continuation(1, part, end=part is parts[-1]) for part in parts[1:]]
    return first + b"".join(rest)


def indexed(fields):
    """As a library compresses it: Huffman, and the dynamic table."""
    return headers(1, Encoder().encode(fields, huffman=True))


FRAMES = [
    row("4.1", "a sound request", whole, "200"),
    row("4.1", "a frame of an unknown type", lambda r: raw(0xBE, 0xFF, 0, b"unknown") + whole(r), "200"),
    row("4.1", "an unknown frame on a stream", lambda r: upload(r, raw(0xBE, 0, 1, b"x"), data(1, b"body")), "200"),
    row("4.1", "flags that nobody knows", lambda r: raw(PING, 0x7E, 0, b"conforms") + whole(r), "200"),
    row("4.1", "the reserved bit", lambda r: raw(HEADERS, END_HEADERS | END_STREAM, 1 << 31 | 1, block(r)), "200"),
    row("4.2", "DATA of the largest size", lambda r: upload(r, data(1, b"x" * 16_384)), "200"),
    row("4.2", "DATA beyond the largest size", lambda r: upload(r, data(1, b"x" * 16_385)), "goaway FRAME_SIZE_ERROR", reaches="cut"),
    row("4.2", "HEADERS beyond the largest size", lambda r: whole(r, ("x-a", "x" * 16_384)), "goaway FRAME_SIZE_ERROR"),
    row("4.2", "a SETTINGS beyond the largest size", lambda r: settings(*[(9, 0)] * 3_000), "goaway FRAME_SIZE_ERROR"),
    row("4.3", "a head in nine frames", lambda r: pieces(r, 9), "200"),
    row("4.3", "PING within a head", lambda r: raw(HEADERS, END_STREAM, 1, block(r)) + ping(), "goaway PROTOCOL_ERROR"),
    row("4.3", "an unknown frame within a head", lambda r: raw(HEADERS, END_STREAM, 1, block(r)) + raw(0xBE, 0, 0), "goaway PROTOCOL_ERROR"),
    row("4.3", "another stream within a head", lambda r: raw(HEADERS, END_STREAM, 1, block(r)) + headers(3, r), "goaway PROTOCOL_ERROR"),
    row("6.10", "CONTINUATION of another stream", lambda r: raw(HEADERS, END_STREAM, 1, block(r)) + continuation(3, b""), "goaway PROTOCOL_ERROR"),
    row("6.10", "CONTINUATION on stream 0", lambda r: raw(HEADERS, END_STREAM, 1, block(r)) + continuation(0, b""), "goaway PROTOCOL_ERROR"),
    row("6.10", "CONTINUATION after a whole head", lambda r: headers(1, post(r), end=False) + continuation(1, b""), "goaway PROTOCOL_ERROR"),
    row("6.10", "CONTINUATION after DATA", lambda r: upload(r, data(1, b"x", end=False), continuation(1, b"")), "goaway PROTOCOL_ERROR", reaches="cut"),
]

STREAMS = [
    row("5.1", "RST_STREAM on an idle stream", lambda r: reset(1, "CANCEL"), "goaway PROTOCOL_ERROR"),
    row("5.1", "WINDOW_UPDATE on an idle stream", lambda r: window(1, 1), "goaway PROTOCOL_ERROR"),
    row("5.1", "DATA on an idle stream", lambda r: data(1, b"x"), "goaway PROTOCOL_ERROR"),
    row("5.1", "PRIORITY on an idle stream", lambda r: raw(PRIORITY, 0, 9, bytes(5)) + whole(r), "200"),
    row("5.1", "DATA after the request has ended", lambda r: upload(r, data(1, b"x"), data(1, b"more")), BAD_STATE, reaches="whole or cut"),
    row("5.1", "HEADERS after the request has ended", lambda r: upload(r, data(1, b"x"), headers(1, [("x-a", "b")])), BAD_STATE, reaches="whole or cut"),
    row("5.1", "HEADERS after RST_STREAM", lambda r: upload(r, reset(1, "CANCEL"), headers(1, r)), BAD_STATE, reaches="cut"),
    row("5.1.1", "an even stream", lambda r: headers(2, r), "goaway PROTOCOL_ERROR", stream=2),
    row("5.1.1", "a stream that is older than the last", lambda r: headers(5, changed(r, path=None)) + headers(3, r), "goaway PROTOCOL_ERROR", stream=3),
    row("5.1.1", "streams that are left out", lambda r: headers(41, r), "200", stream=41),
    row("5.3", "a stream that depends on itself", lambda r: raw(PRIORITY, 0, 1, b"\0\0\0\1\x10"), "reset PROTOCOL_ERROR"),
    row("5.5", "a setting that nobody knows", lambda r: settings((0xFFFF, 1)) + whole(r), "200"),
]

BY_TYPE = [
    row("6.1", "DATA on stream 0", lambda r: data(0, b"x"), "goaway PROTOCOL_ERROR"),
    row("6.1", "DATA with padding", lambda r: upload(r, padded(DATA, END_STREAM, b"body", 200)), "200"),
    row("6.1", "DATA with more padding than frame", too_many_padding(DATA), "goaway PROTOCOL_ERROR", reaches="cut"),
    row("6.2", "HEADERS on stream 0", lambda r: headers(0, r), "goaway PROTOCOL_ERROR"),
    row("6.2", "HEADERS with padding", lambda r: padded(HEADERS, END_HEADERS | END_STREAM, block(r), 99), "200"),
    row("6.2", "HEADERS with more padding than frame", too_many_padding(HEADERS), "goaway PROTOCOL_ERROR"),
    row("6.2", "HEADERS with a priority", lambda r: headers(1, b"\0\0\0\0\x10" + block(r), flags=END_HEADERS | PRIORITY_FLAG), "200"),
    row("6.3", "PRIORITY on stream 0", lambda r: raw(PRIORITY, 0, 0, bytes(5)), "goaway PROTOCOL_ERROR"),
    row("6.3", "PRIORITY of four bytes", lambda r: raw(PRIORITY, 0, 1, bytes(4)), BAD_SIZE),
    row("6.4", "RST_STREAM on stream 0", lambda r: reset(0, "CANCEL"), "goaway PROTOCOL_ERROR"),
    row("6.4", "RST_STREAM of three bytes", lambda r: upload(r, raw(RST_STREAM, 0, 1, bytes(3))), BAD_SIZE, reaches="cut"),
    row("6.5", "an acknowledgement with settings", lambda r: settings((3, 1), flags=ACK), BAD_SIZE),
    row("6.5", "SETTINGS on a stream", lambda r: settings(stream=1), "goaway PROTOCOL_ERROR"),
    row("6.5", "SETTINGS of five bytes", lambda r: raw(SETTINGS, 0, 0, bytes(5)), BAD_SIZE),
    row("6.5.2", "ENABLE_PUSH of 2", lambda r: settings((ENABLE_PUSH, 2)), "goaway PROTOCOL_ERROR"),
    row("6.5.2", "a window of 2^31", lambda r: settings((INITIAL_WINDOW, 1 << 31)), UNDECODED),
    row("6.5.2", "frames of 16,383 bytes", lambda r: settings((MAX_FRAME, 16_383)), "goaway PROTOCOL_ERROR"),
    row("6.5.2", "frames of 2^24 bytes", lambda r: settings((MAX_FRAME, 1 << 24)), "goaway PROTOCOL_ERROR"),
    row("8441-3", "ENABLE_CONNECT_PROTOCOL of 2", lambda r: settings((ENABLE_CONNECT, 2)), "goaway PROTOCOL_ERROR"),
    row("6.5.3", "the last of two equal settings counts", lambda r: settings((INITIAL_WINDOW, 0), (INITIAL_WINDOW, 9_000)) + whole(r), "200"),
    row("6.6", "PUSH_PROMISE", lambda r: headers(1, post(r), end=False) + raw(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + block(r)), "goaway PROTOCOL_ERROR", reaches="cut"),
    row("6.7", "PING on a stream", lambda r: ping(stream=1), "goaway PROTOCOL_ERROR"),
    row("6.7", "PING of seven bytes", lambda r: ping(bytes(7)), BAD_SIZE),
    row("6.7", "an answer to no PING", lambda r: ping(flags=ACK) + whole(r), "200"),
    row("6.8", "GOAWAY on a stream", lambda r: goaway(0, stream=1), "goaway PROTOCOL_ERROR"),
    row("6.8", "GOAWAY of four bytes", lambda r: raw(GOAWAY, 0, 0, bytes(4)), BAD_SIZE),
    row("6.8", "GOAWAY after a request, which is answered", lambda r: whole(r) + goaway(0), "200"),
    row("6.9", "WINDOW_UPDATE by nothing", lambda r: window(0, 0), "goaway PROTOCOL_ERROR"),
    row("6.9", "WINDOW_UPDATE by nothing on a stream", lambda r: upload(r, window(1, 0)), UNDECODED, reaches="cut"),
    row("6.9", "WINDOW_UPDATE of three bytes", lambda r: raw(WINDOW_UPDATE, 0, 0, bytes(3)), BAD_SIZE),
    row("6.9.1", "a window beyond 2^31", lambda r: window(0, 0x7FFFFFFF) * 2, "goaway FLOW_CONTROL_ERROR"),
    row("6.9.1", "a stream's window beyond 2^31", lambda r: upload(r, window(1, 0x7FFFFFFF)), "reset FLOW_CONTROL_ERROR", reaches="cut"),
    row("6.9.2", "a setting that takes a stream's window beyond 2^31", lambda r: upload(r, window(1, 0x7FFF0000), settings((INITIAL_WINDOW, 0x7FFFFFFF))), "goaway FLOW_CONTROL_ERROR", reaches="cut"),
    row("3.4", "a preface with a wrong byte", lambda r: b"", "closed", opening=PREFACE[:-3] + b".\r\n"),
    # The crate waits for them while it goes on: none of what they would say is needed for a request.
    row("3.4", "no SETTINGS after the preface", whole, "200", opening=PREFACE),
]


def compressed(tail):
    return lambda r: headers(1, block(r) + tail)


HPACK = [
    row("7541-2.3", "what is indexed and compressed", indexed, "200"),
    row("7541-2.3.3", "the index 0", compressed(b"\x80"), BAD_HPACK),
    row("7541-2.3.3", "an index beyond the table", compressed(b"\xff\x20"), BAD_HPACK),
    row("7541-4.2", "a change of the table's size after a field", compressed(b"\x20"), BAD_HPACK),
    row("7541-4.2", "a table beyond what was agreed on", lambda r: headers(1, b"\x3f\xe2\xff\x03" + block(r)), BAD_HPACK),
    row("7541-4.2", "a table of nothing", lambda r: headers(1, b"\x20" + block(r)), "200"),
    row("7541-5.1", "an integer without end", compressed(b"\xff" * 12), BAD_HPACK),
    row("7541-5.2", "a text that is cut", compressed(b"\0\x7f\x00x"), BAD_HPACK),
    row("7541-5.2", "the end of a text within it", compressed(b"\0\1x\x84\xff\xff\xff\xfc"), BAD_HPACK),
    row("7541-5.2", "padding of eight bits", compressed(b"\0\1x\x82\x1f\xff"), BAD_HPACK),
    row("7541-5.2", "padding with noughts", compressed(b"\0\1x\x81\x18"), BAD_HPACK),
]


def field(name, value):
    return lambda r: whole(r, (name, value))


def pseudo(**changes):
    return lambda r: headers(1, changed(r, **changes))


def trailers(*fields, end=True):
    return lambda r: upload(r, data(1, b"body", end=False), headers(1, list(fields), end=end))


def length(declared, *parts, end=False):
    return lambda r: headers(1, post(r, ("content-length", declared)), end=end) + b"".join(parts)


MESSAGES = [
    row("8.1", "a second head that does not end the request", trailers(("x-a", "b"), end=False), MALFORMED, reaches="cut"),
    # The crate drops such fields instead of the request: what goes on has no trailers but sound ones.
    row("8.1", "pseudo-header fields in trailers", trailers((":path", "/b"), ("x-a", "b")), "200"),
    row("8.1", "an answer's field in trailers", trailers((":status", "200")), "200"),
    row("8.1", "a field of HTTP/1.1 in trailers", trailers(("transfer-encoding", "chunked")), MALFORMED, reaches="cut"),
    row("8.1", "a capital in trailers", trailers(("X-A", "b")), UNDECODED, reaches="cut"),
    row("8.1", "sound trailers", trailers(("x-checksum", "1")), "200"),
    row("8.1.1", "a body that is longer than its length", length("3", data(1, b"body")), MALFORMED, reaches="cut"),
    row("8.1.1", "a body in two frames that is longer", length("6", data(1, b"body", end=False), data(1, b"body")), MALFORMED, reaches="cut"),
    row("8.1.1", "a body that is shorter than its length", length("5", data(1, b"body")), MALFORMED, reaches="cut"),
    row("8.1.1", "a length and no body", length("4", end=True), MALFORMED),
    row("8.1.1", "a length, and the end in trailers", length("9", data(1, b"body", end=False), headers(1, [("x-a", "b")])), MALFORMED, reaches="cut"),
    row("8.1.1", "a body of its length", length("8", data(1, b"body", end=False), data(1, b"body")), "200"),
    row("8.1.1", "no end of the body but an empty frame", length("4", data(1, b"body", end=False), data(1, b"")), "200"),
    row("8.2.1", "a capital", field("X-A", "b"), UNDECODED),
    row("8.2.1", "a line feed", field("x-a", "b\nc: d"), UNDECODED),
    row("8.2.1", "DEL in a name", field("x\x7fa", "b"), UNDECODED),
    row("8.2.1", "a blank before a value", field("x-a", " b"), "200"),
    row("8.2.2", "connection", field("connection", "close"), MALFORMED),
    row("8.2.2", "keep-alive", field("keep-alive", "1"), MALFORMED),
    row("8.2.2", "proxy-connection", field("proxy-connection", "close"), MALFORMED),
    row("8.2.2", "transfer-encoding", field("transfer-encoding", "identity"), MALFORMED),
    row("8.2.2", "upgrade", field("upgrade", "h2c"), MALFORMED),
    row("8.2.2", "te of more than trailers", field("te", "trailers, deflate"), MALFORMED),
    row("8.2.2", "te of trailers", field("te", "trailers"), "200"),
    row("8.2.3", "a cookie in crumbs", lambda r: whole(r, ("cookie", "a=1"), ("cookie", "b=2")), "200"),
    row("8.3", "a pseudo-header field that nobody knows", lambda r: headers(1, [(":other", "b"), *r]), UNDECODED),
    row("8.3", "a pseudo-header field after another", lambda r: headers(1, [*r[:3], ("x-a", "b"), r[3]]), MALFORMED),
    row("8.3", "an answer's pseudo-header field", lambda r: headers(1, [*r, (":status", "200")]), MALFORMED),
    row("8.3.1", "no method", pseudo(method=None), MALFORMED),
    row("8.3.1", "no scheme", pseudo(scheme=None), MALFORMED),
    row("8.3.1", "no path", pseudo(path=None), MALFORMED),
    row("8.3.1", "an empty path", pseudo(path=""), MALFORMED),
    row("8.3.1", "a path twice", lambda r: headers(1, [*r, (":path", "/other")]), MALFORMED),
    row("8.3.1", "a method twice", lambda r: headers(1, [*r, (":method", "POST")]), MALFORMED),
    row("8.3.1", "an authority twice", lambda r: headers(1, [*r, (":authority", "other.test")]), MALFORMED),
    row("8.3.1", "another authority", pseudo(authority="other.test"), "421"),
    row("8.3.1", "an asterisk for all but OPTIONS", pseudo(path="*"), "400"),
    row("8.3.1", "another scheme", pseudo(scheme="ftp"), "400"),
    row("8.5", "CONNECT", lambda r: headers(1, [(":method", "CONNECT"), (":authority", "other.test:443")]), "405"),
    row("8.5", "CONNECT with a path", pseudo(method="CONNECT"), MALFORMED),
    row("8441-4", "an extended CONNECT without a path", lambda r: headers(1, [(":method", "CONNECT"), (":protocol", "websocket"), (":authority", "other.test")], end=False), MALFORMED),
    row("8441-4", ":protocol without CONNECT", lambda r: headers(1, [*r, (":protocol", "websocket")]), MALFORMED),
]

ROWS = FRAMES + STREAMS + BY_TYPE + HPACK + MESSAGES
