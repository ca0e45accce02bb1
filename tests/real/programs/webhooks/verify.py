"""Verifies one webhook, read from standard input as JSON, with the reference library for Python."""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

given = json.load(sys.stdin)
webhook = Webhook(given["key"])
event = webhook.verify(given["body"], given["headers"])
try:
    webhook.verify(given["body"].replace("connection", "connexion"), given["headers"])
    refused = False
except WebhookVerificationError:
    refused = True
event = event if isinstance(event, dict) else json.loads(given["body"])
print(json.dumps({"type": event["type"], "refused": refused}))
