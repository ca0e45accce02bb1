//! `/agents/{name}`: what an agent reaches and by which rule, its connections, its tokens, and how to run it.

mod bindings;
mod settings;

use axum::Router;
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;

use super::agents::{labels, state_of};
use super::rules::file_line;
use super::{streams, timeline};
use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{
    Action, Field, ago, chips, copyable, count, danger_zone, head, in_short, lock, series,
};
use crate::visit::{Console, PageError, Tagged, Visit, segment};
use keyward_api::handler::get;
use keyward_api::wire::{AgentUsageView, Event, List, Status, StreamView};
use keyward_model::{Agent, ManagedBy, PauseCause, RuleShown, Session, Shown};

/// Rules and sessions that are read: as many as a page of the API has.
const READ: usize = 1_000;
/// Changes that the page shows.
const CHANGES: usize = 12;
/// Rows of the table of access. The connections, which are changed more often than read, stand below it.
const REACHES: usize = 25;
/// Rows of the lists of tokens and sessions.
const ROWS: usize = 40;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/agents/{name}", get(show))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    /// The search for a connection to bind.
    q: Option<String>,
}

struct View {
    agent: Shown<Agent>,
    tag: Option<String>,
    rules: List<RuleShown>,
    offer: bindings::Offer,
    sessions: List<Shown<Session>>,
    streams: List<StreamView>,
    status: Option<Status>,
    usage: Option<AgentUsageView>,
    /// `None`: the reader may not read the audit log.
    changes: Option<List<Event>>,
}

async fn show(
    visit: Visit,
    Path(name): Path<String>,
    Query(asked): Query<PageQuery>,
) -> Result<Page, PageError> {
    let path = format!("/agents/{}", segment(&name));
    let Tagged { body: agent, tag } = visit.tagged::<Shown<Agent>>(&path).await?;
    let of_it = segment(&agent.spec.name);
    let rules: Option<List<RuleShown>> =
        visit.get_optional(&format!("/rules?agent={of_it}&limit={READ}")).await?;
    let offer = bindings::read(&visit, asked.q.as_deref()).await?;
    let sessions: Option<List<Shown<Session>>> =
        visit.get_optional(&format!("/sessions?q={of_it}&limit={READ}")).await?;
    let mut sessions = sessions.unwrap_or_default();
    sessions.items.retain(|session| session.facts.agent_name == agent.spec.name);
    let streams = streams::read(&visit, streams::Owner::Agent, &agent.spec.name).await?;
    let status = visit.get_optional("/status").await?;
    let usage = visit.get_optional(&format!("{path}/usage")).await?;
    let changes = visit.once(&format!("/audit?changed={}&limit={CHANGES}", agent.id)).await?;
    let rules = rules.unwrap_or_default();
    let view = View { agent, tag, rules, offer, sessions, streams, status, usage, changes };
    Ok(Page::new(&visit, Section::Agents, &view.agent.spec.name, page(&visit, &view)))
}

