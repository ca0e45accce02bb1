"""PyMySQL: what applications do in a session, then what they are shown when they may not have one."""

import os
import tempfile

import pymysql
from pymysql.constants import COMMAND

place = {"host": os.environ["MYSQL_HOST"], "port": int(os.environ["MYSQL_TCP_PORT"]), "user": "anybody"}
token = os.environ["MYSQL_PWD"]

for database in ("main", "plain"):
    with pymysql.connect(**place, password=token, database=database, local_infile=True) as session:
        with session.cursor() as cursor:
            cursor.execute("SELECT CURRENT_USER(), DATABASE()")
            assert cursor.fetchone() == ("app@%", "app")
            cursor.execute("CREATE OR REPLACE TABLE from_python (a int, b longblob)")
            cursor.executemany("INSERT INTO from_python VALUES (%s, %s)", [(n, bytes([n])) for n in range(100)])
            # A statement and a row of more than one packet.
            cursor.execute("INSERT INTO from_python VALUES (1000, %s)", ["x" * 20_000_000])
            cursor.execute("SELECT b FROM from_python WHERE a = 1000")
            assert len(cursor.fetchone()[0]) == 20_000_000
            session.commit()
            # A file of the client, in more packets than there are numbers, whose content looks like commands.
            with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
                file.writelines(f"\x11 line {number}\n" for number in range(400_000))
                file.flush()
                cursor.execute("CREATE OR REPLACE TABLE loaded (line text)")
                cursor.execute(f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE loaded")
                cursor.execute("SELECT COUNT(*), MAX(LENGTH(line)) FROM loaded")
                assert cursor.fetchone() == (400_000, 13)
            session.ping(reconnect=False)
            session.select_db("app")
            try:
                session._execute_command(COMMAND.COM_CHANGE_USER, b"root\0\0app\0")
                session._read_ok_packet()
                raise AssertionError("it was not refused")
            except pymysql.err.MySQLError as error:
                print("change of user:", error)
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)

try:
    pymysql.connect(**place, password="kwa_wrong", database="main")
except pymysql.err.OperationalError as error:
    print("refused:", error)
print("answer: fine")
