//! [`World`]: a compact description of agents, bindings and rules, and the decisions made there.

use std::sync::Arc;

use http::Method;

use super::samples::{Sample, agent_of};
use crate::inject::path_prefix::PathPrefix;
use crate::inject::placeholder::PlaceholderCore;
use crate::inject::placement::Scoped;
use crate::inject::template::{Encoding, ValueTemplate};
use crate::policy::{
    Account, AccountBinding, AccountState, AgentAllow, AllowedSets, DefaultAction, Policy,
    PolicyInput, Route, Rule, RuleAction,
};
use keyward_base::agent::Agent;
use keyward_base::host::{Scheme, Target};
use keyward_base::id::{OrgId, RuleId};
use keyward_base::pattern::{HostPattern, PathPattern};

/// Two agents, their bindings, and rules.
pub(super) struct World {
    pub(super) ci: Agent,
    pub(super) dev: Agent,
    pub(super) spec: PolicyInput,
}

impl World {
    pub(super) fn new() -> Self {
        let (ci, dev) = (Sample::new().agent, agent_of(OrgId::default_org(), "dev"));
        Self { ci, dev, spec: PolicyInput { hostless_rules_max: 10, ..PolicyInput::default() } }
    }

    pub(super) fn default(mut self, action: DefaultAction) -> Self {
        self.spec.default = action;
        self
    }

    /// Binds the connection to `ci`.
    pub(super) fn bind(mut self, account: &Arc<Account>) -> Self {
        let sample = Sample { agent: self.ci.clone() };
        self.spec.bindings.push(sample.bound(account));
        self
    }

    /// Lets `ci` reach these sets of hosts.
    pub(super) fn allow(mut self, sets: &[&str]) -> Self {
        let sets = AllowedSets::named(sets.iter().copied());
        let (org, agent) = (self.ci.org.clone(), self.ci.id.clone());
        self.spec.allow.push(AgentAllow { org, agent, sets });
        self
    }

    pub(super) fn rule(mut self, rule: Rule) -> Self {
        self.spec.rules.push(rule);
        self
    }

    pub(super) fn deny(self, name: &str, hosts: &[&str]) -> Self {
        self.rule(Sample::rule(name, hosts, RuleAction::Deny))
    }

    pub(super) fn oauth_endpoint(mut self, host: &str, path: &str) -> Self {
        self.spec.oauth_endpoints.push(("prov".into(), pattern(host), path_pattern(path)));
        self
    }

    pub(super) fn org_oauth_endpoint(mut self, org: &OrgId, host: &str, path: &str) -> Self {
        let endpoint = ("prov".into(), pattern(host), path_pattern(path));
        self.spec.org_oauth_endpoints.push((org.clone(), endpoint));
        self
    }

    pub(super) fn core(&self, account: &Account) -> PlaceholderCore {
        let of = |bound: &&AccountBinding| bound.account.id == account.id;
        self.spec.bindings.iter().find(of).expect("it is bound").placeholders[0]
    }

    pub(super) fn policy(&self) -> Policy {
        Policy::compile(self.spec.clone()).expect("the world compiles")
    }

    /// The decision as `inject NAME by RULE`, `pass by RULE`, or the code of the refusal.
    pub(super) fn says(
        &self,
        agent: &Agent,
        line: &str,
        cores: &[PlaceholderCore],
        named: Option<&str>,
    ) -> String {
        let policy = self.policy();
        let decided = Sample::ask(line, cores, named, |asked| policy.decide(agent, asked));
        match decided {
            Ok(permit) => match permit.wanted() {
                Some(wanted) => format!("inject {} by {}", wanted.name, short(permit.rule())),
                None => format!("pass by {}", permit.rule()),
            },
            Err(reason) => reason.code().to_string(),
        }
    }

    pub(super) fn ci(&self, line: &str) -> String {
        self.says(&self.ci, line, &[], None)
    }

    pub(super) fn dev(&self, line: &str) -> String {
        self.says(&self.dev, line, &[], None)
    }

    /// The route as `deny CODE`, `tunnel RULE` or `intercept`.
    pub(super) fn route(&self, agent: &Agent, authority: &str) -> String {
        let target = Target::parse(Scheme::Https, authority).expect(authority);
        match self.policy().route(agent, &target) {
            Route::Deny { reason, .. } => format!("deny {}", reason.code()),
            Route::Tunnel(permit) => format!("tunnel {}", permit.rule()),
            Route::Intercept(permit) => {
                assert_eq!(permit.target(), &target);
                "intercept".to_owned()
            }
        }
    }
}

/// A label without the random id of a binding.
pub(super) fn short(rule: &RuleId) -> &str {
    rule.as_str().split_once(':').map_or(rule.as_str(), |(kind, _)| kind)
}

pub(super) fn pattern(text: &str) -> HostPattern {
    HostPattern::parse(text).expect(text)
}

pub(super) fn path_pattern(text: &str) -> PathPattern {
    PathPattern::parse(text).expect(text)
}

pub(super) fn work() -> Arc<Account> {
    Sample::account("work", &["api.a.test"])
}

pub(super) fn in_state(name: &str, state: AccountState) -> Arc<Account> {
    Arc::new(Account { state, ..(*Sample::account(name, &["api.a.test"])).clone() })
}

pub(super) fn under(name: &str, host: &str, path: &str) -> Arc<Account> {
    let paths = Arc::from([path_pattern(path)]);
    Arc::new(Account { paths, ..(*Sample::account(name, &[host])).clone() })
}

pub(super) fn uses(name: &str, account: &Arc<Account>) -> Rule {
    Sample::rule(name, &["api.a.test"], RuleAction::Use(account.clone()))
}

pub(super) fn only(method: Method, rule: Rule) -> Rule {
    Rule { methods: vec![method], ..rule }
}

pub(super) fn on_path(path: &str, rule: Rule) -> Rule {
    Rule { paths: vec![path_pattern(path)], ..rule }
}

/// A connection with its key in the path.
pub(super) fn with_prefix(text: &str) -> Arc<Account> {
    let template = ValueTemplate::parse(text, Encoding::Plain).expect(text);
    let what = Some(PathPrefix::of(&template, |_| true));
    let places = Arc::from([Scoped { hosts: Vec::new(), paths: Vec::new(), what }]);
    Arc::new(Account { places, ..(*Sample::account("bot", &["api.a.test"])).clone() })
}
