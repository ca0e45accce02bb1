"""An authorization server of Authlib, rotation on and PKCE required, and an API behind it.

python authlib_server.py CERT KEY CLIENT SECRET: prints its port, reads a redirect URI, prints `ready`."""

import secrets
import sys
import threading
import time

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants
from authlib.oauth2.rfc6750 import BearerTokenValidator
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc8628 import (
    DeviceAuthorizationEndpoint,
    DeviceCodeGrant,
    DeviceCredentialMixin,
)
from flask import Flask, jsonify, request
from werkzeug.serving import make_server

CERT, KEY, CLIENT, SECRET = sys.argv[1:5]
redirect_uris, codes, tokens, devices = [], {}, [], {}


class Client(ClientMixin):
    def get_client_id(self):
        return CLIENT

    def get_default_redirect_uri(self):
        return redirect_uris[0]

    def get_allowed_scope(self, scope):
        return scope

    def check_redirect_uri(self, redirect_uri):
        return redirect_uri in redirect_uris

    def check_client_secret(self, client_secret):
        return secrets.compare_digest(client_secret, SECRET)

    def check_endpoint_auth_method(self, method, endpoint):
        return method == "client_secret_basic"

    def check_response_type(self, response_type):
        return response_type == "code"

    def check_grant_type(self, grant_type):
        return True


class User:
    def get_user_id(self):
        return "alice"


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
    revoked = spent = False

    def check_client(self, client):
        return True

    def get_scope(self):
        return self.get("scope", "")

    def get_expires_in(self):
        return self["expires_in"]

    def is_expired(self):
        return False

    def is_revoked(self):
        return self.revoked

    def get_user(self):
        return User()

    def get_client(self):
        return Client()


class Device(dict, DeviceCredentialMixin):
    def get_client_id(self):
        return CLIENT

    def get_scope(self):
        return self.get("scope") or ""

    def get_user_code(self):
        return self["user_code"]

    def is_expired(self):
        return False


class CodeGrant(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic"]

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
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic"]
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token):
        for token in tokens:
            if token.get("refresh_token") == refresh_token:
                if token.spent:
                    for other in tokens:
                        other.revoked = True
                if not token.revoked:
                    return token

    def authenticate_user(self, refresh_token):
        return User()

    def revoke_old_credential(self, refresh_token):
        refresh_token.spent = refresh_token.revoked = True


class DeviceGrant(DeviceCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic"]

    def query_device_credential(self, device_code):
        return devices.get(device_code)

    def query_user_grant(self, user_code):
        device = next(d for d in devices.values() if d["user_code"] == user_code)
        return (User(), device["allowed"]) if "allowed" in device else None

    def should_slow_down(self, credential):
        last, credential["polled"] = credential.get("polled", 0), time.time()
        return time.time() - last < 0.5


class DeviceEndpoint(DeviceAuthorizationEndpoint):
    CLIENT_AUTH_METHODS = ["client_secret_basic"]
    INTERVAL = 1

    def get_verification_uri(self):
        return "https://auth.acme.test/activate"

    def save_device_credential(self, client_id, scope, data):
        devices[data["device_code"]] = Device(data, scope=scope)


class Revocation(RevocationEndpoint):
    CLIENT_AUTH_METHODS = ["client_secret_basic"]

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


app = Flask(__name__)
app.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True
server = AuthorizationServer(
    app,
    query_client=lambda client_id: Client() if client_id == CLIENT else None,
    save_token=lambda token, request: tokens.append(Token(token)),
)
server.register_grant(CodeGrant, [CodeChallenge(required=True)])
server.register_grant(RefreshGrant)
server.register_grant(DeviceGrant)
server.register_endpoint(DeviceEndpoint)
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
    return server.create_token_response()


@app.post("/device")
def device():
    return server.create_endpoint_response(DeviceEndpoint.ENDPOINT_NAME)


@app.post("/revoke")
def revoke():
    return server.create_endpoint_response(Revocation.ENDPOINT_NAME)


@app.get("/me")
@protected()
def me():
    return jsonify(sub="alice")


serving = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=(CERT, KEY))
print(serving.server_port, flush=True)
redirect_uris.append(sys.stdin.readline().strip())
threading.Thread(target=serving.serve_forever, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
