//! Logins at databases and SSH servers. A login is one decision: methods and paths do not exist there, so a rule or slot that
//! has some permits nothing.

use super::rule::{Account, Rule, RuleAction};
use super::{OrgPolicy, Policy, Reason};
use keyward_base::agent::Agent;
use keyward_base::host::Target;
use keyward_base::id::RuleId;

impl Policy {
    /// The rule or binding that gives the agent the whole connection.
    pub(super) fn giving_login(&self, agent: &Agent, account: &Account) -> Result<RuleId, Reason> {
        let missing = || Reason::ConnectionMissing { name: account.name.clone() };
        let org = self.org(&agent.org);
        let held = self.held(org, agent).and_then(|held| held.by_name(account.id.as_str()));
        // As for requests: a rule that uses the connection replaces its binding.
        if let Some(rule) = org.rules.all.iter().find(|it| it.uses(&account.id, &agent.id)) {
            return match rule.gives_login(agent, held.is_some()) {
                true => Ok(rule.rule.id.clone()),
                false => Err(rule.rule.narrowed(account)),
            };
        }
        let binding = held.ok_or_else(missing)?;
        binding.for_login()
    }
}

impl OrgPolicy {
    /// Checks that the first rule about the server does not deny the agent a login with the account.
    pub(super) fn allows_login(
        &self,
        agent: &Agent,
        account: &Account,
        server: &Target,
    ) -> Result<(), Reason> {
        // A rule for all hosts, or for some methods or paths, is about requests.
        let is_meant = |rule: &&Rule| {
            !rule.hosts.is_empty() && !rule.is_conditional() && !rule.is_for_another(account)
        };
        let rules = self.rules.candidates(&agent.id, server).into_iter();
        let mut rules = rules.map(|candidate| &candidate.compiled.rule);
        match rules.find(is_meant) {
            Some(rule) if matches!(rule.action, RuleAction::Deny) => {
                Err(Reason::Denied { rule: rule.id.clone() })
            }
            _ => Ok(()),
        }
    }
}
