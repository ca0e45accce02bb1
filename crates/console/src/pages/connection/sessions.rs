//! The open listeners at which programs reach the database of a connection.

use maud::{Markup, html};

use crate::visit::{PageError, Visit};
use keyward_api::wire::{DatabaseListenerView, Status};
use keyward_base::database::DatabaseProtocol;
use keyward_model::{Connection, Shown};

/// Those of its protocol that are for this connection, or for any; `None`: it is to no database.
pub(super) async fn read_listeners(
    visit: &Visit,
    connection: &Shown<Connection>,
) -> Result<Option<Vec<DatabaseListenerView>>, PageError> {
    let Some(url) = &connection.facts.database else { return Ok(None) };
    let status: Option<Status> = visit.get_optional("/status").await?;
    let mut all = status.map(|status| status.databases).unwrap_or_default();
    all.retain(|listener| {
        let speaks = DatabaseProtocol::of_url(url) == Some(listener.protocol);
        let leads_here = listener.connection.as_ref().is_none_or(|it| *it == connection.spec.name);
        speaks && leads_here
    });
    Ok(Some(all))
}

pub(super) fn show(all: &[DatabaseListenerView]) -> Markup {
    html! {
        @for listener in all {
            p { code { (listener.at) } @if let Some(agent) = &listener.agent { " of " (agent) } }
        }
        p { a href="/databases" { @if all.is_empty() { "Open a listener" } @else { "All listeners" } } }
    }
}
