"""asyncpg: a pool, prepared statements, binary COPY, a listener, a timeout that cancels, and a refusal."""

import asyncio
import os

import asyncpg

url = os.environ["DATABASE_URL"]


async def main():
    async with asyncpg.create_pool(url, min_size=2, max_size=4) as pool:
        assert await pool.fetchval("SELECT current_user") == "app"
        await pool.execute("CREATE TABLE from_asyncpg (a int, b text)")
        async with pool.acquire() as session:
            rows = [(number, f"row {number}") for number in range(5000)]
            await session.copy_records_to_table("from_asyncpg", records=rows)
            statement = await session.prepare("SELECT b FROM from_asyncpg WHERE a = $1")
            for number in range(20):
                assert await statement.fetchval(number) == f"row {number}"
            async with session.transaction():
                cursor = session.cursor("SELECT a FROM from_asyncpg ORDER BY a")
                assert [row["a"] async for row in cursor] == list(range(5000))
            heard = asyncio.get_running_loop().create_future()
            await session.add_listener("news", lambda *arguments: heard.set_result(arguments[-1]))
            await pool.execute("SELECT pg_notify('news', 'here')")
            assert await asyncio.wait_for(heard, 60) == "here"
            # The driver sends a cancel request at the timeout.
            try:
                await session.fetch("SELECT pg_sleep(600)", timeout=3)
                raise AssertionError("it was not cancelled")
            except asyncio.TimeoutError:
                pass
            assert await session.fetchval("SELECT 1") == 1
        together = [pool.fetchval("SELECT $1::int", number) for number in range(100)]
        assert await asyncio.gather(*together) == list(range(100))
    try:
        await asyncpg.connect(os.environ["REFUSED_URL"])
    except asyncpg.InvalidPasswordError as error:
        print("refused:", error.message, error.hint)
    print("answer: fine")


asyncio.run(main())
