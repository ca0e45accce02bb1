import os

from slack_sdk import WebClient

client = WebClient(token=os.environ["SLACK_BOT_TOKEN"])
posted = client.chat_postMessage(channel="C0123456789", text="How are you?")
print("answer:", posted["message"]["text"])
