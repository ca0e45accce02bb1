"""Bitwarden Secrets Manager as far as a secret is read: identity service and API, with the cryptography of pyca/cryptography.

What it encrypts is what other clients of the service decrypt: https://bitwarden.com/help/bitwarden-security-white-paper/
"""
import base64
import hashlib
import hmac
import json
import os
import sys
import threading
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

value = os.environ["VALUE"]
client, secret_id = str(uuid.uuid4()), str(uuid.uuid4())
client_secret = base64.urlsafe_b64encode(os.urandom(22)).decode().rstrip("=")
token_key, organisation_key = os.urandom(16), os.urandom(64)
access_token = base64.urlsafe_b64encode(os.urandom(30)).decode()


def text(data):
    return base64.b64encode(data).decode()


def encrypted(key, plain):
    """Type 2: AES-256-CBC, then HMAC-SHA-256 of the IV and the ciphertext."""
    iv = os.urandom(16)
    padder = padding.PKCS7(128).padder()
    padded = padder.update(plain.encode()) + padder.finalize()
    cipher = Cipher(algorithms.AES(key[:32]), modes.CBC(iv)).encryptor()
    data = cipher.update(padded) + cipher.finalize()
    mac = hmac.new(key[32:], iv + data, hashlib.sha256).digest()
    return f"2.{text(iv)}|{text(data)}|{text(mac)}"


derived = HKDF(hashes.SHA256(), length=64, salt=b"bitwarden-accesstoken", info=b"sm-access-token")
login_key = derived.derive(token_key)


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        expected = {
            "grant_type": "client_credentials",
            "scope": "api.secrets",
            "client_id": client,
            "client_secret": client_secret,
        }
        if self.path != "/identity/connect/token":
            self.answer(404, {})
        elif dict(urllib.parse.parse_qsl(form)) != expected:
            self.answer(400, {"error": "invalid_client"})
        else:
            payload = json.dumps({"encryptionKey": text(organisation_key)})
            self.answer(200, {
                "access_token": access_token,
                "expires_in": 3600,
                "token_type": "Bearer",
                "scope": "api.secrets",
                "encrypted_payload": encrypted(login_key, payload),
            })

    def do_GET(self):
        if self.headers["Authorization"] != f"Bearer {access_token}":
            self.answer(401, {})
        elif self.path != f"/api/secrets/{secret_id}":
            self.answer(404, {"message": "Resource not found.", "object": "error"})
        else:
            self.answer(200, {
                "object": "secret",
                "id": secret_id,
                "organizationId": str(uuid.uuid4()),
                "key": encrypted(organisation_key, "API_KEY"),
                "value": encrypted(organisation_key, value),
                "note": encrypted(organisation_key, "note"),
                "creationDate": "2026-01-02T03:04:05.678Z",
                "revisionDate": "2026-01-02T03:04:05.678Z",
                "projects": [],
            })

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
token = f"0.{client}.{client_secret}:{text(token_key)}"
print(json.dumps({"port": server.server_address[1], "id": secret_id, "token": token}), flush=True)
sys.stdin.read()
