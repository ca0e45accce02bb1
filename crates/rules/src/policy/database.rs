//! [`Policy::permit_database`]: whether an agent may log in at a database with a connection. A login, also at an SSH
//! server, is one decision: methods and paths do not exist there, so a rule or slot that has some permits nothing.

use std::sync::Arc;

use super::decide::is_usable;
use super::rule::{Account, Rule, RuleAction};
use super::{OrgPolicy, Policy, Reason};
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
        named(&endpoint).try_for_each(|server| org.allows_login(agent, account, server))?;
        is_usable(account)?;
        Ok(DatabasePermit { rule, endpoint, wanted: account.wanted() })
    }

    /// Permits the session of a permit at another server of the connection, which DNS or a server names. `None`: it cannot
    /// be one of the connection's servers.
    ///
    /// # Errors
    /// When a rule denies the agent a login there, or the connection is the agent's no more.
    pub fn permit_member(
        &self,
        agent: &Agent,
        permit: &DatabasePermit,
        member: Target,
    ) -> Result<Option<DatabasePermit>, Reason> {
        let Some(permitted) = permit.at_member(member) else { return Ok(None) };
        let RequiredConnection { connection, name, .. } = &permit.wanted;
        let missing = || Reason::ConnectionMissing { name: name.clone() };
        let account = self.account(agent, connection.as_str()).ok_or_else(missing)?;
        let org = self.org(&agent.org);
        org.allows_login(agent, account, &permitted.endpoint.target)?;
        Ok(Some(permitted))
    }

    /// The same for the session by which a person tests a connection: rules are about agents.
    pub fn permit_member_test(permit: &DatabasePermit, member: Target) -> Option<DatabasePermit> {
        permit.at_member(member)
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

    /// The permit for a server that the connection names: policy has decided on all of them. `None`: it names no such
    /// server.
    pub(super) fn at_named(&self, server: Target) -> Option<Self> {
        let is_named = named(&self.endpoint).any(|known| *known == server);
        is_named.then(|| self.at(server))
    }

    /// The permit for a server of which policy has yet to be asked. `None`: it cannot be one of the connection's servers.
    fn at_member(&self, member: Target) -> Option<Self> {
        let is_member = self.endpoint.may_have_member(&member);
        is_member.then(|| self.at(member))
    }

    fn at(&self, target: Target) -> Self {
        let (rule, wanted) = (self.rule.clone(), self.wanted.clone());
        let endpoint = DatabaseEndpoint { target, ..DatabaseEndpoint::clone(&self.endpoint) };
        Self { rule, endpoint: Arc::new(endpoint), wanted }
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

/// The servers that the connection names, or the name under which DNS lists them.
fn named(endpoint: &DatabaseEndpoint) -> impl Iterator<Item = &Target> {
    let more = match &endpoint.seeds {
        Seeds::Listed(more) => &more[..],
        Seeds::Srv => &[],
    };
    std::iter::once(&endpoint.target).chain(more)
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::samples::Sample;
    use crate::policy::{PolicyInput, Rule, RuleAction};
    use keyward_base::database::{DatabaseProtocol, SessionAttrs, StreamSecurity};
    use keyward_base::host::Scheme;

    fn server(text: &str) -> Target {
        Target::parse(Scheme::Https, text).expect("a server")
    }

    fn database(name: &str) -> Arc<Account> {
        of_several(name, DatabaseProtocol::Postgres, Seeds::default())
    }

    /// A connection to `db.test` and these servers.
    fn of_several(name: &str, protocol: DatabaseProtocol, seeds: Seeds) -> Arc<Account> {
        let endpoint = DatabaseEndpoint {
            protocol,
            target: server("db.test:5432"),
            database: "app".to_owned(),
            security: StreamSecurity::VerifiedTls,
            auth_source: None,
            seeds,
            session_attrs: SessionAttrs::Any,
        };
        let account = Account::clone(&Sample::account(name, &[]));
        Arc::new(Account { database: Some(Arc::new(endpoint)), ..account })
    }

    /// The policy of these rules, in which the sample's agent is bound to `work`.
    fn policy_of(sample: &Sample, work: &Arc<Account>, rules: Vec<Rule>) -> Policy {
        let bindings = vec![sample.bound(work)];
        let input = PolicyInput { rules, bindings, ..PolicyInput::default() };
        Policy::compile(input).expect("a policy")
    }

    /// The rule that permits the sample's agent, which is bound to `work`, a session with it under these rules.
    fn with_rules(
        sample: &Sample,
        work: &Arc<Account>,
        rules: Vec<Rule>,
    ) -> Result<String, &'static str> {
        let policy = policy_of(sample, work, rules);
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

    #[test]
    fn a_rule_that_denies_one_of_the_named_servers_denies_the_connection() {
        let sample = Sample::new();
        for protocol in [DatabaseProtocol::Postgres, DatabaseProtocol::Mongodb] {
            let more = ["b.test:5432", "db.test:5433"].map(server).to_vec();
            let work = of_several("work", protocol, Seeds::Listed(more));
            let deny = |host: &str| vec![Sample::rule("no", &[host], RuleAction::Deny)];
            for host in ["db.test:5432", "b.test:5432", "db.test:5433"] {
                assert_eq!(with_rules(&sample, &work, deny(host)), Err("denied"), "{host}");
            }
            assert!(with_rules(&sample, &work, deny("b.test:5433")).is_ok());
            let permit = policy_of(&sample, &work, vec![]);
            let permit = permit.permit_database(&sample.agent, "work").expect("it is bound");
            let at = |text: &str| permit.at_named(server(text));
            assert!(
                at("b.test:5432").is_some_and(|it| it.endpoint.target == server("b.test:5432"))
            );
            assert!(at("b.test:5433").is_none(), "no rule was asked about it");
        }
    }

    #[test]
    fn a_rule_that_denies_a_server_denies_it_too_where_only_a_server_or_dns_names_it() {
        let sample = Sample::new();
        for (seeds, members) in [
            (Seeds::default(), ["db.test:5433", "db.test:5434"]),
            (Seeds::Srv, ["a.db.test:27017", "b.db.test:27017"]),
        ] {
            let work = of_several("work", DatabaseProtocol::Mongodb, seeds);
            let deny = Sample::rule("no", &[members[0]], RuleAction::Deny);
            let policy = policy_of(&sample, &work, vec![deny]);
            let permit = policy.permit_database(&sample.agent, "work").expect("it is bound");
            let of = |policy: &Policy, member: &str| {
                let permitted = policy.permit_member(&sample.agent, &permit, server(member));
                let permitted = permitted.map_err(|reason| reason.code().as_str());
                permitted.map(|it| it.map(|it| (it.rule.to_string(), it.endpoint.target.clone())))
            };
            let permitted = |member: &str| (format!("binding:{}", work.id), server(member));
            assert_eq!(of(&policy, members[0]), Err("denied"));
            assert_eq!(of(&policy, members[1]), Ok(Some(permitted(members[1]))));
            assert_eq!(of(&policy, "a.other.test:27017"), Ok(None));
            // A person's test is no agent's login.
            assert!(Policy::permit_member_test(&permit, server(members[0])).is_some());
            assert!(Policy::permit_member_test(&permit, server("a.other.test:27017")).is_none());
            let unbound = Policy::compile(PolicyInput::default()).expect("a policy");
            assert_eq!(of(&unbound, members[1]), Err("connection_missing"));
        }
    }
}
