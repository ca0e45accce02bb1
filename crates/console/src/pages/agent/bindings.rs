//! The connections of an agent, each with a box that binds it. Bound ones come first; of many others, a search finds one.

use maud::{Markup, html};

use crate::icons::Icon;
use crate::pages::binding::unbinding;
use crate::parts::{mark, search};
use crate::visit::{PageError, Visit, segment, with_query};
use keyward_api::wire::List;
use keyward_model::{Agent, BindingShown, Connection, ManagedBy, Shown};

/// Connections that are offered at once.
const OFFERED: usize = 40;

/// What the panel offers.
pub(super) struct Offer {
    /// The search; `None`: bound connections come first.
    q: Option<String>,
    found: List<Shown<Connection>>,
}

pub(super) async fn read(visit: &Visit, q: Option<&str>) -> Result<Offer, PageError> {
    let q = q.map(str::trim).filter(|q| !q.is_empty()).map(str::to_owned);
    let path = with_query(&format!("/connections?limit={OFFERED}"), &[("q", q.as_deref())]);
    let found = visit.get(&path).await?;
    Ok(Offer { q, found })
}

pub(super) fn panel(agent: &Shown<Agent>, offer: &Offer, writes: bool) -> Markup {
    let here = format!("/agents/{}", segment(&agent.spec.name));
    let list = Rows { agent, path: format!("{here}/bindings"), writes };
    let bound = &agent.facts.bindings;
    let is_bound = |it: &Shown<Connection>| bound.iter().any(|binding| binding.connection == it.id);
    let is_searched = offer.q.is_some();
    html! {
        header { h2 { "Connections" } }
        @if is_searched || offer.found.next.is_some() {
            form.bar.within action=(here) method="get" data-find role="search" {
                (search("connections", offer.q.as_deref()))
                noscript { button { "Search" } }
            }
        }
        ul.rows #bindings data-found {
            @if is_searched {
                @for connection in &offer.found.items { (list.row_of(connection)) }
                @if offer.found.items.is_empty() { li { span.muted { "No connection fits. Change the search." } } }
            } @else {
                @for binding in bound { (list.row(&binding.name, &binding.provider, Some(binding))) }
                @for connection in offer.found.items.iter().filter(|it| !is_bound(it)) { (list.row_of(connection)) }
                @if offer.found.items.is_empty() { li { span.muted { "There is no connection yet. " } a href="/connect" { "Connect an account" } } }
            }
            @if offer.found.next.is_some() { li { span.muted { "There are more: search for their name, service or tag." } } }
        }
    }
}

/// A row for each connection of an agent.
struct Rows<'a> {
    agent: &'a Shown<Agent>,
    /// Of the bindings, in the API.
    path: String,
    writes: bool,
}

impl Rows<'_> {
    fn row_of(&self, connection: &Shown<Connection>) -> Markup {
        let bound = self.agent.facts.bindings.iter();
        let bound = bound.into_iter().find(|binding| binding.connection == connection.id);
        self.row(&connection.spec.name, &connection.spec.provider, bound)
    }

    /// A box, which binds at once when it is ticked.
    fn row(&self, name: &str, provider: &str, bound: Option<&BindingShown>) -> Markup {
        // The page says so at its top.
        let is_locked = self.agent.managed_by == Some(ManagedBy::File);
        let is_fixed = is_locked || bound.is_some_and(|binding| !binding.direct);
        let (path, id) = (&self.path, format!("bind-{name}"));
        let question = bound.and_then(|binding| unbinding(&self.agent.spec.name, binding));
        html! {
            li {
                input type="checkbox" id=(id) checked[bound.is_some()] disabled[is_fixed || !self.writes]
                    data-on=(format!("POST {path}")) data-off=(format!("DELETE {path}/{}", segment(name)))
                    data-body=(serde_json::json!({ "connection": name })) data-confirm=[question];
                label.item.grow for=(id) {
                    (mark(provider, false))
                    span.text { (name) small { (provider) } }
                }
                @if let Some(binding) = bound {
                    @if binding.default { span.chip { "default" } }
                    @if !binding.limits.is_empty() { span.chip { (binding.limits.text()) } }
                    @if binding.direct { a.small href=(format!("{path}/{}", segment(name))) { "Actions" span.sr { " of " (name) } } }
                    @for slot in &binding.slots { span.chip { "plugin " (slot.plugin) } }
                    @if is_locked { (Icon::Lock.show()) }
                }
            }
        }
    }
}
