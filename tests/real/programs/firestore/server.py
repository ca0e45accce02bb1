# Firestore's service, of its public messages, with TLS: as much of it as a query, a transaction and a listener need.
# A call without a token of the authorization server of these tests is refused; `people/end` ends the listeners, as the service
# does when a token has expired. Writes the port it listens on, and then a line of JSON for each call.
import datetime
import json
import os
import threading
from concurrent import futures

import grpc
from google.cloud.firestore_v1 import types
from google.protobuf import empty_pb2

Kind = types.TargetChange.TargetChangeType
output = threading.Lock()
documents = {}
changed = threading.Condition()
# Names in the order in which they were written.
written = []
ended = [0]
began = datetime.datetime.now(datetime.timezone.utc)


def now():
    return began + datetime.timedelta(milliseconds=len(written))


# A whole line: calls run in threads of their own.
def say(**about):
    with output:
        print(json.dumps(about), flush=True)


def admit(call, context, **about):
    fields = [value for name, value in context.invocation_metadata() if name == "authorization"]
    say(call=call, fields=fields, **about)
    if len(fields) != 1 or not fields[0].startswith("Bearer at-"):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{len(fields)} tokens, not the live one")


def collection(name):
    return name.split("/")[-2]


def in_transaction(request):
    return request._pb.WhichOneof("consistency_selector") in ("transaction", "new_transaction")


def batch_get(request, context):
    admit("BatchGetDocuments", context, in_transaction=in_transaction(request))
    is_new = request._pb.WhichOneof("consistency_selector") == "new_transaction"
    transaction = b"transaction" if is_new else b""
    for name in request.documents:
        found = documents.get(name)
        result = {"found": found} if found else {"missing": name}
        yield types.BatchGetDocumentsResponse(read_time=now(), transaction=transaction, **result)


def run_query(request, context):
    query = request.structured_query
    bound = query.where.field_filter.value.integer_value
    field = query.where.field_filter.field.field_path
    admit("RunQuery", context, field=field, bound=bound)
    for name, found in sorted(documents.items()):
        is_wanted = collection(name) == query.from_[0].collection_id
        if is_wanted and found.fields[field].integer_value > bound:
            yield types.RunQueryResponse(document=found, read_time=now())
    yield types.RunQueryResponse(read_time=now())


def begin(request, context):
    admit("BeginTransaction", context)
    return types.BeginTransactionResponse(transaction=b"transaction")


def rollback(request, context):
    admit("Rollback", context)
    return empty_pb2.Empty()


def commit(request, context):
    names = [one.update.name for one in request.writes]
    in_transaction = request.transaction == b"transaction"
    paths = [name.split("/documents/")[1] for name in names]
    admit("Commit", context, paths=paths, in_transaction=in_transaction)
    results = []
    with changed:
        for one in request.writes:
            written.append(one.update.name)
            document = types.Document.deserialize(types.Document.serialize(one.update))
            document.create_time = document.update_time = now()
            documents[document.name] = document
            ended[0] += document.name.endswith("people/end")
            results.append(types.WriteResult(update_time=now()))
        changed.notify_all()
    return types.CommitResponse(write_results=results, commit_time=now())


def wake(*_):
    with changed:
        changed.notify_all()


# The number of a listener, so that one that goes on is told from the next one.
listeners = [0]


def listen(requests, context):
    target = next(requests).add_target
    listeners[0] += 1
    number = listeners[0]
    admit("Listen", context, listener=number)
    context.add_callback(wake)
    wanted = target.query.structured_query.from_[0].collection_id
    own = [target.target_id]

    def change(kind, ids, **more):
        return types.ListenResponse(
            target_change=types.TargetChange(target_change_type=kind, target_ids=ids, **more)
        )

    yield change(Kind.ADD, own)
    sent, ends = 0, ended[0]
    while context.is_active():
        with changed:
            fresh, sent = written[sent:], len(written)
            found = [documents[name] for name in fresh if collection(name) == wanted]
            at, is_over = now(), ended[0] != ends
        if is_over:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token has expired")
        for document in found:
            yield types.ListenResponse(
                document_change=types.DocumentChange(document=document, target_ids=own)
            )
        yield change(Kind.CURRENT, own)
        if found:
            say(call="told", listener=number)
        yield change(Kind.NO_CHANGE, [], read_time=at, resume_token=str(sent).encode())
        with changed:
            changed.wait_for(lambda: len(written) > sent or not context.is_active())


def message(kind):
    return {"request_deserializer": kind.deserialize}


def answer(kind):
    return {"response_serializer": kind.serialize}


handlers = {
    "BatchGetDocuments": grpc.unary_stream_rpc_method_handler(
        batch_get,
        **message(types.BatchGetDocumentsRequest),
        **answer(types.BatchGetDocumentsResponse),
    ),
    "RunQuery": grpc.unary_stream_rpc_method_handler(
        run_query, **message(types.RunQueryRequest), **answer(types.RunQueryResponse)
    ),
    "BeginTransaction": grpc.unary_unary_rpc_method_handler(
        begin, **message(types.BeginTransactionRequest), **answer(types.BeginTransactionResponse)
    ),
    "Rollback": grpc.unary_unary_rpc_method_handler(
        rollback,
        **message(types.RollbackRequest),
        response_serializer=empty_pb2.Empty.SerializeToString,
    ),
    "Commit": grpc.unary_unary_rpc_method_handler(
        commit, **message(types.CommitRequest), **answer(types.CommitResponse)
    ),
    "Listen": grpc.stream_stream_rpc_method_handler(
        listen, **message(types.ListenRequest), **answer(types.ListenResponse)
    ),
}
server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
service = "google.firestore.v1.Firestore"
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
pair = (open(os.environ["KEY_FILE"], "rb").read(), open(os.environ["CHAIN_FILE"], "rb").read())
port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
server.start()
print(port, flush=True)
server.wait_for_termination()
