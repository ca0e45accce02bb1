"""A server of MongoDB's protocol for tests. It is no MongoDB: none can be installed from the registries that tests/run uses.

Its parts are others' where they decide: BSON is pymongo's, SCRAM is scramp's. It keeps documents in memory, knows the commands
that the drivers' tests send, says that it is a replica set's primary whose servers have hidden names, and writes down every
command that it receives. What it cannot show is how a real server behaves beyond that.

    server.py FOLDER PLAIN_PORT TLS_PORT USER MECHANISM[,MECHANISM] [unproved|arbiter|source=DATABASE]

FOLDER has server.crt and server.key; PASSWORD is in the environment. `unproved`: it accepts every login, without a proof. `source`: the
database that knows the user, if not `admin`. While FOLDER has a file `primary`, it is a secondary, and names the server in there, if any; with
`arbiter`, it is an arbiter then."""

import copy
import hashlib
import json
import os
import socketserver
import ssl
import struct
import sys
import threading

import bson
from bson.binary import Binary
from bson.int64 import Int64
from scramp import ScramMechanism

folder, plain_port, tls_port, user, mechanisms, *modes = sys.argv[1:]
password = os.environ["PASSWORD"]
SOURCE = next((mode.removeprefix("source=") for mode in modes if mode.startswith("source=")), "admin")
HIDDEN = "member-0.hidden.internal:27017"
SECRETS = {
    "SCRAM-SHA-256": password,
    "SCRAM-SHA-1": hashlib.md5(f"{user}:mongo:{password}".encode()).hexdigest(),
}
ROUNDS = {"SCRAM-SHA-256": 15000, "SCRAM-SHA-1": 10000}
KNOWN = {
    name: (ScramMechanism(name), ScramMechanism(name).make_auth_info(SECRETS[name], iteration_count=ROUNDS[name]))
    for name in mechanisms.split(",")
}

lock = threading.Lock()
collections = {}
cursors = {}
before = {}
received = open(os.path.join(folder, "received"), "a", buffering=1)


class Failure(Exception):
    def __init__(self, code, name, message):
        super().__init__(message)
        self.document = {"ok": 0.0, "errmsg": message, "code": code, "codeName": name}


def fits(document, condition):
    for key, wanted in condition.items():
        value = document.get(key)
        if isinstance(wanted, dict) and "$gte" in wanted:
            if value is None or value < wanted["$gte"]:
                return False
        elif value != wanted:
            return False
    return True


def changed(document, update):
    document.update(update.get("$set", {}))
    for key, number in update.get("$inc", {}).items():
        document[key] = document.get(key, 0) + number


