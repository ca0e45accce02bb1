//! Incremental changes of a [`Policy`]: the rules of an org, the bindings of an agent, an OAuth endpoint. The
//! result equals a full compilation.

use std::sync::Arc;

use super::bindings::{BindingSource, LazyBindings};
use super::rule::{AgentBindings, CompileError, Endpoint, Rule};
use super::{CompiledBindings, OAuthEndpoint, OrgPolicy, OrgRules, Policy, compile};
use keyward_base::id::{AgentId, OrgId, SessionId};
use keyward_base::pattern::HostPattern;

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

    /// Replaces the source of agents' bindings. What was compiled from the source before stays in use, except for the
    /// agents of [`Policy::register_agent`] and [`Policy::remove_agent`].
    pub fn set_source(&mut self, source: Arc<dyn BindingSource>) {
        self.source = source;
    }

    /// Compiles the bindings of an agent when it makes the next request.
    pub fn register_agent(&mut self, org: &OrgId, agent: &AgentId) {
        self.org_mut(org).agents.insert(agent.clone(), Arc::default());
    }

    /// Forgets an agent that may use nothing.
    pub fn remove_agent(&mut self, org: &OrgId, agent: &AgentId) {
        if self.org(org).agents.contains_key(agent) {
            self.org_mut(org).agents.remove(agent);
            self.forget_empty(org);
        }
    }

    /// Drops what was compiled for agents that made no request since the last call, and returns for how many. It is
    /// compiled again when it is needed.
    pub fn drop_idle(&mut self) -> usize {
        let idle_of = |org: &OrgPolicy| -> Vec<AgentId> {
            let idle = org.agents.iter().filter(|(_, bindings)| bindings.is_idle());
            idle.map(|(agent, _)| agent.clone()).collect()
        };
        let idle: Vec<_> = self.orgs.iter().map(|(id, org)| (id.clone(), idle_of(org))).collect();
        for (org, agents) in &idle {
            agents.iter().for_each(|agent| self.register_agent(org, agent));
        }
        idle.iter().map(|(_, agents)| agents.len()).sum()
    }

    /// Replaces the bindings and blocked slots of one agent by compiled ones.
    pub(super) fn set_held(&mut self, org: &OrgId, agent: &AgentId, held: AgentBindings) {
        self.org_mut(org).agents.insert(agent.clone(), Arc::new(LazyBindings::of(held)));
    }

    /// Adds a reference to a host of the org's own connections. Refusals for literal hosts are sent inside TLS.
    pub fn add_known_host(&mut self, org: &OrgId, host: &HostPattern) {
        if host.literal().is_some() {
            self.org_mut(org).known.add(host, ());
        }
    }

    /// Removes a reference to a host of the org's own connections.
    pub fn remove_known_host(&mut self, org: &OrgId, host: &HostPattern) {
        if host.literal().is_some() {
            self.org_mut(org).known.take(host, &());
            self.forget_empty(org);
        }
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
            && self.known.is_empty()
            && self.oauth_endpoints.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::samples::{Sample, agent_of};
    use crate::policy::{AccountBinding, PolicyInput, RuleAction};
    use keyward_base::codes::Code;

    #[test]
    fn an_edit_shares_unchanged_parts_and_leaves_the_earlier_policy_unchanged() {
        let (sample, other) = (Sample::new(), Sample { agent: agent_of(other_org(), "other") });
        let neighbour = Sample { agent: agent_of(OrgId::default_org(), "neighbour") };
        let account = Sample::account("work", &["api.a.test"]);
        let bindings = [&sample, &neighbour, &other].map(|it| it.bound(&account)).into();
        let rules = vec![Sample::rule("no", &["no.test"], RuleAction::Deny)];
        let before = Policy::compile(PolicyInput { rules, bindings, ..PolicyInput::default() })
            .expect("a policy");
        let mut now = before.clone();
        let (org, agent) = (&sample.agent.org, &sample.agent.id);
        now.remove_agent(org, agent);
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
    fn duplicate_rules_are_refused_and_change_nothing() {
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
    fn a_host_is_known_until_its_last_connection_is_removed() {
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
        let (org, host) = (&one.agent.org, &account.hosts[0]);
        policy.remove_known_host(org, host);
        assert_eq!(route(&policy), "Some(Intercept)");
        policy.remove_known_host(org, host);
        assert_eq!(route(&policy), "Some(Deny)");
    }

    fn other_org() -> OrgId {
        OrgId::named("other").expect("a name")
    }
}
