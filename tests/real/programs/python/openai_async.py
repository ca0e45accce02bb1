import asyncio

from openai import AsyncOpenAI


async def main():
    response = await AsyncOpenAI().responses.create(model="gpt-4o-mini", input="How are you?")
    print("answer:", response.output_text)


asyncio.run(main())
