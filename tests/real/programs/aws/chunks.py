"""An upload whose chunks are signed, as the SDKs for Java and Go send it: here with the placeholder keys."""

import datetime
import hashlib
import hmac
import os

import requests

KEY, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
HOST, PATH = "photos.s3.amazonaws.com", "/in-chunks"
stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
signing = ("AWS4" + SECRET).encode()
for part in scope.split("/"):
    signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()


def sign(*lines):
    return hmac.new(signing, "\n".join(lines).encode(), hashlib.sha256).hexdigest()


def hexed(data):
    return hashlib.sha256(data).hexdigest()


data = os.urandom(150_000)
chunks = [data[at : at + 65536] for at in range(0, len(data), 65536)] + [b""]
size = sum(len(f"{len(chunk):x}") + len(";chunk-signature=") + 64 + 4 + len(chunk) for chunk in chunks)
fields = {
    "content-encoding": "aws-chunked",
    "content-length": str(size),
    "host": HOST,
    "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "x-amz-date": stamp,
    "x-amz-decoded-content-length": str(len(data)),
}
names = ";".join(fields)
canonical = "\n".join(["PUT", PATH, "", *(f"{k}:{v}" for k, v in fields.items()), "", names, fields["x-amz-content-sha256"]])
seed = sign("AWS4-HMAC-SHA256", stamp, scope, hexed(canonical.encode()))
fields["authorization"] = f"AWS4-HMAC-SHA256 Credential={KEY}/{scope},SignedHeaders={names},Signature={seed}"
body = b""
for chunk in chunks:
    seed = sign("AWS4-HMAC-SHA256-PAYLOAD", stamp, scope, seed, hexed(b""), hexed(chunk))
    body += f"{len(chunk):x};chunk-signature={seed}\r\n".encode() + chunk + b"\r\n"
session = requests.Session()
assert session.put(f"https://{HOST}", timeout=20, headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}).ok
answer = session.put(f"https://{HOST}{PATH}", data=body, headers=fields, timeout=20)
assert answer.status_code == 200, answer.text
# Not signed at all: the gateway signs for the region and service that the host names.
answer = session.get(f"https://{HOST}{PATH}", timeout=20)
assert answer.content == data, answer.content[:200]
print("answer: fine")
