//! The list of rules in their order, each with what it says about the tested request, and with the notice that it
//! has no effect and the button that removes it.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::sentence::Sentence;
use super::tester::PageQuery;
use super::tester::Tested;
use crate::icons::Icon;
use crate::parts::{Action, count, empty};
use crate::visit::{Visit, segment, with_query};
use keyward_api::wire::{Explanation, List, RuleOutcome};
use keyward_model::{ManagedBy, RuleShown};

/// Rules that are read: as many as a page of the API has.
pub(super) const READ: usize = 1_000;
/// Rules of a page.
const ROWS: usize = 40;
/// Agents whose bindings are listed.
const AGENTS: usize = 50;

/// What the list is made of.
pub(super) struct View<'a> {
    pub(super) all: &'a List<RuleShown>,
    /// The tag of the list, for a new order.
    pub(super) tag: Option<&'a str>,
    pub(super) tested: Option<&'a Tested>,
    pub(super) asked: &'a PageQuery,
}

impl View<'_> {
    /// What a rule says about the tested request.
    fn fit(&self, rule: &RuleShown) -> Option<RuleOutcome> {
        let now = self.tested?.explanation()?;
        let label = rule.label();
        let is_for = rule.spec.agents.as_ref().is_none_or(|agents| agents.contains(&now.agent));
        let found = now.considered.iter().find(|it| it.rule == label);
        // A set or binding of another agent may have the same label.
        Some(match found {
            Some(found) if is_for => found.fit,
            _ => RuleOutcome::Agent,
        })
    }
}

/// The name in a label: `store:no-deletes`.
pub(super) fn written_name(label: &str) -> &str {
    label.strip_prefix("store:").or_else(|| label.strip_prefix("file:")).unwrap_or(label)
}

pub(super) fn panel(visit: &Visit, view: &View<'_>) -> Markup {
    let explicit: Vec<_> = view.all.items.iter().filter(|it| it.managed_by.is_some()).collect();
    let stored = explicit.iter().filter(|it| it.managed_by == Some(ManagedBy::Store)).count();
    let page: Vec<_> = explicit.iter().skip(view.asked.from).take(ROWS).copied().collect();
    let shown = page.iter().filter(|it| it.managed_by == Some(ManagedBy::Store)).count();
    let edits = visit.is_admin();
    let orders = edits && stored > 1;
    let later = view.asked.from + ROWS;
    let of =
        |kind: &str| view.all.items.iter().filter(|it| it.id.starts_with(kind)).collect::<Vec<_>>();
    let (bindings, sets) = (of("binding:"), of("allow:"));
    let has_more = view.all.next.is_some();
    html! {
        section.panel #rules {
            header {
                h2 { @if explicit.len() >= READ { "At least " } (count(explicit.len(), "rule")) }
                @if orders { span #order-help.muted.small { "Drag a stored rule, or press Alt and an arrow key, to move it." } }
            }
            @if explicit.is_empty() {
                @let add = html! { a.button href="/rules?new=1" { "Add rule" } };
                (empty("No rule yet", "Agents use the connections that they are bound to, and reach nothing else. A rule narrows that, or allows more.", visit.is_admin().then_some(add)))
            }
            ol.order data-order data-tag=[(shown == stored).then_some(view.tag).flatten()] {
                @for rule in page { (row(view, rule, Changes { edits, orders })) }
            }
            @if view.asked.from > 0 || explicit.len() > later {
                div.foot.actions {
                    @if view.asked.from > 0 { a href=(from(view.asked, view.asked.from.saturating_sub(ROWS))) { "Previous rules" } }
                    @if explicit.len() > later { a href=(from(view.asked, later)) { "Next rules" } }
                }
            }
        }
        section.panel {
            header { h2 { "Where no rule fits" } }
            @if !bindings.is_empty() { (bound(view, &bindings)) }
            @if !sets.is_empty() { (allowed(view, &sets)) }
            @for rule in view.all.items.iter().filter(|it| it.id == "default") { (default(view, rule)) }
            @if has_more {
                div.foot { "There are more rules and bindings than this page reads. The page of " a href="/agents" { "an agent" } " shows what it reaches, and " code { "keyward rule list" } " lists all." }
            }
        }
    }
}

/// Another page with the same request.
fn from(asked: &PageQuery, from: usize) -> String {
    let given = [
        ("agent", asked.agent.as_deref()),
        ("method", asked.method.as_deref()),
        ("url", asked.url.as_deref()),
    ];
    with_query(&format!("/rules?from={from}"), &given)
}

/// What the reader may do with stored rules.
#[derive(Clone, Copy)]
struct Changes {
    edits: bool,
    orders: bool,
}

