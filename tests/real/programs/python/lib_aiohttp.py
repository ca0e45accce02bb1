import asyncio
import os

import aiohttp


async def main():
    key = os.environ["OPENAI_API_KEY"]
    # aiohttp reads no proxy from the environment.
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        async with session.get(
            "https://api.openai.com/v1/models", headers={"Authorization": f"Bearer {key}"}
        ) as response:
            print("answer:", (await response.json())["data"][0]["id"])


asyncio.run(main())
