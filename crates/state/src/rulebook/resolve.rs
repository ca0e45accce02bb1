//! Resolves rules: names become ids, text becomes patterns.
//!
//! A rule that names a missing resource is an error, and becomes a rule that refuses its requests, so that no later
//! rule or binding takes its place. Its restrictions stay in force.

use std::sync::Arc;

use http::Method;

use super::actions::{ActionScopes, Limited, limited, scopes};
use super::error::RulebookError;
use super::names::Names;
use super::placed_rule::RuleText;
use crate::directory::{AgentRecord, ConnectionRecord, may_be_used_by};
use keyward_base::id::{AgentId, RuleId};
use keyward_base::pattern::{HostPattern, PathPattern, PatternError};
use keyward_rules::branches::{BranchScope, RefPattern};
use keyward_rules::policy::explain::ActionKind;
use keyward_rules::policy::{Account, CompileError, Rule, RuleAction};
use keyward_rules::provider::decode::nearest;

/// Resolved rules, and the errors that were found.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    rules: Vec<ResolvedRule>,
    pub(super) problems: Vec<RulebookError>,
}

/// A rule with ids and patterns.
#[derive(Debug)]
struct ResolvedRule {
    rule: Rule,
    /// Whether it can apply to a request. It cannot if all of its agents are missing, or if its connection is missing
    /// and it names no hosts.
    applies: bool,
}

/// Resolves all rules and finds all errors.
pub(super) fn resolve<'a>(
    texts: impl IntoIterator<Item = RuleText<'a>>,
    names: Names<'_>,
) -> Resolved {
    let mut resolved = Resolved::default();
    for text in texts {
        let rule = Resolver { text: &text, names, problems: &mut resolved.problems }.rule();
        resolved.rules.extend(rule);
    }
    resolved
}

impl Resolved {
    /// The rules that can apply.
    pub(super) fn rules(self) -> Vec<Rule> {
        let applying = self.rules.into_iter().filter(|resolved| resolved.applies);
        applying.map(|resolved| resolved.rule).collect()
    }

    /// The rules without their agents, to be checked against each other: contradictions do not depend on agents, and
    /// missing agents of a rule may be added again.
    pub(super) fn for_every_agent(&self) -> Vec<Rule> {
        let all = self.rules.iter().map(|ResolvedRule { rule, applies }| Rule {
            // An empty list in the configuration stays an error.
            agents: rule.agents.clone().filter(|agents| *applies && agents.is_empty()),
            ..rule.clone()
        });
        all.collect()
    }

    /// With the rules and problems of `other` after these.
    pub(super) fn then(mut self, other: Self) -> Self {
        self.rules.extend(other.rules);
        self.problems.extend(other.problems);
        self
    }
}

/// The resolution of one rule.
struct Resolver<'a> {
    text: &'a RuleText<'a>,
    names: Names<'a>,
    problems: &'a mut Vec<RulebookError>,
}

/// The connection named by `use`.
enum UsedConnection<'a> {
    Nothing,
    Missing(Arc<str>),
    Connection(&'a ConnectionRecord, Arc<Account>),
}

impl<'a> Resolver<'a> {
    /// The rule, unless its hosts, paths, methods or branches cannot be read and it neither restricts a connection nor denies
    /// hosts that can be read.
    fn rule(mut self) -> Option<ResolvedRule> {
        let RuleText { id, org, spec, .. } = self.text;
        let used = self.used();
        let agents = self.agents(&used);
        let hosts = self.patterns(&spec.hosts, HostPattern::parse);
        let paths = self.patterns(&spec.paths, PathPattern::parse);
        let methods = self.methods();
        let scopes = self.scopes(&used);
        let action = self.action(used).map(|action| self.owned(id, action, &hosts))?;
        let action = self.understood(action);
        let branches = self.branches();
        let is_lost = |given: usize, read: usize| given > 0 && read == 0;
        let is_unread = is_lost(spec.hosts.len(), hosts.len())
            || is_lost(spec.paths.len(), paths.len())
            || is_lost(spec.methods.len(), methods.len())
            || is_lost(spec.branches.len(), usize::from(branches.is_some()));
        let action = if is_unread { without_limits(action, &hosts)? } else { action };
        let named = spec.agents.as_ref().map_or(0, Vec::len);
        let has_agents = !is_lost(named, agents.as_ref().map_or(0, Vec::len));
        let Limited { hosts, action, actions } = limited(hosts, action, scopes)?;
        // Without hosts, the rule would refuse all requests of the agent, although there is no credential to inject.
        let injects_nothing = hosts.is_empty() && matches!(action, RuleAction::UseMissing(_));
        let (id, org) = (id.clone(), (*org).clone());
        let rule = Rule {
            id,
            org,
            agents,
            hosts,
            methods,
            paths,
            actions,
            branches,
            action,
            allow_plaintext: spec.allow_plaintext,
            own_authorization: spec.own_authorization,
        };
        Some(ResolvedRule { rule, applies: has_agents && !injects_nothing })
    }

