"""An authorization server of idpyoidc that exchanges tokens (RFC 8693).

python idpyoidc_server.py CERT KEY: prints its port, reads a line of settings, prints `ready`, and then
answers each line, a command, with one. Settings and commands are JSON."""

import json
import logging
import sys
import threading

from cryptojwt.exception import JWKESTException
from flask import Flask, Response, request
from idpyoidc.message.oauth2 import AuthorizationRequest
from idpyoidc.server import Server
from idpyoidc.server.authn_event import create_authn_event
from idpyoidc.server.configure import ASConfiguration
from idpyoidc.server.exception import UnAuthorizedClient
from werkzeug.serving import make_server

CERT, KEY = sys.argv[1:3]
ACCESS = "urn:ietf:params:oauth:token-type:access_token"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
OAUTH2 = "idpyoidc.server.oauth2"

app = Flask(__name__)
logging.disable()
serving = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=(CERT, KEY))
print(serving.server_port, flush=True)
settings = json.loads(sys.stdin.readline())
log, secrets = [], []


def endpoint(path, kind, **more):
    basic = {"client_authn_method": ["client_secret_basic"]}
    return {"path": path, "class": f"{OAUTH2}.{kind}", "kwargs": basic | more}


exchange = {
    "subject_token_types_supported": [ACCESS],
    "requested_token_types_supported": [ACCESS],
    "policy": {
        "": {
            "function": f"{OAUTH2}.token_helper.validate_token_exchange_policy",
            "kwargs": {"scope": ["read"], "audience": ["https://api.acme.test"]},
        }
    },
}
helper = {"class": f"{OAUTH2}.token_helper.token_exchange.TokenExchangeHelper", "kwargs": exchange}
configuration = {
    "issuer": "https://auth.acme.test",
    "key_conf": {"key_defs": [{"type": "EC", "crv": "P-256", "use": ["sig"]}]},
    "token_handler_args": {
        # Derived from a password, since it would be read from a file else.
        "code": {"kwargs": {"crypt_conf": {"kwargs": {"password": "of a test", "iterations": 1}}}},
        "token": {"class": "idpyoidc.server.token.jwt_token.JWTToken", "kwargs": {"lifetime": 3600}},
    },
    "endpoint": {
        "token": endpoint("token", "token.Token", grant_types_helpers={EXCHANGE: helper}),
        "introspection": endpoint(
            "introspect", "introspection.Introspection", enforce_audience_restriction=False
        ),
        "token_revocation": endpoint("revoke", "token_revocation.TokenRevocation"),
    },
    "userinfo": {
        "class": "idpyoidc.server.user_info.UserInfo",
        "kwargs": {"db": {"alice": {"sub": "alice"}}},
    },
    "scopes_to_claims": {"read": [], "write": []},
}
server = Server(ASConfiguration(conf=configuration, base_path="."), cwd=".")
context = server.context
rules = {"access_token": {"supports_minting": ["access_token"], "expires_in": 3600}}
for client in settings["clients"]:
    context.cdb[client["client_id"]] = {
        "client_id": client["client_id"],
        "client_secret": client["secret"],
        "allowed_scopes": ["read", "write"],
        "grant_types_supported": [EXCHANGE],
        "token_endpoint_auth_method": "client_secret_basic",
        "token_usage_rules": rules,
    }


def subject():
    """A token of a person at another client, which may be exchanged."""
    sessions, scope = context.session_manager, ["read", "write"]
    asked = AuthorizationRequest(
        client_id="front", redirect_uri="https://front.test/", scope=scope, response_type="code"
    )
    event = create_authn_event("alice", authn_info="password")
    session = sessions.create_session(
        event, asked, "alice", client_id="front", token_usage_rules=rules, scopes=scope
    )
    grant = sessions[session]
    token = grant.mint_token(
        session_id=session,
        context=context,
        token_class="access_token",
        token_handler=sessions.token_handler["access_token"],
        scope=scope,
        usage_rules=rules["access_token"],
    )
    sessions.set(sessions.unpack_session_key(session), grant)
    return token.value


def revoke(token):
    """What is revoked at the server, and not by its client."""
    sessions = context.session_manager
    session = sessions.get_session_info_by_token(token, grant=True, handler_key="access_token")
    sessions.revoke_token(session["branch_id"], token)


def asked(name):
    at = server.endpoint[name]
    info = {"headers": {"authorization": request.headers.get("authorization", "")}}
    form = request.form.to_dict()
    try:
        parsed = at.parse_request(form, http_info=info)
        answer = parsed if "error" in parsed else at.process_request(parsed)
    except UnAuthorizedClient:
        answer = {"error": "invalid_client"}
    except JWKESTException:
        # Its endpoints do not catch the signature of another.
        answer = {"error": "invalid_request", "error_description": "Subject token invalid"}
    if name == "token":
        log.append({
            "event": "refused" if "error" in answer else "token",
            "grant": form.get("grant_type"),
            "error": answer.get("error"),
            "detail": answer.get("error_description"),
        })
        secrets.append(form.get("subject_token"))
    if "error" in answer:
        status = 401 if answer["error"] == "invalid_client" else 400
        body = answer if isinstance(answer, dict) else answer.to_dict()
        return Response(json.dumps(body), status, content_type="application/json")
    body = answer.get("response_args", {})
    body = body if isinstance(body, dict) else body.to_dict()
    secrets.extend([body["access_token"]] if "access_token" in body else [])
    return Response(json.dumps(body), 200, content_type="application/json")


@app.post("/token")
def token():
    return asked("token")


@app.post("/introspect")
def introspect():
    return asked("introspection")


@app.post("/revoke")
def revocation():
    return asked("token_revocation")


threading.Thread(target=serving.serve_forever, daemon=True).start()
print("ready", flush=True)
commands = {
    "log": lambda _: log,
    "secrets": lambda _: secrets,
    "subject": lambda _: {"token": subject()},
    "revoke": lambda command: revoke(command["token"]) or {},
}
for line in sys.stdin:
    command = json.loads(line)
    print(json.dumps(commands[command["do"]](command)), flush=True)
