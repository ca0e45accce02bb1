//! What a decision says of its steps. The request path is silent, of which nothing is compiled; `explain` and the audit
//! log repeat the decision with [`Explained`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CompiledBinding, Policy, PolicyRequest, Reason};
use keyward_base::agent::Agent;
use keyward_base::id::RuleId;
use keyward_base::pattern::DecodedPath;

/// A rule, binding or set, and its part in the decision.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConsideredRule {
    /// As explain and audit name it.
    pub rule: String,
    /// Its part.
    pub fit: RuleOutcome,
}

/// The part of a rule in a decision.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleOutcome {
    /// It decides.
    Decides,
    /// An earlier one decides.
    NotReached,
    /// It is for other agents.
    Agent,
    /// It is for other hosts.
    Host,
    /// It is for other methods.
    Method,
    /// It is for other paths.
    Path,
    /// It is for other actions.
    Action,
    /// It uses a connection that the agent is not bound to.
    Connection,
    /// The credential of its connection has no place in the request, which is decided as if it were not bound.
    NoPlace,
    /// The request has an authorization of its own, and is decided as if the connection were not bound.
    OwnAuthorization,
    /// It fits, but another one was chosen, or the request was refused before.
    NotChosen,
}

impl RuleOutcome {
    /// The part in two or three words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Decides => "decides",
            Self::NotReached => "not reached",
            Self::Agent => "another agent",
            Self::Host => "another host",
            Self::Method => "another method",
            Self::Path => "another path",
            Self::Action => "another action",
            Self::Connection => "not bound to it",
            Self::NoPlace => "not bound here: no place",
            Self::OwnAuthorization => "not used: own authorization",
            Self::NotChosen => "fits, not chosen",
        }
    }

    /// Whether the request is decided as if its connection were not bound.
    pub fn is_not_taken(self) -> bool {
        matches!(self, Self::NoPlace | Self::OwnAuthorization)
    }
}

impl ConsideredRule {
    pub(super) fn new(rule: &RuleId, fit: RuleOutcome) -> Self {
        Self { rule: rule.to_string(), fit }
    }
}

/// Sees the steps of a decision. If a request has several readings or resources, the agent's own comes first.
pub(super) trait Steps {
    /// A reading or resource is decided.
    fn begins(&mut self) {}
    /// The rule does not decide, for this reason.
    fn passes(&mut self, _rule: &RuleId, _why: RuleOutcome) {}
    /// The rule, binding or default decides: what follows is its result.
    fn decides(&mut self, _by: &RuleId) {}
    /// The agent's default among several bindings that fit.
    fn prefers(&mut self, _used: &CompiledBinding, _fitting: &[&CompiledBinding]) {}
    /// The path that is sent instead of the agent's.
    fn sends(&mut self, _path: &DecodedPath) {}
}

/// Keeps nothing.
pub(super) struct Silent;

/// Keeps what explains a decision.
#[derive(Debug, Default)]
pub(super) struct Explained {
    /// The rules that the first reading came to, the deciding one included.
    rules: Vec<(RuleId, RuleOutcome)>,
    readings: usize,
    /// What decides the last reading.
    by: Option<RuleId>,
    /// Connections that fit as well as the agent's default.
    pub(super) passed_over: Vec<String>,
    pub(super) sent_path: Option<DecodedPath>,
}

impl Steps for Silent {}

impl Steps for Explained {
    fn begins(&mut self) {
        self.readings += 1;
        self.by = None;
    }

    fn passes(&mut self, rule: &RuleId, why: RuleOutcome) {
        if self.readings == 1 {
            self.rules.push((rule.clone(), why));
        }
    }

    fn decides(&mut self, by: &RuleId) {
        self.passes(by, RuleOutcome::NotChosen);
        self.by = Some(by.clone());
    }

    fn prefers(&mut self, used: &CompiledBinding, fitting: &[&CompiledBinding]) {
        if self.passed_over.is_empty() {
            let others = fitting.iter().filter(|it| it.account.id != used.account.id);
            self.passed_over = others.map(|it| it.account.name.to_string()).collect();
        }
    }

    fn sends(&mut self, path: &DecodedPath) {
        self.sent_path.get_or_insert_with(|| path.clone());
    }
}

impl Explained {
    /// The part of a rule for the agent and host: the last that was come to is [`RuleOutcome::NotChosen`].
    pub(super) fn part(&self, rule: &RuleId) -> RuleOutcome {
        let part = self.rules.iter().find(|(known, _)| known == rule);
        part.map_or(RuleOutcome::NotReached, |(_, part)| *part)
    }

    /// The rule, binding or default that refuses for this reason.
    pub(super) fn refusing(&self, reason: &Reason) -> Option<RuleId> {
        match reason {
            // The binding that would have decided is gone.
            Reason::ConnectionRemoved { .. } => None,
            reason => reason.rule().or(self.by.as_ref()).cloned(),
        }
    }
}

