import asyncio
import os

from slack_sdk.web.async_client import AsyncWebClient


async def main():
    client = AsyncWebClient(token=os.environ["SLACK_BOT_TOKEN"])
    posted = await client.chat_postMessage(channel="C0123456789", text="How are you?")
    print("answer:", posted["message"]["text"])


asyncio.run(main())
