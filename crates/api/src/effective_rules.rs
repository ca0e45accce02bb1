//! The rules in force that a caller may see, in their order: of the file, stored, and of bindings and host sets.

use std::sync::Arc;

use super::context::Context;
use super::rule_key::RuleKey;
use keyward_base::id::{OrgId, StoredRuleId};
use keyward_model::{Agent, ManagedBy, Record, Rule, RuleShown, RuleSpec, RuleStatus};
use keyward_rules::host_sets::{Allowance, HostSet, HostSets};
use keyward_rules::policy::DefaultAction;
use keyward_rules::policy::explain::ActionKind;
use keyward_state::directory::{AgentRecord, View};
use keyward_state::rulebook::{PlacedRule, RulebookError};

/// A rule, and its key in the list of rules.
pub(super) struct KeyedRule {
    pub(super) key: RuleKey,
    pub(super) rule: RuleShown,
}

/// Sets the earlier rule that shadows each of these rules of an org, if there is one, and their warnings.
pub(super) fn judge(context: &Context, rules: &mut [RuleShown]) {
    let (rulebook, org, view) = (&context.deps().rulebook, context.caller.org(), context.view());
    let mut explicit: Vec<_> = rules.iter_mut().filter(|it| it.managed_by.is_some()).collect();
    let specs: Vec<_> = explicit.iter().map(|rule| &rule.spec).collect();
    let warnings = rulebook.warnings(org, &specs);
    for (rule, warnings) in explicit.iter_mut().zip(warnings) {
        rule.status.shadowed_by = rulebook.shadow(org, &rule.label());
        let stored = StoredRuleId::parse(&rule.id).ok().and_then(|id| view.one::<Rule>(org, &id));
        let unknown = stored.map(|stored| stored.facts.unknown.iter()).into_iter().flatten();
        let unknown = unknown.map(|name| format!("{name}: {}", RulebookError::UNKNOWN_MEMBER));
        let warnings = warnings.into_iter().map(|it| format!("{}; {}", it.message, it.remedy));
        rule.status.warnings = unknown.chain(warnings).collect();
    }
}

/// All rules that a caller may see, numbered in their order.
pub(super) fn effective(context: &Context) -> Vec<RuleShown> {
    keyed(context).into_iter().map(|keyed| keyed.rule).collect()
}

/// The same rules with their keys.
pub(super) fn keyed(context: &Context) -> Vec<KeyedRule> {
    let (org, rulebook) = (context.caller.org(), &context.deps().rulebook);
    let (view, rules) = (context.view(), rulebook.rules());
    let of_file = rules.iter().filter(|rule| rule.org == *org).enumerate();
    let explicit = of_file.map(|(place, rule)| KeyedRule {
        key: RuleKey::of_file(place, rule.name.as_deref()),
        rule: explicit(rule),
    });
    let mut all: Vec<_> = explicit.chain(stored(&view, org)).collect();
    all.extend(bindings(context));
    all.extend(allowed(context));
    all.push(default(rulebook.default_action()));
    for (at, keyed) in all.iter_mut().enumerate() {
        keyed.rule.status.number = at + 1;
    }
    all
}

fn explicit(rule: &PlacedRule) -> RuleShown {
    let action = rule.action.or(Some(ActionKind::Inject));
    // Drops the path, such as `rules[3]`, because the line is enough.
    let place = rule.place.rsplit_once(": ").map_or(&*rule.place, |(at, _)| at).to_owned();
    RuleShown {
        status: RuleStatus { place: Some(place), ..RuleStatus::default() },
        managed_by: Some(ManagedBy::File),
        ..unmanaged(rule.label(), RuleSpec { action, ..rule.spec.clone() })
    }
}

fn stored(view: &View, org: &OrgId) -> Vec<KeyedRule> {
    let shown = |rule: &Record<Rule>| RuleShown {
        managed_by: Some(rule.managed_by),
        created: Some(rule.created),
        updated: rule.updated,
        version: Some(rule.version()),
        ..unmanaged(rule.id.to_string(), with_names(view, rule))
    };
    let keyed = |rule: &Arc<Record<Rule>>| KeyedRule {
        key: RuleKey::stored(rule.facts.position, &rule.id),
        rule: shown(rule),
    };
    view.rules_in_order(org).iter().map(keyed).collect()
}

/// The spec with names instead of ids.
fn with_names(view: &View, rule: &Record<Rule>) -> RuleSpec {
    let mut spec = rule.spec.clone();
    for agent in spec.agents.iter_mut().flatten() {
        if let Some(found) = view.find_agent(&rule.org, agent) {
            agent.clone_from(&found.name);
        }
    }
    if let Some(connection) = &mut spec.use_connection
        && let Some(found) = view.find_connection(&rule.org, connection)
    {
        connection.clone_from(&found.name);
    }
    RuleSpec { action: spec.action.or(Some(ActionKind::Inject)), ..spec }
}

