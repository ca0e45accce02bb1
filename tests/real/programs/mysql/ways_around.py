"""Tries each statement of a file in a session of its own, in text and as a prepared statement, and says how many were refused
by the gateway."""

import os
import sys

import pymysql
from pymysql.constants import CLIENT, COMMAND

place = {"host": os.environ["MYSQL_HOST"], "port": int(os.environ["MYSQL_TCP_PORT"]), "user": "anybody"}
place |= {"password": os.environ["MYSQL_PWD"], "database": "ruled", "autocommit": True}
refused = 0


def tried(statement, prepared):
    """What refused the statement, if anything did."""
    session = pymysql.connect(**place, client_flag=CLIENT.MULTI_STATEMENTS, local_infile=True)
    try:
        if prepared:
            session._execute_command(COMMAND.COM_STMT_PREPARE, statement)
            session._read_packet()
        else:
            with session.cursor() as cursor:
                cursor.execute(statement)
                print(cursor.fetchall())
                while cursor.nextset():
                    print(cursor.fetchall())
    except pymysql.err.MySQLError as error:
        return str(error)
    finally:
        session.close()
    return None


for line in open(sys.argv[1], encoding="utf-8"):
    statement = line.rstrip("\n").replace("\\n", "\n")
    for prepared in (False, True) if statement else ():
        said = tried(statement, prepared)
        if said and "(1227, 'keyward: refused by the connection: " in said:
            refused += 1
        else:
            print("not refused:", statement, prepared, said)
print(refused, "statements refused")

with pymysql.connect(**place) as session:
    for command, data in ((COMMAND.COM_INIT_DB, "private"), (COMMAND.COM_FIELD_LIST, "secret\0"), (0x1F, "")):
        try:
            session._execute_command(command, data)
            session._read_ok_packet()
            print("not refused: command", command)
        except pymysql.err.MySQLError as error:
            print("command:", error)
    with session.cursor() as cursor:
        cursor.execute("SELECT SUM(a) FROM orders WHERE a > %s", [0])
        print("reads", cursor.fetchone())
