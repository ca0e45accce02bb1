//! `/databases`: the listeners at which agents reach databases: those of the configuration, and stored ones, which are
//! opened and closed here.

use axum::Router;
use maud::{Markup, html};

use super::settings::runs_install;
use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{
    Action, Field, Subpage, Tone, copyable, empty, head, inputs, lock, settings_nav, state,
};
use crate::visit::{Console, PageError, Visit, segment};
use keyward_api::handler::get;
use keyward_api::wire::{DatabaseListenerView, List, ReplicaView, Status};
use keyward_base::database::DatabaseProtocol;
use keyward_model::{
    Connection, DatabaseListener, DatabaseListenerSpec, ListenerState, ManagedBy, Shown,
};

/// As many as an organisation may have.
const LISTENERS: usize = 50;

/// Connections to choose from. Others are named by the API and the CLI.
const CHOICES: usize = 200;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/databases", get(show))
}

/// What the page is made of.
struct View {
    /// Those of the configuration, for a reader who may read stored ones.
    of_file: Vec<DatabaseListenerView>,
    /// Empty for a reader who may not read them, and sees those that are open in `of_others`.
    stored: Vec<Shown<DatabaseListener>>,
    /// Stored ones of other organisations that are open. For a reader who may not read stored ones: all that are open.
    of_others: Vec<DatabaseListenerView>,
    replicas: Vec<ReplicaView>,
}

async fn show(visit: Visit) -> Result<Page, PageError> {
    let path = format!("/database-listeners?limit={LISTENERS}");
    let stored: Option<List<Shown<DatabaseListener>>> = visit.get_optional(&path).await?;
    let reads_stored = stored.is_some();
    let stored = stored.map(|list| list.items).unwrap_or_default();
    let status: Option<Status> = visit.get_optional("/status").await?;
    let open = status.map(|status| status.databases).unwrap_or_default();
    let (of_file, mut of_others): (Vec<_>, Vec<_>) =
        open.into_iter().partition(|it| reads_stored && it.name.is_none());
    of_others.retain(|it| stored.iter().all(|own| own.facts.open_at.as_ref() != Some(&it.at)));
    let replicas: Option<List<ReplicaView>> = visit.get_optional("/replicas").await?;
    let replicas = replicas.map(|list| list.items).unwrap_or_default();
    let view = View { of_file, stored, of_others, replicas };
    let is_operator = runs_install(&visit);
    let connections = match is_operator {
        true => databases(&visit).await?,
        false => List::default(),
    };
    let add =
        html! { button.first data-open="open-listener" { (Icon::Plus.show()) "Open listener" } };
    let content = html! {
        (head(
            html! { "Database listeners" },
            Some(html! { "Programs connect to a database here, with their agent's token as the password." }),
            html! { @if is_operator { (add) } },
        ))
        (settings_nav(&visit, Subpage::Databases))
        section.panel #listeners data-live { (listeners(&view, is_operator)) }
        @if !view.replicas.is_empty() {
            section.panel #on-replicas data-live { header { h2 { "On each replica" } } (on_replicas(&view.replicas)) }
        }
        @if is_operator { (dialog(&connections)) }
    };
    Ok(Page::new(&visit, Section::Settings, "Database listeners", content))
}

/// The connections that a listener may be for.
async fn databases(visit: &Visit) -> Result<List<Shown<Connection>>, PageError> {
    let path = format!("/connections?limit={CHOICES}");
    let mut all: List<Shown<Connection>> = visit.get(&path).await?;
    all.items.retain(|it| it.facts.database.is_some());
    Ok(all)
}

fn listeners(view: &View, is_operator: bool) -> Markup {
    let View { of_file, stored, of_others, .. } = view;
    html! {
        @if of_file.is_empty() && stored.is_empty() && of_others.is_empty() {
            (empty("No listener yet", "Without one, no program reaches a database through Keyward.", None))
        } @else {
            ul.rows {
                @for listener in stored { (row(listener, is_operator)) }
                @for listener in of_others { (plain(listener, None)) }
                @for listener in of_file { (plain(listener, Some(ManagedBy::File))) }
            }
        }
    }
}

