"""An authorization server of Authlib, rotation on and PKCE required.

python authlib_server.py CERT KEY: prints its port, reads a line of settings, prints `ready`, and then
answers each line, a command, with one. Settings and commands are JSON."""

import json
import secrets
import sys
import threading
import time
from datetime import datetime, timezone

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector
from authlib.oauth2.rfc6749 import ClientMixin, InvalidScopeError, TokenMixin, grants
from authlib.oauth2.rfc6750 import BearerTokenValidator
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion, JWTBearerGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc8628 import (
    DeviceAuthorizationEndpoint,
    DeviceCodeGrant,
    DeviceCredentialMixin,
)
from flask import Flask, jsonify, request
from joserfc.jwk import OctKey, import_key
from werkzeug.serving import make_server

CERT, KEY = sys.argv[1:3]
AUDIENCES = ["https://auth.acme.test/token"]
ASSERTION = "client_assertion_jwt"
METHODS = ["client_secret_basic", "client_secret_post", "none", ASSERTION]
CLOUD = "https://www.googleapis.com/auth/cloud-platform"
clients, codes, tokens, devices, seen, log = {}, {}, [], {}, set(), []

app = Flask(__name__)
serving = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=(CERT, KEY))
print(serving.server_port, flush=True)
settings = json.loads(sys.stdin.readline())


class Client(ClientMixin):
    def __init__(self, client_id, method, secret=None, key=None, redirect_uri=None):
        self.client_id, self.method, self.secret = client_id, method, secret
        self.key, self.redirect_uri = key, redirect_uri

    def get_client_id(self):
        return self.client_id

    def get_default_redirect_uri(self):
        return self.redirect_uri

    def get_allowed_scope(self, scope):
        return scope

    def check_redirect_uri(self, redirect_uri):
        return redirect_uri == self.redirect_uri

    def check_client_secret(self, client_secret):
        return secrets.compare_digest(client_secret, self.secret)

    def check_endpoint_auth_method(self, method, endpoint):
        return method == self.method

    def check_response_type(self, response_type):
        return response_type == "code"

    def check_grant_type(self, grant_type):
        return True

    def verifies_by(self):
        """A shared secret, or the public half of a key in PEM."""
        return import_key(self.key) if self.key else OctKey.import_key(self.secret)


class User:
    def __init__(self, name="alice"):
        self.name = name

    def get_user_id(self):
        return self.name


class Code(dict):
    def get_redirect_uri(self):
        return self["redirect_uri"]

    def get_scope(self):
        return self["scope"]

    @property
    def code_challenge(self):
        return self["code_challenge"]

    @property
    def code_challenge_method(self):
        return self["code_challenge_method"]


class Token(dict, TokenMixin):
    revoked = spent = ended = False

    def __init__(self, token, client_id, name):
        super().__init__(token)
        self.client_id, self.name, self.until = client_id, name, time.time() + token["expires_in"]

    def check_client(self, client):
        return client.get_client_id() == self.client_id

    def get_scope(self):
        return self.get("scope", "")

    def get_expires_in(self):
        return self["expires_in"]

    def is_expired(self):
        return self.ended or time.time() >= self.until

    def is_revoked(self):
        return self.revoked

    def get_user(self):
        return User(self.name)

    def get_client(self):
        return clients[self.client_id]


class Device(dict, DeviceCredentialMixin):
    def get_client_id(self):
        return self["client_id"]

    def get_scope(self):
        return self.get("scope") or ""

    def get_user_code(self):
        return self["user_code"]

    def is_expired(self):
        return False