fn page(visit: &Visit, view: &View) -> Markup {
    let agent = &view.agent;
    let writes = visit.may_write();
    let is_stored = agent.managed_by != Some(ManagedBy::File);
    let edits_all = visit.is_admin() && is_stored;
    html! {
        p.crumb { a href="/agents" { "Agents" } }
        (head(
            html! { (agent.spec.name) span #state data-live { (state_of(agent)) } },
            Some(html! {
                @if let Some(environment) = &agent.spec.environment { (environment) " · " }
                "created " (ago(agent.created))
                @if !agent.spec.labels.is_empty() { " " (labels(agent)) }
            }),
            html! { @if writes { span #toggle data-live { (actions(view)) } } },
        ))
        @if let Some(lock) = lock(agent.managed_by) { p.bar { (lock) } }
        div #standing data-live { @if agent.facts.held { (pause_of(agent.facts.held_by)) } }
        @if let Some(usage) = &view.usage {
            section.panel #usage data-live {
                header { h2 { "Requests of the last 24 hours" } span.muted.small { (in_short(&usage.history.total)) } }
                div.body { (series("Requests by hour", &usage.history)) }
            }
        }
        section.panel #access data-live {
            header { h2 { "What it reaches" } a href=(format!("/rules?agent={}", segment(&agent.spec.name))) { "Test a request" } }
            (access(view))
        }
        div.pair {
            section.panel { (bindings::panel(agent, &view.offer, writes)) }
            section.panel #tokens data-live { header { h2 { "Tokens" } @if writes { (new_token(view)) } } (tokens(view, writes)) }
        }
        (streams::section(visit, streams::Owner::Agent, &view.streams))
        @if edits_all || !agent.spec.user_providers.is_empty() {
            (settings::end_users_panel(agent, view.tag.as_deref(), edits_all))
        }
        @if !view.sessions.items.is_empty() || view.sessions.next.is_some() {
            section.panel #sessions data-live { header { h2 { "Sessions of end users" } } (sessions(view, writes)) }
        }
        @if let Some(changes) = &view.changes {
            section.panel #changes data-live { header { h2 { "Changes" } } (timeline::changes(&changes.items)) }
        }
        @if writes && is_stored { (settings::panel(agent, view.tag.as_deref())) }
        section.panel { header { h2 { "How to run it" } } div.body { (usage(view)) } }
        @if writes && is_stored { (danger(view)) }
    }
}

/// Who paused it.
fn pause_of(by: Option<PauseCause>) -> Markup {
    html! {
        @match by {
            Some(PauseCause::Alarm) => div.notice.bad role="alert" { div.grow {
                b { "An alarm paused this agent" }
                p.small { "A honeytoken appeared in one of its requests. Resume it when the cause is known." }
            } },
            Some(PauseCause::Person) => div.notice.warn { p { "A person paused this agent. The changes on this page say who." } },
            None => div.notice.warn { p { "A person or an alarm paused this agent. Resume it when the cause is known." } },
        }
    }
}

fn actions(view: &View) -> Markup {
    let name = &view.agent.spec.name;
    let path = format!("POST /agents/{}", segment(name));
    let is_paused = view.agent.facts.paused || view.agent.facts.held;
    if is_paused {
        let resume = Action {
            api: format!("{path}/resume"),
            label: "Resume agent",
            done: "Resumed.",
            ..Action::default()
        };
        return resume.show();
    }
    let pause = Action {
        api: format!("{path}/pause"),
        label: "Pause agent",
        confirm: Some(format!(
            "Pause {name}?\nIts requests are refused and its open streams end at once."
        )),
        done: "Paused. Its open streams have ended.",
        ..Action::default()
    };
    pause.show()
}

/// A row of the table of access.
enum Reach<'a> {
    /// The access that one rule gives.
    Rule(&'a RuleShown),
    /// All that a set of hosts gives.
    Set(&'a str, Vec<&'a RuleShown>),
}

/// The rules of each set of hosts as one row.
fn reaches(rules: &[RuleShown]) -> Vec<Reach<'_>> {
    let mut rows: Vec<Reach<'_>> = Vec::new();
    for rule in rules {
        let set = rule.id.strip_prefix("allow:");
        match (set, rows.last_mut()) {
            (Some(set), Some(Reach::Set(last, members))) if *last == set => members.push(rule),
            (Some(set), _) => rows.push(Reach::Set(set, vec![rule])),
            (None, _) => rows.push(Reach::Rule(rule)),
        }
    }
    rows
}

/// Hosts, methods and paths, in the order in which rules decide.
fn access(view: &View) -> Markup {
    let rows = reaches(&view.rules.items);
    html! {
        div.wide { table.stack {
            thead { tr { th { "Hosts" } th { "What" } th { "Through" } th { "Because of" } } }
            tbody {
                @for row in rows.iter().take(REACHES) {
                    @match row { Reach::Rule(rule) => (reach(rule)), Reach::Set(set, members) => (set_row(set, members)) }
                }
            }
        } }
        @let hidden = rows.len().saturating_sub(REACHES);
        @if hidden > 0 || view.rules.next.is_some() {
            div.foot { @if view.rules.next.is_some() { "at least " } (hidden.max(1)) " more: " a href="/rules" { "all rules" } }
        }
    }
}

