//! [`Policy::deciding_rule`]: the rule or binding behind a refusal, for the audit log and `explain`. It is found
//! after the refusal, so that decisions do not carry it.

use std::sync::Arc;

use super::decide::{Evaluation, requests};
use super::rule::RuleAction;
use super::{CompiledBinding, Policy, PolicyRequest, Reason, RuleCandidate};
use keyward_base::agent::Agent;
use keyward_base::host::Target;
use keyward_base::id::RuleId;

impl Policy {
    /// The rule, binding or default that refused the request. `None` if it was refused before any of them decided:
    /// because of its method, or because it selects no connection.
    pub fn deciding_rule(
        &self,
        agent: &Agent,
        asked: &PolicyRequest<'_>,
        reason: &Reason,
    ) -> Option<RuleId> {
        if let Some(known) = self.known(reason) {
            return known;
        }
        // The method that a server may use instead can be the cause, and a resource that a field names.
        let methods = std::iter::once(asked.method).chain(asked.overrides);
        let own = methods.map(|method| PolicyRequest { method, ..*asked });
        let refused = |asked: &PolicyRequest<'_>| {
            self.decide_one(agent, asked, asked.path).err().as_ref() == Some(reason)
        };
        let asked = own.chain(requests(asked)).find(refused).unwrap_or(*asked);
        let evaluation = self.evaluation(agent, &asked, asked.path);
        let binding = || evaluation.binding_of(reason).map(|binding| &binding.id);
        let default = matches!(reason, Reason::TokenEndpoint { .. }).then_some(&self.default_rule);
        evaluation.rule_of(reason).or_else(binding).or(default).cloned()
    }

    /// The rule or default that refused a CONNECT.
    pub fn deciding_rule_of_route(
        &self,
        agent: &Agent,
        target: &Target,
        reason: &Reason,
    ) -> Option<RuleId> {
        if let Some(known) = self.known(reason) {
            return known;
        }
        let Reason::ConnectionMissing { name } = reason else { return None };
        let candidates = self.org(&agent.org).rules.candidates(&agent.id, target);
        candidates.iter().find_map(|candidate| lacking(candidate, name)).cloned()
    }

    /// The rule that the reason itself implies; `None` if it implies none.
    fn known(&self, reason: &Reason) -> Option<Option<RuleId>> {
        match (reason.rule(), reason) {
            (Some(rule), _) => Some(Some(rule.clone())),
            (
                None,
                Reason::DefaultDeny { .. } | Reason::NoneInSession | Reason::PortRefused { .. },
            ) => Some(Some(self.default_rule.clone())),
            (None, Reason::Method) => Some(None),
            (None, _) => None,
        }
    }
}

impl<'a> Evaluation<'a> {
    /// The first rule that matches, or the one that lacks the connection.
    fn rule_of(&self, reason: &Reason) -> Option<&'a RuleId> {
        let candidates = self.org.rules.candidates(&self.agent.id, self.asked.target);
        let mut matching =
            candidates.into_iter().filter(|candidate| matches!(self.applies(*candidate), Ok(true)));
        let lacks = |candidate: &RuleCandidate<'a>| match reason {
            Reason::ConnectionMissing { name } => lacking(candidate, name).is_some(),
            _ => false,
        };
        let found = matching.find(|found| self.missing(*found).is_none() || lacks(found));
        found.map(|RuleCandidate { compiled, .. }| &compiled.rule.id)
    }

    /// The binding of the connection that the reason names, or that the request selects.
    fn binding_of(&self, reason: &Reason) -> Option<&'a CompiledBinding> {
        match (reason.connection(), reason) {
            (Some(name), _) => self.held?.by_name(name),
            (None, Reason::TokenEndpoint { .. }) => {
                let selected = self.selected().ok().flatten();
                selected.or_else(|| self.unselected().ok().flatten())
            }
            (None, _) => None,
        }
    }
}

/// The rule, if it uses a connection with this name.
fn lacking<'a>(candidate: &RuleCandidate<'a>, name: &Arc<str>) -> Option<&'a RuleId> {
    let rule = &candidate.compiled.rule;
    let used = match &rule.action {
        RuleAction::Use(account) | RuleAction::UseRefused(account) => &account.name,
        RuleAction::UseMissing(missing) => missing,
        _ => return None,
    };
    (used == name).then_some(&rule.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rule::{Account, AccountState};
    use crate::policy::tests::samples::Sample;
    use crate::policy::{DefaultAction, PolicyInput, Route};

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
        let target = Target::parse(keyward_base::host::Scheme::Https, "api.a.test:443").unwrap();
        let Route::Deny(reason) = policy.route(&sample.agent, &target) else { panic!("it denies") };
        let rule = policy.deciding_rule_of_route(&sample.agent, &target, &reason);
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
