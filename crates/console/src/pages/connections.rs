//! `/connections`: the accounts, with their states and remedies, and the agents that may use them.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Query;
use maud::{Markup, html};
use serde::Deserialize;

use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{Action, Tone, ago, count, empty, head, list_page, mark, search, state};
use crate::visit::{Console, PageError, Visit, segment, with_query};
use keyward_api::handler::get;
use keyward_api::wire::{List, Summary};
use keyward_model::{
    BrokenReason, Connection, ConnectionState, ManagedBy, Renewal, ReplacementReason, Shown,
};

/// Rows of a page: more would make it longer than a browser shows at once.
const ROWS: usize = 30;

/// The query of the page, which is that of the API.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    q: Option<String>,
    state: Option<String>,
    provider: Option<String>,
    environment: Option<String>,
    tag: Option<String>,
    due: Option<bool>,
    after: Option<String>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/connections", get(show))
}

async fn show(visit: Visit, Query(asked): Query<PageQuery>) -> Result<Page, PageError> {
    let path = asked.of(&format!("/connections?limit={ROWS}"), None);
    let list: List<Shown<Connection>> = visit.get(&path).await?;
    let summary: Summary = visit.get("/summary").await?;
    let content = html! {
        (head(
            html! { "Connections" },
            Some(html! { span #summary data-live { (in_short(&summary)) } }),
            html! {
                @if visit.may_write() {
                    a.button.first href="/connect" { (Icon::Plus.show()) "Connect" }
                }
            },
        ))
        @if summary.connections.total == 0 { (nothing(&visit)) } @else {
            (filters(&asked, &summary))
            div #connections data-live { (table(&visit, &asked, &list, &summary)) }
        }
    };
    Ok(Page::new(&visit, Section::Connections, "Connections", content))
}

impl PageQuery {
    /// The path with this query, and with another state.
    fn of(&self, path: &str, state: Option<&str>) -> String {
        let given = [
            ("q", self.q.as_deref()),
            ("state", state.or(self.state.as_deref())),
            ("provider", self.provider.as_deref()),
            ("environment", self.environment.as_deref()),
            ("tag", self.tag.as_deref()),
            ("after", self.after.as_deref()),
            ("due", self.due.map(|due| if due { "true" } else { "false" })),
        ];
        with_query(path, &given)
    }

    fn is_filtered(&self) -> bool {
        !self.of("", None).is_empty()
    }
}

fn in_short(summary: &Summary) -> String {
    let of = &summary.connections;
    let states = [
        (of.active, "active"),
        (of.broken, "broken"),
        (of.paused, "paused"),
        (of.draft, "not connected yet"),
        (of.due, "expiring soon"),
    ];
    let parts = states.into_iter().filter(|(number, _)| *number > 0);
    let parts = parts.map(|(number, word)| format!("{number} {word}"));
    std::iter::once(count(of.total, "connection")).chain(parts).collect::<Vec<_>>().join(" · ")
}

fn nothing(visit: &Visit) -> Markup {
    let connect =
        html! { a.button.first href="/connect" { (Icon::Plus.show()) "Connect an account" } };
    html! {
        section.panel {
            (empty(
                "No connection yet",
                "A connection is an account at a service. Agents use it without ever holding its key.",
                visit.may_write().then_some(connect),
            ))
        }
    }
}

fn filters(asked: &PageQuery, summary: &Summary) -> Markup {
    let of = &summary.connections;
    let tabs = [
        (None, "All", of.total),
        (Some("broken"), "Broken", of.broken),
        (Some("paused"), "Paused", of.paused),
        (Some("draft"), "Drafts", of.draft),
    ];
    let is_filtered = asked.state.is_some() || asked.due.is_some();
    let has_states = is_filtered || of.broken + of.paused + of.draft + of.due > 0;
    html! {
        form.bar action="/connections" method="get" data-find role="search" {
            (search("connections", asked.q.as_deref()))
            @if has_states { nav.tabs aria-label="By state" {
                @for (code, label, number) in tabs {
                    @if code.is_none() || number > 0 {
                        @let query = PageQuery { state: None, due: None, after: None, ..asked.clone() };
                        a href=(query.of("/connections", code))
                            aria-current=[(asked.due.is_none() && asked.state.as_deref() == code).then_some("true")] {
                            (label) @if code.is_some() { span.num.muted { (number) } }
                        }
                    }
                }
                @if of.due > 0 {
                    a href="/connections?due=true" aria-current=[asked.due.map(|_| "true")] {
                        "Expiring" span.num.muted { (of.due) }
                    }
                }
            } }
            @if let Some(state) = &asked.state { input type="hidden" name="state" value=(state); }
            @if let Some(due) = asked.due { input type="hidden" name="due" value=(due); }
            (select("provider", "Service", asked.provider.as_deref(),
                summary.providers.iter().map(|(id, used)| (id.as_str(), used.name.as_str()))))
            (select("environment", "Environment", asked.environment.as_deref(), own(&summary.environments)))
            (select("tag", "Tag", asked.tag.as_deref(), own(&summary.tags)))
            noscript { button { "Apply" } }
        }
    }
}

/// Values that name themselves.
fn own(values: &BTreeMap<String, usize>) -> impl Iterator<Item = (&str, &str)> {
    values.keys().map(|value| (value.as_str(), value.as_str()))
}

/// A filter with a choice of values; none where there is nothing to choose.
fn select<'a>(
    name: &str,
    label: &str,
    chosen: Option<&str>,
    values: impl Iterator<Item = (&'a str, &'a str)>,
) -> Markup {
    let values: Vec<_> = values.collect();
    html! {
        @if values.len() > 1 || chosen.is_some() {
            select name=(name) aria-label=(label) {
                option value="" { (label) ": all" }
                @for (value, text) in values {
                    option value=(value) selected[chosen == Some(value)] { (text) }
                }
            }
        }
    }
}

fn table(
    visit: &Visit,
    asked: &PageQuery,
    list: &List<Shown<Connection>>,
    summary: &Summary,
) -> Markup {
    let first = PageQuery { after: None, ..asked.clone() }.of("/connections", None);
    let all = html! { a.button href="/connections" { "Show all connections" } };
    let all = asked.is_filtered().then_some(all);
    let none = empty("No connection fits", "Change the search or the filters.", all);
    let connections = html! {
        div.wide { table.stack {
            thead { tr {
                th { "Name" } th { "Account" } th { "State" } th { "Last used" } th { "Expires" }
                th { span.sr { "Actions" } }
            } }
            tbody { @for connection in &list.items { (row(visit, connection, summary)) } }
        } }
    };
    html! { section.panel { (list_page(&first, asked.after.as_deref(), list, &connections, none)) } }
}

fn row(visit: &Visit, connection: &Shown<Connection>, summary: &Summary) -> Markup {
    let (spec, facts) = (&connection.spec, &connection.facts);
    let path = format!("/connections/{}", segment(&spec.name));
    let service =
        summary.providers.get(&spec.provider).map_or(spec.provider.as_str(), |it| it.name.as_str());
    let expires = facts.due.map(|due| due.at).or(facts.ends);
    html! {
        tr.go {
            td { div.item {
                (mark(&spec.provider, false))
                div.text {
                    a href=(path) { (spec.name) }
                    small { (service) @if let Some(environment) = &spec.environment { " · " (environment) } }
                }
            } }
            td data-label="Account" { @if let Some(account) = &facts.account { (account) } }
            td { (state_of(&facts.state)) (remedy(visit, connection, &path)) }
            td data-label="Last used" {
                @match facts.last_used { Some(at) => (ago(at)), None => span.muted { "never" } }
            }
            td data-label="Expires" { @if let Some(at) = expires { (ago(at)) } }
            td.r.menu-cell { @if visit.may_write() { (menu(visit, connection, &path)) } }
        }
    }
}

/// Why it needs a person, and the page where they help.
pub(super) fn remedy(visit: &Visit, connection: &Shown<Connection>, path: &str) -> Markup {
    let facts = &connection.facts;
    let to = |verb: &str| html! { a href=(path) { (verb) } };
    let is_of_file = connection.managed_by == Some(ManagedBy::File);
    let renewal = facts.renewal.filter(|it| !is_of_file || *it != Renewal::Secret);
    let verb = renewal_verb(renewal, &facts.state).unwrap_or("Open");
    match &facts.state {
        ConnectionState::Broken { reason, .. } => {
            html! { p.why { (why(*reason)) " · " (to(verb)) } }
        }
        ConnectionState::Draft { failure } => {
            let why = failure.as_deref().unwrap_or("there is no credential yet");
            html! { p.why { (why) " · " (to(verb)) } }
        }
        ConnectionState::Paused => {
            let resume = resume(visit, connection).map(|action| action.show());
            html! { p.why { (paused(connection)) " · " (resume.unwrap_or_else(|| to("Open"))) } }
        }
        ConnectionState::Active | ConnectionState::Testing if facts.remedy.is_some() => {
            html! { p.why { (attention_reason(connection)) " · " (to(verb)) } }
        }
        _ => html! {},
    }
}

/// What a pause means; for a connection of the configuration file, why it is paused.
pub(super) fn paused(connection: &Shown<Connection>) -> &'static str {
    match connection.managed_by {
        Some(ManagedBy::File) if !connection.facts.held => {
            "it is no longer in the configuration file"
        }
        _ => "requests that need it are refused",
    }
}

