"""HTTP/2 frames as they are, by `hyperframe` and `hpack`: another implementation than the one under
test, and one that sends what no library would. A `Link` is one TLS stream of frames, of either side."""

import socket
import ssl
import time

from hpack import Decoder
from hpack.hpack import encode_integer
from hyperframe import frame as frames

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Frame types and flags, RFC 9113 §6.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITY_FLAG = 0x4, 0x8, 0x20

# Error codes, RFC 9113 §7.
CODES = (
    "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR "
    "REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED"
).split()

# Settings, RFC 9113 §6.5.2, RFC 8441 §3.
TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_LIST = range(1, 7)
ENABLE_CONNECT = 8

# Nothing takes that long, in seconds; a hang becomes a failure.
PATIENCE = 10


def raw(kind, flags, stream, payload=b""):
    """A frame, whatever it is worth."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def settings(*pairs, flags=0, stream=0):
    payload = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in pairs)
    return raw(SETTINGS, flags, stream, payload)


def data(stream, payload, end=True):
    return raw(DATA, END_STREAM if end else 0, stream, payload)


def window(stream, increment):
    return raw(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def reset(stream, code):
    return raw(RST_STREAM, 0, stream, CODES.index(code).to_bytes(4, "big"))


def goaway(last, code="NO_ERROR", stream=0):
    payload = last.to_bytes(4, "big") + CODES.index(code).to_bytes(4, "big")
    return raw(GOAWAY, 0, stream, payload)


def ping(payload=b"conforms", flags=0, stream=0):
    return raw(PING, flags, stream, payload)


def literal(text):
    text = text if isinstance(text, bytes) else text.encode()
    return bytes(encode_integer(len(text), 7)) + text


def block(fields):
    """Each field a literal, neither indexed nor compressed: as it is written here."""
    return b"".join(b"\0" + literal(name) + literal(value) for name, value in fields)


def headers(stream, fields, end=True, flags=END_HEADERS):
    """HEADERS with a block, or with fields."""
    payload = fields if isinstance(fields, bytes) else block(fields)
    return raw(HEADERS, flags | (END_STREAM if end else 0), stream, payload)


def continuation(stream, payload, end=True):
    return raw(CONTINUATION, END_HEADERS if end else 0, stream, payload)


class Closed(Exception):
    """The peer has closed the stream."""


class Link:
    """Frames over one TLS stream. What of SETTINGS and PING must be answered is answered."""

    def __init__(self, tls):
        self.tls = tls
        self.decoder = Decoder()
        self.decoder.max_header_list_size = 1 << 20
        self.block = b""
        self.first = []
        tls.settimeout(PATIENCE)

    def send(self, *parts):
        """Sends bytes; a peer that has gone shows at the next read."""
        try:
            self.tls.sendall(b"".join(parts))
        except OSError:
            pass

    def exactly(self, count):
        read = b""
        while len(read) < count:
            try:
                piece = self.tls.recv(count - len(read))
            except TimeoutError as late:
                raise AssertionError(f"nothing came within {PATIENCE} s") from late
            except OSError as broken:
                raise Closed from broken
            if not piece:
                raise Closed
            read += piece
        return read

    def frame(self):
        """The next frame, of which header blocks are decoded: whole ones, in `fields`."""
        head = self.exactly(9)
        frame, length = frames.Frame.parse_frame_header(memoryview(head))
        frame.parse_body(memoryview(self.exactly(length)))
        frame.fields = None
        if isinstance(frame, (frames.HeadersFrame, frames.ContinuationFrame)):
            self.block += frame.data
            if "END_HEADERS" in frame.flags:
                frame.fields = self.decoder.decode(self.block)
                self.block = b""
        if isinstance(frame, frames.SettingsFrame) and "ACK" not in frame.flags:
            self.send(settings(flags=ACK))
        if isinstance(frame, frames.PingFrame) and "ACK" not in frame.flags:
            self.send(ping(frame.opaque_data, ACK))
        return frame

    def until(self, wanted):
        """The first frame for which `wanted` says something, and what it says."""
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE:
            told = wanted(self.frame())
            if told is not None:
                return told
        raise AssertionError(f"nothing of interest came within {PATIENCE} s")

    def ended(self):
        """The code with which the peer ends all, or `closed`."""
        try:
            return self.until(lambda frame: code(frame) if isinstance(frame, frames.GoAwayFrame) else None)
        except Closed:
            return "closed"

    def close(self):
        # Both directions at once: who reads from it is told.
        try:
            self.tls.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.tls.close()


def code(frame):
    number = frame.error_code
    return CODES[number] if number < len(CODES) else hex(number)


def tunnel(to, host, protocols):
    """A tunnel through the proxy to `host`, in which TLS with one of `protocols` was agreed on."""
    address, port = to["proxy"].rsplit(":", 1)
    plain = socket.create_connection((address, int(port)), PATIENCE)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n{to['authorization']}\r\n"
    plain.sendall(head.encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = plain.recv(1)
        assert piece, f"CONNECT was answered with {answer}"
        answer += piece
    assert answer.startswith(b"HTTP/1.1 200"), answer
    context = ssl.create_default_context(cafile=to["ca"])
    context.set_alpn_protocols(protocols)
    tls = context.wrap_socket(plain, server_hostname=host)
    assert tls.selected_alpn_protocol() == protocols[0]
    return tls


def listener():
    """A port that the system chooses."""
    return socket.create_server(("127.0.0.1", 0), backlog=64)


def accepted(listening, protocol):
    """The streams of a listener, TLS done, each of which speaks `protocol`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("chain.pem", "key.pem")
    context.set_alpn_protocols([protocol])
    while True:
        plain, _ = listening.accept()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            tls = context.wrap_socket(plain, server_side=True)
        except OSError:
            continue
        tls.settimeout(None)
        yield tls
