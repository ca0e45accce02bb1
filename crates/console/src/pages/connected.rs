//! `/connect/done/{connection}`: the last step. The connection works; now agents are chosen, each with a box that binds
//! it. Of many agents, a search finds one.

use axum::Router;
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;

use super::binding::unbinding;
use super::connect::steps;
use super::connections::{remedy, state_of};
use crate::frame::{Page, Section};
use crate::parts::{copyable, empty, head, lock, mark, search};
use crate::visit::{Console, PageError, Visit, segment, sentence};
use keyward_api::handler::get;
use keyward_api::wire::{List, Share, UsageView};
use keyward_model::{Agent, Connection, Shown};

/// Agents that are offered at once.
const OFFERED: usize = 40;
/// Bound agents that are listed before the others.
const BOUND: usize = 20;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    /// The search for an agent to bind.
    q: Option<String>,
    /// The agent that was refused.
    agent: Option<String>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/connect/done/{connection}", get(show))
}

/// What the panel offers.
struct Offer {
    /// The search; `None`: the refused agent and bound ones come first.
    q: Option<String>,
    first: Vec<Shown<Agent>>,
    found: List<Shown<Agent>>,
}

async fn show(
    visit: Visit,
    Path(name): Path<String>,
    Query(asked): Query<PageQuery>,
) -> Result<Page, PageError> {
    let path = format!("/connections/{}", segment(&name));
    let connection: Shown<Connection> = visit.get(&path).await?;
    let wanted = asked.agent.as_deref().filter(|name| !name.is_empty());
    let offer = read(&visit, &path, &asked).await?;
    let content = html! {
        (head(html! { (mark(&connection.spec.provider, true)) (connection.spec.name) }, None, html! { a.button href=(path) { "Open connection" } }))
        (steps(2))
        div.notice {
            div.grow {
                p { (state_of(&connection.facts.state)) " "
                    @if let Some(account) = &connection.facts.account { "as " b { (account) } } }
                @for warning in &connection.facts.warnings { p.small.status-warn { (sentence(warning)) } }
                (remedy(&visit, &connection, &path))
            }
        }
        section.panel { (panel(&connection, &offer, wanted)) }
        section #run data-live {
            @if let Some(agent) = offer.runs(&connection, wanted) {
                div.panel { header { h2 { "Run it" } } div.body {
                    (copyable(&format!("keyward run --agent {agent} -- claude")))
                } }
            }
        }
    };
    Ok(Page::new(&visit, Section::Connections, "Bind to agents", content))
}

async fn read(visit: &Visit, path: &str, asked: &PageQuery) -> Result<Offer, PageError> {
    let q = asked.q.as_deref().map(str::trim).filter(|q| !q.is_empty()).map(str::to_owned);
    let mut first = Vec::new();
    let mut query = String::new();
    match &q {
        Some(q) => query = format!("&q={}", segment(q)),
        None => {
            let usage: Option<UsageView> = visit.get_optional(&format!("{path}/usage")).await?;
            let users = usage.into_iter().flat_map(|usage| usage.agents);
            let bound = users
                .filter(|user| matches!(user.by, Share::Bound | Share::Plugin))
                .map(|user| user.name);
            let wanted = asked.agent.clone().filter(|name| !name.is_empty());
            let others = bound.filter(|name| Some(name) != wanted.as_ref()).take(BOUND);
            for name in wanted.iter().cloned().chain(others) {
                let agent = visit.get_optional(&format!("/agents/{}", segment(&name))).await?;
                first.extend(agent);
            }
        }
    }
    let found = visit.get(&format!("/agents?limit={OFFERED}{query}")).await?;
    Ok(Offer { q, first, found })
}

fn panel(connection: &Shown<Connection>, offer: &Offer, wanted: Option<&str>) -> Markup {
    let here = format!("/connect/done/{}", segment(&connection.spec.name));
    let is_searched = offer.q.is_some();
    html! {
        header { h2 { "Which agents may use it?" } }
        @if is_searched || offer.found.next.is_some() {
            form.bar.within action=(here) method="get" data-find role="search" {
                (search("agents", offer.q.as_deref()))
                @if let Some(agent) = wanted { input type="hidden" name="agent" value=(agent); }
                noscript { button { "Search" } }
            }
        }
        @if offer.agents().next().is_none() && !is_searched {
            (empty("No agent yet", "Add the first one; then tick it here.", Some(html! { a.button.first href="/agents" { "Add agent" } })))
        }
        ul.rows #agents data-found {
            @for agent in offer.agents() { (row(agent, connection, wanted)) }
            @if offer.agents().next().is_none() && is_searched { li { span.muted { "No agent fits. Change the search." } } }
            @if offer.found.next.is_some() { li { span.muted { "There are more: search for their name." } } }
        }
    }
}

fn row(agent: &Shown<Agent>, connection: &Shown<Connection>, wanted: Option<&str>) -> Markup {
    let path = format!("/agents/{}/bindings", segment(&agent.spec.name));
    let bound = agent.facts.bindings.iter().find(|it| it.connection == connection.id);
    let lock = lock(agent.managed_by);
    let is_fixed = lock.is_some() || bound.is_some_and(|it| !it.direct);
    let id = format!("bind-{}", agent.id);
    let question = bound.and_then(|it| unbinding(&agent.spec.name, it));
    html! {
        li.at[wanted == Some(agent.spec.name.as_str())] {
            input type="checkbox" id=(id) checked[bound.is_some()] disabled[is_fixed]
                data-on=(format!("POST {path}")) data-off=(format!("DELETE {path}/{}", segment(&connection.spec.name)))
                data-body=(serde_json::json!({ "connection": connection.spec.name })) data-confirm=[question];
            label.grow for=(id) { (agent.spec.name) @if let Some(environment) = &agent.spec.environment { small.muted { " " (environment) } } }
            @if let Some(lock) = lock { (lock) }
        }
    }
}

impl Offer {
    /// Each agent once.
    fn agents(&self) -> impl Iterator<Item = &Shown<Agent>> {
        let is_new = |agent: &&Shown<Agent>| !self.first.iter().any(|first| first.id == agent.id);
        self.first.iter().chain(self.found.items.iter().filter(is_new))
    }

    /// The agent of the line to run: the one that was refused, else one that may use the connection.
    fn runs<'a>(
        &'a self,
        connection: &Shown<Connection>,
        wanted: Option<&'a str>,
    ) -> Option<&'a str> {
        let is_bound = |agent: &&Shown<Agent>| {
            agent.facts.bindings.iter().any(|binding| binding.connection == connection.id)
        };
        let first = self.agents().find(is_bound).or(self.agents().next());
        wanted.or(first.map(|agent| agent.spec.name.as_str()))
    }
}
