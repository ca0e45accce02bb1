# A query, a transaction and a listener by google-cloud-firestore, as its user writes it: the project is in the key file. Between its steps it waits for a line.
import json
import os
import queue
import sys

from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

database = firestore.Client()
people = database.collection("people")
people.document("ada").set({"born": 1815})
people.document("bob").set({"born": 1790})

query = people.where(filter=FieldFilter("born", ">", 1800))
assert [found.id for found in query.stream()] == ["ada"]


@firestore.transactional
def age(transaction, person):
    born = person.get(transaction=transaction).get("born")
    transaction.set(person, {"born": born + 1})


age(database.transaction(), people.document("ada"))
assert people.document("ada").get().to_dict() == {"born": 1816}

snapshots = queue.Queue()
listener = people.on_snapshot(lambda found, changes, at: snapshots.put({one.id for one in found}))


def told(name):
    while name not in snapshots.get(timeout=60):
        pass


told("ada")
print("listens", flush=True)
assert sys.stdin.readline() == "renewed\n"
people.document("eve").set({"born": 1900})
told("eve")
print("was told", flush=True)
assert sys.stdin.readline() == "again\n"
people.document("end").set({"born": 0})
told("end")
people.document("zoe").set({"born": 1950})
told("zoe")
listener.unsubscribe()

file = json.load(open(os.environ["GOOGLE_APPLICATION_CREDENTIALS"]))
assert file["type"] == "service_account", file
assert database.project == "project", database.project
print(json.dumps(file))
print("answer: fine", flush=True)
# Threads of the listener may wait for the server.
os._exit(0)
