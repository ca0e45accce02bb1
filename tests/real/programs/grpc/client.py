# Every kind of call, as a program makes them that knows nothing of a proxy but the environment.
import os
import queue

import grpc

channel = grpc.secure_channel("grpc.acme.test:443", grpc.ssl_channel_credentials())
metadata = (("x-api-key", os.environ["KEY"]),)


def options(timeout=60):
    return {"metadata": metadata, "timeout": timeout}


def failure(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


unary = channel.unary_unary("/acme.Test/Unary")
answer, call = unary.with_call(b"one", **options())
assert answer == b"got one", answer
assert dict(call.trailing_metadata())["x-trailing"] == "seen"
print("unary")

answers = list(channel.unary_stream("/acme.Test/ServerStream")(b"n", **options()))
assert answers == [b"n0", b"n1", b"n2", b"n3", b"n4"], answers
print("server stream")

parts = (part for part in [b"a", b"b", b"c"])
assert channel.stream_unary("/acme.Test/ClientStream")(parts, **options()) == b"a,b,c"
print("client stream")

# The next message is sent only when the one before it was answered.
answered = []
ready = queue.Queue()


def questions():
    for number in range(5):
        yield str(number).encode()
        ready.get(timeout=60)


for answer in channel.stream_stream("/acme.Test/Both")(questions(), **options()):
    answered.append(answer)
    ready.put(None)
assert answered == [f"echo {number}".encode() for number in range(5)], answered
print("both")

size = sum(map(len, channel.unary_stream("/acme.Test/Bulk")(b"", **options())))
assert size == 200 * 64 * 1024, size
print("bulk")

error = failure(lambda: channel.unary_unary("/acme.Test/Fail")(b"", **options()))
assert error.code() == grpc.StatusCode.OUT_OF_RANGE, error
assert error.details() == "too far: 100 % ä", error.details()
print("failure")

wait = channel.unary_unary("/acme.Test/Wait")
error = failure(lambda: wait(b"deadline", **options(timeout=1)))
assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
print("deadline")

call = wait.future(b"cancellation", **options())
call.add_done_callback(lambda call: None)
channel.unary_unary("/acme.Test/HasBegun")(b"cancellation", **options())
call.cancel()
assert call.cancelled() and call.code() == grpc.StatusCode.CANCELLED
print("cancellation")

error = failure(lambda: channel.unary_unary("/acme.Refused/Any")(b"", **options()))
assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
assert error.details().startswith("denied: "), error.details()
print("refusal", error.details())
error = failure(lambda: list(channel.unary_stream("/acme.Refused/Any")(b"", **options())))
assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
print("all calls were made")
