"""SDKs that look at the form of a key before they send anything, with what `keyward run` sets."""

import os

import telebot

assert "kwph" in os.environ["TELEGRAM_BOT_TOKEN"], "a placeholder"
print("answer:", telebot.TeleBot(os.environ["TELEGRAM_BOT_TOKEN"], threaded=False).get_me().first_name)