impl Policy {
    /// The rule, binding or default that refused the request, for the audit log. `None` if it was refused before any of
    /// them decided: because of its method, or because it selects no connection.
    pub fn deciding_rule(
        &self,
        agent: &Agent,
        asked: &PolicyRequest<'_>,
        reason: &Reason,
    ) -> Option<RuleId> {
        let mut steps = Explained::default();
        drop(self.decide_by(agent, asked, &mut steps));
        steps.refusing(reason)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::rule::{Account, AccountState, RuleAction};
    use crate::policy::tests::samples::Sample;
    use crate::policy::{DefaultAction, PolicyInput, Route};
    use keyward_base::host::{Scheme, Target};

    /// The rule behind the refusal of a request, by `decide`.
    fn of(
        (sample, input): (Sample, PolicyInput),
        line: &str,
        named: Option<&str>,
    ) -> Option<String> {
        let policy = Policy::compile(input).expect("a policy");
        Sample::ask(line, &[], named, |asked| {
            let reason = policy.decide(&sample.agent, asked).expect_err(line);
            policy.deciding_rule(&sample.agent, asked, &reason).map(|rule| rule.to_string())
        })
    }

    /// A policy with one binding, and its id.
    fn bound(state: AccountState) -> ((Sample, PolicyInput), String) {
        let account =
            Account { state, ..Account::clone(&Sample::account("work", &["api.a.test"])) };
        let (account, sample) = (Arc::new(account), Sample::new());
        let id = format!("binding:{}", account.id);
        let bindings = vec![sample.bound(&account)];
        ((sample, PolicyInput { bindings, ..PolicyInput::default() }), id)
    }

    #[test]
    fn a_refusal_that_no_rule_decided_has_no_deciding_rule() {
        let (input, _) = bound(AccountState::Active);
        assert_eq!(of(input, "TRACE https://api.a.test/", None), None);
        let (input, _) = bound(AccountState::Active);
        assert_eq!(of(input, "GET https://api.a.test/", Some("other")), None);
    }

    #[test]
    fn a_request_that_no_rule_names_is_refused_by_the_default() {
        let input = || (Sample::new(), PolicyInput::default());
        assert_eq!(of(input(), "GET https://b.test/", None).as_deref(), Some("default"));
        assert_eq!(of(input(), "GET https://b.test:22/", None).as_deref(), Some("default"));
    }

    #[test]
    fn a_connection_that_cannot_be_used_is_refused_by_its_binding() {
        for state in [
            AccountState::Paused,
            AccountState::Draft(None),
            AccountState::Broken("revoked".into()),
        ] {
            let (input, binding) = bound(state);
            assert_eq!(of(input, "GET https://api.a.test/", None), Some(binding));
        }
        let (input, binding) = bound(AccountState::Active);
        assert_eq!(of(input, "GET http://api.a.test/", None), Some(binding), "plaintext");
    }

    #[test]
    fn a_rule_before_the_binding_is_named_instead_of_it() {
        let (mut input, _) = bound(AccountState::Paused);
        input.1.rules = vec![
            Sample::rule("elsewhere", &["b.test"], RuleAction::Deny),
            Sample::rule("inject", &["api.a.test"], RuleAction::Inject),
        ];
        assert_eq!(of(input, "GET https://api.a.test/", None).as_deref(), Some("inject"));
    }

    #[test]
    fn a_rule_with_a_missing_connection_is_named_for_requests_and_for_a_connect() {
        let missing = || {
            let passes = Sample::rule("first", &["b.test"], RuleAction::Pass);
            let action = RuleAction::UseMissing("work".into());
            let rules = vec![passes, Sample::rule("gone", &["*.a.test"], action)];
            PolicyInput { rules, ..PolicyInput::default() }
        };
        assert_eq!(
            of((Sample::new(), missing()), "GET https://api.a.test/", None).as_deref(),
            Some("gone")
        );
        let (policy, sample) = (Policy::compile(missing()).expect("a policy"), Sample::new());
        let target = Target::parse(Scheme::Https, "api.a.test:443").unwrap();
        let Route::Deny { rule, .. } = policy.route(&sample.agent, &target) else {
            panic!("it denies")
        };
        assert_eq!(rule.map(|rule| rule.to_string()).as_deref(), Some("gone"));
    }

    #[test]
    fn a_default_of_pass_is_named_where_it_refuses_a_port() {
        let input = PolicyInput { default: DefaultAction::Pass, ..PolicyInput::default() };
        assert_eq!(
            of((Sample::new(), input), "GET https://b.test:22/", None).as_deref(),
            Some("default")
        );
    }
}
