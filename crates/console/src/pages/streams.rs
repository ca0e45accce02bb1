//! Open requests, WebSockets and tunnels, on the pages of agents and connections, each with a button that cuts it.

use maud::{Markup, html};

use super::traffic::bytes;
use crate::parts::{Action, ago};
use crate::visit::{PageError, Visit, segment};
use keyward_api::wire::{List, StreamKind, StreamView};

/// Rows that the section shows.
const ROWS: usize = 20;

/// The resource that a page is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Owner {
    Agent,
    Connection,
}

/// Reads what is open of an agent or a connection.
pub(super) async fn read(
    visit: &Visit,
    owner: Owner,
    name: &str,
) -> Result<List<StreamView>, PageError> {
    let filter = match owner {
        Owner::Agent => "agent",
        Owner::Connection => "connection",
    };
    visit.get(&format!("/streams?{filter}={}&limit={ROWS}", segment(name))).await
}

/// The section, which is renewed while the page is open.
pub(super) fn section(visit: &Visit, owner: Owner, list: &List<StreamView>) -> Markup {
    html! {
        section.panel #streams data-live {
            header { h2 { "Live streams" } span.muted.small { "open requests, WebSockets and tunnels" } }
            @if list.items.is_empty() { div.body { p.muted { "Nothing is open now." } } }
            @else { (table(visit, owner, list)) }
        }
    }
}

fn table(visit: &Visit, owner: Owner, list: &List<StreamView>) -> Markup {
    html! {
        div.wide { table.stack {
            thead { tr {
                th { "Request" }
                @match owner { Owner::Agent => th { "Connection" }, Owner::Connection => th { "Agent" } }
                th { "Began" } th { "Sent" } th { "Received" } th { span.sr { "Actions" } }
            } }
            tbody { @for stream in &list.items { (row(visit, owner, stream)) } }
        } }
        @if list.next.is_some() { div.foot { "More are open. They are listed here when these have ended." } }
    }
}

fn row(visit: &Visit, owner: Owner, stream: &StreamView) -> Markup {
    let kind = match stream.kind {
        StreamKind::Request => None,
        StreamKind::Websocket => Some("WebSocket"),
        StreamKind::Tunnel => Some("tunnel, not inspected"),
        StreamKind::Database => Some("database"),
    };
    html! {
        tr {
            td {
                span.mono { (stream.request()) }
                @if let Some(kind) = kind { " " span.chip { (kind) } }
                @if let Some(user) = &stream.user { p.why { "for end user " (user) } }
            }
            @match owner {
                Owner::Agent => td data-label="Connection" {
                    @if let Some(name) = &stream.connection { a href=(format!("/connections/{}", segment(name))) { (name) } }
                },
                Owner::Connection => td data-label="Agent" {
                    a href=(format!("/agents/{}", segment(&stream.agent))) { (stream.agent) }
                },
            }
            td data-label="Began" { (ago(stream.since)) }
            td.num data-label="Sent" { (bytes(stream.bytes_in)) }
            td.num data-label="Received" { (bytes(stream.bytes_out)) }
            td.r { @if visit.may_write() { (cut(stream)) } }
        }
    }
}

fn cut(stream: &StreamView) -> Markup {
    let action = Action {
        api: format!("DELETE /streams/{}", stream.id),
        label: "Cut",
        confirm: Some(format!(
            "Cut this stream?\n{} ends at once, and its program gets no complete answer. Agent {} keeps its access and may \
             send the request again.",
            stream.request(),
            stream.agent,
        )),
        done: "Cut.",
        class: "danger",
        ..Action::default()
    };
    action.show()
}
