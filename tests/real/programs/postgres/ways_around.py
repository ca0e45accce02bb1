"""Tries each statement of a file in a session of its own, as a simple query and as a prepared statement, and says how many
were refused by the gateway."""

import os
import sys

import psycopg

url = os.environ["DATABASE_URL"]
refused = 0


def tried(statement, prepared):
    """What refused the statement, if anything did."""
    with psycopg.connect(url, autocommit=True) as session:
        try:
            if prepared:
                result = session.pgconn.exec_params(statement.encode(), [])
            else:
                result = session.pgconn.exec_(statement.encode())
            if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
                return result.error_message.decode()
            return None
        except psycopg.Error as error:
            return str(error)


for line in open(sys.argv[1], encoding="utf-8"):
    statement = line.rstrip("\n").replace("\\r", "\r").replace("\\n", "\n")
    for prepared in (False, True) if statement else ():
        said = tried(statement, prepared)
        if said and ("keyward: " in said):
            refused += 1
        else:
            print("not refused:", statement, prepared, said)
print(refused, "statements refused")
