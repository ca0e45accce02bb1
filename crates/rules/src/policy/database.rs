//! [`Policy::permit_database`]: whether an agent may log in at a database with a connection.

use std::sync::Arc;

use super::decide::is_usable;
use super::rule::Account;
use super::{Policy, Reason};
use crate::inject::credential::RequiredConnection;
use keyward_base::agent::Agent;
use keyward_base::database::{DatabaseEndpoint, Seeds};
use keyward_base::host::Target;
use keyward_base::id::RuleId;

/// Proof that an agent, or a person's test, may log in at a database.
#[must_use]
#[derive(Debug)]
pub struct DatabasePermit {
    rule: RuleId,
    endpoint: Arc<DatabaseEndpoint>,
    wanted: RequiredConnection,
}

impl Policy {
    /// The connections to databases that the agent may use, usable or not, sorted by name.
    pub fn databases(&self, agent: &Agent) -> Vec<&Account> {
        let names = self.account_names(agent).into_iter();
        let accounts = names.filter_map(|name| self.account(agent, name));
        accounts.filter(|account| account.database.is_some()).collect()
    }

    /// Permits a session at the database of a connection, by the connection's name or id.
    ///
    /// # Errors
    /// When the agent has no such connection, it is not a database's or not usable, or a rule or slot is in the way.
    pub fn permit_database(&self, agent: &Agent, name: &str) -> Result<DatabasePermit, Reason> {
        let missing = || Reason::ConnectionMissing { name: name.into() };
        let account = self.account(agent, name).ok_or_else(missing)?;
        let endpoint = account.database.clone().ok_or_else(missing)?;
        let org = self.org(&agent.org);
        let rule = self.giving_login(agent, account)?;
        let mut servers = std::iter::once(&endpoint.target).chain(listed(&endpoint));
        servers.try_for_each(|server| org.allows_login(agent, account, server))?;
        is_usable(account)?;
        Ok(DatabasePermit { rule, endpoint, wanted: account.wanted() })
    }

    /// Permits the session by which a person tests a connection, in any state. No agent takes part.
    ///
    /// # Errors
    /// When the connection is not a database's.
    pub fn permit_database_test(account: &Account) -> Result<DatabasePermit, Reason> {
        let missing = || Reason::ConnectionMissing { name: account.name.clone() };
        let endpoint = account.database.clone().ok_or_else(missing)?;
        let rule = RuleId::new(format!("test:{}", account.id));
        Ok(DatabasePermit { rule, endpoint, wanted: account.wanted() })
    }
}

impl DatabasePermit {
    /// The rule or binding that decided.
    pub fn rule(&self) -> &RuleId {
        &self.rule
    }

    /// The permitted database.
    pub fn endpoint(&self) -> &DatabaseEndpoint {
        &self.endpoint
    }

    /// The permit for another server of the replica set, to which the permitted one leads. `None`: it cannot be a member.
    pub fn at_member(&self, member: Target) -> Option<Self> {
        let (rule, wanted) = (self.rule.clone(), self.wanted.clone());
        let endpoint =
            DatabaseEndpoint { target: member, ..DatabaseEndpoint::clone(&self.endpoint) };
        let is_member = self.endpoint.may_have_member(&endpoint.target);
        is_member.then(|| Self { rule, endpoint: Arc::new(endpoint), wanted })
    }

    /// The permitted database, shared.
    pub fn shared_endpoint(&self) -> &Arc<DatabaseEndpoint> {
        &self.endpoint
    }

    /// Whether both permit the same session: the same database with the same settings.
    pub fn is_same_session(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint && self.wanted == other.wanted
    }

    /// The connection whose credential is required, with its settings.
    pub fn wanted(&self) -> &RequiredConnection {
        &self.wanted
    }
}

/// The further servers of a replica set that the connection names.
fn listed(endpoint: &DatabaseEndpoint) -> &[Target] {
    match &endpoint.seeds {
        Seeds::Listed(more) => more,
        Seeds::Srv => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::samples::Sample;
    use crate::policy::{PolicyInput, Rule, RuleAction};
    use keyward_base::database::{DatabaseProtocol, SessionAttrs, StreamSecurity};
    use keyward_base::host::Scheme;

    fn database(name: &str) -> Arc<Account> {
        let endpoint = DatabaseEndpoint {
            protocol: DatabaseProtocol::Postgres,
            target: Target::parse(Scheme::Https, "db.test:5432").expect("a server"),
            database: "app".to_owned(),
            security: StreamSecurity::VerifiedTls,
            auth_source: None,
            seeds: Seeds::default(),
            session_attrs: SessionAttrs::Any,
        };
        let account = Account::clone(&Sample::account(name, &[]));
        Arc::new(Account { database: Some(Arc::new(endpoint)), ..account })
    }

    /// The rule that permits the sample's agent, which is bound to `work`, a session with it under these rules.
    fn with_rules(
        sample: &Sample,
        work: &Arc<Account>,
        rules: Vec<Rule>,
    ) -> Result<String, &'static str> {
        let bindings = vec![sample.bound(work)];
        let input = PolicyInput { rules, bindings, ..PolicyInput::default() };
        let policy = Policy::compile(input).expect("a policy");
        let permitted = policy.permit_database(&sample.agent, "work");
        permitted.map(|it| it.rule().to_string()).map_err(|reason| reason.code().as_str())
    }

    #[test]
    fn a_rule_not_valid_for_its_connection_denies_it_and_hides_no_later_rule() {
        let (sample, [work, other]) = (Sample::new(), ["work", "other"].map(database));
        let of = |rules| with_rules(&sample, &work, rules);
        let refused = |account: &Arc<Account>, hosts: &[&str]| {
            Sample::rule("u", hosts, RuleAction::UseRefused(account.clone()))
        };
        assert_eq!(of(vec![refused(&work, &[])]), Err("denied"));
        assert_eq!(of(vec![refused(&work, &["db.test:5432"])]), Err("denied"));
        let lost = || refused(&other, &["db.test:5432"]);
        let deny = Sample::rule("no", &["db.test:5432"], RuleAction::Deny);
        assert_eq!(of(vec![lost(), deny]), Err("denied"));
        assert_eq!(of(vec![lost()]), Ok(format!("binding:{}", work.id)));
    }

    #[test]
    fn a_rule_that_uses_a_connection_of_the_same_host_hides_no_later_denial() {
        let (sample, work) = (Sample::new(), database("work"));
        let other = Sample::account("other", &["db.test:5432"]);
        let first = |action| Sample::rule("first", &["db.test:5432"], action);
        let deny = || Sample::rule("no", &["db.test:5432"], RuleAction::Deny);
        let of = |action| with_rules(&sample, &work, vec![first(action), deny()]);
        assert_eq!(of(RuleAction::Use(other)), Err("denied"));
        assert_eq!(of(RuleAction::Pass), Ok(format!("binding:{}", work.id)));
    }
}
