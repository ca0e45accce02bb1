"""Tries each statement of a file in a session of its own, in text and as a prepared statement. Afterwards the session is still
read-only, or it has ended, and an INSERT fails."""

import os
import sys

import pymysql
from pymysql.constants import CLIENT, COMMAND

place = {"host": os.environ["MYSQL_HOST"], "port": int(os.environ["MYSQL_TCP_PORT"]), "user": "anybody"}
refused = 0


def tried(statement, prepared, **options):
    """What refused the statement, if anything did."""
    session = pymysql.connect(
        **place, password=os.environ["MYSQL_PWD"], database="reports", client_flag=CLIENT.MULTI_STATEMENTS,
        local_infile=True, autocommit=True, **options,
    )
    said = None
    try:
        if prepared:
            session._execute_command(COMMAND.COM_STMT_PREPARE, statement)
            session._read_packet()
        else:
            with session.cursor() as cursor:
                cursor.execute(statement)
                while cursor.nextset():
                    pass
    except pymysql.err.MySQLError as error:
        said = str(error)
        if not prepared:
            still_reads(session, statement)
    session.close()
    return said


def still_reads(session, statement):
    """The mode is as it was, and the server refuses writes by itself."""
    with session.cursor() as cursor:
        cursor.execute("SELECT @@tx_read_only")
        if cursor.fetchone()[0] != 1:
            print("it may write:", statement)


for line in open(sys.argv[1], encoding="utf-8"):
    statement = line.rstrip("\n").replace("\\n", "\n")
    for prepared in (False, True) if statement else ():
        said = tried(statement, prepared)
        if said and "keyward: the connection is read-only" in said:
            refused += 1
        else:
            print("not refused:", statement, prepared, said)
print(refused, "statements refused")

# In latin1, servers take the byte 0xa0 for a blank.
IN_LATIN1 = (
    "SET @a = 1,\xa0tx_read_only = 0",
    "SET @a = 1,\xa0sql_mode = 'NO_BACKSLASH_ESCAPES'",
    "SELECT 1 --\xa0'\n; DELETE FROM t; -- '",
    "SELECT 1\xa0INTO\xa0OUTFILE\xa0'/tmp/keyward-out'",
)
said = [tried(statement, prepared, charset="latin1") for statement in IN_LATIN1 for prepared in (False, True)]
print(sum("keyward: the connection is read-only" in (one or "") for one in said), "refused in latin1")

with pymysql.connect(**place, password=os.environ["MYSQL_PWD"], database="reports", autocommit=True) as session:
    with session.cursor() as cursor:
        cursor.execute("SELECT a FROM t WHERE a = %s", [1])
        print("reads", cursor.fetchone())
        cursor.execute("START TRANSACTION READ ONLY")
        cursor.execute("SELECT COUNT(*) FROM t")
        session.rollback()
        try:
            # A function of the database, which no check of statements can see: the server refuses the write.
            cursor.execute("SELECT write_one()")
            print("a function has written")
        except pymysql.err.MySQLError as error:
            print("function:", error)
    try:
        session._execute_command(0x1F, b"")
        session._read_ok_packet()
        print("the session was reset")
    except pymysql.err.MySQLError as error:
        print("reset:", error)