/// A set of hosts, with its hosts and requests where somebody looks for them.
fn set_row(set: &str, members: &[&RuleShown]) -> Markup {
    let of = |rule: &RuleShown| if rule.spec.hosts.is_empty() { 0 } else { rule.spec.hosts.len() };
    let every = members.iter().any(|rule| rule.spec.hosts.is_empty());
    let hosts: usize = members.iter().map(|rule| of(rule)).sum();
    html! {
        tr {
            td { details id=(format!("set-{set}")) {
                summary { @if every { "every host" } @else { (count(hosts, "host")) } }
                ul.small.mono { @for rule in members { li { (rule.spec.hosts.join(", ")) " " span.muted { (rule.spec.methods.join(" ")) " " (rule.spec.paths.join(" ")) } } } }
            } }
            td { span.chip { "without credential" } }
            td {}
            td { "set " code { (set) } }
        }
    }
}

fn reach(rule: &RuleShown) -> Markup {
    let spec = &rule.spec;
    let action = spec.action.map_or("inject", |action| action.as_str());
    let (word, class) = match action {
        "inject" => ("with credential", "chip ok"),
        "deny" => ("blocked", "chip bad"),
        "tunnel" => ("tunnel, not inspected", "chip warn"),
        _ => ("without credential", "chip"),
    };
    html! {
        tr {
            td.mono { (hosts(rule)) }
            td {
                span class=(class) { (word) }
                @if !spec.methods.is_empty() || !spec.paths.is_empty() {
                    p.why.mono { (spec.methods.join(" ")) " " (spec.paths.join(" ")) }
                }
                @if !spec.actions.is_empty() { p.why { "for " (spec.actions.join(", ")) } }
                @if !spec.branches.is_empty() {
                    p.why { "pushes to " (spec.branches.join(", ")) @if action != "deny" { " only" } }
                }
            }
            td data-label="Through" {
                @if let Some(name) = &spec.use_connection { a href=(format!("/connections/{}", segment(name))) { (name) } }
            }
            td { (because(rule)) }
        }
    }
}

fn hosts(rule: &RuleShown) -> String {
    const SHOWN: usize = 4;
    let hosts = &rule.spec.hosts;
    match hosts.len() {
        0 => "every other host".to_owned(),
        all if all > SHOWN => format!("{} and {} more", hosts[..SHOWN].join(", "), all - SHOWN),
        _ => hosts.join(", "),
    }
}

/// Names the rule, set or binding that gives the access.
fn because(rule: &RuleShown) -> Markup {
    let place = rule.status.place.as_deref();
    match rule.id.split_once(':') {
        Some(("binding", _)) => html! { "its binding" },
        Some(("allow", set)) => html! { "set " code { (set) } },
        _ if rule.id == "default" => html! { "the default" },
        _ => html! {
            @let name = rule.spec.name.as_deref().unwrap_or(&rule.id);
            "rule " a href=(format!("/rules/{}", segment(name))) { (name) }
            @if let Some(place) = place { p.why title=(place) { (file_line(place)) } }
        },
    }
}

fn new_token(view: &View) -> Markup {
    let label = Field {
        name: "label",
        label: "Label",
        example: Some("laptop"),
        help: Some("What the token is for."),
        is_optional: true,
        ..Field::default()
    };
    html! {
        button data-open="add-token" { (Icon::Plus.show()) "Add token" }
        dialog #add-token aria-labelledby="add-token-title" {
            h2 #add-token-title { "Add token" }
            form method="post" data-api=(format!("POST /agents/{}/tokens", segment(&view.agent.spec.name))) data-show="token" data-done="The token" {
                (label.show())
                div.actions { button type="button" data-close { "Cancel" } button.first { "Add token" } }
            }
        }
    }
}

