"""Tries each statement of a file in a session of its own, as a simple query and as a prepared statement. Afterwards the
session is still read-only, or it has ended; `write()` writes where it is not."""

import os
import sys

import psycopg
from psycopg import ClientCursor

url = os.environ["DATABASE_URL"]
refused = 0


def tried(statement, prepared):
    """Whether the statement was refused."""
    with psycopg.connect(url, autocommit=True, cursor_factory=ClientCursor) as session:
        try:
            if prepared:
                # The extended protocol: Parse, Bind, Execute.
                session.pgconn.exec_params(b"SELECT 1", [])
                result = session.pgconn.exec_params(statement.encode(), [])
                failed = result.status == psycopg.pq.ExecStatus.FATAL_ERROR
            else:
                result = session.pgconn.exec_(statement.encode())
                failed = result.status == psycopg.pq.ExecStatus.FATAL_ERROR
            for leaves in ("SHOW default_transaction_read_only", "SHOW transaction_read_only"):
                shown = session.pgconn.exec_(leaves.encode())
                if shown.status == psycopg.pq.ExecStatus.TUPLES_OK and shown.get_value(0, 0) != b"on":
                    print("it may write:", statement, prepared)
                    failed = False
            session.pgconn.exec_(b"SELECT write()")
        except psycopg.Error as error:
            print("ended:", statement, error)
            failed = True
        return failed


for line in open(sys.argv[1], encoding="utf-8"):
    statement = line.rstrip("\n").replace("\\r", "\r").replace("\\n", "\n")
    for prepared in (False, True) if statement else ():
        if tried(statement, prepared):
            refused += 1
        else:
            print("not refused:", statement, prepared)
print(refused, "statements refused")
