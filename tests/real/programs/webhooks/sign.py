"""Signs webhooks as services do, by the libraries that they publish, and prints the requests as JSON.

Schemes without a library of their own are signed with Python's `hmac`, by the formula of the service's documentation.
"""

import base64
import datetime
import hashlib
import hmac
import json
import sys

import standardwebhooks
import stripe
import svix
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from slack_sdk.signature import SignatureVerifier
from twilio.request_validator import RequestValidator

URL = "https://hooks.example/in/a?b=1"
BODY = '{"id":"evt_1","amount":100,"name":"J\u00fcrgen \u2713"}'
SECRET = "a secret of 2026"
AT = int(sys.argv[1])
DATE = datetime.datetime.fromtimestamp(AT, datetime.timezone.utc)
KEY = "whsec_" + base64.b64encode(bytes(range(24))).decode()

requests = []


def add(scheme, secret, headers, body=BODY, url=URL):
    requests.append({"scheme": scheme, "secret": secret, "headers": headers, "body": body, "url": url})


def hexadecimal(message, digest=hashlib.sha256):
    return hmac.new(SECRET.encode(), message.encode(), digest).hexdigest()


def b64(message, digest=hashlib.sha256):
    return base64.b64encode(hmac.new(SECRET.encode(), message.encode(), digest).digest()).decode()


for scheme, library, prefix in [
    ("standard-webhooks", standardwebhooks.Webhook, "webhook"),
    ("gitlab", standardwebhooks.Webhook, "webhook"),
    ("svix", svix.Webhook, "svix"),
]:
    signature = library(KEY).sign("msg_1", DATE, BODY)
    headers = {f"{prefix}-id": "msg_1", f"{prefix}-timestamp": str(AT), f"{prefix}-signature": signature}
    add(scheme, KEY, headers)

signature = stripe.WebhookSignature._compute_signature(f"{AT}.{BODY}", SECRET)
add("stripe", SECRET, {"Stripe-Signature": f"t={AT},v1={signature}"})

signature = SignatureVerifier(SECRET).generate_signature(timestamp=str(AT), body=BODY)
add("slack", SECRET, {"X-Slack-Request-Timestamp": str(AT), "X-Slack-Signature": signature})

twilio = RequestValidator(SECRET)
form = {"From": "+14158675309", "Body": "caf\u00e9 & more", "Empty": "", "To": "+18005551212"}
encoded = "To=%2B18005551212&From=%2B14158675309&Body=caf%C3%A9+%26+more&Empty="
headers = {"X-Twilio-Signature": twilio.compute_signature(URL, form)}
add("twilio", SECRET, headers | {"Content-Type": "application/x-www-form-urlencoded"}, encoded)
url = f"{URL}&bodySHA256={twilio.compute_hash(BODY)}"
headers = {"X-Twilio-Signature": twilio.compute_signature(url, {}), "Content-Type": "application/json"}
add("twilio", SECRET, headers, BODY, url)

pair = ed25519.Ed25519PrivateKey.generate()
public = pair.public_key().public_bytes_raw()
signature = pair.sign(f"{AT}{BODY}".encode()).hex()
add("ed25519-discord", public.hex(), {"X-Signature-Timestamp": str(AT), "X-Signature-Ed25519": signature})
signature = "v1a," + base64.b64encode(pair.sign(f"msg_1.{AT}.{BODY}".encode())).decode()
headers = {"webhook-id": "msg_1", "webhook-timestamp": str(AT), "webhook-signature": signature}
add("standard-webhooks", "whpk_" + base64.b64encode(public).decode(), headers)

pair = ec.generate_private_key(ec.SECP256R1())
kind, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
public = base64.b64encode(pair.public_key().public_bytes(kind, form)).decode()
signature = base64.b64encode(pair.sign(f"{AT}{BODY}".encode(), ec.ECDSA(hashes.SHA256()))).decode()
prefix = "X-Twilio-Email-Event-Webhook"
add("sendgrid", public, {f"{prefix}-Timestamp": str(AT), f"{prefix}-Signature": signature})

