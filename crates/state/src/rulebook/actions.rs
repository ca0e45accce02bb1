//! Resolves the named actions of a rule: `clone` becomes hosts, methods, paths and query. A rule that names a removed
//! action never allows more than it was written for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::RulebookError;
use super::names::Names;
use super::placed_rule::RuleText;
use crate::directory::ConnectionRecord;
use keyward_base::pattern::HostPattern;
use keyward_rules::actions::{ActionScope, ScopeKind};
use keyward_rules::policy::RuleAction;
use keyward_rules::provider::Provider;
use keyward_rules::provider::decode::nearest;

/// The requests of a rule's actions.
#[derive(Debug)]
pub(super) enum ActionScopes {
    /// The rule names no action.
    All,
    /// The requests of its actions.
    Some(Vec<ActionScope>),
    /// An action is unknown.
    Lost {
        /// The requests of the other actions.
        others: Vec<ActionScope>,
        /// The hosts of its provider, if that is known.
        hosts: Vec<HostPattern>,
    },
}

/// Hosts, effect and actions of a rule.
#[derive(Debug)]
pub(super) struct Limited {
    pub(super) hosts: Vec<HostPattern>,
    pub(super) action: RuleAction,
    pub(super) actions: Vec<ActionScope>,
}

/// The requests of the rule's actions, and the errors in their names. `connection` is the connection that the rule
/// uses.
pub(super) fn scopes(
    text: &RuleText<'_>,
    connection: Option<&ConnectionRecord>,
    names: Names<'_>,
) -> (ActionScopes, Vec<RulebookError>) {
    if text.spec.actions.is_empty() {
        return (ActionScopes::All, Vec::new());
    }
    let (mut found, mut problems, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for name in &text.spec.actions {
        match (ActionByName { text, connection, names, name }).scopes() {
            Ok(scopes) => found.extend(scopes),
            Err(Unknown { problem, hosts }) => {
                problems.extend(problem.map(|problem| *problem));
                lost.push(hosts);
            }
        }
    }
    match lost.is_empty() {
        true => (ActionScopes::Some(found), problems),
        false => (ActionScopes::Lost { others: found, hosts: lost.concat() }, problems),
    }
}

/// The rule, limited to its actions; `None` if it would allow more without its unknown ones. A rule that uses a
/// connection stays even without hosts, because it restricts the connection's binding.
pub(super) fn limited(
    hosts: Vec<HostPattern>,
    action: RuleAction,
    scopes: ActionScopes,
) -> Option<Limited> {
    match (scopes, action) {
        (ActionScopes::All, action) => Some(Limited { hosts, action, actions: Vec::new() }),
        (ActionScopes::Some(mut actions), action) => {
            if is_allowing(&action) {
                actions.retain(|scope| scope.kind == ScopeKind::Own);
            }
            let is_bound = !hosts.is_empty() || actions.iter().any(|it| it.hosts.is_empty());
            let hosts = match is_bound {
                true => hosts,
                false => hosts_of(&actions),
            };
            Some(Limited { hosts, action, actions })
        }
        (ActionScopes::Lost { mut others, hosts: known }, action) => {
            // The rule applies to all requests to its hosts, or to those of the unknown action's provider.
            others.retain(|scope| !scope.hosts.iter().all(|host| known.contains(host)));
            let (hosts, actions) = match (hosts.is_empty(), others.is_empty()) {
                (false, _) => (hosts, Vec::new()),
                (true, true) => (known, Vec::new()),
                (true, false) => {
                    if !known.is_empty() {
                        others.push(ActionScope { hosts: known, ..ActionScope::default() });
                    }
                    (hosts_of(&others), others)
                }
            };
            let action = match action {
                RuleAction::Use(account) => RuleAction::UseRefused(account),
                RuleAction::UseRefused(_) | RuleAction::UseMissing(_) | RuleAction::Deny => action,
                RuleAction::Inject | RuleAction::Pass | RuleAction::Tunnel => return None,
            };
            let stays = !hosts.is_empty() || matches!(action, RuleAction::UseRefused(_));
            stays.then_some(Limited { hosts, action, actions })
        }
    }
}

/// Whether the action lets requests through, so that requests that are not known to belong to the rule are not its own.
fn is_allowing(action: &RuleAction) -> bool {
    match action {
        RuleAction::Use(_) | RuleAction::Inject | RuleAction::Pass | RuleAction::Tunnel => true,
        RuleAction::UseMissing(_) | RuleAction::UseRefused(_) | RuleAction::Deny => false,
    }
}

/// All hosts of the actions.
fn hosts_of(actions: &[ActionScope]) -> Vec<HostPattern> {
    let mut all: Vec<_> = actions.iter().flat_map(|it| &it.hosts).cloned().collect();
    all.sort();
    all.dedup();
    all
}

/// An action by its name in a rule.
struct ActionByName<'a> {
    text: &'a RuleText<'a>,
    connection: Option<&'a ConnectionRecord>,
    names: Names<'a>,
    name: &'a str,
}