fn row(view: &View<'_>, rule: &RuleShown, may: Changes) -> Markup {
    let fit = view.fit(rule);
    let name = rule.spec.name.as_deref();
    let path = format!("/rules/{}", segment(name.unwrap_or(&rule.id)));
    let is_stored = rule.managed_by == Some(ManagedBy::Store);
    let moves = may.orders && is_stored;
    let edits = may.edits && is_stored && (moves || view.asked.url.is_none());
    html! {
        li.go.decides[fit == Some(RuleOutcome::Decides)].passed[fit.is_some_and(|fit| fit != RuleOutcome::Decides)]
            data-rule=[name.filter(|_| moves)] draggable=[moves.then_some("true")] tabindex=[moves.then_some("0")]
            aria-describedby=[moves.then_some("order-help")] {
            span.num.muted { (rule.status.number) }
            div {
                p { (Sentence::of(&rule.spec).show()) }
                p.why {
                    a href=(path) { (name.unwrap_or("without a name")) } " · "
                    @match &rule.status.place {
                        Some(place) => { (Icon::Lock.show()) " " span title=(place) { "from " (file_line(place)) } }
                        None => "stored",
                    }
                }
                @if let Some(earlier) = &rule.status.shadowed_by {
                    p.why { span.chip.warn { "no effect" } " " (written_name(earlier)) " comes first and decides all of its requests" }
                }
            }
            div.actions {
                @if let Some(fit) = fit { (verdict(fit)) }
                @if edits { a.button.plain href=(format!("{path}/edit")) aria-label=(format!("Edit {}", name.unwrap_or_default())) { "Edit" } }
            }
        }
    }
}

/// `keyward.yaml:12` of a whole path.
pub(crate) fn file_line(place: &str) -> &str {
    place.rsplit_once('/').map_or(place, |(_, file)| file)
}

/// What a rule says about the tested request, in words.
fn verdict(fit: RuleOutcome) -> Markup {
    html! { span.chip.ok[fit == RuleOutcome::Decides] { (fit.words()) } }
}

/// Bindings by agent; for a tested request those of its agent, one by one.
fn bound(view: &View<'_>, bindings: &[&RuleShown]) -> Markup {
    let now = view.tested.and_then(Tested::explanation);
    html! {
        details.group-of #group-of-bindings open[now.is_some_and(|now| decides(now, "binding:"))] {
            summary { "Bindings" span.num.muted { (bindings.len()) @if view.all.next.is_some() { " and more" } } }
            ul.rows {
                @if let Some(now) = now {
                    @let own: Vec<_> = bindings.iter().filter(|it| it.spec.agents.as_ref().is_some_and(|all| all.contains(&now.agent))).collect();
                    @for rule in &own { (member(view, rule)) }
                    @if own.is_empty() { li { span.muted { (now.agent) " is bound to no connection." } } }
                } @else {
                    @let agents = by_agent(bindings);
                    @for (agent, connections) in agents.iter().take(AGENTS) { li { p.grow {
                        a href=(format!("/agents/{}", segment(agent))) { (agent) } " may use " (connections.join(", "))
                    } } }
                    @if agents.len() > AGENTS { li { a href="/agents" { "All agents" } } }
                }
            }
        }
    }
}

fn by_agent<'a>(bindings: &[&'a RuleShown]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut agents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for rule in bindings {
        let connection = rule.spec.use_connection.as_deref().unwrap_or_default();
        for agent in rule.spec.agents.iter().flatten() {
            let all = agents.entry(agent).or_default();
            if !all.contains(&connection) {
                all.push(connection);
            }
        }
    }
    agents
}

/// Sets of hosts, each once.
fn allowed(view: &View<'_>, sets: &[&RuleShown]) -> Markup {
    let mut all: Vec<(&str, &RuleShown, usize)> = Vec::new();
    for rule in sets.iter().copied() {
        let hosts = rule.spec.hosts.len();
        match all.iter_mut().find(|(id, ..)| *id == rule.id) {
            Some((_, _, sum)) => *sum += hosts,
            None => all.push((&rule.id, rule, hosts)),
        }
    }
    let now = view.tested.and_then(Tested::explanation);
    html! {
        details.group-of #group-of-sets open[now.is_some_and(|now| decides(now, "allow:"))] {
            summary { "Sets of hosts" span.num.muted { (all.len()) } }
            ul.rows { @for (id, rule, hosts) in &all {
                li.decides[view.fit(rule) == Some(RuleOutcome::Decides)] {
                    p.grow {
                        b { (rule.spec.agents.as_deref().unwrap_or_default().join(", ")) } " may reach "
                        @if *hosts == 0 { "every host" } @else { "the " (hosts) " hosts" } " of " code { (id.trim_start_matches("allow:")) } " without a credential"
                    }
                    @if let Some(fit) = view.fit(rule) { (verdict(fit)) }
                }
            } }
        }
    }
}

