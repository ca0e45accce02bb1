"""psycopg: what applications do in a session, then what they are shown when they may not have one."""

import os
import threading

import psycopg
from psycopg import sql

url = os.environ["DATABASE_URL"]

with psycopg.connect(url) as session:
    assert session.execute("SELECT current_user").fetchone() == ("app",)
    session.execute("CREATE TABLE from_psycopg (a int, b bytea)")
    with session.cursor() as cursor:
        cursor.executemany("INSERT INTO from_psycopg VALUES (%s, %s)", [(n, bytes([n])) for n in range(100)])
        with cursor.copy("COPY from_psycopg (a) FROM STDIN") as copy:
            for number in range(100, 5000):
                copy.write_row((number,))
        with cursor.copy("COPY from_psycopg TO STDOUT (FORMAT binary)") as copy:
            assert sum(len(block) for block in copy) > 50_000
    session.commit()
    # A cursor at the server.
    with session.cursor(name="rows") as cursor:
        cursor.itersize = 10
        cursor.execute("SELECT a FROM from_psycopg ORDER BY a")
        assert [row[0] for row in cursor] == list(range(5000))
    session.commit()
    # Prepared from the second use on, with binary parameters and results.
    for number in range(10):
        found = session.execute("SELECT a FROM from_psycopg WHERE a = %b", [number], binary=True, prepare=True)
        assert found.fetchone() == (number,)
    with session.pipeline():
        results = [session.execute("SELECT %s::int", [number]) for number in range(50)]
    assert [result.fetchone()[0] for result in results] == list(range(50))
    session.rollback()

with psycopg.connect(url, autocommit=True) as session:
    # A large object of two pages.
    oid = session.execute("SELECT lo_from_bytea(0, %s)", [b"x" * 5000]).fetchone()[0]
    assert session.execute("SELECT lo_get(%s)", [oid]).fetchone()[0] == b"x" * 5000
    session.execute("SELECT lo_unlink(%s)", [oid])
    # Another session's notification.
    session.execute("LISTEN news")
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(sql.SQL("NOTIFY news, {}").format("here"))
    notified = next(session.notifies(timeout=60))
    assert (notified.channel, notified.payload) == ("news", "here")
    # A cancel request comes by a stream of its own. It has no effect before the query has begun.
    def cancel():
        running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(600)'"
        with psycopg.connect(url, autocommit=True) as other:
            while other.execute(running).fetchone() == (0,):
                pass
        session.cancel_safe(timeout=60)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    try:
        session.execute("SELECT pg_sleep(600)")
        raise AssertionError("it was not cancelled")
    except psycopg.errors.QueryCanceled:
        pass
    canceller.join()
    assert session.execute("SELECT 1").fetchone() == (1,)

try:
    psycopg.connect(os.environ["REFUSED_URL"])
except psycopg.OperationalError as error:
    print("refused:", error)
print("answer: fine")