    fn place(&self) -> String {
        self.text.place.clone()
    }

    fn used(&mut self) -> UsedConnection<'a> {
        let (org, names) = (self.text.org, self.names);
        let Some(name) = &self.text.spec.use_connection else { return UsedConnection::Nothing };
        match names.connection(org, name) {
            Some((record, account)) => UsedConnection::Connection(record, account),
            None => {
                let nearest = nearest(name, names.connections(org)).map(str::to_owned);
                let (place, name) = (self.place(), name.clone());
                let missing = UsedConnection::Missing(name.as_str().into());
                self.problems.push(RulebookError::UnknownConnection { place, name, nearest });
                missing
            }
        }
    }

    fn agents(&mut self, used: &UsedConnection<'_>) -> Option<Vec<AgentId>> {
        let (text, names) = (self.text, self.names);
        let named = text.spec.agents.as_ref()?;
        let mut ids = Vec::with_capacity(named.len());
        for name in named {
            match names.agent(text.org, name) {
                Some(agent) if self.may_use(agent, used) => ids.push(agent.id.clone()),
                Some(_) => {}
                None => {
                    let nearest = nearest(name, names.agents(text.org)).map(str::to_owned);
                    let (place, name) = (self.place(), name.clone());
                    self.problems.push(RulebookError::UnknownAgent { place, name, nearest });
                }
            }
        }
        Some(ids)
    }

    /// Checks that agent and connection belong to the same environment; a rule is a grant like a binding.
    fn may_use(&mut self, agent: &AgentRecord, used: &UsedConnection<'_>) -> bool {
        let UsedConnection::Connection(connection, _) = used else { return true };
        if !may_be_used_by(connection, agent) {
            self.problems.push(RulebookError::Private {
                place: self.place(),
                agent: agent.name.clone(),
                connection: connection.name.clone(),
            });
            return false;
        }
        let Some((of_agent, of_connection)) = agent.environment_mismatch(connection) else {
            return true;
        };
        self.problems.push(RulebookError::Environments {
            place: self.place(),
            agent: agent.name.clone(),
            agent_environment: of_agent.to_owned(),
            connection: connection.name.clone(),
            connection_environment: of_connection.to_owned(),
        });
        false
    }

    fn patterns<T>(
        &mut self,
        texts: &[String],
        parse: impl Fn(&str) -> Result<T, PatternError>,
    ) -> Vec<T> {
        let mut patterns = Vec::with_capacity(texts.len());
        for text in texts {
            match parse(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(source) => {
                    self.problems.push(RulebookError::Pattern { place: self.place(), source });
                }
            }
        }
        patterns
    }

    fn methods(&mut self) -> Vec<Method> {
        let mut methods = Vec::with_capacity(self.text.spec.methods.len());
        for text in &self.text.spec.methods {
            match Method::from_bytes(text.to_ascii_uppercase().as_bytes()) {
                Ok(method) => methods.push(method),
                Err(_) => {
                    let (place, text) = (self.place(), text.clone());
                    self.problems.push(RulebookError::Method { place, text });
                }
            }
        }
        methods
    }

    /// The branches of pushes. A stored pattern was checked when it was given.
    fn branches(&mut self) -> Option<BranchScope> {
        let spec = self.text.spec;
        let patterns: Vec<_> =
            spec.branches.iter().filter_map(|text| RefPattern::parse(text)).collect();
        let deletions = spec.delete_branches;
        (!patterns.is_empty()).then_some(BranchScope { patterns, deletions })
    }

    /// The requests of its actions.
    fn scopes(&mut self, used: &UsedConnection<'_>) -> ActionScopes {
        let connection = match used {
            UsedConnection::Connection(record, _) => Some(*record),
            UsedConnection::Nothing => None,
            // The rule refuses all of its requests.
            UsedConnection::Missing(_) => return ActionScopes::All,
        };
        let (scopes, problems) = scopes(self.text, connection, self.names);
        self.problems.extend(problems);
        scopes
    }

    fn action(&mut self, used: UsedConnection<'_>) -> Option<RuleAction> {
        let place = self.place();
        let action = match (self.text.spec.action, used) {
            (None | Some(ActionKind::Inject), UsedConnection::Connection(_, account)) => {
                RuleAction::Use(account)
            }
            (None | Some(ActionKind::Inject), UsedConnection::Missing(name)) => {
                RuleAction::UseMissing(name)
            }
            (Some(ActionKind::Inject), UsedConnection::Nothing) => RuleAction::Inject,
            (Some(ActionKind::Deny), UsedConnection::Nothing) => RuleAction::Deny,
            (Some(ActionKind::Pass), UsedConnection::Nothing) => RuleAction::Pass,
            (Some(ActionKind::Tunnel), UsedConnection::Nothing) => RuleAction::Tunnel,
            (None, UsedConnection::Nothing) => {
                self.problems.push(RulebookError::SaysNothing { place });
                return None;
            }
            (Some(action), _) => {
                let action = action.as_str();
                self.problems.push(RulebookError::UseWithAction { place, action });
                return None;
            }
        };
        Some(action)
    }

    /// Refuses if a newer version has stored a condition that this version does not know.
    fn understood(&mut self, action: RuleAction) -> RuleAction {
        if self.text.unknown.is_empty() {
            return action;
        }
        let unknown = self.text.unknown.iter().cloned();
        let of = |name| RulebookError::UnknownMember { place: self.text.place.clone(), name };
        self.problems.extend(unknown.map(of));
        match action {
            RuleAction::Use(account) => RuleAction::UseRefused(account),
            RuleAction::Inject | RuleAction::Pass | RuleAction::Tunnel => RuleAction::Deny,
            RuleAction::UseMissing(_) | RuleAction::UseRefused(_) | RuleAction::Deny => action,
        }
    }

    /// Refuses if the connection does not own the hosts, because it was recreated with another provider.
    fn owned(&mut self, rule: &RuleId, action: RuleAction, hosts: &[HostPattern]) -> RuleAction {
        let RuleAction::Use(account) = &action else { return action };
        let foreign: Vec<_> = hosts.iter().filter(|host| !account.owns_all(host)).collect();
        for host in &foreign {
            let source = CompileError::HostNotOwned {
                rule: rule.clone(),
                connection: account.name.clone(),
                host: HostPattern::clone(host),
                provider: account.provider.clone(),
            };
            self.problems.push(RulebookError::Compile { place: self.place(), source });
        }
        match foreign.is_empty() {
            true => action,
            false => RuleAction::UseRefused(account.clone()),
        }
    }
}

