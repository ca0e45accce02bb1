//! Incremental changes of a [`Policy`]: the rules of an org, the bindings of an agent, an OAuth endpoint. The
//! result equals a full compilation.

use std::sync::Arc;

use super::rule::{AgentBindings, CompileError, Endpoint, Rule};
use super::{CompiledBindings, OAuthEndpoint, OrgPolicy, OrgRules, Policy, compile};
use keyward_base::id::{AgentId, OrgId, SessionId};

impl Policy {
    /// Replaces the rules of one org.
    ///
    /// # Errors
    /// When the rules contradict themselves or each other; then nothing changes.
    pub fn set_rules(&mut self, org: &OrgId, rules: Vec<Rule>) -> Result<(), Vec<CompileError>> {
        let errors = compile::check(&rules, self.hostless_rules_max);
        if !errors.is_empty() {
            return Err(errors);
        }
        self.org_mut(org).rules = Arc::new(OrgRules::of(rules));
        self.forget_empty(org);
        Ok(())
    }

    /// Replaces the bindings and blocked slots of one agent.
    pub fn set_held(&mut self, org: &OrgId, agent: &AgentId, held: AgentBindings) {
        self.org_mut(org).set_held(agent, CompiledBindings::of(held));
        self.forget_empty(org);
    }

    /// Replaces what may be used in a session; `None`: it has ended. Hosts of sessions are not known hosts: a refusal
    /// does not depend on what is used in other sessions.
    pub fn set_session(&mut self, org: &OrgId, session: &SessionId, held: Option<AgentBindings>) {
        let sessions = &mut self.org_mut(org).sessions;
        match held {
            Some(held) => drop(sessions.insert(session.clone(), CompiledBindings::of(held).into())),
            None => drop(sessions.remove(session)),
        }
        self.forget_empty(org);
    }

    /// Adds a reference to an OAuth endpoint in the org; nothing is injected there.
    pub fn add_oauth_endpoint(&mut self, org: &OrgId, (provider, host, path): &Endpoint) {
        let endpoint = OAuthEndpoint { provider: provider.clone(), path: path.clone() };
        self.org_mut(org).oauth_endpoints.add(host, endpoint);
    }

    /// Removes a reference to an OAuth endpoint in the org.
    pub fn remove_oauth_endpoint(&mut self, org: &OrgId, (provider, host, path): &Endpoint) {
        let endpoint = OAuthEndpoint { provider: provider.clone(), path: path.clone() };
        self.org_mut(org).oauth_endpoints.take(host, &endpoint);
        self.forget_empty(org);
    }

    pub(super) fn org_mut(&mut self, org: &OrgId) -> &mut OrgPolicy {
        Arc::make_mut(self.orgs.entry(org.clone()))
    }

    fn forget_empty(&mut self, org: &OrgId) {
        if self.org(org).is_empty() {
            self.orgs.remove(org);
        }
    }
}

impl OrgPolicy {
    fn is_empty(&self) -> bool {
        self.rules.all.is_empty()
            && self.agents.is_empty()
            && self.sessions.is_empty()
            && self.oauth_endpoints.is_empty()
    }