fn member(view: &View<'_>, rule: &RuleShown) -> Markup {
    let fit = view.fit(rule);
    html! {
        li.decides[fit == Some(RuleOutcome::Decides)] {
            p.grow { (Sentence::of(&rule.spec).show()) }
            @if let Some(fit) = fit { (verdict(fit)) }
        }
    }
}

fn decides(now: &Explanation, kind: &str) -> bool {
    now.rule.as_deref().is_some_and(|rule| rule.starts_with(kind))
}

fn default(view: &View<'_>, rule: &RuleShown) -> Markup {
    let fit = view.fit(rule);
    let what = match rule.spec.action.map_or("deny", |action| action.as_str()) {
        "deny" => "is refused",
        "pass" => "is sent without a credential",
        _ => "goes through a tunnel that is not inspected",
    };
    html! {
        ul.rows { li.decides[fit == Some(RuleOutcome::Decides)] {
            p.grow { b { "Everything else" } " " (what) "." }
            @if let Some(fit) = fit { (verdict(fit)) }
        } }
    }
}

/// The notice that a rule has no effect, with the rule that comes before it.
pub(super) fn shadow_notice(earlier: &str) -> Markup {
    let name = written_name(earlier);
    html! {
        div.notice.warn { div.grow {
            b { "It has no effect" }
            p.small { "Rule " a href=(format!("/rules/{}", segment(name))) { (name) } " comes first and decides all of its requests. Move it before that rule, or remove it." }
        } }
    }
}

/// The button that removes a rule, with what the removal changes.
pub(super) fn remove_button<'a>(rule: &'a RuleShown, tag: Option<&'a str>) -> Action<'a> {
    let name = rule.spec.name.as_deref().unwrap_or(&rule.id);
    let loss = match rule.spec.action.map_or("inject", |action| action.as_str()) {
        "deny" => "Requests that it blocks are decided by the rules after it, and may be sent.",
        _ => "Requests that only this rule allows are refused.",
    };
    Action {
        to: Some("/rules"),
        tag,
        ..Action::removal(
            format!("DELETE /rules/{}", segment(name)),
            "Remove rule",
            format!("Remove rule {name}?\n{loss}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(
        rule: &serde_json::Value,
        fits: &[(&str, RuleOutcome)],
        agent: &str,
    ) -> Option<RuleOutcome> {
        let considered =
            fits.iter().map(|(rule, fit)| serde_json::json!({ "rule": rule, "fit": fit }));
        let now = serde_json::json!({
            "agent": agent, "method": "GET", "target": "https://a.test:443", "path": "/",
            "allowed": true, "action": "inject", "rule": null, "host": null, "connection": null,
            "placements": [], "addresses": [], "stopped_by": [],
            "considered": considered.collect::<Vec<_>>(),
        });
        let tested = Tested::Explained(Box::new(serde_json::from_value(now).unwrap()));
        let all = List::default();
        let asked = PageQuery::default();
        let view = View { all: &all, tag: None, tested: Some(&tested), asked: &asked };
        view.fit(&serde_json::from_value(rule.clone()).unwrap())
    }

    #[test]
    fn a_stored_rule_has_the_outcome_of_its_name_and_a_binding_that_of_its_agent() {
        let stored = serde_json::json!({ "id": "rul_1", "name": "no", "managed_by": "store" });
        let fits = [("store:no", RuleOutcome::Decides), ("binding:con_1", RuleOutcome::NotReached)];
        assert_eq!(shown(&stored, &fits, "ci"), Some(RuleOutcome::Decides));
        let binding = serde_json::json!({ "id": "binding:con_1", "agents": ["ci"] });
        assert_eq!(shown(&binding, &fits, "ci"), Some(RuleOutcome::NotReached));
        assert_eq!(shown(&binding, &fits, "other"), Some(RuleOutcome::Agent));
        let of_other = serde_json::json!({ "id": "binding:con_2", "agents": ["other"] });
        assert_eq!(shown(&of_other, &fits, "ci"), Some(RuleOutcome::Agent));
    }

    #[test]
    fn a_place_is_shown_by_file_and_line() {
        assert_eq!(file_line("/etc/keyward/keyward.yaml:12"), "keyward.yaml:12");
        assert_eq!(file_line("keyward.yaml:12"), "keyward.yaml:12");
    }
}
