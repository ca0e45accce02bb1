//! [`Policy::permit_ssh`]: whether an agent may log in at a server with an SSH key.

use super::decide::is_usable;
use super::rule::Account;
use super::{Policy, Reason};
use crate::inject::credential::RequiredConnection;
use keyward_base::agent::Agent;
use keyward_base::host::Target;
use keyward_base::id::RuleId;

/// Proof that an agent may have a login at some servers signed.
#[must_use]
#[derive(Debug)]
pub struct SshPermit {
    rule: RuleId,
    wanted: RequiredConnection,
}

impl Policy {
    /// The SSH keys that the agent may use, usable or not, sorted by the names of their connections.
    pub fn ssh_keys(&self, agent: &Agent) -> Vec<&Account> {
        let names = self.account_names(agent).into_iter();
        names.filter_map(|name| self.account(agent, name)).filter(|it| it.is_ssh).collect()
    }

    /// Permits a login with the key of a connection, by its name or id, at each of the servers.
    ///
    /// # Errors
    /// When the agent has no such key, it is not usable, or a rule or slot is in the way.
    pub fn permit_ssh(
        &self,
        agent: &Agent,
        name: &str,
        servers: &[&Target],
    ) -> Result<SshPermit, Reason> {
        let missing = || Reason::ConnectionMissing { name: name.into() };
        let account = self.account(agent, name).filter(|it| it.is_ssh).ok_or_else(missing)?;
        let org = self.org(&agent.org);
        let rule = self.giving_login(agent, account)?;
        servers.iter().try_for_each(|server| org.allows_login(agent, account, server))?;
        is_usable(account)?;
        Ok(SshPermit { rule, wanted: account.wanted() })
    }
}

impl SshPermit {
    /// The rule or binding that decided.
    pub fn rule(&self) -> &RuleId {
        &self.rule
    }

    /// The connection whose key signs.
    pub fn wanted(&self) -> &RequiredConnection {
        &self.wanted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;

    use super::*;
    use crate::policy::tests::samples::{Sample, agent_of};
    use crate::policy::{AccountState, PolicyInput, Rule, RuleAction};
    use keyward_base::host::Scheme;

    fn key(name: &str, state: AccountState) -> Arc<Account> {
        Arc::new(Account { is_ssh: true, state, ..Account::clone(&Sample::account(name, &[])) })
    }

    /// The rule that permits a login at `server` with the key `name`, or the code of the refusal.
    fn asked(
        policy: &Policy,
        agent: &Agent,
        name: &str,
        server: &str,
    ) -> Result<String, &'static str> {
        let server = Target::parse(Scheme::Https, server).expect("a server");
        let permitted = policy.permit_ssh(agent, name, &[&server]);
        permitted.map(|it| it.rule().to_string()).map_err(|reason| reason.code().as_str())
    }

    #[test]
    fn only_a_bound_and_usable_key_logs_in_and_only_where_no_rule_denies_it() {
        let sample = Sample::new();
        let (work, paused) = (key("work", AccountState::Active), key("off", AccountState::Paused));
        let api = Sample::account("api", &["api.a.test"]);
        let rules = vec![
            Sample::rule("no-prod", &["prod.test:22"], RuleAction::Deny),
            Sample::rule("nothing", &[], RuleAction::Deny),
            Rule {
                methods: vec![Method::GET],
                ..Sample::rule("no-get", &["dev.test:22"], RuleAction::Deny)
            },
        ];
        let bindings = [&work, &paused, &api].map(|it| sample.bound(it)).into();
        let input =
            PolicyInput { rules, bindings, hostless_rules_max: 9, ..PolicyInput::default() };
        let policy = Policy::compile(input).expect("a policy");
        let of = |name: &str, server: &str| asked(&policy, &sample.agent, name, server);
        assert_eq!(of("work", "prod.test:22"), Err("denied"));
        assert_eq!(of("off", "dev.test:22"), Err("connection_paused"));
        assert_eq!(of("api", "dev.test:22"), Err("connection_missing"));
        assert_eq!(of("none", "dev.test:22"), Err("connection_missing"));
        let other = agent_of(sample.agent.org.clone(), "other");
        assert_eq!(asked(&policy, &other, "work", "dev.test:22"), Err("connection_missing"));
        assert_eq!(of("work", "dev.test:22"), Ok(format!("binding:{}", work.id)));
        assert_eq!(of("work", "prod.test:2222"), Ok(format!("binding:{}", work.id)));
        let names: Vec<_> = policy.ssh_keys(&sample.agent).iter().map(|it| &*it.name).collect();
        assert_eq!(names, ["off", "work"]);
        assert!(policy.ssh_keys(&other).is_empty());
    }

    /// The rule that permits the sample's agent, which is bound to `work`, a login with it under these rules.
    fn with_rules(
        sample: &Sample,
        work: &Arc<Account>,
        rules: Vec<Rule>,
    ) -> Result<String, &'static str> {
        let bindings = vec![sample.bound(work)];
        let input =
            PolicyInput { rules, bindings, hostless_rules_max: 9, ..PolicyInput::default() };
        let policy = Policy::compile(input).expect("a policy");
        asked(&policy, &sample.agent, "work", "dev.test:22")
    }

    #[test]
    fn a_rule_not_valid_for_its_key_denies_the_login_and_hides_no_later_rule() {
        let sample = Sample::new();
        let [work, other] = ["work", "other"].map(|name| key(name, AccountState::Active));
        let of = |rules| with_rules(&sample, &work, rules);
        let refused = |account: &Arc<Account>, hosts: &[&str]| {
            Sample::rule("u", hosts, RuleAction::UseRefused(account.clone()))
        };
        assert_eq!(of(vec![refused(&work, &[])]), Err("denied"));
        assert_eq!(of(vec![refused(&work, &["dev.test:22"])]), Err("denied"));
        let lost = || refused(&other, &["dev.test:22"]);
        let deny = Sample::rule("no", &["dev.test:22"], RuleAction::Deny);
        assert_eq!(of(vec![lost(), deny]), Err("denied"));
        assert_eq!(of(vec![lost()]), Ok(format!("binding:{}", work.id)));
    }

    #[test]
    fn a_rule_that_uses_a_connection_of_the_same_host_hides_no_later_denial() {
        let (sample, work) = (Sample::new(), key("work", AccountState::Active));
        let other = Sample::account("other", &["dev.test:22"]);
        let first = |action| Sample::rule("first", &["dev.test:22"], action);
        let deny = || Sample::rule("no", &["dev.test:22"], RuleAction::Deny);
        let of = |action| with_rules(&sample, &work, vec![first(action), deny()]);
        assert_eq!(of(RuleAction::Use(other)), Err("denied"));
        assert_eq!(of(RuleAction::Pass), Ok(format!("binding:{}", work.id)));
    }

    #[test]
    fn a_rule_with_methods_permits_no_login() {
        let (sample, work) = (Sample::new(), key("work", AccountState::Active));
        for (methods, expected) in [(vec![Method::GET], Err("denied")), (vec![], Ok("u".into()))] {
            let agents = Some(vec![sample.agent.id.clone()]);
            let uses = Sample::rule("u", &[], RuleAction::Use(work.clone()));
            let rules = vec![Rule { agents, methods, ..uses }];
            let input = PolicyInput { rules, hostless_rules_max: 9, ..PolicyInput::default() };
            let policy = Policy::compile(input).expect("a policy");
            assert_eq!(asked(&policy, &sample.agent, "work", "dev.test:22"), expected);
        }
    }
}
