"""A service of OAuth 1.0a by oauthlib: its three endpoints, revocation as X has it, and an API whose requests must be signed.

python oauthlib_server.py CERT KEY: prints its port, reads a line of settings, prints `ready`, and then
answers each line, a command, with one. Settings and commands are JSON."""

import json
import secrets
import sys
import threading
from urllib.parse import parse_qsl, urlsplit

from oauthlib.common import add_params_to_uri
from oauthlib.oauth1 import (
    AccessTokenEndpoint,
    AuthorizationEndpoint,
    RequestTokenEndpoint,
    RequestValidator,
    ResourceEndpoint,
)
from werkzeug.serving import WSGIRequestHandler, make_server

CERT, KEY = sys.argv[1:3]
URL = "https://auth.acme.test"
temporary, tokens, nonces, log = {}, {}, set(), []


class Validator(RequestValidator):
    allowed_signature_methods = ("HMAC-SHA1", "HMAC-SHA256")
    client_key_length = request_token_length = access_token_length = (8, 64)
    nonce_length = verifier_length = (16, 64)
    timestamp_lifetime = 60
    dummy_client = dummy_request_token = dummy_access_token = "none-of-these"

    def clients(self):
        return {client["client_id"]: client for client in settings["clients"]}

    def get_client_secret(self, client_key, request):
        return self.clients().get(client_key, {}).get("secret", "none")

    def validate_client_key(self, client_key, request):
        return client_key in self.clients()

    def get_request_token_secret(self, client_key, token, request):
        return temporary.get(token, {}).get("secret", "none")

    def get_access_token_secret(self, client_key, token, request):
        return tokens.get(token, {}).get("secret", "none")

    def validate_request_token(self, client_key, token, request):
        return temporary.get(token, {}).get("client") == client_key

    def validate_access_token(self, client_key, token, request):
        return tokens.get(token, {}).get("client") == client_key

    def validate_timestamp_and_nonce(self, client_key, timestamp, nonce, request, request_token=None, access_token=None):
        is_new = (client_key, timestamp, nonce) not in nonces
        nonces.add((client_key, timestamp, nonce))
        return is_new

    def validate_redirect_uri(self, client_key, redirect_uri, request):
        """As X: a query is the client's own matter."""
        return redirect_uri.split("?")[0] == self.clients().get(client_key, {}).get("redirect_uri")

    def validate_requested_realms(self, client_key, realms, request):
        return True

    def validate_realms(self, client_key, token, request, uri=None, realms=None):
        return True

    def get_default_realms(self, client_key, request):
        return []

    def get_realms(self, token, request):
        return []

    def verify_realms(self, token, realms, request):
        return True

    def verify_request_token(self, token, request):
        return token in temporary

    def validate_verifier(self, client_key, token, verifier, request):
        wanted = temporary[token].get("verifier")
        return wanted is not None and secrets.compare_digest(wanted, verifier)

    def get_redirect_uri(self, token, request):
        return temporary[token]["callback"]

    def save_request_token(self, token, request):
        temporary[token["oauth_token"]] = {
            "secret": token["oauth_token_secret"],
            "client": request.client_key,
            "callback": request.redirect_uri,
        }
        log.append({"event": "temporary", "token": token["oauth_token"], "secret": token["oauth_token_secret"]})

    def save_verifier(self, token, verifier, request):
        temporary[token]["verifier"] = verifier["oauth_verifier"]
        log.append({"event": "verifier", "verifier": verifier["oauth_verifier"]})

    def invalidate_request_token(self, client_key, request_token, request):
        del temporary[request_token]

    def save_access_token(self, token, request):
        tokens[token["oauth_token"]] = {"secret": token["oauth_token_secret"], "client": request.client_key}
        log.append({"event": "token", "token": token["oauth_token"], "secret": token["oauth_token_secret"]})


class AccessTokens(AccessTokenEndpoint):
    def create_access_token(self, request, credentials):
        account = {"user_id": "38", "screen_name": settings.get("account", "alice")}
        return super().create_access_token(request, {**credentials, **account})


