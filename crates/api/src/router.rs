//! The routers: the paths of each listener, and the headers of every response. A path that is not listed
//! here does not exist, so a handler that forgets authentication exposes nothing.

use std::sync::LazyLock;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, extract};
use bytes::Bytes;
use http::{HeaderValue, header};

use super::agents::runs;
use super::agents::sessions;
use super::agents::{self, bindings};
use super::connections::call;
use super::connections::flows;
use super::connections::rotations;
use super::connections::{self, activations};
use super::error::ApiError;
use super::host::{Arrival, OwnNames, check_loopback};
use super::network::{Network, NetworkAccess, on_network};
use super::openapi::{self, Routes};
use super::rules::{self, rule_test};
use super::state::Admin;
use super::users::passkeys;
use super::users::passwords;
use super::users::personal;
use super::users::totp;
use super::users::{self, logins};
use super::{
    apps, audit, auth, backup, ca, catch_up, connect_sessions, connection_test, consents,
    database_listeners, explain, export, health, honeytokens, hooks, index, keys, orgs, plugins,
    providers, reload, replicas, request_id, sign_in, sources, streams, summary, tokens, upstreams,
    usage, webhooks,
};
use crate::handler::get;
use crate::wire::ErrorBody;
use keyward_base::codes::{Code, ERRORS_PATH};

/// Routes without authentication, for the TCP listener, and `pages` for browsers. Requests for other host names get a 421.
pub fn open_router(admin: Admin, names: OwnNames, pages: Router<Admin>) -> Router {
    open_routes(&admin, pages)
        .merge(health::routes_with_token())
        .fallback(no_such_path)
        .method_not_allowed_fallback(method)
        // Below the check of names: a page of another site must not learn the gateway's URL.
        .layer(middleware::from_fn_with_state(admin.clone(), link_errors))
        .layer(middleware::from_fn_with_state(names, own_names_only))
        .layer(middleware::from_fn(harden))
        .layer(middleware::from_fn(request_id::identify))
        .with_state(admin)
}

/// The open routes and the whole API, which takes a user's token, for the TCP listener, and `pages` for browsers.
pub fn network_router(admin: Admin, access: NetworkAccess, pages: Router<Admin>) -> Router {
    let names = access.names.clone();
    let metrics = match access.metrics_are_open {
        true => health::metrics_route(),
        false => health::routes_with_token(),
    };
    let network = Network::new(admin.clone(), access);
    open_routes(&admin, pages)
        .merge(metrics)
        .merge(run_again(api(), &admin))
        .fallback(no_such_path)
        .method_not_allowed_fallback(method)
        .layer(middleware::from_fn_with_state(network, on_network))
        // Below the check of names: a page of another site must not learn the gateway's URL.
        .layer(middleware::from_fn_with_state(admin.clone(), link_errors))
        .layer(middleware::from_fn_with_state(names, own_names_only))
        .layer(middleware::from_fn(harden))
        .layer(middleware::from_fn(request_id::identify))
        .with_state(admin)
}

/// `/hooks/…` and no other path, for a listener of its own. A request's signature is its authentication, so the name by
/// which the listener is reached does not matter.
pub fn hooks_router(admin: Admin) -> Router {
    hooks::open_routes()
        .fallback(no_such_path)
        .method_not_allowed_fallback(method)
        .layer(middleware::from_fn(harden))
        .layer(middleware::from_fn(request_id::identify))
        .with_state(admin)
}

/// The metrics, liveness and readiness, and no other path, without authentication, for a listener of their own.
pub fn metrics_router(admin: Admin) -> Router {
    health::metrics_route()
        .merge(health::probe_routes())
        .fallback(no_such_path)
        .method_not_allowed_fallback(method)
        .layer(middleware::from_fn(no_rebinding))
        .layer(middleware::from_fn(harden))
        .with_state(admin)
}

/// All routes, for the unix socket, whose peers are checked, and for calls within the process.
pub fn socket_router(admin: Admin) -> Router {
    run_again(api(), &admin)
        .merge(health::open_routes())
        .merge(health::metrics_route())
        .fallback(no_such_path)
        .method_not_allowed_fallback(method)
        .layer(middleware::from_fn_with_state(admin.clone(), auth::middleware::on_socket))
        .layer(middleware::from_fn_with_state(admin.clone(), link_errors))
        .layer(middleware::from_fn(harden))
        .layer(middleware::from_fn(request_id::identify))
        .with_state(admin)
}