/// The action that ends a pause, if the reader may. A connection that has left the configuration file is resumed there.
pub(super) fn resume(visit: &Visit, connection: &Shown<Connection>) -> Option<Action<'static>> {
    let facts = &connection.facts;
    let is_ours = connection.managed_by != Some(ManagedBy::File) || facts.held;
    let may = facts.state == ConnectionState::Paused && visit.may_change(facts.owner.as_ref());
    (may && is_ours).then(|| Action {
        api: format!("POST /connections/{}/resume", segment(&connection.spec.name)),
        label: "Resume connection",
        done: "Resumed.",
        ..Action::default()
    })
}

/// Whether the reader may pause the connection: it must be active or in testing.
pub(super) fn may_pause(visit: &Visit, connection: &Shown<Connection>) -> bool {
    let facts = &connection.facts;
    let is_used = matches!(facts.state, ConnectionState::Active | ConnectionState::Testing);
    is_used && visit.may_change(facts.owner.as_ref())
}

/// Why a usable connection needs a person soon.
pub(super) fn attention_reason(connection: &Shown<Connection>) -> Markup {
    let facts = &connection.facts;
    if facts.token.as_ref().is_some_and(|token| token.failing.is_some()) {
        return html! { "its token cannot be refreshed now" };
    }
    match (facts.due, facts.ends) {
        (Some(due), _) => match due.why {
            ReplacementReason::Expires => html! { "its key expires " (ago(due.at)) },
            ReplacementReason::RotateEvery => {
                html! { "its key is due for rotation " (ago(due.at)) }
            }
        },
        (None, Some(at)) => html! { "its consent expires " (ago(at)) },
        (None, None) => html! { "it needs a person soon" },
    }
}

