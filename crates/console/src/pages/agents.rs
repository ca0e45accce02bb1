//! `/agents`: the programs that use the proxy, with what they may use and when they last did.

use axum::Router;
use axum::extract::Query;
use maud::{Markup, html};

use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{
    Field, ListQuery, Tone, ago, chips, count, empty, head, inputs, list_page, mark, search, state,
};
use crate::visit::{Console, PageError, Visit, segment};
use keyward_api::handler::get;
use keyward_api::wire::{List, Summary};
use keyward_model::{Agent, AgentSpec, PauseCause, Shown};

/// Rows of a page.
const ROWS: usize = 40;
/// Marks of bound connections in a row.
const MARKS: usize = 6;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/agents", get(show))
}

async fn show(visit: Visit, Query(asked): Query<ListQuery>) -> Result<Page, PageError> {
    let path = asked.of(&format!("/agents?limit={ROWS}"));
    let list: List<Shown<Agent>> = visit.get(&path).await?;
    let summary: Summary = visit.get("/summary").await?;
    let numbers = &summary.agents;
    let content = html! {
        (head(
            html! { "Agents" },
            Some(html! {
                (count(numbers.total, "agent"))
                @if numbers.paused > 0 { " · " (numbers.paused) " paused" }
            }),
            html! { @if visit.may_write() { button.first data-open="add-agent" { (Icon::Plus.show()) "Add agent" } } },
        ))
        form.bar action="/agents" method="get" data-find role="search" {
            (search("agents", asked.q.as_deref()))
            noscript { button { "Apply" } }
        }
        div #agents data-live { (table(&list, &asked)) }
        @if visit.may_write() { (add()) }
    };
    Ok(Page::new(&visit, Section::Agents, "Agents", content))
}

fn table(list: &List<Shown<Agent>>, asked: &ListQuery) -> Markup {
    let none = match asked.is_searched() {
        true => empty("No agent fits", "Change the search.", None),
        false => empty(
            "No agent yet",
            "An agent is a program that uses the proxy: a coding agent, a job, a container. It gets a token of its own, and uses only the connections that you tick.",
            None,
        ),
    };
    let agents = html! {
        div.wide { table.stack {
            thead { tr { th { "Name" } th { "Uses" } th { "State" } th { "Last used" } th { "Tokens" } } }
            tbody { @for agent in &list.items { (row(agent)) } }
        } }
    };
    let first = asked.first("/agents");
    html! { section.panel { (list_page(&first, asked.after.as_deref(), list, &agents, none)) } }
}

fn row(agent: &Shown<Agent>) -> Markup {
    let facts = &agent.facts;
    let last = facts.tokens.iter().filter_map(|token| token.last_used).max();
    let bound: Vec<_> = facts.bindings.iter().collect();
    html! {
        tr.go {
            td { div.item {
                (Icon::Agents.show())
                div.text {
                    a href=(format!("/agents/{}", segment(&agent.spec.name))) { (agent.spec.name) }
                    @if let Some(environment) = &agent.spec.environment { small { (environment) } }
                    @if !agent.spec.labels.is_empty() { small { (labels(agent)) } }
                }
            } }
            td {
                span.chips {
                    @for binding in bound.iter().take(MARKS) { span title=(binding.name) { (mark(&binding.provider, false)) span.sr { (binding.name) } } }
                    @if bound.len() > MARKS { span.muted { "+" (bound.len() - MARKS) } }
                    @if bound.is_empty() { span.muted { "no connection" } }
                }
            }
            td { (state_of(agent)) }
            td data-label="Last used" { @match last { Some(at) => (ago(at)), None => span.muted { "never" } } }
            td.num data-label="Tokens" { (facts.tokens.len()) }
        }
    }
}

/// Its labels, `name=value`.
pub(super) fn labels(agent: &Shown<Agent>) -> Markup {
    chips(agent.spec.labels.iter().map(|(name, value)| format!("{name}={value}")))
}

pub(super) fn state_of(agent: &Shown<Agent>) -> Markup {
    match (agent.facts.held_by, agent.facts.paused) {
        (Some(PauseCause::Alarm), _) => state(Tone::Bad, "paused by an alarm"),
        (_, true) => state(Tone::Idle, "paused"),
        _ => state(Tone::Ok, "active"),
    }
}

fn add() -> Markup {
    let name = Field {
        name: "name",
        label: "Name",
        example: Some("claude"),
        help: Some("Letters, digits, - . _ ~"),
        ..Field::default()
    };
    html! {
        dialog #add-agent aria-labelledby="add-agent-title" {
            h2 #add-agent-title { "Add agent" }
            form method="post" data-api="POST /agents" data-to="/agents/{name}" data-done="Added. Tick its connections next." {
                (name.show())
                (inputs::<AgentSpec>(&["environment"]))
                div.actions { button type="button" data-close { "Cancel" } button.first { "Add agent" } }
            }
        }
    }
}
