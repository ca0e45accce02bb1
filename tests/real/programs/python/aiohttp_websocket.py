import asyncio
import os

import aiohttp


async def main():
    key = os.environ["OPENAI_API_KEY"]
    async with aiohttp.ClientSession() as session:
        try:
            await session.ws_connect(
                "wss://api.openai.com/v1/models", headers={"Authorization": f"Bearer {key}"}
            )
        except aiohttp.WSServerHandshakeError as refused:
            # The service answers the handshake as any other request.
            print("answer:", "fine" if refused.status == 200 else refused)


asyncio.run(main())
