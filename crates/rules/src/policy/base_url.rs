//! [`Policy::account`]: the connection that a base URL names. This grants nothing: the request is decided like
//! any other that names its connection.

use std::collections::BTreeSet;

use super::rule::{Account, RuleAction};
use super::{CompiledRule, Policy};
use keyward_base::agent::Agent;

impl Policy {
    /// The account with this name or id that the agent may use for some request: a binding or a rule that names
    /// the agent allows it. Other accounts are treated as if they did not exist.
    pub fn account(&self, agent: &Agent, name: &str) -> Option<&Account> {
        let org = self.org(&agent.org);
        let bound = self.held(org, agent).and_then(|held| held.by_name(name));
        let granted = || {
            let places = org.rules.grants.get(name)?;
            places.iter().map(|at| &org.rules.all[*at]).find_map(|rule| rule.grants(agent))
        };
        bound.map(|binding| &*binding.account).or_else(granted)
    }

    /// The names of all accounts that the agent may use, sorted.
    pub fn account_names(&self, agent: &Agent) -> BTreeSet<&str> {
        let org = self.org(&agent.org);
        let bound = self.held(org, agent).into_iter().flat_map(|held| &held.all);
        let bound = bound.map(|binding| &*binding.account);
        let granted = org.rules.all.iter().filter_map(|rule| rule.grants(agent));
        bound.chain(granted).map(|account| &*account.name).collect()
    }
}

impl CompiledRule {
    /// The account that this rule itself grants to the agent.
    fn grants(&self, agent: &Agent) -> Option<&Account> {
        match &self.rule.action {
            RuleAction::Use(account) if self.is_grant(agent) && self.is_for(&agent.id) => {
                Some(account)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::tests::samples::{Sample, agent_of};
    use crate::policy::{Account, Policy, PolicyInput, Rule, RuleAction};
    use keyward_base::id::OrgId;

    #[test]
    fn only_bindings_and_rules_that_name_the_agent_give_it_an_account() {
        let sample = Sample::new();
        let other = agent_of(OrgId::default_org(), "other");
        let account = |name: &str| Sample::account(name, &["*.a.test", "api.a.test"]);
        let [bound, granted, narrowed, theirs] =
            ["bound", "granted", "narrowed", "theirs"].map(account);
        let rule = |account: &std::sync::Arc<Account>, name: &str, agents| Rule {
            agents,
            ..Sample::rule(name, &["api.a.test"], RuleAction::Use(account.clone()))
        };
        let policy = Policy::compile(PolicyInput {
            rules: vec![
                rule(&granted, "g", Some(vec![sample.agent.id.clone()])),
                rule(&narrowed, "n", None),
                rule(&theirs, "t", Some(vec![other.id.clone()])),
            ],
            bindings: vec![sample.bound(&bound)],
            ..PolicyInput::default()
        })
        .unwrap();
        let found = |name: &str| policy.account(&sample.agent, name).map(|found| &*found.name);
        for hidden in ["narrowed", "theirs", theirs.id.as_str(), "nothing", ""] {
            assert_eq!(found(hidden), None, "{hidden}");
        }
        assert_eq!([found("bound"), found(bound.id.as_str())], [Some("bound"); 2]);
        assert_eq!([found("granted"), found(granted.id.as_str())], [Some("granted"); 2]);
        assert!(policy.account_names(&sample.agent).into_iter().eq(["bound", "granted"]));
        assert!(policy.account_names(&other).into_iter().eq(["theirs"]));
    }

    #[test]
    fn a_base_url_leads_to_the_first_host_that_is_no_wildcard() {
        let target =
            |hosts: &[&str]| Sample::account("a", hosts).base_url_target().map(|it| it.to_string());
        assert_eq!(target(&["*.a.test"]), None);
        assert_eq!(target(&[]), None);
        assert_eq!(
            target(&["*.a.test", "x.a.test", "b.test"]).as_deref(),
            Some("https://x.a.test")
        );
        assert_eq!(target(&["x.a.test:8443"]).as_deref(), Some("https://x.a.test:8443"));
    }
}
