//! The rules in force that a caller may see, in their order: of the file, stored, and of bindings and host sets;
//! and the keys by which the API names them.

use std::sync::Arc;

use crate::context::Context;
use crate::error::ApiError;
use keyward_base::id::{OrgId, StoredRuleId};
use keyward_model::{Agent, ManagedBy, Record, Rule, RuleShown, RuleSpec, RuleStatus};
use keyward_rules::host_sets::{Allowance, HostSet, HostSets};
use keyward_rules::policy::DefaultAction;
use keyward_rules::policy::explain::ActionKind;
use keyward_state::directory::{AgentRecord, View};
use keyward_state::rulebook::{PlacedRule, RulebookError};

/// A rule, and its key in the list of rules.
pub(crate) struct KeyedRule {
    pub(crate) key: RuleKey,
    pub(crate) rule: RuleShown,
}

/// Sets the earlier rule that shadows each of these rules of an org, if there is one, and their warnings.
pub(crate) fn judge(context: &Context, rules: &mut [RuleShown]) {
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
pub(crate) fn effective(context: &Context) -> Vec<RuleShown> {
    keyed(context).into_iter().map(|keyed| keyed.rule).collect()
}

/// The same rules with their keys.
pub(crate) fn keyed(context: &Context) -> Vec<KeyedRule> {
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
                hosts: crate::connections::connection_view::hosts(
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

/// The sections of the list, in the order in which they decide.
const OF_FILE: &str = "1";
const STORED: &str = "2";
const BINDINGS: &str = "3";
const HOST_SETS: &str = "4";
const DEFAULT: &str = "5";
const SECTIONS: [&str; 5] = [OF_FILE, STORED, BINDINGS, HOST_SETS, DEFAULT];

/// The order of the texts is that of the rules: numbers have a fixed width, and the comma between two parts sorts before
/// all characters of names and ids.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct RuleKey(String);

impl RuleKey {
    /// The key of a rule of the file, by its place among those of the organisation.
    pub(crate) fn of_file(place: usize, name: Option<&str>) -> Self {
        Self(format!("{OF_FILE},{place:08},{}", name.unwrap_or_default()))
    }

    /// The key of a stored rule.
    pub(crate) fn stored(position: i64, id: &StoredRuleId) -> Self {
        // A number without a sign, in the same order.
        let position = position.abs_diff(i64::MIN);
        Self(format!("{STORED},{position:016x},{id}"))
    }

    /// The key of what a binding denies, which comes before all that the agent's bindings allow.
    pub(crate) fn denied(agent: &str, connection: &str) -> Self {
        Self(format!("{BINDINGS},{agent},,{connection}"))
    }

    /// The key of what a binding allows.
    pub(crate) fn bound(agent: &str, connection: &str) -> Self {
        Self(format!("{BINDINGS},{agent},{connection}"))
    }

    /// The key of what a slot of a plugin allows with the connection of a binding.
    pub(crate) fn in_slot(self, plugin: &str, slot: &str) -> Self {
        Self(format!("{},{plugin},{slot}", self.0))
    }

    /// The key of a part of a set of hosts. Sets and their parts are those of the program.
    pub(crate) fn of_set(place: usize, part: usize) -> Self {
        Self(format!("{HOST_SETS},{place:04},{part:04}"))
    }

    /// The key of the default.
    pub(crate) fn of_default() -> Self {
        Self(format!("{DEFAULT},"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The key after which a list of `all` rules goes on. The file may have changed since, so its rules are found by
    /// their name; without one, by their place.
    ///
    /// # Errors
    /// When `cursor` is not `next` of such a list.
    pub(crate) fn resumed<'a>(
        cursor: String,
        mut all: impl Iterator<Item = &'a Self>,
    ) -> Result<String, ApiError> {
        let mut parts = cursor.splitn(3, ',');
        let (section, place, name) = (parts.next(), parts.next(), parts.next());
        match (section, place, name.filter(|name| !name.is_empty())) {
            (Some(OF_FILE), Some(place), Some(name)) => {
                let now = all.find(|key| key.name_in_file() == Some(name));
                // What took the place of a rule that is gone was not listed.
                Ok(now.map_or_else(|| format!("{OF_FILE},{place}"), |key| key.0.clone()))
            }
            (Some(section), Some(_), _) if SECTIONS.contains(&section) => Ok(cursor),
            _ => Err(ApiError::field("after", "is not `next` of an answer of this list")
                .hint("list from the beginning, without `after`")),
        }
    }

    /// The name of a rule of the file.
    fn name_in_file(&self) -> Option<&str> {
        let (section, rest) = self.0.split_once(',')?;
        let (_, name) = rest.split_once(',')?;
        (section == OF_FILE).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> StoredRuleId {
        StoredRuleId::parse(text).unwrap()
    }

    #[test]
    fn keys_are_in_the_order_in_which_rules_decide() {
        let (a, b) = (id("rul_aaaaaaaaaaaaaaaa"), id("rul_bbbbbbbbbbbbbbbb"));
        let ordered = [
            RuleKey::of_file(9, Some("z")),
            RuleKey::of_file(10, None),
            RuleKey::stored(i64::MIN, &b),
            RuleKey::stored(-1, &b),
            RuleKey::stored(0, &a),
            RuleKey::stored(0, &b),
            RuleKey::stored(i64::MAX, &a),
            RuleKey::denied("ci", "z"),
            RuleKey::bound("ci", "a"),
            RuleKey::bound("ci", "a").in_slot("crm", "b"),
            RuleKey::bound("ci", "a").in_slot("crm-x", "a"),
            RuleKey::bound("ci", "a-b"),
            RuleKey::denied("ci-2", "a"),
            RuleKey::bound("ci.2", "a"),
            RuleKey::bound("ci~", "a"),
            RuleKey::of_set(2, 0),
            RuleKey::of_set(2, 1),
            RuleKey::of_set(10, 0),
            RuleKey::of_default(),
        ];
        assert!(ordered.is_sorted_by(|one, next| one < next), "{ordered:?}");
    }

    #[test]
    fn a_list_goes_on_after_a_rule_of_the_file_that_has_moved_or_is_gone() {
        let now = [("c", 0), ("d", 1), ("a", 2)].map(|(name, at)| RuleKey::of_file(at, Some(name)));
        let left = |cursor: &RuleKey| {
            let after = RuleKey::resumed(cursor.as_str().to_owned(), now.iter()).unwrap();
            let left = now.iter().filter(|key| key.as_str() > &*after);
            left.filter_map(RuleKey::name_in_file).collect::<String>()
        };
        assert_eq!(left(&RuleKey::of_file(2, Some("c"))), "da", "two rules before it are gone");
        assert_eq!(left(&RuleKey::of_file(0, Some("a"))), "", "it is the last one now");
        assert_eq!(left(&RuleKey::of_file(1, Some("b"))), "da", "it is gone");
        assert_eq!(left(&RuleKey::of_file(1, None)), "da", "another one is in its place");
    }

    #[test]
    fn texts_that_are_no_cursor_are_refused() {
        for bad in ["00000001", "1", "x", "", ",", "0,x", "6,", "11,x"] {
            let refused = RuleKey::resumed(bad.to_owned(), [].iter()).unwrap_err();
            assert!(matches!(refused, ApiError::Field { field, .. } if field == "after"), "{bad}");
        }
        let known = RuleKey::bound("ci", "work").0;
        assert_eq!(RuleKey::resumed(known.clone(), [].iter()), Ok(known));
    }
}