ISO = DATE.isoformat().replace("+00:00", "Z")
MS = str(AT * 1000)
for scheme, headers in {
    "asana": {"X-Hook-Signature": hexadecimal(BODY)},
    "attio": {"Attio-Signature": hexadecimal(BODY)},
    "base64-sha256:intuit-signature": {"intuit-signature": b64(BODY)},
    "box": {"BOX-DELIVERY-TIMESTAMP": ISO, "BOX-SIGNATURE-PRIMARY": b64(BODY + ISO)},
    "cal-com": {"X-Cal-Signature-256": hexadecimal(BODY)},
    "calendly": {"Calendly-Webhook-Signature": f"t={AT},v1={hexadecimal(f'{AT}.{BODY}')}"},
    "clickup": {"X-Signature": hexadecimal(BODY)},
    "dropbox": {"X-Dropbox-Signature": hexadecimal(BODY)},
    "firecrawl": {"X-Firecrawl-Signature": "sha256=" + hexadecimal(BODY)},
    "github": {"X-Hub-Signature-256": "sha256=" + hexadecimal(BODY)},
    "hub-signature": {"X-Hub-Signature": "sha256=" + hexadecimal(BODY)},
    "hub-signature-sha1": {"X-Hub-Signature": "sha1=" + hexadecimal(BODY, hashlib.sha1)},
    "hubspot-v3": {
        "X-HubSpot-Request-Timestamp": MS,
        "X-HubSpot-Signature-v3": b64(f"POST{URL}{BODY}{MS}"),
    },
    "meta": {"X-Hub-Signature-256": "sha256=" + hexadecimal(BODY)},
    "notion": {"X-Notion-Signature": "sha256=" + hexadecimal(BODY)},
    "paddle": {"Paddle-Signature": f"ts={AT};h1={hexadecimal(f'{AT}:{BODY}')}"},
    "pagerduty": {"X-PagerDuty-Signature": f"v1={'0' * 64},v1={hexadecimal(BODY)}"},
    "sentry": {"Sentry-Hook-Signature": hexadecimal(BODY)},
    "shopify": {"X-Shopify-Hmac-SHA256": b64(BODY)},
    "square": {"x-square-hmacsha256-signature": b64(URL + BODY)},
    "trello": {"X-Trello-Webhook": b64(BODY + URL, hashlib.sha1)},
    "twitch": {
        "Twitch-Eventsub-Message-Id": "msg_1",
        "Twitch-Eventsub-Message-Timestamp": ISO,
        "Twitch-Eventsub-Message-Signature": "sha256=" + hexadecimal(f"msg_1{ISO}{BODY}"),
    },
    "typeform": {"Typeform-Signature": "sha256=" + b64(BODY)},
    "vercel": {"x-vercel-signature": hexadecimal(BODY, hashlib.sha1)},
    "webflow": {"x-webflow-timestamp": MS, "x-webflow-signature": hexadecimal(f"{MS}:{BODY}")},
    "woocommerce": {"X-WC-Webhook-Signature": b64(BODY)},
    "workos": {"WorkOS-Signature": f"t={MS}, v1={hexadecimal(f'{MS}.{BODY}')}"},
    "x-crc": {"x-twitter-webhooks-signature": "sha256=" + b64(BODY)},
    "xero": {"x-xero-signature": b64(BODY)},
    "zendesk": {
        "X-Zendesk-Webhook-Signature-Timestamp": ISO,
        "X-Zendesk-Webhook-Signature": b64(ISO + BODY),
    },
    "zoom": {
        "x-zm-request-timestamp": str(AT),
        "x-zm-signature": "v0=" + hexadecimal(f"v0:{AT}:{BODY}"),
    },
}.items():
    add(scheme, SECRET, headers)

print(json.dumps(requests))
