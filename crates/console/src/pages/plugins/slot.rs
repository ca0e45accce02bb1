//! What pages of plugins show of a slot: its limits, and the connections that fit.

use maud::{Markup, html};

use crate::parts::chips;
use crate::visit::{PageError, Visit, segment};
use keyward_api::wire::List;
use keyward_model::{Connection, Shown};

/// Connections that fit a slot, with the one that it has, which may stand behind those that are read.
pub(super) async fn choices(
    visit: &Visit,
    provider: &str,
    now: Option<&str>,
) -> Result<List<Shown<Connection>>, PageError> {
    let path = format!("/connections?limit=200&provider={}", segment(provider));
    let mut list: List<Shown<Connection>> = visit.get(&path).await?;
    let unread = now.filter(|name| list.items.iter().all(|it| it.spec.name != *name));
    if let Some(name) = unread.filter(|name| !name.is_empty()) {
        let found: Option<Shown<Connection>> =
            visit.get_optional(&format!("/connections/{}", segment(name))).await?;
        list.items.extend(found.filter(|it| it.spec.provider == provider));
    }
    Ok(list)
}

/// A note that the list does not have all connections.
pub(super) fn more(list: &List<Shown<Connection>>) -> Markup {
    html! {
        @if list.next.is_some() {
            p.small.muted { "There are more accounts: " code { "--slot NAME=CONNECTION" } " of " code { "keyward plugin install" } " and " code { "keyward plugin set" } " takes any." }
        }
    }
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