/// What the TCP listener serves without a token.
fn open_routes(admin: &Admin, pages: Router<Admin>) -> Router<Admin> {
    let catching_up = middleware::from_fn_with_state(admin.clone(), catch_up::before_pages);
    let clients = consents::routes().layer(catching_up);
    health::open_routes().merge(hooks::open_routes()).merge(clients).merge(pages)
}

/// Behind a load balancer, a request may be for what another replica has just made.
fn run_again(routes: Router<Admin>, admin: &Admin) -> Router<Admin> {
    routes.layer(middleware::from_fn_with_state(admin.clone(), catch_up::run_again))
}

/// All of `/api/v1`, and the document that describes it.
fn api() -> Router<Admin> {
    let below = described().into_router().route("/openapi.json", get(document));
    Router::new().nest("/api/v1", below).merge(index::routes())
}

/// All routes below `/api/v1`.
pub(super) fn described() -> Routes {
    Routes::new()
        .merge(health::routes())
        .merge(agents::routes())
        .merge(apps::routes())
        .merge(audit::routes())
        .merge(backup::routes())
        .merge(tokens::routes())
        .merge(bindings::routes())
        .merge(connections::routes())
        .merge(call::routes())
        .merge(connection_test::routes())
        .merge(flows::routes())
        .merge(providers::routes())
        .merge(rules::routes())
        .merge(rule_test::routes())
        .merge(runs::routes())
        .merge(sessions::routes())
        .merge(sources::routes())
        .merge(streams::routes())
        .merge(replicas::routes())
        .merge(backup::store_check_routes())
        .merge(summary::routes())
        .merge(connect_sessions::routes())
        .merge(explain::routes())
        .merge(export::routes())
        .merge(keys::routes())
        .merge(ca::routes())
        .merge(plugins::routes())
        .merge(call::refresh_routes())
        .merge(upstreams::routes())
        .merge(usage::routes())
        .merge(rotations::routes())
        .merge(activations::routes())
        .merge(reload::routes())
        .merge(orgs::routes())
        .merge(users::routes())
        .merge(personal::routes())
        .merge(passwords::routes())
        .merge(passkeys::routes())
        .merge(totp::routes())
        .merge(sign_in::routes())
        .merge(logins::routes())
        .merge(logins::login_link_routes())
        .merge(webhooks::routes())
        .merge(hooks::routes())
        .merge(database_listeners::routes())
        .merge(honeytokens::routes())
}

/// The OpenAPI 3.1 document of all routes below `/api/v1`.
pub fn openapi() -> serde_json::Value {
    openapi::document(described().operations())
}

/// The document, made at the first request for it.
async fn document() -> Response {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec(&openapi()).unwrap_or_default().into());
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], DOCUMENT.clone()).into_response()
}

async fn no_such_path() -> ApiError {
    ApiError::NoSuchPath
}

/// The router adds `Allow`.
async fn method() -> ApiError {
    let hint = "the field `Allow` of this answer lists those that it accepts";
    ApiError::from(ApiError::Method.text().hint(hint))
}

/// Refuses requests for the names of others.
pub async fn own_names_only(
    State(names): State<OwnNames>,
    arrival: Option<extract::Extension<Arrival>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(extract::Extension(arrival)) = arrival else {
        return ApiError::Misdirected.into_response();
    };
    match names.check(request.uri(), request.headers(), arrival) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn no_rebinding(
    extract::Extension(arrival): extract::Extension<Arrival>,
    request: Request,
    next: Next,
) -> Response {
    match check_loopback(request.headers(), arrival.local) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Adds the link to the page of errors to the body of a refusal, where a gateway serves the page and stays.
async fn link_errors(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let code = response.extensions().get::<Code>().copied();
    let body = response.extensions_mut().remove::<ErrorBody>();
    let is_served = admin.locations().is_some() && !admin.runs().is_private();
    if let (Some(code), Some(mut body), true) = (code, body, is_served) {
        let page = format!("{}{ERRORS_PATH}", admin.deps().public_url);
        body.error.docs = Some(code.docs(&page));
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Json(body).into_response().into_body();
    }
    response
}

/// Adds security headers: no sniffing, caching, framing or referrer.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let fields = response.headers_mut();
    for (name, value) in
        [(header::X_CONTENT_TYPE_OPTIONS, "nosniff"), (header::CACHE_CONTROL, "no-store")]
    {
        fields.insert(name, HeaderValue::from_static(value));
    }
    // Pages allow their own style sheet and forms, and send a referrer to their own forms.
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        fields.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
