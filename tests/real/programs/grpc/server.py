# A gRPC service with TLS: the four kinds of calls, one that waits, and one that fails. Refuses every
# call without the credential in LIVE. Writes the port it listens on.
import collections
import os
import threading
from concurrent import futures

import grpc

LIVE = os.environ["LIVE"]


def allowed(context):
    keys = [value for name, value in context.invocation_metadata() if name == "x-api-key"]
    if keys != [LIVE]:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{len(keys)} keys, not the live one")


def unary(request, context):
    allowed(context)
    context.set_trailing_metadata((("x-trailing", "seen"),))
    return b"got " + request


def server_stream(request, context):
    allowed(context)
    for number in range(5):
        yield request + str(number).encode()


def client_stream(requests, context):
    allowed(context)
    return b",".join(requests)


def both(requests, context):
    allowed(context)
    for request in requests:
        yield b"echo " + request


output = threading.Lock()


# A whole line: calls run in threads of their own, and `print` writes its parts one after the other.
def say(line):
    with output:
        print(line, flush=True)


# What has begun to wait, by the name that a request gives.
begun = collections.defaultdict(threading.Event)


# Ends when its call ends.
def wait(request, context):
    allowed(context)
    ended = threading.Event()
    if not context.add_callback(ended.set):
        ended.set()
    say(request.decode() + " waits")
    begun[request].set()
    ended.wait(60)
    say(request.decode() + " ended")
    return b""


def has_begun(request, context):
    allowed(context)
    begun[request].wait(60)
    return b""


def fail(request, context):
    allowed(context)
    context.abort(grpc.StatusCode.OUT_OF_RANGE, "too far: 100 % ä")


def bulk(request, context):
    allowed(context)
    for _ in range(200):
        yield b"." * 64 * 1024


server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
    "HasBegun": grpc.unary_unary_rpc_method_handler(has_begun),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Bulk": grpc.unary_stream_rpc_method_handler(bulk),
}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("acme.Test", handlers),))
pair = (open(os.environ["KEY_FILE"], "rb").read(), open(os.environ["CHAIN_FILE"], "rb").read())
port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
server.start()
print(port, flush=True)
server.wait_for_termination()