fn row(listener: &Shown<DatabaseListener>, is_operator: bool) -> Markup {
    let (spec, facts) = (&listener.spec, &listener.facts);
    let at = facts.open_at.clone().unwrap_or_else(|| spec.at.to_string());
    let remove = Action {
        done: "Removed. Its port is closed.",
        ..Action::removal(
            format!("DELETE /database-listeners/{}", segment(&spec.name)),
            "Remove listener",
            format!(
                "Remove {}?\nIts open sessions end, and programs that connect to {at} fail.",
                spec.name
            ),
        )
    };
    let tone = match facts.state {
        ListenerState::Open => Tone::Ok,
        ListenerState::Failed => Tone::Bad,
        ListenerState::Closed => Tone::Idle,
    };
    let of = (facts.connection_name.as_deref(), facts.agent_name.as_deref());
    html! {
        li.top {
            div.grow {
                p { b { (spec.name) } " " code { (at) } " " (state(tone, facts.state.code())) }
                p.small.muted {
                    (spec.protocol.name()) " · "
                    @if let Some(version) = &spec.server_version { "greets as " (version.as_str()) " · " }
                    (leads_to(of.0, of.1))
                }
                @if let Some(problem) = &facts.problem { p.why.bad { (problem) ". It is tried again every second." } }
                @if let Some(url) = &facts.url { (copyable(url)) }
            }
            @if is_operator { (remove.show()) }
        }
    }
}

/// One that cannot be changed here.
fn plain(listener: &DatabaseListenerView, managed_by: Option<ManagedBy>) -> Markup {
    let DatabaseListenerView { at, protocol, connection, agent, name } = listener;
    html! {
        li.top {
            div.grow {
                p { @if let Some(name) = name { b { (name) } " " } code { (at) } " " (state(Tone::Ok, "open")) }
                p.small.muted { (protocol.name()) " · " (leads_to(connection.as_deref(), agent.as_deref())) }
            }
            @if let Some(lock) = lock(managed_by) { (lock) }
        }
    }
}

fn leads_to(connection: Option<&str>, agent: Option<&str>) -> Markup {
    html! {
        @match connection {
            Some(name) => { "connection " a href=(format!("/connections/{}", segment(name))) { (name) } }
            None => "each session names its connection",
        }
        @if let Some(agent) = agent { " · agent " a href=(format!("/agents/{}", segment(agent))) { (agent) } ", without a token" }
    }
}

fn on_replicas(all: &[ReplicaView]) -> Markup {
    html! {
        ul.rows { @for one in all { li { div.grow {
            p { code { (one.host) } " " code { (one.proxy) } @if one.own { " " span.chip { "this one" } } }
            @for listener in &one.database_listeners {
                p.small {
                    (listener.name) " " code { (listener.at) } " "
                    @match &listener.problem {
                        None => (state(Tone::Ok, "open")),
                        Some(problem) => { (state(Tone::Bad, "failed")) " " span.muted { (problem) } }
                    }
                }
            }
            @if one.database_listeners.is_empty() { p.small.muted { "none" } }
        } } } }
        div.body { p.small.muted { "Each replica opens the stored listeners on its own host." } }
    }
}

fn dialog(connections: &List<Shown<Connection>>) -> Markup {
    let name = Field { name: "name", label: "Name", example: Some("local"), ..Field::default() };
    let at = Field {
        name: "at",
        label: "Address",
        example: Some("127.0.0.1:6432"),
        help: Some(
            "On this machine: 127.0.0.1:PORT, or unix:NAME for a socket in the data directory. Port 0 is any free one, another \
             one at each start.",
        ),
        ..Field::default()
    };
    html! {
        dialog #open-listener aria-labelledby="open-listener-title" {
            h2 #open-listener-title { "Open listener" }
            form method="post" data-api="POST /database-listeners" data-done="Listener opened." {
                (name.show())
                (at.show())
                div.field {
                    label for="field-protocol" { "Protocol" }
                    select #field-protocol name="protocol" {
                        @for protocol in DatabaseProtocol::ALL { option value=(protocol.as_str()) { (protocol.name()) } }
                    }
                }
                (inputs::<DatabaseListenerSpec>(&["server_version"]))
                div.field {
                    label for="field-connection" { "Connection" span.muted { " (optional)" } }
                    select #field-connection name="connection" aria-describedby="field-connection-help" {
                        option value="" { "each session names one" }
                        @for connection in &connections.items { option value=(connection.spec.name) { (connection.spec.name) } }
                    }
                    p.help #field-connection-help {
                        "All sessions are with this database."
                        @if connections.next.is_some() { " There may be more: " code { "keyward database-listener add" } " takes any connection." }
                    }
                }
                div.actions { button type="button" data-close { "Cancel" } button.first { "Open listener" } }
            }
        }
    }
}
