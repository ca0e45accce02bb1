//! `/rules`: what decides, in the order in which it decides: the configuration's rules, then
//! bindings, then the default.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use super::auth::Caller;
use super::body::Params;
use super::error::ApiError;
use super::page::Page;
use super::state::Admin;
use super::wire::{List, RuleView};
use keyward_rules::policy::DefaultAction;
use keyward_state::rulebook::RuleText;

/// A rule and its place in the order, which is also its cursor.
struct Placed {
    cursor: String,
    rule: RuleView,
}

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/rules", get(list))
}

async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    Params(page): Params<Page>,
) -> Result<Json<List<RuleView>>, ApiError> {
    let placed = effective(&admin, &caller).into_iter().enumerate().map(|(place, rule)| {
        // Fixed width, so that the order of the text is the order of the numbers.
        Placed { cursor: format!("{place:08}"), rule }
    });
    let wanted = placed.filter(|Placed { rule, .. }| page.wants(&[&rule.id])).collect();
    let List { items, next } = page.cut(wanted, |placed: &Placed| &placed.cursor)?;
    Ok(Json(List { items: items.into_iter().map(|placed| placed.rule).collect(), next }))
}

fn effective(admin: &Admin, caller: &Caller) -> Vec<RuleView> {
    let (org, rulebook) = (caller.org(), &admin.deps().rulebook);
    let rules = rulebook.rules();
    let explicit = rules.iter().filter(|rule| rule.org == *org).map(explicit);
    let mut all: Vec<_> = explicit.collect();
    all.extend(bindings(admin, caller));
    all.push(default(rulebook.default_action()));
    all
}

fn explicit(rule: &RuleText) -> RuleView {
    let action = rule.action.as_deref().unwrap_or("inject");
    RuleView {
        id: format!("file:{}", rule.name.as_deref().unwrap_or(&rule.place)),
        agents: rule.agents.clone(),
        hosts: rule.hosts.clone(),
        methods: rule.methods.clone(),
        paths: rule.paths.clone(),
        action: action.to_owned(),
        connection: rule.use_connection.clone(),
        allow_plaintext: rule.allow_plaintext,
        // Its path in the file, `rules[3]`, says nothing that its line does not.
        place: Some(rule.place.rsplit_once(": ").map_or(&*rule.place, |(at, _)| at).to_owned()),
    }
}

fn bindings(admin: &Admin, caller: &Caller) -> Vec<RuleView> {
    let directory = admin.deps().directory.view();
    let mut all = Vec::new();
    for agent in directory.agents().filter(|agent| caller.sees_agent(agent)) {
        for binding in &agent.facts.bindings {
            let Some(connection) = directory.connection(caller.org(), &binding.connection) else {
                continue;
            };
            let whole = RuleView {
                id: format!("binding:{}", connection.id),
                agents: Some(vec![agent.name.clone()]),
                hosts: super::connections::hosts(&admin.deps().vault.catalogue(), connection),
                connection: Some(connection.name.clone()),
                ..blank("inject")
            };
            if binding.direct {
                all.push(whole);
                continue;
            }
            let plugins = directory.plugins_of(caller.org(), &agent.id);
            let slots = plugins.flat_map(|plugin| plugin.slots_with(&connection.id));
            all.extend(slots.map(|slot| RuleView {
                methods: slot.methods.clone(),
                paths: slot.paths.clone(),
                ..whole.clone()
            }));
        }
    }
    all.sort_by(|a, b| (&a.agents, &a.connection).cmp(&(&b.agents, &b.connection)));
    all
}

fn default(action: DefaultAction) -> RuleView {
    blank(match action {
        DefaultAction::Deny => "deny",
        DefaultAction::Tunnel => "tunnel",
        DefaultAction::Pass => "pass",
    })
}

/// The default rule with `action`, which is also what bindings start from.
fn blank(action: &str) -> RuleView {
    RuleView {
        id: "default".to_owned(),
        agents: None,
        hosts: Vec::new(),
        methods: Vec::new(),
        paths: Vec::new(),
        action: action.to_owned(),
        connection: None,
        allow_plaintext: false,
        place: None,
    }
}