/// An action that is not known.
struct Unknown {
    problem: Option<Box<RulebookError>>,
    hosts: Vec<HostPattern>,
}

impl ActionByName<'_> {
    fn scopes(&self) -> Result<Vec<ActionScope>, Unknown> {
        let (of, action) = match self.name.split_once(':') {
            Some((of, action)) => (Some(of), action),
            None => (None, self.name),
        };
        let provider = self.provider(of)?;
        let no_variables = BTreeMap::new();
        let scopes = match self.connection {
            Some(record) => provider.action(action, &record.host_variables()),
            None if !provider.has_host_variables() => provider.action(action, &no_variables),
            None if self.text.spec.hosts.is_empty() => {
                let (place, name) = (self.text.place.clone(), self.name.to_owned());
                return Err(self.unknown(
                    Some(&provider),
                    Some(RulebookError::ActionWithoutHosts { place, name }),
                ));
            }
            None => provider.action_anywhere(action).map(Ok),
        };
        match scopes {
            Some(Ok(scopes)) => Ok(scopes),
            // A connection without its variables owns no host.
            Some(Err(_)) => Err(self.unknown(Some(&provider), None)),
            None => {
                let names = provider.actions().iter().map(|action| &*action.name);
                let problem = RulebookError::UnknownAction {
                    place: self.text.place.clone(),
                    provider: provider.id.to_string(),
                    name: action.to_owned(),
                    nearest: nearest(action, names).map(str::to_owned),
                };
                Err(self.unknown(Some(&provider), Some(problem)))
            }
        }
    }

    /// The provider of the connection, or the provider in the name.
    fn provider(&self, of: Option<&str>) -> Result<Arc<Provider>, Unknown> {
        let place = || self.text.place.clone();
        let used = self.connection.map(|record| record.provider.as_str());
        if let (Some(of), Some(used)) = (of, used)
            && of != used
        {
            let (name, provider) = (self.name.to_owned(), used.to_owned());
            let found = self.known(used);
            let problem = RulebookError::ForeignAction { place: place(), name, provider };
            return Err(self.unknown(found.as_deref(), Some(problem)));
        }
        let id = used.or(of).unwrap_or_default();
        let found = self.known(id);
        found.ok_or_else(|| {
            let provider = id.to_owned();
            self.unknown(None, Some(RulebookError::UnknownProvider { place: place(), provider }))
        })
    }

    /// The provider with this id, as the org has it.
    fn known(&self, id: &str) -> Option<Arc<Provider>> {
        self.names.provider(self.text.org, id)
    }

    fn unknown(&self, provider: Option<&Provider>, problem: Option<RulebookError>) -> Unknown {
        let variables = self.connection.map(ConnectionRecord::host_variables).unwrap_or_default();
        let auth = provider.and_then(|it| Some((it, it.auth.first()?)));
        let instance = auth.and_then(|(it, auth)| it.instantiate(auth, &variables).ok());
        let problem = problem.map(Box::new);
        Unknown { problem, hosts: instance.map(|it| it.hosts).unwrap_or_default() }
    }
}