class CodeGrant(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def save_authorization_code(self, code, request):
        data = request.payload.data
        codes[code] = Code(
            redirect_uri=request.payload.redirect_uri,
            scope=request.payload.scope,
            code_challenge=data.get("code_challenge"),
            code_challenge_method=data.get("code_challenge_method"),
        )

    def query_authorization_code(self, code, client):
        return codes.get(code)

    def delete_authorization_code(self, authorization_code):
        for code, known in list(codes.items()):
            if known is authorization_code:
                del codes[code]

    def authenticate_user(self, authorization_code):
        return User()


class RefreshGrant(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token):
        for token in tokens:
            if token.get("refresh_token") == refresh_token:
                if token.spent:
                    for other in tokens:
                        other.revoked = True
                if not token.revoked:
                    return token

    def validate_token_request(self):
        super().validate_token_request()
        log.append({"event": "rotated"})

    def authenticate_user(self, refresh_token):
        return User()

    def revoke_old_credential(self, refresh_token):
        refresh_token.spent = refresh_token.revoked = True


class DeviceGrant(DeviceCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def query_device_credential(self, device_code):
        return devices.get(device_code)

    def query_user_grant(self, user_code):
        device = next(d for d in devices.values() if d["user_code"] == user_code)
        return (User(), device["allowed"]) if "allowed" in device else None

    def should_slow_down(self, credential):
        last, credential["polled"] = credential.get("polled", 0), time.time()
        return time.time() - last < 0.5


class DeviceEndpoint(DeviceAuthorizationEndpoint):
    CLIENT_AUTH_METHODS = METHODS
    INTERVAL = 1

    def get_verification_uri(self):
        return "https://auth.acme.test/activate"

    def save_device_credential(self, client_id, scope, data):
        devices[data["device_code"]] = Device(data, scope=scope, client_id=client_id)


class MachineGrant(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS


class AssertionGrant(JWTBearerGrant):
    """Scopes beside the assertion, or in it as Google has them."""

    def resolve_issuer_client(self, issuer):
        return clients.get(issuer)

    def resolve_client_public_key(self, client):
        return client.verifies_by()

    def get_audiences(self):
        return AUDIENCES

    def verify_claims(self, claims):
        super().verify_claims(claims)
        if claims["jti"] in seen or claims["exp"] - claims["iat"] > 3600:
            raise InvalidScopeError(description="used before, or too long")
        seen.add(claims["jti"])
        self.scope = claims.get("scope")

    def authenticate_user(self, subject):
        return User(subject) if subject.startswith("alice") else None

    def has_granted_permission(self, client, user):
        return True

    def create_token_response(self):
        asked = self.request
        scope = asked.payload.scope or self.scope
        token = self.generate_token(scope=scope, user=asked.user, include_refresh_token=False)
        self.save_token(token)
        return 200, token, self.TOKEN_RESPONSE_HEADER


class Assertion(JWTBearerClientAssertion):
    def get_audiences(self):
        return AUDIENCES

    def validate_jti(self, claims, jti):
        return jti not in seen and not seen.add(jti)

    def resolve_client_public_key(self, client):
        return client.verifies_by()


class Introspection(IntrospectionEndpoint):
    CLIENT_AUTH_METHODS = METHODS

    def check_permission(self, token, client, request):
        return client.get_client_id() == "api"

    def query_token(self, token_string, token_type_hint):
        return next((one for one in tokens if one["access_token"] == token_string), None)

    def introspect_token(self, token):
        told = {"active": True, "client_id": token.client_id, "scope": token.get_scope()}
        return told | {"sub": token.name, "exp": int(token.until)}


class Revocation(RevocationEndpoint):
    CLIENT_AUTH_METHODS = METHODS

    def query_token(self, token_string, token_type_hint):
        for token in tokens:
            if token_string in (token.get("access_token"), token.get("refresh_token")):
                return token

    def revoke_token(self, token, request):
        token.revoked = True


class Bearer(BearerTokenValidator):
    def authenticate_token(self, token_string):
        for token in tokens:
            if token["access_token"] == token_string:
                return token


def save(token, request):
    client_id, user = request.client.get_client_id(), request.user
    tokens.append(Token(token, client_id, user.get_user_id() if user else client_id))
    log.append({"event": "token", "grant": request.payload.grant_type, "client": client_id})


app.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True
life = settings.get("access_ttl", 3600)
jwt_bearer = JWTBearerGrant.GRANT_TYPE
app.config["OAUTH2_TOKEN_EXPIRES_IN"] = {"client_credentials": life, jwt_bearer: life}
for one in settings["clients"]:
    clients[one["client_id"]] = Client(**one)
server = AuthorizationServer(app, query_client=clients.get, save_token=save)
server.register_grant(CodeGrant, [CodeChallenge(required=True)])
server.register_grant(RefreshGrant)
server.register_grant(DeviceGrant)
server.register_grant(MachineGrant)
server.register_grant(AssertionGrant)
server.register_client_auth_method(ASSERTION, Assertion())
server.register_endpoint(DeviceEndpoint)
server.register_endpoint(Introspection)
server.register_endpoint(Revocation)
protected = ResourceProtector()
protected.register_token_validator(Bearer())

PAGE = "<!doctype html><title>Consent</title><form method=post><button>Allow</button></form>"


@app.route("/authorize", methods=["GET", "POST"])
def authorize():
    if request.method == "GET":
        server.get_consent_grant(end_user=User())
        return PAGE
    return server.create_authorization_response(grant_user=User())


@app.route("/activate", methods=["GET", "POST"])
def activate():
    if request.method == "GET":
        return PAGE
    for device in devices.values():
        if device["user_code"] == request.args["user_code"]:
            device["allowed"] = True
    return "<!doctype html><p>allowed"


@app.post("/token")
def token():
    answer = server.create_token_response()
    if answer.status_code != 200:
        told = json.loads(answer.get_data())
        log.append({
            "event": "refused",
            "grant": request.form.get("grant_type"),
            "error": told["error"],
            "detail": told.get("error_description"),
        })
    return answer


@app.post("/introspect")
def introspect():
    return server.create_endpoint_response(Introspection.ENDPOINT_NAME)


@app.post("/accounts/<account>:generateAccessToken")
@protected(CLOUD)
def impersonate(account):
    """As Google's service of that name answers to who may act as another account."""
    made = {"access_token": secrets.token_urlsafe(32), "scope": " ".join(request.json["scope"])}
    token = Token(made | {"expires_in": 3600}, account, account)
    tokens.append(token)
    log.append({"event": "token", "grant": "impersonation", "client": account})
    until = datetime.fromtimestamp(token.until, timezone.utc)
    return jsonify(accessToken=token["access_token"], expireTime=until.isoformat())


@app.post("/device")
def device():
    return server.create_endpoint_response(DeviceEndpoint.ENDPOINT_NAME)


@app.post("/revoke")
def revoke():
    return server.create_endpoint_response(Revocation.ENDPOINT_NAME)


def end():
    """Every access token is over."""
    for token in tokens:
        token.ended = True
    return {}


threading.Thread(target=serving.serve_forever, daemon=True).start()
print("ready", flush=True)
given = lambda: [one[kind] for one in tokens for kind in one if kind.endswith("_token")]
commands = {"log": lambda: log, "end": end, "secrets": lambda: given() + list(devices)}
for line in sys.stdin:
    print(json.dumps(commands[json.loads(line)["do"]]()), flush=True)