fn unmanaged(id: String, spec: RuleSpec) -> RuleShown {
    let status = RuleStatus::default();
    RuleShown { id, spec, status, managed_by: None, created: None, updated: None, version: None }
}

fn bindings(context: &Context) -> Vec<KeyedRule> {
    let (directory, caller) = (context.view(), &context.caller);
    let mut all = Vec::new();
    for agent in directory.all::<Agent>(caller.org()).filter(|agent| caller.sees_agent(agent)) {
        for binding in &agent.facts.bindings {
            let Some(connection) = directory.connection(caller.org(), &binding.connection) else {
                continue;
            };
            let id = format!("binding:{}", connection.id);
            let (of_agent, with) = (&*agent.name, &*connection.name);
            let keyed = |key, spec| KeyedRule { key, rule: unmanaged(id.clone(), spec) };
            let whole = RuleSpec {
                agents: Some(vec![agent.name.clone()]),
                hosts: super::connection_view::hosts(
                    &context.deps().vault.catalogue(&connection.org),
                    connection,
                ),
                action: Some(ActionKind::Inject),
                use_connection: Some(connection.name.clone()),
                ..RuleSpec::default()
            };
            if binding.direct {
                let actions = binding.limits.allow.clone();
                let deny = &binding.limits.deny;
                let denied = (!deny.is_empty()).then(|| RuleSpec {
                    actions: deny.clone(),
                    action: Some(ActionKind::Deny),
                    use_connection: None,
                    ..whole.clone()
                });
                all.extend(denied.map(|spec| keyed(RuleKey::denied(of_agent, with), spec)));
                let own = Some(binding.limits.own_authorization).filter(|it| !it.is_default());
                let spec = RuleSpec { actions, own_authorization: own, ..whole };
                all.push(keyed(RuleKey::bound(of_agent, with), spec));
                continue;
            }
            for plugin in directory.plugins_of(caller.org(), &agent.id) {
                all.extend(plugin.slots_with(&connection.id).map(|slot| {
                    let (methods, paths) = (slot.methods.clone(), slot.paths.clone());
                    let actions = slot.allow.clone();
                    let key = RuleKey::bound(of_agent, with).in_slot(plugin.name(), &slot.slot);
                    let own_authorization =
                        Some(slot.own_authorization).filter(|own| !own.is_default());
                    let spec =
                        RuleSpec { methods, paths, actions, own_authorization, ..whole.clone() };
                    keyed(key, spec)
                }));
            }
        }
    }
    all.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    all
}

/// The sets of hosts that some agents may reach.
fn allowed(context: &Context) -> Vec<KeyedRule> {
    let (directory, caller) = (context.view(), &context.caller);
    let mut all = Vec::new();
    for (place, set) in HostSets::built_in().all().iter().enumerate() {
        let has_it = |agent: &&Arc<AgentRecord>| {
            agent.allow.iter().flatten().any(|name| *name == *set.id) && caller.sees_agent(agent)
        };
        let mut agents: Vec<_> =
            directory.agents().filter(has_it).map(|agent| agent.name.clone()).collect();
        if !agents.is_empty() {
            agents.sort_unstable();
            let parts = of_set(set, &agents).into_iter().enumerate();
            all.extend(
                parts.map(|(part, rule)| KeyedRule { key: RuleKey::of_set(place, part), rule }),
            );
        }
    }
    all
}

/// A rule for all hosts of the set with the same methods and paths.
fn of_set(set: &HostSet, agents: &[String]) -> Vec<RuleShown> {
    let mut specs: Vec<RuleSpec> = Vec::new();
    for Allowance { hosts, methods, paths, query, .. } in HostSets::built_in().allowances(set) {
        let (hosts, methods, mut paths) = (texts(hosts), texts(methods), texts(paths));
        paths.extend(query.iter().map(|query| format!("/**?{query}")));
        match specs.iter_mut().find(|spec| spec.methods == methods && spec.paths == paths) {
            Some(spec) => spec.hosts.extend(hosts),
            None => specs.push(RuleSpec { hosts, methods, paths, ..RuleSpec::default() }),
        }
    }
    if set.every_host {
        specs.push(RuleSpec::default());
    }
    let rule = |spec| {
        let spec =
            RuleSpec { agents: Some(agents.to_vec()), action: Some(ActionKind::Pass), ..spec };
        unmanaged(format!("allow:{}", set.id), spec)
    };
    specs.into_iter().map(rule).collect()
}

fn texts(all: &[impl ToString]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn default(action: DefaultAction) -> KeyedRule {
    let action = Some(match action {
        DefaultAction::Deny => ActionKind::Deny,
        DefaultAction::Tunnel => ActionKind::Tunnel,
        DefaultAction::Pass => ActionKind::Pass,
    });
    let rule = unmanaged("default".to_owned(), RuleSpec { action, ..RuleSpec::default() });
    KeyedRule { key: RuleKey::of_default(), rule }
}
