"""AWS as moto imitates it, over TLS, for requests that botocore's signer signs alike; all others get 403.

python server.py CERTIFICATE KEY LOG, with ACCESS_KEY and SECRET_KEY in the environment. Prints its port. A line of LOG
is a request: how it was signed, method, host and path.
"""

import hashlib
import hmac
import io
import json
import os
import sys
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

# The secret of each key, and the session token of a role's key.
KEYS = {os.environ["ACCESS_KEY"]: (os.environ["SECRET_KEY"], None)}
MOTO = DomainDispatcherApplication(create_backend_app)


class Refused(Exception):
    pass


class WithHash(SigV4Auth):
    """The signer of a request whose payload hash is a given text."""

    def __init__(self, hashed, *args):
        super().__init__(*args)
        self.hashed = hashed

    def payload(self, request):
        return self.hashed


class S3WithHash(WithHash, S3SigV4Auth):
    pass


def hexed(text):
    return hashlib.sha256(text).hexdigest()


def signing_key(secret, date, region, service):
    key = ("AWS4" + secret).encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def check_chunks(secret, body, seed, stamp, region, service):
    """Each chunk has the signature of its bytes and of the chunk before. Returns the decoded body."""
    key, decoded = signing_key(secret, stamp[:8], region, service), b""
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    while True:
        line, _, rest = body.partition(b"\r\n")
        size, _, signature = line.decode().partition(";chunk-signature=")
        data, body = rest[: int(size, 16)], rest[int(size, 16) :]
        parts = ("AWS4-HMAC-SHA256-PAYLOAD", stamp, scope, seed, hexed(b""), hexed(data))
        seed = hmac.new(key, "\n".join(parts).encode(), hashlib.sha256).hexdigest()
        if seed != signature:
            raise Refused(f"chunk signature {signature}, not {seed}")
        decoded += data
        if not data:
            return decoded
        body = body.removeprefix(b"\r\n")


def check(method, url, fields, body):
    """How the request is signed."""
    query = dict(parse_qsl(urlsplit(url).query))
    in_query = "X-Amz-Signature" in query
    if in_query:
        credential, names = query["X-Amz-Credential"], query["X-Amz-SignedHeaders"]
        stamp, signature = query["X-Amz-Date"], query["X-Amz-Signature"]
        url = url.replace(f"X-Amz-Signature={signature}", "").replace("&&", "&").rstrip("&?")
    else:
        algorithm, _, parts = fields.get("authorization", "").partition(" ")
        if algorithm != "AWS4-HMAC-SHA256":
            raise Refused(f"algorithm {algorithm!r}")
        parts = dict(part.strip().split("=", 1) for part in parts.split(","))
        credential, names, signature = parts["Credential"], parts["SignedHeaders"], parts["Signature"]
        stamp = fields["x-amz-date"]
    access, _, region, service, _ = credential.split("/")
    if access not in KEYS:
        raise Refused(f"key {access}")
    secret, token = KEYS[access]
    if fields.get("x-amz-security-token") != token:
        raise Refused("another session token")
    if "Signature" in query or "AWSAccessKeyId" in query:
        raise Refused("two signatures")
    declared = fields.get("x-amz-content-sha256")
    hashed = "UNSIGNED-PAYLOAD" if in_query and service == "s3" else declared or hexed(body)
    if len(hashed) == 64 and hashed != hexed(body):
        raise Refused("the body is not what was signed")
    signer = (S3WithHash if service == "s3" else WithHash)(
        hashed, Credentials(access, secret), service, region
    )
    request = AWSRequest(method, url, {name: fields[name] for name in names.split(";")}, body)
    request.context["timestamp"] = stamp
    canonical = signer.canonical_request(request)
    own = signer.signature(signer.string_to_sign(request, canonical), request)
    if own != signature:
        raise Refused(f"signature {signature}, not {own}:\n{canonical}")
    if hashed == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD":
        check_chunks(secret, body, signature, stamp, region, service)
        return "chunks"
    return "query" if in_query else "field"


def in_chunks(environ):
    return environ.get("HTTP_TRANSFER_ENCODING") == "chunked"


def read(environ):
    return environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


def application(environ, start_response):
    body = environ["wsgi.input"].read() if in_chunks(environ) else read(environ)
    fields = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            fields[name.replace("_", "-").lower()] = environ[name]
    method, path = environ["REQUEST_METHOD"], environ["RAW_URI"]
    try:
        how = check(method, f"https://{fields['host']}{path}", fields, body)
    except (Refused, KeyError, ValueError) as error:
        how = f"refused: {error!r}"
    with open(sys.argv[3], "a", encoding="utf-8") as log:
        seen = {"how": how, "request": f"{method} {fields['host']}{path.partition('?')[0]}", "fields": fields}
        if b"Action=AssumeRole&" in body:
            seen["assumes"] = dict(parse_qsl(body.decode()))
        print(json.dumps(seen), file=log)
    if how.startswith("refused") and b"Action=AssumeRole&" in body:
        # https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
        start_response("403 Forbidden", [("Content-Type", "application/json")])
        error = {"Type": "Sender", "Code": "InvalidClientTokenId", "Message": "The security token is invalid."}
        return [json.dumps({"Error": error, "RequestId": "1"}).encode()]
    if how.startswith("refused"):
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [how.encode()]
    # moto reads it again, as a body of known length.
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    answer = MOTO(environ, start_response)
    if b"Action=AssumeRole&" in body:
        answer = [b"".join(answer)]
        keys = json.loads(answer[0])["AssumeRoleResponse"]["AssumeRoleResult"]["Credentials"]
        KEYS[keys["AccessKeyId"]] = keys["SecretAccessKey"], keys["SessionToken"]
    return answer


class Quiet(WSGIRequestHandler):
    def log(self, *arguments):
        pass


server = make_server(
    "127.0.0.1", 0, application, threaded=True, request_handler=Quiet, ssl_context=(sys.argv[1], sys.argv[2])
)
print(server.port, flush=True)
server.serve_forever()
