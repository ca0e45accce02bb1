//! What pages of plugins show of a slot: its limits, and the connections that fit.

use maud::{Markup, html};

use crate::parts::chips;
use crate::visit::{Stop, Visit, segment};
use keyward_api::wire::List;
use keyward_model::{Connection, Shown};

/// Connections that fit a slot.
pub(super) async fn choices(visit: &Visit, provider: &str) -> Result<Vec<Shown<Connection>>, Stop> {
    let path = format!("/connections?limit=200&provider={}", segment(provider));
    let list: List<Shown<Connection>> = visit.get(&path).await?;
    Ok(list.items)
}

/// What a slot allows.
pub(super) fn limits(methods: &[String], paths: &[String]) -> Markup {
    html! {
        @if methods.is_empty() && paths.is_empty() { "All requests that the account allows" } @else {
            "Only " @if methods.is_empty() { "requests" } @else { span.method { (methods.join(", ")) } }
            @if !paths.is_empty() { " at " code { (paths.join(", ")) } }
        }
    }
}

/// Hosts of a connection, for a summary.
pub(super) fn hosts(connection: &Shown<Connection>) -> Markup {
    chips(&connection.facts.hosts)
}