def request_token(method, url, body, fields):
    """As a service of OAuth 1.0 before 1.0a, if it is not to confirm."""
    headers, text, status = RequestTokenEndpoint(validator).create_request_token_response(url, method, body, fields)
    if settings.get("confirms") is False and text:
        text = text.replace("&oauth_callback_confirmed=true", "").replace("oauth_callback_confirmed=true&", "")
    return status, text


def access_token(method, url, body, fields):
    headers, text, status = AccessTokens(validator).create_access_token_response(url, method, body, fields)
    return status, text


def resource(method, url, body, fields):
    """The token of a request that is signed as it must be, or none."""
    valid, request = ResourceEndpoint(validator).validate_protected_resource_request(url, method, body, fields)
    return request.resource_owner_key if valid else None


def revoke(method, url, body, fields):
    token = resource(method, url, body, fields)
    if token is None:
        return 401, json.dumps({"errors": [{"code": 89, "message": "Invalid or expired token."}]})
    del tokens[token]
    log.append({"event": "revoked", "token": token})
    return 200, json.dumps({"access_token": token})


def api(method, url, body, fields):
    token = resource(method, url, body, fields)
    log.append({"event": "api", "request": f"{method} {url}", "token": token, "authorization": fields.get("Authorization")})
    if token is None:
        return 401, "not signed by a token of this service"
    return 200, json.dumps({"account": settings.get("account", "alice")})


def page(method, url, body, fields):
    """The page of the consent, for a person in a browser."""
    allow, deny = url.replace("/authorize?", "/authorize/allow?"), url.replace("/authorize?", "/authorize/deny?")
    return 200, f'<!doctype html><title>Consent</title><p>Keyward asks for access.</p><a href="{allow}">Allow</a> <a href="{deny}">Deny</a>'


def pressed(button):
    """A page that sends the browser back."""
    return lambda method, url, body, fields: (303, button(url.replace("/allow?", "?").replace("/deny?", "?"))["location"])


ENDPOINTS = {"/request_token": request_token, "/access_token": access_token, "/revoke": revoke}


def application(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
    fields = {}
    for name, field in [("HTTP_AUTHORIZATION", "Authorization"), ("CONTENT_TYPE", "Content-Type")]:
        if environ.get(name):
            fields[field] = environ[name]
    answer = ENDPOINTS.get(environ["PATH_INFO"], api)
    status, text = answer(environ["REQUEST_METHOD"], URL + environ["RAW_URI"], body, fields)
    if answer is not api:
        log.append({"event": "asked", "path": environ["PATH_INFO"], "status": status})
    kind = "text/html" if answer is page else "text/plain"
    location = [("Location", text)] if status == 303 else []
    start_response(f"{status} Answer", [("Content-Type", kind), *location])
    return [(text or "").encode()]


def authorize(url):
    """A person presses the button: where the browser goes then."""
    token = dict(parse_qsl(urlsplit(url).query))["oauth_token"]
    endpoint = AuthorizationEndpoint(validator)
    endpoint.get_realms_and_credentials(url)
    headers, _, _ = endpoint.create_authorization_response(url, realms=[], credentials={"resource_owner_key": token})
    return {"location": headers["Location"]}


def deny(url):
    """The same for the other button, as X has it."""
    token = dict(parse_qsl(urlsplit(url).query))["oauth_token"]
    return {"location": add_params_to_uri(temporary[token]["callback"], [("denied", token)])}


class Quiet(WSGIRequestHandler):
    def log(self, *arguments):
        pass


ENDPOINTS |= {"/authorize": page, "/authorize/allow": pressed(authorize), "/authorize/deny": pressed(deny)}
validator = Validator()
serving = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet, ssl_context=(CERT, KEY))
print(serving.server_port, flush=True)
settings = json.loads(sys.stdin.readline())
threading.Thread(target=serving.serve_forever, daemon=True).start()
print("ready", flush=True)
commands = {
    "log": lambda _: log,
    "authorize": lambda command: authorize(command["url"]),
    "deny": lambda command: deny(command["url"]),
    "change": lambda command: settings.update(command["settings"]) or {},
}
for line in sys.stdin:
    command = json.loads(line)
    print(json.dumps(commands[command["do"]](command)), flush=True)
