"""PyMySQL at a server of Oracle: what applications do in a session, then what they are shown when they may not have one."""

import os
import tempfile

import pymysql
from pymysql.constants import COMMAND

place = {"host": os.environ["MYSQL_HOST"], "port": int(os.environ["MYSQL_TCP_PORT"]), "user": "anybody", "database": "main"}
token = os.environ["MYSQL_PWD"]

with pymysql.connect(**place, password=token, local_infile=True) as session:
    with session.cursor() as cursor:
        cursor.execute("SELECT VERSION(), CURRENT_USER(), DATABASE()")
        version, *rest = cursor.fetchone()
        assert rest == ["app@%", "app"], rest
        print("version:", version)
        cursor.execute("CREATE TABLE from_python (a int, b longblob)")
        cursor.executemany("INSERT INTO from_python VALUES (%s, %s)", [(n, bytes([n])) for n in range(100)])
        session.rollback()
        cursor.execute("SELECT COUNT(*) FROM from_python")
        assert cursor.fetchone() == (0,)
        # A statement and a row of more than one packet. InnoDB's log of this version is too small for it.
        cursor.execute("CREATE TABLE large_row (b longblob) ENGINE=MyISAM")
        cursor.execute("INSERT INTO large_row VALUES (%s)", ["x" * 20_000_000])
        cursor.execute("SELECT b FROM large_row")
        assert len(cursor.fetchone()[0]) == 20_000_000
        with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
            file.writelines(f"\x11 line {number}\n" for number in range(100_000))
            file.flush()
            cursor.execute("CREATE TABLE loaded (line text)")
            cursor.execute(f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE loaded")
            cursor.execute("SELECT COUNT(*) FROM loaded")
            assert cursor.fetchone() == (100_000,)
        session.ping(reconnect=False)
        try:
            session._execute_command(COMMAND.COM_CHANGE_USER, b"root\0\0app\0")
            session._read_ok_packet()
            raise AssertionError("it was not refused")
        except pymysql.err.MySQLError as error:
            print("change of user:", error)
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)

try:
    pymysql.connect(**place, password="kwa_wrong")
except pymysql.err.OperationalError as error:
    print("refused:", error)
print("answer: fine")
