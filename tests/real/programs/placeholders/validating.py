"""SDKs that look at the form of a key before they send anything, with what `keyward run` sets."""

import os

import telebot
from azure.storage.blob import BlobServiceClient

assert "kwph" in os.environ["TELEGRAM_BOT_TOKEN"], "a placeholder"
# The SDK takes a text without parameters of a shared access signature for an account key.
signature = os.environ["AZURE_STORAGE_SAS_TOKEN"]
assert "kwph" in signature, "a placeholder"
account = BlobServiceClient("https://acme.blob.core.windows.net", credential=signature)
assert account.get_blob_client("photos", "a.txt").download_blob().readall() == b"hello"

print("answer:", telebot.TeleBot(os.environ["TELEGRAM_BOT_TOKEN"], threaded=False).get_me().first_name)
