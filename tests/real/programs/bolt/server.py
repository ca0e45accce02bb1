"""A server of Bolt for tests. It is no Neo4j: none can be installed from the registries that tests/run uses.

It knows the messages of versions 4.4 and 5.0 to 5.8 and the statements that the drivers' tests send, answers tables of routes as a
cluster whose servers have hidden names, and writes down every message that it receives. A statement that begins with CREATE fails in
the access mode of a reader. What it cannot show is how a real server behaves beyond that.

    server.py FOLDER PLAIN_PORT TLS_PORT USER VERSIONS

FOLDER has server.crt and server.key; PASSWORD is in the environment. VERSIONS: the oldest and the newest minor version of 5, such as
0-8, or `4.4`."""

import json
import os
import socketserver
import ssl
import struct
import sys
import threading
import time

folder, plain_port, tls_port, user, versions = sys.argv[1:]
password = os.environ["PASSWORD"]
KNOWN = [(4, 4)]
if versions != "4.4":
    oldest, newest = (int(text) for text in versions.split("-"))
    KNOWN += [(5, minor) for minor in range(oldest, newest + 1)]
HIDDEN = ["member-0.hidden.internal:7687", "member-1.hidden.internal:7687"]
NAMES = {
    0x01: "HELLO", 0x02: "GOODBYE", 0x0F: "RESET", 0x10: "RUN", 0x11: "BEGIN", 0x12: "COMMIT", 0x13: "ROLLBACK", 0x2F: "DISCARD",
    0x3F: "PULL", 0x54: "TELEMETRY", 0x66: "ROUTE", 0x6A: "LOGON", 0x6B: "LOGOFF",
}
SUCCESS, RECORD, IGNORED, FAILURE = 0x70, 0x71, 0x7E, 0x7F
lock = threading.Lock()
received = open(os.path.join(folder, "received"), "a", buffering=1)


class Failure(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def sized(tiny, marker, size):
    if size < 16:
        return bytes([tiny | size])
    if size < 0x100:
        return bytes([marker, size])
    if size < 0x10000:
        return struct.pack(">BH", marker + 1, size)
    return struct.pack(">BI", marker + 2, size)


def packed(value):
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return struct.pack(">b", value) if -16 <= value < 128 else struct.pack(">Bq", 0xCB, value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xC1, value)
    if isinstance(value, str):
        data = value.encode()
        return sized(0x80, 0xD0, len(data)) + data
    if isinstance(value, bytes):
        return struct.pack(">BI", 0xCE, len(value)) + value
    if isinstance(value, list):
        return sized(0x90, 0xD4, len(value)) + b"".join(packed(item) for item in value)
    return sized(0xA0, 0xD8, len(value)) + b"".join(packed(key) + packed(item) for key, item in value.items())


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, count, signed=False):
        return int.from_bytes(self.take(count), "big", signed=signed)

    def value(self):
        marker = self.number(1)
        if marker < 0x80 or marker >= 0xF0:
            return marker if marker < 0x80 else marker - 256
        if marker < 0xC0:
            return self.sized(marker & 0xF0, marker & 0x0F)
        if marker in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[marker]
        if marker == 0xC1:
            return struct.unpack(">d", self.take(8))[0]
        if marker in (0xC8, 0xC9, 0xCA, 0xCB):
            return self.number(1 << (marker - 0xC8), signed=True)
        if marker in (0xCC, 0xCD, 0xCE):
            return self.take(self.number(1 << (marker - 0xCC)))
        kinds = {0xD0: 0x80, 0xD4: 0x90, 0xD8: 0xA0}
        return self.sized(kinds[marker & 0xFC], self.number(1 << (marker & 0x03)))

    def sized(self, kind, size):
        if kind == 0x80:
            return self.take(size).decode()
        if kind == 0x90:
            return [self.value() for _ in range(size)]
        if kind == 0xA0:
            return {self.value(): self.value() for _ in range(size)}
        return [self.number(1)] + [self.value() for _ in range(size)]


