"""AWS as moto imitates it, over TLS, for requests that botocore's signer signs alike; all others get 403. Hosts that stand
for several regions, which moto does not have, keep objects in memory and want Signature Version 4A. Mail and the storage
of others says "fine".

python server.py CERTIFICATE KEY LOG, with ACCESS_KEY and SECRET_KEY in the environment, and in WEB_IDENTITY the token that
roles may be assumed with. Prints its port. A line of LOG is a request: how it was signed, method, host and path.
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
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

# The secret of each key, and the session token of a role's key.
KEYS = {os.environ["ACCESS_KEY"]: (os.environ["SECRET_KEY"], None)}
MOTO = DomainDispatcherApplication(create_backend_app)
SEVERAL_REGIONS = (".accesspoint.s3-global.amazonaws.com", ".endpoint.events.amazonaws.com")
ASYMMETRIC = "AWS4-ECDSA-P256-SHA256"
OBJECTS = {}


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


def public_key(access, secret):
    """Of Version 4A: NIST SP 800-108 in counter mode, then FIPS 186-5 A.2.2."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    for counter in range(1, 255):
        fixed = b"\0\0\0\1" + ASYMMETRIC.encode() + b"\0" + access.encode() + bytes([counter]) + (256).to_bytes(4, "big")
        candidate = int.from_bytes(hmac.new(("AWS4A" + secret).encode(), fixed, hashlib.sha256).digest(), "big")
        if candidate <= order - 2:
            return ec.derive_private_key(candidate + 1, ec.SECP256R1()).public_key()


def check_for_set(access, secret, stamp, service, canonical, signature):
    text = f"{ASYMMETRIC}\n{stamp}\n{stamp[:8]}/{service}/aws4_request\n{hexed(canonical.encode())}"
    try:
        public_key(access, secret).verify(bytes.fromhex(signature), text.encode(), ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise Refused(f"no signature of {text}:\n{canonical}") from error


def check_chunks_for_set(access, secret, body, seed, stamp, service):
    """As below, by Version 4A: signatures are filled with asterisks to 144 characters, which the next one does not cover."""
    key, decoded, scope = public_key(access, secret), b"", f"{stamp[:8]}/{service}/aws4_request"
    while True:
        line, _, rest = body.partition(b"\r\n")
        size, _, filled = line.decode().partition(";chunk-signature=")
        data, body = rest[: int(size, 16)], rest[int(size, 16) :]
        parts = (f"{ASYMMETRIC}-PAYLOAD", stamp, scope, seed, hexed(b""), hexed(data))
        seed = filled.rstrip("*")
        try:
            key.verify(bytes.fromhex(seed), "\n".join(parts).encode(), ec.ECDSA(SHA256()))
        except InvalidSignature as error:
            raise Refused(f"no signature of {parts}") from error
        if len(filled) != 144:
            raise Refused(f"{len(filled)} characters of a chunk's signature")
        decoded += data
        if not data:
            return decoded
        body = body.removeprefix(b"\r\n")


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
        if algorithm not in ("AWS4-HMAC-SHA256", ASYMMETRIC):
            raise Refused(f"algorithm {algorithm!r}")
        parts = dict(part.strip().split("=", 1) for part in parts.split(","))
        credential, names, signature = parts["Credential"], parts["SignedHeaders"], parts["Signature"]
        stamp = fields["x-amz-date"]
    for_set = (query.get("X-Amz-Algorithm") if in_query else algorithm) == ASYMMETRIC
    access, _, *region, service, _ = credential.split("/")
    region = "".join(region)
    if for_set != fields["host"].endswith(SEVERAL_REGIONS) or for_set != (region == ""):
        raise Refused("the algorithm is not that of the host")
    if for_set and (query if in_query else fields).get("X-Amz-Region-Set" if in_query else "x-amz-region-set") != "*":
        raise Refused("another set of regions")
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
    if for_set:
        if not in_query and "x-amz-region-set" not in names.split(";"):
            raise Refused("the regions are not signed")
        check_for_set(access, secret, stamp, service, canonical, signature)
        if hashed == f"STREAMING-{ASYMMETRIC}-PAYLOAD":
            check_chunks_for_set(access, secret, body, signature, stamp, service)
            return "set chunks"
        return "set query" if in_query else "set"
    own = signer.signature(signer.string_to_sign(request, canonical), request)
    if own != signature:
        raise Refused(f"signature {signature}, not {own}:\n{canonical}")
    if hashed == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD":
        check_chunks(secret, body, signature, stamp, region, service)
        return "chunks"
    return "query" if in_query else "field"


def check_identity(body):
    """Of a request without signature: its token proves who sends it."""
    sent = dict(parse_qsl(body.decode()))
    with open(os.environ["WEB_IDENTITY"], encoding="utf-8") as file:
        if sent["WebIdentityToken"] != file.read():
            raise Refused("another identity")
    return "identity"


def without_chunks(body):
    """The data of chunks."""
    size, _, rest = body.partition(b"\r\n")
    length = int(size.partition(b";")[0], 16)
    return rest[:length] + without_chunks(rest[length + 2 :]) if length else b""


def for_several_regions(method, path, body, chunked):
    """The answer of an access point, or of an event bus."""
    if method == "PUT":
        OBJECTS[path.partition("?")[0]] = without_chunks(body) if chunked else body
        return b""
    return OBJECTS.get(path.partition("?")[0], b'{"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}')


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
        identity = b"Action=AssumeRoleWithWebIdentity&" in body and "authorization" not in fields
        how = check_identity(body) if identity else check(method, f"https://{fields['host']}{path}", fields, body)
    except (Refused, KeyError, ValueError) as error:
        how = f"refused: {error!r}"
    with open(sys.argv[3], "a", encoding="utf-8") as log:
        seen = {"how": how, "request": f"{method} {fields['host']}{path.partition('?')[0]}", "fields": fields}
        if b"Action=AssumeRole" in body:
            seen["assumes"] = dict(parse_qsl(body.decode()))
        print(json.dumps(seen), file=log)
    if how.startswith("refused") and b"Action=AssumeRole" in body:
        # https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
        start_response("403 Forbidden", [("Content-Type", "application/json")])
        code = "InvalidIdentityToken" if identity else "InvalidClientTokenId"
        error = {"Type": "Sender", "Code": code, "Message": "The security token is invalid."}
        return [json.dumps({"Error": error, "RequestId": "1"}).encode()]
    if how.startswith("refused"):
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [how.encode()]
    if fields["host"].endswith(SEVERAL_REGIONS):
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("ETag", '"1"')])
        chunked = fields.get("x-amz-content-sha256", "").startswith("STREAMING-")
        return [for_several_regions(method, path, body, chunked)]
    if fields["host"].startswith("email.") or not fields["host"].endswith(".amazonaws.com"):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"fine"]
    # moto reads it again, as a body of known length.
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    answer = MOTO(environ, start_response)
    if b"Action=AssumeRole" in body:
        answer = [b"".join(answer)]
        (result,) = (member for name, member in json.loads(answer[0]).popitem()[1].items() if name.endswith("Result"))
        keys = result["Credentials"]
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