    fn set_held(&mut self, agent: &AgentId, now: CompiledBindings) {
        let hosts = |bindings: &CompiledBindings| {
            let all = bindings.all.iter().flat_map(|binding| binding.account.hosts.iter());
            all.filter(|pattern| pattern.literal().is_some()).cloned().collect::<Vec<_>>()
        };
        // Additions come first, so that unchanged values are not removed in between.
        hosts(&now).iter().for_each(|pattern| self.known.add(pattern, ()));
        let before = match now.is_empty() {
            true => self.agents.remove(agent),
            false => self.agents.insert(agent.clone(), Arc::new(now)),
        };
        if let Some(before) = before {
            hosts(&before).iter().for_each(|pattern| self.known.take(pattern, &()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::samples::{Sample, agent_of};
    use crate::policy::{AccountBinding, PolicyInput, RuleAction};
    use keyward_base::codes::Code;

    #[test]
    fn what_is_not_changed_stays_shared_and_the_policy_before_stays_as_it_was() {
        let (sample, other) = (Sample::new(), Sample { agent: agent_of(other_org(), "other") });
        let neighbour = Sample { agent: agent_of(OrgId::default_org(), "neighbour") };
        let account = Sample::account("work", &["api.a.test"]);
        let bindings = [&sample, &neighbour, &other].map(|it| it.bound(&account)).into();
        let rules = vec![Sample::rule("no", &["no.test"], RuleAction::Deny)];
        let before = Policy::compile(PolicyInput { rules, bindings, ..PolicyInput::default() })
            .expect("a policy");
        let mut now = before.clone();
        let (org, agent) = (&sample.agent.org, &sample.agent.id);
        now.set_held(org, agent, AgentBindings::default());
        let asks = |policy: &Policy, it: &Sample| {
            it.explain(policy, "GET https://api.a.test/").code.map_or("permitted", Code::as_str)
        };
        assert_eq!(asks(&now, &sample), "default_deny");
        assert_eq!([asks(&before, &sample), asks(&now, &neighbour)], ["permitted"; 2]);
        let held =
            |policy: &Policy, id| policy.org(org).agents.get(id).expect("it is there").clone();
        let id = &neighbour.agent.id;
        assert!(Arc::ptr_eq(&held(&before, id), &held(&now, id)));
        assert!(Arc::ptr_eq(&before.org(org).rules, &now.org(org).rules));
        let whole =
            |policy: &Policy| policy.orgs.get(&other.agent.org).expect("it is there").clone();
        assert!(Arc::ptr_eq(&whole(&before), &whole(&now)));
    }

    #[test]
    fn rules_that_contradict_themselves_change_nothing() {
        let sample = Sample::new();
        let rules = vec![Sample::rule("no", &["no.test"], RuleAction::Deny)];
        let mut policy =
            Policy::compile(PolicyInput { rules, ..PolicyInput::default() }).expect("a policy");
        let twice = || Sample::rule("twice", &["a.test"], RuleAction::Pass);
        let refused = policy.set_rules(&sample.agent.org, vec![twice(), twice()]);
        assert_eq!(refused.map_err(|errors| errors.len()), Err(1));
        let code = |policy: &Policy| sample.explain(policy, "GET https://no.test/").code;
        assert_eq!(code(&policy), Some(Code::Denied));
        policy.set_rules(&sample.agent.org, Vec::new()).expect("nothing is wrong with none");
        assert_eq!(code(&policy), Some(Code::DefaultDeny));
        assert!(policy.orgs.is_empty(), "an org without anything is forgotten");
    }

    #[test]
    fn a_host_is_known_until_the_last_binding_to_it_has_gone() {
        let (one, two) = (Sample::new(), Sample::new());
        let account = Sample::account("work", &["api.a.test"]);
        let bound = |it: &Sample| -> Vec<AccountBinding> { vec![it.bound(&account)] };
        let bindings = bound(&one).into_iter().chain(bound(&two)).collect();
        let mut policy =
            Policy::compile(PolicyInput { bindings, ..PolicyInput::default() }).expect("a policy");
        // Refusals for known hosts are sent inside TLS.
        let stranger = Sample::new();
        let route = |policy: &Policy| {
            format!("{:?}", stranger.explain(policy, "GET https://api.a.test/").route)
        };
        assert_eq!(route(&policy), "Some(Intercept)");
        policy.set_held(&one.agent.org, &one.agent.id, AgentBindings::default());
        assert_eq!(route(&policy), "Some(Intercept)");
        policy.set_held(&two.agent.org, &two.agent.id, AgentBindings::default());
        assert_eq!(route(&policy), "Some(Deny)");
    }

    fn other_org() -> OrgId {
        OrgId::named("other").expect("a name")
    }
}
