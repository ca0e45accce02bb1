"""The driver of Python: what applications do in a session, then what they are shown when they may not have one."""

import os

from neo4j import READ_ACCESS, GraphDatabase, basic_auth
from neo4j.exceptions import AuthError, ClientError

URI, NAME = os.environ["NEO4J_URI"], os.environ["NEO4J_USERNAME"]
AUTH = basic_auth(NAME, os.environ["NEO4J_PASSWORD"])


def use(uri):
    with GraphDatabase.driver(uri, auth=AUTH) as driver:
        driver.verify_connectivity()
        assert driver.execute_query("RETURN 1 AS x").records[0]["x"] == 1
        big = driver.execute_query("RETURN $x AS x", x={"data": b"\x00\xff" * 1_500_000, "text": ["ä" * 10] * 3})
        assert len(big.records[0]["x"]["data"]) == 3_000_000
        rows = driver.execute_query("UNWIND $rows AS row RETURN count(row) AS x", rows=[{"id": id} for id in range(200_000)])
        assert rows.records[0]["x"] == 200_000
        with driver.session(fetch_size=100) as session:
            assert sum(1 for _ in session.run("UNWIND range(1, $n) AS x RETURN x", n=5000)) == 5000
            with session.begin_transaction() as transaction:
                transaction.run("CREATE (n)").consume()
                transaction.commit()
            assert session.execute_read(lambda work: work.run("RETURN 1 AS x").single()[0]) == 1
            # The server's own errors pass, and the session goes on.
            try:
                session.run("bad").consume()
                raise SystemExit("no error")
            except ClientError as error:
                assert error.code == "Neo.ClientError.Statement.SyntaxError", error
            try:
                session.run("SHOW USERS").consume()
                raise SystemExit("not refused")
            except ClientError as error:
                assert error.code == "Neo.ClientError.Security.Forbidden" and "keyward: " in str(error), error
            assert session.run("RETURN 1 AS x").single()[0] == 1
        with driver.session(default_access_mode=READ_ACCESS) as session:
            try:
                session.run("CREATE (n)").consume()
                raise SystemExit("it wrote")
            except ClientError as error:
                assert error.code == "Neo.ClientError.Statement.AccessMode", error
        return driver.get_server_info().protocol_version


print("versions:", use(URI), use(URI.replace("bolt://", "neo4j://")))
try:
    with GraphDatabase.driver(URI, auth=basic_auth(NAME, "kwa_wrong")) as driver:
        driver.verify_connectivity()
except AuthError as error:
    print("refused:", error)
print("answer: fine")