/// The effect of a rule whose hosts, paths, methods or branches cannot be read: without these limits, it would apply to
/// all requests. `None`: no effect.
fn without_limits(action: RuleAction, hosts: &[HostPattern]) -> Option<RuleAction> {
    match action {
        RuleAction::Use(account) => Some(RuleAction::UseRefused(account)),
        RuleAction::UseRefused(_) => Some(action),
        // It refuses more requests than it was written for, but only at its hosts.
        RuleAction::Deny if !hosts.is_empty() => Some(action),
        RuleAction::UseMissing(_)
        | RuleAction::Inject
        | RuleAction::Deny
        | RuleAction::Pass
        | RuleAction::Tunnel => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Visibility;
    use crate::rulebook::facts::samples::{Samples, placed, text};
    use keyward_base::id::{OrgId, UserId};
    use keyward_model::RuleSpec;
    use keyward_rules::actions::ActionScope;

    fn samples() -> Samples {
        let mut samples = Samples::new();
        samples.agent("ci");
        samples.connection("work-github", "github");
        samples
    }

    fn problems(rule: RuleSpec, samples: &Samples) -> Vec<String> {
        let resolved = resolved(rule, samples);
        resolved.problems.iter().map(ToString::to_string).collect()
    }

    fn resolved(rule: RuleSpec, samples: &Samples) -> Resolved {
        resolve([RuleText::from(&placed(rule))], samples.facts().source().names())
    }

    impl Resolved {
        fn is_inert(&self) -> bool {
            self.rules.iter().all(|resolved| !resolved.applies)
        }
    }

    fn using(name: &str) -> RuleSpec {
        RuleSpec { use_connection: Some(name.to_owned()), ..text("r", &["api.github.com"]) }
    }

    fn doing(action: ActionKind) -> RuleSpec {
        RuleSpec { action: Some(action), ..text("r", &["api.github.com"]) }
    }

    #[test]
    fn every_mistake_names_its_place_and_a_remedy() {
        let agents = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect());
        for (rule, wanted) in [
            (text("r", &["a.test"]), "add `use: CONNECTION`"),
            (using("work-gihub"), "no connection `work-gihub`: did you mean `work-github`?"),
            (using("zzz"), "no connection `zzz`: add it with `keyward connection add`"),
            (
                RuleSpec { agents: agents(&["cii"]), ..doing(ActionKind::Deny) },
                "did you mean `ci`?",
            ),
            (
                RuleSpec { agents: agents(&["robot"]), ..doing(ActionKind::Deny) },
                "`keyward agent add`",
            ),
            (
                RuleSpec { action: Some(ActionKind::Deny), ..using("work-github") },
                "`action: deny` injects nothing: omit `use` or `action`",
            ),
            (
                RuleSpec { methods: vec!["GE T".to_owned()], ..doing(ActionKind::Deny) },
                "not a method",
            ),
            (
                RuleSpec { paths: vec!["v1/*".to_owned()], ..doing(ActionKind::Deny) },
                "begin with `/`",
            ),
            (
                RuleSpec { hosts: vec!["*.com".to_owned()], ..doing(ActionKind::Deny) },
                "public suffix",
            ),
        ] {
            let found = problems(rule, &samples());
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with("rules[r]: "), "{found:?}");
            assert!(found[0].contains(wanted), "{found:?} lacks {wanted}");
        }
        let foreign = RuleSpec { hosts: vec!["evil.test".to_owned()], ..using("work-github") };
        let found = problems(foreign, &samples());
        assert!(found[0].starts_with("rules[r]: "), "{found:?}");
        assert!(
            found[0].contains("`evil.test`, which provider `github` does not own"),
            "{found:?}"
        );
    }

    #[test]
    fn agents_and_connections_of_another_org_do_not_exist() {
        let mut samples = samples();
        samples.agents[0].org = OrgId::random();
        samples.connections[0].org = OrgId::random();
        let agents = Some(vec!["ci".to_owned()]);
        let found = problems(RuleSpec { agents, ..using("work-github") }, &samples);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(!found.iter().any(|problem| problem.contains("did you mean")), "{found:?}");
    }

    #[test]
    fn a_rule_grants_no_connection_of_another_environment() {
        let mut samples = samples();
        samples.agents[0].environment = Some("dev".to_owned());
        samples.connections[0].environment = Some("production".to_owned());
        let agents = Some(vec!["ci".to_owned()]);
        let rule = RuleSpec { agents, ..using("work-github") };
        let resolved = resolved(rule.clone(), &samples);
        assert!(resolved.is_inert());
        assert!(matches!(resolved.problems[..], [RulebookError::Environments { .. }]));
        samples.agents[0].environment = None;
        assert_eq!(problems(rule, &samples), [""; 0]);
    }

    #[test]
    fn a_rule_grants_no_private_connection_of_another_owner() {
        let mut samples = samples();
        let owner = Some(UserId::random());
        samples.connections[0].facts.owner.clone_from(&owner);
        samples.connections[0].facts.visibility = Visibility::Private;
        let agents = Some(vec!["ci".to_owned()]);
        let rule = RuleSpec { agents, ..using("work-github") };
        for other in [None, Some(UserId::random())] {
            samples.agents[0].facts.owner = other;
            let resolved = resolved(rule.clone(), &samples);
            assert!(resolved.is_inert());
            assert!(matches!(resolved.problems[..], [RulebookError::Private { .. }]));
        }
        samples.agents[0].facts.owner = owner;
        assert_eq!(problems(rule, &samples), [""; 0]);
    }

    #[test]
    fn missing_or_invalid_names_in_a_rule_never_match_everything() {
        for rule in [
            RuleSpec { hosts: vec!["*".to_owned()], ..doing(ActionKind::Pass) },
            RuleSpec { paths: vec!["x".to_owned()], ..doing(ActionKind::Pass) },
            RuleSpec { methods: vec!["".to_owned()], ..doing(ActionKind::Pass) },
            RuleSpec { agents: Some(vec!["gone".to_owned()]), ..doing(ActionKind::Pass) },
            RuleSpec { hosts: Vec::new(), ..using("gone") },
        ] {
            let resolved = resolved(rule.clone(), &samples());
            assert!(resolved.is_inert(), "{rule:?}");
            assert_eq!(resolved.problems.len(), 1, "{rule:?}");
        }
    }

    #[test]
    fn a_deny_rule_with_invalid_conditions_still_denies_at_its_hosts() {
        let list = |text: &str| vec![text.to_owned()];
        let deny = || doing(ActionKind::Deny);
        for rule in [
            RuleSpec { hosts: list("*.com"), ..deny() },
            RuleSpec { hosts: Vec::new(), paths: list("x"), ..deny() },
        ] {
            assert!(resolved(rule.clone(), &samples()).is_inert(), "{rule:?}");
        }
        for rule in [
            RuleSpec { paths: list("x"), ..deny() },
            RuleSpec { methods: list("GE T"), ..deny() },
            RuleSpec { branches: list("a b"), ..deny() },
        ] {
            let rules = resolved(rule.clone(), &samples()).rules();
            let [Rule { action: RuleAction::Deny, hosts, .. }] = &rules[..] else {
                panic!("{rule:?}: {rules:?}");
            };
            assert_eq!(hosts.len(), 1, "{rule:?}");
        }
    }

    /// An action of a removed own provider, and an action that was removed from its provider.
    #[test]
    fn a_deny_rule_that_lost_an_action_still_denies_its_other_actions() {
        for (gone, lost_host) in [("corp:write", None), ("groq:gone", Some("api.groq.com"))] {
            let actions = vec!["github:push".to_owned(), gone.to_owned()];
            let deny = doing(ActionKind::Deny);
            let resolved = resolved(RuleSpec { hosts: Vec::new(), actions, ..deny }, &samples());
            assert_eq!(resolved.problems.len(), 1, "{:?}", resolved.problems);
            let rules = resolved.rules();
            let [Rule { action: RuleAction::Deny, hosts, actions, .. }] = &rules[..] else {
                panic!("{gone}: {rules:?}");
            };
            let mut named = vec!["gist.github.com", "github.com"];
            named.extend(lost_host);
            named.sort_unstable();
            let mut hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
            hosts.sort_unstable();
            assert_eq!(hosts, named, "{gone}");
            let is_whole = |scope: &&ActionScope| scope.paths.is_empty();
            let whole: Vec<_> = actions.iter().filter(is_whole).flat_map(|it| &it.hosts).collect();
            let whole: Vec<_> = whole.iter().map(ToString::to_string).collect();
            assert_eq!(whole, Vec::from_iter(lost_host), "all requests of the lost one only");
        }
    }

    #[test]
    fn a_rule_whose_connection_is_gone_refuses() {
        let rules = resolved(using("gone"), &samples()).rules();
        assert!(
            matches!(&rules[..], [Rule { action: RuleAction::UseMissing(_), .. }]),
            "{rules:?}"
        );
    }

    #[test]
    fn a_rule_that_is_not_valid_for_its_connection_refuses_and_knows_the_connection() {
        let list = |text: &str| vec![text.to_owned()];
        let using = || using("work-github");
        for rule in [
            RuleSpec { hosts: list("evil.test"), ..using() },
            RuleSpec { hosts: list("*.com"), ..using() },
            RuleSpec { paths: list("x"), ..using() },
            RuleSpec { methods: list("GE T"), ..using() },
            RuleSpec { actions: list("gone"), ..using() },
            RuleSpec { hosts: Vec::new(), actions: list("stripe:read"), ..using() },
        ] {
            let samples = samples();
            let resolved = resolved(rule.clone(), &samples);
            assert_eq!(resolved.problems.len(), 1, "{:?}", resolved.problems);
            let rules = resolved.rules();
            let [Rule { action: RuleAction::UseRefused(account), .. }] = &rules[..] else {
                panic!("{rule:?}: {rules:?}");
            };
            assert_eq!(account.id, samples.connections[0].id, "{rule:?}");
        }
    }

    #[test]
    fn a_rule_resolves_names_of_agents_and_connections_to_ids() {
        let samples = samples();
        let rule = RuleSpec {
            agents: Some(vec!["ci".to_owned(), samples.agents[0].id.to_string()]),
            methods: vec!["get".to_owned(), "PROPFIND".to_owned()],
            paths: vec!["/repos/**".to_owned()],
            name: None,
            ..using("work-github")
        };
        let resolved = resolved(rule, &samples);
        assert!(resolved.problems.is_empty(), "{:?}", resolved.problems);
        let rule = &resolved.rules()[0];
        assert_eq!(rule.id.as_str(), "file:rules[r]");
        let id = &samples.agents[0].id;
        assert_eq!(rule.agents.as_deref(), Some(&[id.clone(), id.clone()][..]));
        assert_eq!(rule.methods[0], Method::GET);
        assert!(
            matches!(&rule.action, RuleAction::Use(one) if one.id == samples.connections[0].id)
        );
    }
}
