//! `GET /api/v1`: an index of the API: the version, and where each collection is.

use std::collections::BTreeMap;

use axum::{Json, Router};

use super::auth::Caller;
use super::state::Admin;
use super::wire::ApiIndex;
use crate::handler::get;

/// The base of all paths.
const BASE: &str = "/api/v1";

/// Collections and single resources, by the name in their path.
const COLLECTIONS: &[&str] = &[
    "agents",
    "apps",
    "audit",
    "backup",
    "ca",
    "connect-sessions",
    "connections",
    "database-listeners",
    "events",
    "export",
    "flows",
    "honeytokens",
    "hook-schemes",
    "hooks",
    "keys",
    "logins",
    "orgs",
    "plugins",
    "providers",
    "replicas",
    "rules",
    "session",
    "sessions",
    "sources",
    "streams",
    "summary",
    "tokens",
    "upstreams",
    "usage",
    "users",
    "webhooks",
];

/// Its route, with the whole path: a nested route would answer at `/api/v1/` too.
pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/api/v1", get(index))
}

async fn index(_caller: Caller) -> Json<ApiIndex> {
    let at = |name: &str| format!("{BASE}/{name}");
    let collections = COLLECTIONS.iter().map(|name| ((*name).to_owned(), at(name)));
    Json(ApiIndex {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        openapi: at("openapi.json"),
        caller: at("caller"),
        status: at("status"),
        collections: collections.collect::<BTreeMap<_, _>>(),
    })
}
