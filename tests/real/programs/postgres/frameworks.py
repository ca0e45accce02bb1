"""asyncpg's pool, psycopg, SQLAlchemy and Django: how they begin, use and give back sessions whose statements are read. `WRITES` is
set where rules permit writes; without it the session is read-only."""

import asyncio
import os

import asyncpg
import psycopg
import sqlalchemy
from django.conf import settings
from psycopg.types import TypeInfo
from sqlalchemy.ext.asyncio import create_async_engine

url = os.environ["DATABASE_URL"]
writes = "WRITES" in os.environ
count = "SELECT count(*) FROM orders"


async def pools():
    timeouts = {"statement_timeout": "5000", "lock_timeout": "4000", "timezone": "UTC"}
    # One session, which is reset each time that it comes back.
    async with asyncpg.create_pool(url, min_size=1, max_size=1, server_settings=timeouts) as pool:
        for _ in range(3):
            assert await pool.fetchval(count) == 2
        async with pool.acquire() as session:
            async with session.transaction(isolation="serializable", readonly=True, deferrable=True):
                assert await session.fetchval("SHOW statement_timeout") == "5s"
    engine = create_async_engine(url.replace("postgresql", "postgresql+asyncpg"), pool_pre_ping=True)
    for _ in range(2):
        async with engine.connect() as session:
            assert (await session.execute(sqlalchemy.text(count))).scalar() == 2
    await engine.dispose()


asyncio.run(pools())

with psycopg.connect(url, options="-c statement_timeout=5000 --lock-timeout=4000") as session:
    assert session.execute("SHOW statement_timeout").fetchone() == ("5s",)
    session.execute("SET CONSTRAINTS ALL DEFERRED")
    # It reads pg_type without a schema.
    assert TypeInfo.fetch(session, "int4").oid == 23
    session.rollback()
    with session.cursor(name="rows", scrollable=True) as rows:
        rows.execute("SELECT a FROM orders ORDER BY a")
        rows.scroll(1)
        assert rows.fetchone() == (2,)
    session.rollback()
    for options in ("-c default_transaction_read_only=off -c role=postgres", "-c standard_conforming_strings=off"):
        try:
            psycopg.connect(url, options=options)
            raise AssertionError("it was not refused")
        except psycopg.OperationalError as error:
            assert "cannot begin with the parameter" in str(error), error

engine = sqlalchemy.create_engine(url.replace("postgresql", "postgresql+psycopg"), isolation_level="REPEATABLE READ")
with engine.connect() as session:
    assert session.execute(sqlalchemy.text(count)).scalar() == 2
    inspector = sqlalchemy.inspect(session)
    assert [column["name"] for column in inspector.get_columns("orders")] == ["a"]
    assert inspector.get_indexes("orders") == []
engine.dispose()

parts = sqlalchemy.make_url(url)
own = {"NAME": parts.database, "USER": parts.username, "PASSWORD": parts.password, "HOST": parts.host, "PORT": parts.port}
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **own}}, USE_TZ=True, TIME_ZONE="Europe/Berlin")

import django

django.setup()

from django.db import connection, models, transaction


class Order(models.Model):
    a = models.IntegerField(primary_key=True)

    class Meta:
        app_label = "shop"
        db_table = "orders"


assert Order.objects.count() == 2
assert [order.a for order in Order.objects.order_by("a").iterator(chunk_size=1)] == [1, 2]
if writes:
    with transaction.atomic():
        assert Order.objects.select_for_update(no_key=True).count() == 2
        locked = Order.objects.select_for_update(no_key=True).get(a=1)
        assert Order.objects.create(a=3).delete()[0] == 1 and locked.a == 1
else:
    try:
        Order.objects.create(a=3)
        raise AssertionError("it was not refused")
    except django.db.utils.DatabaseError as error:
        assert "keyward: the connection is read-only" in str(error), error
connection.close()
print("answer: fine")
