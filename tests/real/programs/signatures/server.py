"""Services over TLS that verify signatures with the libraries that their users have; all other requests get 403.

python server.py CERTIFICATE KEY LOG KEYS, where KEYS is a file of JSON with the live keys. Prints its port. A line of LOG
is a request: its verdict, method, host and path, and fields.
"""

import base64
import hashlib
import hmac
import json
import sys
import time
from datetime import datetime
from urllib.parse import parse_qsl, urlsplit

import jwt
from azure.core.pipeline import PipelineContext, PipelineRequest
from azure.core.pipeline.transport import HttpRequest
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from oauthlib.oauth1 import Client
from oauthlib.oauth1.rfc5849 import signature as oauth1
from werkzeug.serving import WSGIRequestHandler, make_server

with open(sys.argv[4], encoding="utf-8") as file:
    KEYS = json.load(file)


class Refused(Exception):
    pass


def azure(method, url, fields, _body):
    """What the SDK of Azure signs for this request."""
    fields = dict(fields)
    wanted = fields.pop("authorization")
    request = HttpRequest(method, url, headers=fields)
    policy = SharedKeyCredentialPolicy("account", KEYS["azure"])
    policy.on_request(PipelineRequest(request, PipelineContext(None)))
    if request.headers["Authorization"] != wanted:
        raise Refused(f"{wanted}, not {request.headers['Authorization']}")


def x(method, url, fields, body):
    """OAuth 1.0a with the base string and the HMAC of oauthlib."""
    check_oauth1(method, url, fields, body, "x", oauth1.sign_hmac_sha1_with_client)


def netsuite(method, url, fields, body):
    if 'realm="1234567_SB1"' not in fields["authorization"]:
        raise Refused("no realm")
    check_oauth1(method, url, fields, body, "netsuite", oauth1.sign_hmac_sha256_with_client)


def check_oauth1(method, url, fields, body, service, sign):
    form = fields.get("content-type", "").startswith("application/x-www-form-urlencoded")
    params = oauth1.collect_parameters(
        uri_query=urlsplit(url).query,
        body=body.decode() if form else [],
        headers={"Authorization": fields["authorization"]},
        exclude_oauth_signature=False,
    )
    named = dict(params)
    given = named["oauth_signature"]
    params = [(name, value) for name, value in params if name != "oauth_signature"]
    text = oauth1.signature_base_string(
        method, oauth1.base_string_uri(url), oauth1.normalize_parameters(params)
    )
    keys = KEYS[service]
    if (named["oauth_consumer_key"], named["oauth_token"]) != (keys["consumer_key"], keys["token"]):
        raise Refused("another client")
    client = Client(keys["consumer_key"], keys["consumer_secret"], keys["token"], keys["token_secret"])
    if given != sign(text, client):
        raise Refused(f"{given}, not {sign(text, client)}: {text}")


def binance(method, url, fields, body):
    """As the service documents it: the query without the signature, then the body."""
    query, _, given = urlsplit(url).query.rpartition("&signature=")
    own = hmac.new(KEYS["binance"].encode(), query.encode() + body, hashlib.sha256).hexdigest()
    parameters = [name for name, _ in parse_qsl(query) + parse_qsl(body.decode())]
    twice = {name for name in parameters if parameters.count(name) > 1 or name == "signature"}
    if given != own or "timestamp" not in dict(parse_qsl(query)) or twice:
        raise Refused(f"{given}, not {own}: {query}, twice: {twice}")


def token_of(fields, prefix="Bearer "):
    return fields["authorization"].removeprefix(prefix)


def public(service):
    return load_pem_private_key(KEYS[service].encode(), None).public_key()


def snowflake(method, url, fields, body):
    """PyJWT, and the fingerprint by cryptography."""
    key = public("snowflake")
    claims = jwt.decode(token_of(fields), key, algorithms=["RS256"], options={"require": ["exp", "iat"]})
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    fingerprint = base64.b64encode(hashlib.sha256(der).digest()).decode()
    wanted = {"iss": f"MYORG-ACCOUNT1.ROBOT.SHA256:{fingerprint}", "sub": "MYORG-ACCOUNT1.ROBOT"}
    if any(claims[name] != value for name, value in wanted.items()):
        raise Refused(f"{claims}, not {wanted}")


def apple(method, url, fields, body):
    claims = jwt.decode(token_of(fields), public("apple"), algorithms=["ES256"], audience="appstoreconnect-v1")
    if claims["exp"] - claims["iat"] > 1200 or jwt.get_unverified_header(token_of(fields))["kid"] != "KEY1":
        raise Refused(f"{claims}")


def ghost(method, url, fields, body):
    token = token_of(fields, "Ghost ")
    key_id, secret = KEYS["ghost"].split(":")
    jwt.decode(token, bytes.fromhex(secret), algorithms=["HS256"], audience="/admin/")
    if jwt.get_unverified_header(token)["kid"] != key_id:
        raise Refused("another key")