fn tokens(view: &View, writes: bool) -> Markup {
    let path = format!("DELETE /agents/{}/tokens", segment(&view.agent.spec.name));
    let revoke = |id: String| Action {
        api: format!("{path}/{id}"),
        label: "Revoke",
        confirm: Some(
            "Revoke the token?\nRequests with it are refused and its open streams end at once."
                .to_owned(),
        ),
        done: "Revoked.",
        class: "danger",
        ..Action::default()
    };
    let tokens = &view.agent.facts.tokens;
    let hidden = tokens.len().saturating_sub(ROWS);
    html! {
        @if tokens.is_empty() { div.body { p.muted { "It has no token, so it cannot use the proxy." } } }
        ul.rows {
            @for token in tokens.iter().skip(hidden) {
                li {
                    div.grow {
                        b { (token.spec.label.as_deref().unwrap_or("without label")) }
                        p.small.muted {
                            @match token.last_used { Some(at) => { "used " (ago(at)) } None => { "not used since the start" } }
                            @if let Some(at) = token.expires { " · expires " (ago(at)) }
                        }
                    }
                    @if writes { (revoke(token.id.to_string()).show()) }
                }
            }
        }
        @if hidden > 0 { div.foot { (hidden) " older: " code { "keyward agent token list " (view.agent.spec.name) } " lists them." } }
    }
}

fn sessions(view: &View, writes: bool) -> Markup {
    let List { items: all, next } = &view.sessions;
    let hidden = all.len().saturating_sub(ROWS);
    html! {
        div.wide { table.stack {
            thead { tr { th { "End user" } th { "Connections" } th { "Ends" } th { span.sr { "Actions" } } } }
            tbody { @for session in all.iter().take(ROWS) { tr {
                td { (session.facts.user_name.as_deref().unwrap_or("–")) @if let Some(label) = &session.spec.label { p.why { (label) } } }
                td { (chips(&session.facts.connection_names)) }
                td { (ago(session.facts.expires)) }
                td.r {
                    @if writes {
                        @let end = Action {
                            api: format!("DELETE /sessions/{}", session.id),
                            label: "End session",
                            confirm: Some("End the session?\nIts open streams end at once.".to_owned()),
                            done: "Ended.",
                            class: "danger",
                            ..Action::default()
                        };
                        (end.show())
                    }
                }
            } } }
        } }
        @if hidden > 0 || next.is_some() {
            div.foot { @if next.is_some() { "There may be more: " } @else { (hidden) " more: " } code { "keyward session list" } " lists them." }
        }
    }
}

fn usage(view: &View) -> Markup {
    let name = &view.agent.spec.name;
    let proxy = view.status.as_ref().and_then(|status| {
        let tcp = status.proxy.iter().find(|at| !at.starts_with("unix:"))?;
        Some(if tcp.contains("://") { tcp.clone() } else { format!("http://{tcp}") })
    });
    let ways = [
        ("Claude Code", format!("keyward run --agent {name} -- claude")),
        ("Any program", format!("keyward run --agent {name} -- python job.py")),
        ("Shell", format!("eval \"$(keyward env --agent {name})\"")),
    ];
    html! {
        @for (label, line) in ways {
            h3 { (label) }
            (copyable(&line))
        }
        @if let Some(proxy) = proxy {
            @let (scheme, rest) = proxy.split_once("://").unwrap_or(("http", &proxy));
            h3 { "Container, with a token of this page" }
            (copyable(&format!(
                "export HTTPS_PROXY={scheme}://{name}:TOKEN@{rest}\nexport HTTP_PROXY=$HTTPS_PROXY\n# CA: /ca.pem of this gateway"
            )))
        }
    }
}

fn danger(view: &View) -> Markup {
    let name = &view.agent.spec.name;
    let remove = Action {
        typed: Some(name),
        to: Some("/agents"),
        tag: view.tag.as_deref(),
        ..Action::removal(
            format!("DELETE /agents/{}", segment(name)),
            "Remove agent",
            format!(
                "Remove {name}?\nIts tokens and bindings are deleted and its open streams end at once."
            ),
        )
    };
    danger_zone(&remove.show())
}