class Session(socketserver.BaseRequestHandler):
    def exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.request.recv(min(count - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return data

    def message(self):
        data = bytearray()
        while True:
            length = struct.unpack(">H", self.exactly(2))[0]
            if length == 0 and data:
                break
            data += self.exactly(length)
        assert data[0] & 0xF0 == 0xB0, data[:4]
        reader = Reader(bytes(data))
        reader.take(1)
        tag = reader.number(1)
        fields = [reader.value() for _ in range(data[0] & 0x0F)]
        assert reader.at == len(data), "bytes behind the fields"
        return tag, fields

    def send(self, tag, *fields):
        data = bytes([0xB0 | len(fields), tag]) + b"".join(packed(field) for field in fields)
        chunks = [data[at : at + 0xFFFF] for at in range(0, len(data), 0xFFFF)]
        self.request.sendall(b"".join(struct.pack(">H", len(chunk)) + chunk for chunk in chunks) + b"\0\0")

    def fail(self, code, message):
        if self.version >= (5, 7):
            more = {"gql_status": "50N42", "description": "error: general processing exception"}
            self.send(FAILURE, {"neo4j_code": code, "message": message} | more)
        else:
            self.send(FAILURE, {"code": code, "message": message})

    def agree(self):
        assert self.exactly(4) == b"\x60\x60\xb0\x17"
        proposals = [self.exactly(4) for _ in range(4)]
        for _, span, minor, major in proposals:
            for older in range(minor, max(minor - span, 0) - 1, -1):
                if (major, older) in KNOWN:
                    self.request.sendall(bytes([0, 0, older, major]))
                    return (major, older)
        self.request.sendall(bytes(4))
        raise EOFError

    def log_in(self, login):
        wanted = {"scheme": "basic", "principal": user, "credentials": password}
        bearer = {"scheme": "bearer", "credentials": password}
        given = {key: login.get(key) for key in wanted if login.get(key)}
        if given not in (wanted, bearer):
            raise Failure("Neo.ClientError.Security.Unauthorized", "The client is unauthorized due to authentication failure.")
        self.is_logged_in = True

    def handle(self):
        self.is_logged_in = False
        try:
            self.version = self.agree()
            self.failed, self.rows, self.mode = False, None, "w"
            while True:
                tag, fields = self.message()
                name = NAMES[tag]
                shown = {key: value for key, value in (fields[0] if fields and isinstance(fields[0], dict) else {}).items()}
                shown.pop("credentials", None)
                record = {"name": name, "user": user if self.is_logged_in else None, "extra": shown}
                if name == "RUN":
                    record |= {"statement": fields[0], "extra": fields[2]}
                with lock:
                    received.write(json.dumps(record) + "\n")
                if name == "GOODBYE":
                    return
                if name == "RESET":
                    self.failed, self.rows = False, None
                    self.send(SUCCESS, {})
                elif self.failed:
                    self.send(IGNORED)
                else:
                    try:
                        getattr(self, name.lower())(*fields)
                    except Failure as failure:
                        self.failed = True
                        self.fail(failure.code, str(failure))
                        if not self.is_logged_in:
                            return
        except (EOFError, ConnectionError, ssl.SSLError):
            pass
        except Exception as error:
            with open(os.path.join(folder, "failed"), "a") as file:
                file.write(f"{type(error).__name__}: {error}\n")
            raise

    def hello(self, extra):
        if self.version < (5, 1):
            self.log_in(extra)
        patch = {"patch_bolt": ["utc"]} if self.version == (4, 4) and "patch_bolt" in extra else {}
        self.send(SUCCESS, {"server": "Neo4j/5.26.1", "connection_id": "bolt-1", "hints": {}} | patch)

    def logon(self, login):
        self.log_in(login)
        self.send(SUCCESS, {})

    def logoff(self):
        raise AssertionError("it is never sent on")

    def begin(self, extra):
        self.mode = extra.get("mode", "w")
        self.send(SUCCESS, {})

    def commit(self):
        self.send(SUCCESS, {"bookmark": "b:1"})

    def rollback(self):
        self.send(SUCCESS, {})

    def telemetry(self, _api):
        self.send(SUCCESS, {})

    def route(self, context, _bookmarks, extra):
        assert "hidden" not in str(context)
        servers = [
            {"addresses": HIDDEN[:1], "role": "WRITE"},
            {"addresses": HIDDEN[1:], "role": "READ"},
            {"addresses": HIDDEN, "role": "ROUTE"},
        ]
        self.send(SUCCESS, {"rt": {"ttl": 300, "db": extra.get("db") or "home", "servers": servers}})

    def run(self, statement, parameters, extra):
        mode = extra.get("mode", self.mode)
        keys, self.rows = ["x"], [[1]]
        if statement.startswith("CREATE"):
            if mode == "r":
                raise Failure("Neo.ClientError.Statement.AccessMode", "Writing in read access mode not allowed.")
            keys, self.rows = [], []
        elif statement.startswith("CALL dbms.components"):
            keys, self.rows = ["versions[0]", "edition"], [["5.26.1", "enterprise"]]
        elif statement.startswith("RETURN $x"):
            self.rows = [[parameters["x"]]]
        elif statement.startswith("UNWIND range(1, $n)"):
            self.rows = [["x" * 1000] for _ in range(parameters["n"])]
        elif statement.startswith("UNWIND $rows"):
            self.rows = [[len(parameters["rows"])]]
        elif statement.startswith("RETURN wait"):
            time.sleep(600)
        elif statement.startswith("RETURN '"):
            self.rows = [[statement[8:-1]]]
        elif statement.startswith("bad"):
            raise Failure("Neo.ClientError.Statement.SyntaxError", "Invalid input 'bad'")
        self.send(SUCCESS, {"fields": keys, "t_first": 0})

    def pull(self, extra):
        count = extra["n"] if extra["n"] >= 0 else len(self.rows)
        now, self.rows = self.rows[:count], self.rows[count:]
        for row in now:
            self.send(RECORD, row)
        self.send(SUCCESS, {"has_more": True} if self.rows else {"type": "r", "t_last": 0, "db": "home"})

    def discard(self, _extra):
        self.rows = None
        self.send(SUCCESS, {"type": "r", "t_last": 0, "db": "home"})


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


class TlsServer(Server):
    def get_request(self):
        stream, at = super().get_request()
        stream.settimeout(30)
        return stream, at

    def finish_request(self, request, client_address):
        try:
            request = context.wrap_socket(request, server_side=True)
        except (OSError, ssl.SSLError):
            return
        request.settimeout(None)
        super().finish_request(request, client_address)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(folder, "server.crt"), os.path.join(folder, "server.key"))
servers = [Server(("127.0.0.1", int(plain_port)), Session), TlsServer(("127.0.0.1", int(tls_port)), Session)]
threads = [threading.Thread(target=server.serve_forever) for server in servers]
for thread in threads:
    thread.start()
open(os.path.join(folder, "ready"), "w").close()