/// A reason in words.
pub(super) fn why(reason: BrokenReason) -> &'static str {
    match reason {
        BrokenReason::Revoked => "access was revoked at the service",
        BrokenReason::Expired => "the consent has expired",
        BrokenReason::NoRefreshToken => "the token has expired and cannot be refreshed",
        BrokenReason::AnswerLost => "the answer to a refresh was lost",
        BrokenReason::ClientRejected => "the service rejects the app or its key",
        BrokenReason::TestFailed => "the test request failed",
        BrokenReason::Rejected => "the service rejects the key (401)",
        BrokenReason::StoreKeyMissing => "the master key that sealed it is missing",
    }
}

fn menu(visit: &Visit, connection: &Shown<Connection>, path: &str) -> Markup {
    let name = &connection.spec.name;
    let api = |verb: &str| format!("POST {path}/{verb}");
    let pause = Action {
        api: api("pause"),
        label: "Pause connection",
        confirm: Some(format!(
            "Pause {name}?\nRequests that need it are refused until it is resumed."
        )),
        done: "Paused.",
        key: Some("p"),
        ..Action::default()
    };
    let resume = resume(visit, connection).map(|action| Action { key: Some("p"), ..action });
    let is_testable = !matches!(connection.facts.state, ConnectionState::Draft { .. });
    let toggle = resume.or(may_pause(visit, connection).then_some(pause));
    let is_empty = !is_testable && toggle.is_none();
    let test =
        Action { api: api("test"), label: "Test connection", key: Some("t"), ..Action::default() };
    html! {
        details.menu {
            summary aria-label=(format!("Actions for {name}")) {}
            div {
                @if is_testable { (test.show()) }
                @if let Some(toggle) = toggle { (toggle.show()) }
                @if is_empty { a href=(path) { "Open" } }
            }
        }
    }
}

pub(super) fn state_of(of: &ConnectionState) -> Markup {
    let word = match of {
        ConnectionState::Draft { .. } => "not connected",
        other => other.code(),
    };
    state(Tone::of(of), word)
}

/// How a credential is replaced, as a verb.
pub(super) fn renewal_verb(
    renewal: Option<Renewal>,
    state: &ConnectionState,
) -> Option<&'static str> {
    let is_first = matches!(state, ConnectionState::Draft { .. });
    Some(match renewal? {
        Renewal::Secret if is_first => "Give key",
        Renewal::Secret => "Rotate key",
        Renewal::Consent if is_first => "Connect account",
        Renewal::Consent => "Reconnect account",
        Renewal::App => "Open app",
    })
}