def coinbase(method, url, fields, body):
    token = token_of(fields)
    claims = jwt.decode(token, public("coinbase"), algorithms=["ES256"], options={"require": ["nbf"]})
    wanted = f"{method} {urlsplit(url).netloc}{urlsplit(url).path}"
    if claims["uri"] != wanted or "nonce" not in jwt.get_unverified_header(token):
        raise Refused(f"{claims['uri']}, not {wanted}")


def check_hmac(service, secret, text, given, encode):
    own = encode(hmac.new(secret, text, hashlib.sha256).digest())
    if given != own:
        raise Refused(f"{service}: {given}, not {own}: {text}")


def is_recent(seconds):
    if abs(time.time() - seconds) > 30:
        raise Refused(f"a time of {seconds}")


def bybit(method, url, fields, body):
    """https://bybit-exchange.github.io/docs/v5/guide#authentication: time, key, window, then the query of a GET or the body of
    a POST; HMAC-SHA256 as lower-case hex."""
    keys, stamp = KEYS["bybit"], fields["x-bapi-timestamp"]
    is_recent(int(stamp) / 1000)
    if fields["x-bapi-api-key"] != keys["api_key"]:
        raise Refused("another key")
    rest = urlsplit(url).query.encode() if method == "GET" else body
    text = (stamp + keys["api_key"] + fields["x-bapi-recv-window"]).encode() + rest
    check_hmac("bybit", keys["api_secret"].encode(), text, fields["x-bapi-sign"], bytes.hex)


def in_base64(digest):
    return base64.b64encode(digest).decode()


def of_target(url):
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def okx(method, url, fields, body):
    """https://www.okx.com/docs-v5/en/#overview-rest-authentication-signature: time (ISO 8601 with milliseconds), method, path
    with query, body; HMAC-SHA256 in base64."""
    keys, stamp = KEYS["okx"], fields["ok-access-timestamp"]
    is_recent(datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp())
    if len(stamp) != len("2020-12-08T09:08:57.715Z") or not stamp.endswith("Z"):
        raise Refused(f"{stamp} has no milliseconds")
    if (fields["ok-access-key"], fields["ok-access-passphrase"]) != (keys["api_key"], keys["passphrase"]):
        raise Refused("another key or passphrase")
    text = f"{stamp}{method}{of_target(url)}".encode() + body
    check_hmac("okx", keys["secret_key"].encode(), text, fields["ok-access-sign"], in_base64)


def exchange(method, url, fields, body):
    """https://docs.cdp.coinbase.com/exchange/rest-api/authentication: seconds, method, path with query, body; HMAC-SHA256 with
    the secret decoded from base64, in base64."""
    keys, stamp = KEYS["exchange"], fields["cb-access-timestamp"]
    is_recent(float(stamp))
    if (fields["cb-access-key"], fields["cb-access-passphrase"]) != (keys["api_key"], keys["passphrase"]):
        raise Refused("another key or passphrase")
    text = f"{stamp}{method}{of_target(url)}".encode() + body
    check_hmac("exchange", base64.b64decode(keys["api_secret"]), text, fields["cb-access-sign"], in_base64)


SERVICES = {
    "account.blob.core.windows.net": azure,
    "api.x.com": x,
    "1234567-sb1.suitetalk.api.netsuite.com": netsuite,
    "api.binance.com": binance,
    "myorg-account1.snowflakecomputing.com": snowflake,
    "api.appstoreconnect.apple.com": apple,
    "blog.acme.test": ghost,
    "api.coinbase.com": coinbase,
    "api.bybit.com": bybit,
    "www.okx.com": okx,
    "api.exchange.coinbase.com": exchange,
}


def application(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
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
        SERVICES[fields["host"]](method, f"https://{fields['host']}{path}", fields, body)
        verdict = "verified"
    except (Refused, KeyError, ValueError, jwt.PyJWTError) as error:
        verdict = f"refused: {error!r}"
    with open(sys.argv[3], "a", encoding="utf-8") as log:
        seen = {"verdict": verdict, "request": f"{method} {fields['host']}{path}", "fields": fields}
        print(json.dumps(seen), file=log)
    if verdict != "verified":
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [verdict.encode()]
    if fields["host"].endswith("windows.net"):
        if method == "PUT":
            start_response("201 Created" if "comp=" not in path else "200 OK", AZURE_HEADERS)
            return []
        start_response("206 Partial Content", [*AZURE_HEADERS, ("Content-Range", "bytes 0-4/5")])
        return [b"hello"]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b"{}"]


AZURE_HEADERS = [
    ("Content-Type", "text/plain"),
    ("ETag", '"1"'),
    ("Last-Modified", "Mon, 02 Jan 2023 03:04:05 GMT"),
    ("x-ms-blob-type", "BlockBlob"),
    ("x-ms-request-id", "1"),
    ("Date", "Mon, 02 Jan 2023 03:04:05 GMT"),
]


class Quiet(WSGIRequestHandler):
    def log(self, *arguments):
        pass


server = make_server(
    "127.0.0.1", 0, application, threaded=True, request_handler=Quiet, ssl_context=(sys.argv[1], sys.argv[2])
)
print(server.port, flush=True)
server.serve_forever()
