"""PyMongo: evaluates an expression in which `client` is open and `app` is its database; shows the value or the error."""

import os
import sys

from pymongo import MongoClient
from pymongo.errors import PyMongoError

with MongoClient(os.environ["MONGODB_URI"]) as client:
    try:
        print(eval(sys.argv[1], {"client": client, "app": client["app"]}))
    except PyMongoError as error:
        print(f"{type(error).__name__}: {error}")
