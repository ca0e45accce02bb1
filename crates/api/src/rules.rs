//! `/rules`: what decides, in the order in which it decides: the configuration's rules, then
//! bindings, then the sets of hosts that agents may reach, then the default.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use super::auth::Caller;
use super::body::Params;
use super::error::ApiError;
use super::page::Page;
use super::state::Admin;
use super::wire::List;
use keyward_model::{RuleShown, RuleSpec};
use keyward_rules::host_sets::{Allowance, HostSet, HostSets};
use keyward_rules::policy::DefaultAction;
use keyward_rules::policy::explain::ActionKind;
use keyward_state::directory::AgentRecord;
use keyward_state::rulebook::PlacedRule;

/// A rule and its place in the order, which is also its cursor.
struct Placed {
    cursor: String,
    rule: RuleShown,
}

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/rules", get(list))
}

async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    Params(page): Params<Page>,
) -> Result<Json<List<RuleShown>>, ApiError> {
    let placed = effective(&admin, &caller).into_iter().enumerate().map(|(place, rule)| {
        // Fixed width, so that the order of the text is the order of the numbers.
        Placed { cursor: format!("{place:08}"), rule }
    });
    let wanted = placed.filter(|Placed { rule, .. }| page.wants(&[&rule.id])).collect();
    let List { items, next } = page.cut(wanted, |placed: &Placed| &placed.cursor)?;
    Ok(Json(List { items: items.into_iter().map(|placed| placed.rule).collect(), next }))
}

fn effective(admin: &Admin, caller: &Caller) -> Vec<RuleShown> {
    let (org, rulebook) = (caller.org(), &admin.deps().rulebook);
    let rules = rulebook.rules();
    let explicit = rules.iter().filter(|rule| rule.org == *org).map(explicit);
    let mut all: Vec<_> = explicit.collect();
    all.extend(bindings(admin, caller));
    all.extend(allowed(admin, caller));
    all.push(default(rulebook.default_action()));
    all
}

fn explicit(rule: &PlacedRule) -> RuleShown {
    let action = rule.action.or(Some(ActionKind::Inject));
    RuleShown {
        id: format!("file:{}", rule.name.as_deref().unwrap_or(&rule.place)),
        spec: RuleSpec { name: None, action, ..rule.spec.clone() },
        // Its path in the file, `rules[3]`, says nothing that its line does not.
        place: Some(rule.place.rsplit_once(": ").map_or(&*rule.place, |(at, _)| at).to_owned()),
    }
}

fn bindings(admin: &Admin, caller: &Caller) -> Vec<RuleShown> {
    let directory = admin.deps().directory.view();
    let mut all = Vec::new();
    for agent in directory.agents().filter(|agent| caller.sees_agent(agent)) {
        for binding in &agent.facts.bindings {
            let Some(connection) = directory.connection(caller.org(), &binding.connection) else {
                continue;
            };
            let id = format!("binding:{}", connection.id);
            let whole = RuleSpec {
                agents: Some(vec![agent.name.clone()]),
                hosts: super::connections::hosts(&admin.deps().vault.catalogue(), connection),
                action: Some(ActionKind::Inject),
                use_connection: Some(connection.name.clone()),
                ..RuleSpec::default()
            };
            if binding.direct {
                all.push(RuleShown { id, spec: whole, place: None });
                continue;
            }
            let plugins = directory.plugins_of(caller.org(), &agent.id);
            let slots = plugins.flat_map(|plugin| plugin.slots_with(&connection.id));
            all.extend(slots.map(|slot| {
                let (methods, paths) = (slot.methods.clone(), slot.paths.clone());
                let spec = RuleSpec { methods, paths, ..whole.clone() };
                RuleShown { id: id.clone(), spec, place: None }
            }));
        }
    }
    let order = |rule: &RuleShown| (rule.spec.agents.clone(), rule.spec.use_connection.clone());
    all.sort_by_cached_key(order);
    all
}

/// The sets of hosts that some agents may reach.
fn allowed(admin: &Admin, caller: &Caller) -> Vec<RuleShown> {
    let directory = admin.deps().directory.view();
    let mut all = Vec::new();
    for set in HostSets::built_in().all() {
        let has_it = |agent: &&Arc<AgentRecord>| {
            agent.allow.iter().flatten().any(|name| *name == *set.id) && caller.sees_agent(agent)
        };
        let mut agents: Vec<_> =
            directory.agents().filter(has_it).map(|agent| agent.name.clone()).collect();
        if !agents.is_empty() {
            agents.sort_unstable();
            all.extend(of_set(set, &agents));
        }
    }
    all
}

/// A rule for all hosts of the set with the same methods and paths.
fn of_set(set: &HostSet, agents: &[String]) -> Vec<RuleShown> {
    let mut specs: Vec<RuleSpec> = Vec::new();
    for Allowance { hosts, methods, paths, .. } in HostSets::built_in().allowances(set) {
        let (hosts, methods, paths) = (texts(hosts), texts(methods), texts(paths));
        match specs.iter_mut().find(|spec| spec.methods == methods && spec.paths == paths) {
            Some(spec) => spec.hosts.extend(hosts),
            None => specs.push(RuleSpec { hosts, methods, paths, ..RuleSpec::default() }),
        }
    }
    if set.every_host {
        specs.push(RuleSpec::default());
    }
    let rule = |spec| RuleShown {
        id: format!("allow:{}", set.id),
        spec: RuleSpec { agents: Some(agents.to_vec()), action: Some(ActionKind::Pass), ..spec },
        place: None,
    };
    specs.into_iter().map(rule).collect()
}

fn texts(all: &[impl ToString]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn default(action: DefaultAction) -> RuleShown {
    let action = Some(match action {
        DefaultAction::Deny => ActionKind::Deny,
        DefaultAction::Tunnel => ActionKind::Tunnel,
        DefaultAction::Pass => ActionKind::Pass,
    });
    RuleShown {
        id: "default".to_owned(),
        spec: RuleSpec { action, ..RuleSpec::default() },
        place: None,
    }
}