class Session(socketserver.BaseRequestHandler):
    def setup(self):
        self.login = None
        self.is_logged_in = False

    def exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.request.recv(min(count - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return data

    def handle(self):
        try:
            while True:
                self.message()
        except (EOFError, ConnectionError, ssl.SSLError):
            pass

    def message(self):
        length, request, _, opcode = struct.unpack("<iiii", self.exactly(16))
        body = self.exactly(length - 16)
        assert opcode == 2013, opcode
        (flags,) = struct.unpack_from("<I", body)
        assert flags & 1 == 0, "no checksum was agreed on"
        command, at = None, 4
        while at < len(body):
            kind, (size,) = body[at], struct.unpack_from("<i", body, at + 1)
            section = body[at + 1 : at + 1 + size]
            if kind == 0:
                command = bson.decode(section)
            else:
                name, documents = section[4:].split(b"\0", 1)
                command[name.decode()] = bson.decode_all(documents)
            at += 1 + size
        name = next(iter(command))
        received.write(json.dumps({"name": name, "db": command["$db"], "user": self.is_logged_in and user}) + "\n")
        try:
            answer = self.answer(name, command)
        except Failure as failure:
            answer = failure.document
        if flags & 2 == 0:
            data = bson.encode(answer)
            self.request.sendall(struct.pack("<iiiiIB", 21 + len(data), 1, request, 2013, 0, 0) + data)

    def answer(self, name, command):
        early = {"hello": self.hello, "isMaster": self.hello, "saslStart": self.start, "saslContinue": self.proceed}
        if name in early:
            return early[name](command)
        if not self.is_logged_in:
            raise Failure(13, "Unauthorized", f"Command {name} requires authentication")
        found = getattr(self, "do_" + name, None)
        if found is None:
            raise Failure(59, "CommandNotFound", f"no such command: '{name}'")
        with lock:
            number = command.get("txnNumber")
            if command.get("startTransaction"):
                before[number] = copy.deepcopy(collections)
            return {**found(command), "ok": 1.0}

    def hello(self, command):
        assert "speculativeAuthenticate" not in command and "loadBalanced" not in command, command
        answer = {
            "ismaster": True, "helloOk": True, "setName": "rs0", "hosts": [HIDDEN], "primary": HIDDEN, "me": HIDDEN,
            "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48000000, "maxWriteBatchSize": 100000,
            "logicalSessionTimeoutMinutes": 30, "minWireVersion": 0, "maxWireVersion": 21, "ok": 1.0,
        }
        try:
            with open(os.path.join(folder, "primary")) as file:
                primary = file.read()
            del answer["primary"]
            state = {"arbiterOnly": True} if "arbiter" in modes else {}
            answer.update(ismaster=False, secondary=not state, **state, **({"primary": primary} if primary else {}))
        except FileNotFoundError:
            pass
        if command.get("saslSupportedMechs") == f"{SOURCE}.{user}":
            answer["saslSupportedMechs"] = list(KNOWN)
        return answer

    def start(self, command):
        assert not self.is_logged_in, "a second login"
        assert command["$db"] == SOURCE, command
        mechanism, info = KNOWN[command["mechanism"]]
        self.login = mechanism.make_server(lambda name: info)
        first = bytes(command["payload"]).decode()
        assert first.startswith(f"n,,n={user},"), first
        self.login.set_client_first(first)
        return self.step(False, self.login.get_server_first())

    def proceed(self, command):
        if "unproved" in modes:
            self.is_logged_in = True
            return self.step(True, "v=" + "A" * 43 + "=")
        try:
            self.login.set_client_final(bytes(command["payload"]).decode())
        except Exception:
            raise Failure(18, "AuthenticationFailed", "Authentication failed.") from None
        self.is_logged_in = True
        return self.step(True, self.login.get_server_final())

    @staticmethod
    def step(done, text):
        return {"conversationId": 1, "done": done, "payload": Binary(text.encode()), "ok": 1.0}

    @staticmethod
    def collection(command):
        return collections.setdefault((command["$db"], next(iter(command.values()))), [])

    @staticmethod
    def cursor(command, documents, size):
        first, rest, number = documents[:size], documents[size:], 0
        if rest:
            number = len(cursors) + 1
            cursors[number] = rest
        name = f"{command['$db']}.{next(iter(command.values()))}"
        return {"cursor": {"id": Int64(number), "ns": name, "firstBatch": first}}

    def do_ping(self, command):
        return {}

    def do_buildInfo(self, command):
        return {"version": "7.0.99", "versionArray": [7, 0, 99, 0]}

    def do_connectionStatus(self, command):
        return {"authInfo": {"authenticatedUsers": [{"user": user, "db": "admin"}], "authenticatedUserRoles": []}}

    def do_insert(self, command):
        documents, errors = self.collection(command), []
        for index, document in enumerate(command["documents"]):
            if any(known["_id"] == document["_id"] for known in documents[-50:]):
                errors.append({"index": index, "code": 11000, "errmsg": "E11000 duplicate key error"})
            else:
                documents.append(document)
        answer = {"n": len(command["documents"]) - len(errors)}
        return {**answer, "writeErrors": errors} if errors else answer

    def do_find(self, command):
        condition = command.get("filter", {})
        if "$where" in condition:
            # Until the client or Keyward ends the stream.
            lock.release()
            try:
                self.exactly(1)
            finally:
                lock.acquire()
        found = [document for document in self.collection(command) if fits(document, condition)]
        size = 1 if command.get("singleBatch") else command.get("batchSize", 101)
        if command.get("limit"):
            found = found[: command["limit"]]
        return self.cursor(command, found, size)

    def do_getMore(self, command):
        number = command["getMore"]
        size = command.get("batchSize", 1000)
        batch, rest = cursors[number][:size], cursors[number][size:]
        cursors[number] = rest
        name = f"{command['$db']}.{command['collection']}"
        return {"cursor": {"id": Int64(number if rest else 0), "ns": name, "nextBatch": batch}}

    def do_aggregate(self, command):
        found = list(self.collection(command))
        for stage in command["pipeline"]:
            if "$match" in stage:
                found = [document for document in found if fits(document, stage["$match"])]
            elif "$group" in stage:
                found = [{"_id": 1, "n": len(found)}] if found else []
            else:
                raise Failure(40324, "Location40324", f"Unrecognized pipeline stage: {next(iter(stage))}")
        return self.cursor(command, found, 101)

    def do_update(self, command):
        count = 0
        for update in command["updates"]:
            for document in self.collection(command):
                if fits(document, update["q"]):
                    changed(document, update["u"])
                    count += 1
                    if not update.get("multi"):
                        break
        return {"n": count, "nModified": count}

    def do_delete(self, command):
        documents, count = self.collection(command), 0
        for delete in command["deletes"]:
            for document in [known for known in documents if fits(known, delete["q"])]:
                documents.remove(document)
                count += 1
        return {"n": count}

    def do_findAndModify(self, command):
        for document in self.collection(command):
            if fits(document, command["query"]):
                changed(document, command["update"])
                return {"value": document, "lastErrorObject": {"n": 1}}
        return {"value": None, "lastErrorObject": {"n": 0}}

    def do_count(self, command):
        return {"n": len(self.collection(command))}

    def do_commitTransaction(self, command):
        before.pop(command["txnNumber"], None)
        return {}

    def do_abortTransaction(self, command):
        collections.clear()
        collections.update(before.pop(command["txnNumber"]))
        return {}

    def do_explain(self, command):
        return {"queryPlanner": {}}

    def do_endSessions(self, command):
        return {}

    do_killCursors = do_endSessions


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    context = None

    def get_request(self):
        stream, address = super().get_request()
        if self.context:
            stream = self.context.wrap_socket(stream, server_side=True, do_handshake_on_connect=False)
        return stream, address

    def handle_error(self, request, client_address):
        with open(os.path.join(folder, "failed"), "a") as file:
            file.write(f"{sys.exc_info()[1]!r}\n")


plain = Server(("127.0.0.1", int(plain_port)), Session)
tls = Server(("127.0.0.1", int(tls_port)), Session)
tls.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.context.load_cert_chain(os.path.join(folder, "server.crt"), os.path.join(folder, "server.key"))
threading.Thread(target=plain.serve_forever, daemon=True).start()
open(os.path.join(folder, "ready"), "w").close()
tls.serve_forever()
