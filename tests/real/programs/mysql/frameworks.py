"""SQLAlchemy and Django with PyMySQL: how they begin and use a read-only session, and what others send in it."""

import os

import pymysql
import sqlalchemy
from django.conf import settings

place = {"host": os.environ["MYSQL_HOST"], "port": int(os.environ["MYSQL_TCP_PORT"])}
login = {"user": "reports", "password": os.environ["MYSQL_PWD"], "database": "app"}

# As Tortoise ORM, peewee and DBD::MariaDB do it.
with pymysql.connect(**place, **login) as session, session.cursor() as cursor:
    cursor.execute("SET sql_mode=STRICT_TRANS_TABLES")
    cursor.execute("SET sql_mode='PIPES_AS_CONCAT'")
    cursor.execute("SELECT 'a' || 'b'")
    assert cursor.fetchone() == ("ab",)
    cursor.execute("SET collation_connection = 'utf8mb4_unicode_ci'")
    cursor.execute("SELECT @@collation_connection")
    assert cursor.fetchone() == ("utf8mb4_unicode_ci",)

url = sqlalchemy.URL.create("mysql+pymysql", login["user"], login["password"], place["host"], place["port"], login["database"])
engine = sqlalchemy.create_engine(url, isolation_level="READ COMMITTED", pool_pre_ping=True)
for _ in range(2):
    with engine.connect() as session:
        assert session.execute(sqlalchemy.text("SELECT a FROM t")).scalar() == 1
        inspector = sqlalchemy.inspect(session)
        assert [column["name"] for column in inspector.get_columns("t")] == ["a"]
engine.dispose()

pymysql.version_info = (2, 2, 1, "final", 0)
pymysql.install_as_MySQLdb()
names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "database": "NAME"}
own = {names[name]: value for name, value in (place | login).items()}
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.mysql", **own}})

import django

django.setup()

from django.db import connection, models


class Row(models.Model):
    a = models.IntegerField(primary_key=True)

    class Meta:
        app_label = "shop"
        db_table = "t"


assert [row.a for row in Row.objects.all()] == [1]
assert "t" in connection.introspection.table_names()
try:
    Row.objects.create(a=3)
    raise AssertionError("it was not refused")
except django.db.utils.DatabaseError as error:
    assert "keyward: the connection is read-only" in str(error), error
connection.close()
print("answer: fine")
