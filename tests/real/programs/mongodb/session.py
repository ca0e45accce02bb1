"""PyMongo: what applications do in a session, then what they are shown when they may not have one."""

import os

from pymongo import InsertOne, MongoClient
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError
from pymongo.write_concern import WriteConcern


def use(url, **options):
    with MongoClient(url, **options) as client:
        shop = client.get_default_database()
        assert shop.name == "app", shop
        items = shop["items"]
        items.delete_many({})
        items.insert_many([{"_id": number, "text": "x" * 1000} for number in range(5000)])
        assert sum(1 for _ in items.find({}, batch_size=500)) == 5000
        assert items.count_documents({"_id": {"$gte": 4990}}) == 10
        items.insert_one({"_id": "big", "data": b"\x00\xff" * 4_000_000})
        assert len(items.find_one({"_id": "big"})["data"]) == 8_000_000
        assert items.update_one({"_id": 7}, {"$set": {"text": "seven"}}).modified_count == 1
        assert items.find_one_and_update({"_id": 7}, {"$inc": {"seen": 1}})["text"] == "seven"
        # The server's own errors pass.
        try:
            items.bulk_write([InsertOne({"_id": "twice"}), InsertOne({"_id": "twice"})])
        except BulkWriteError as error:
            assert error.details["writeErrors"][0]["code"] == 11000, error.details
        # Nothing is answered, also where Keyward refuses.
        quiet = items.with_options(write_concern=WriteConcern(w=0))
        quiet.insert_one({"_id": "quiet"})
        for wanted in (None, "kept"):
            with client.start_session() as session:
                with session.start_transaction():
                    items.insert_one({"_id": "kept"}, session=session)
                    if wanted is None:
                        session.abort_transaction()
            found = items.find_one({"_id": "kept"})
            assert (found and found["_id"]) == wanted, found
        # The answer to hello has nothing of the server's.
        hello = client.admin.command("hello")
        assert hello["msg"] == "isdbgrid" and "hosts" not in hello and "setName" not in hello, hello
        for refused in ({"getParameter": "*"}, {"usersInfo": 1, "showCredentials": True}, {"getCmdLineOpts": 1}):
            try:
                client.admin.command(refused)
                raise SystemExit(f"not refused: {refused}")
            except OperationFailure as error:
                assert error.code == 13 and "keyward: " in str(error), error
        assert client.admin.command("ping")["ok"] == 1
        return client.topology_description.topology_type_name


url = os.environ["MONGODB_URI"]
assert use(url) == "LoadBalanced"
# Without the option, the client watches the server, on a stream that never authenticates.
watched = url.replace("&loadBalanced=true", "")
print("topology:", use(watched), use(watched, directConnection=True))

for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
    try:
        MongoClient(watched.replace("PLAIN", mechanism) + "&authSource=admin").admin.command("ping")
    except PyMongoError as error:
        assert "add `authMechanism=PLAIN`" in str(error), error
        print("mechanism:", error)
try:
    MongoClient(os.environ["REFUSED_URL"]).admin.command("ping")
except OperationFailure as error:
    assert error.code == 18, error
    print("refused:", error)
print("answer: fine")
