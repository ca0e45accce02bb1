"""PyMongo: sends every command of a list, one in a line, and counts those that Keyward refuses."""

import os
import sys

from pymongo import MongoClient
from pymongo.errors import OperationFailure

passed = []
with MongoClient(os.environ["MONGODB_URI"]) as client, open(sys.argv[1]) as ways:
    lines = [line for line in ways if line.strip() and not line.startswith("#")]
    for line in lines:
        database, command = line.strip().split(" ", 1)
        try:
            client[database].command(eval(command))
            passed.append(line)
        except OperationFailure as error:
            if error.code != 13 or "keyward: " not in str(error):
                passed.append(f"{line}: {error}")
    # The session goes on.
    assert client.admin.command("ping")["ok"] == 1
print(f"refused {len(lines) - len(passed)} of {len(lines)}", *passed, sep="\n")
