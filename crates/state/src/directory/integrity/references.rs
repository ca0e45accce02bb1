//! Checks the references between records: the record that another one names exists. Only references that the directory
//! maintains are checked: a hook or a slot may refer to a connection that was removed.

use keyward_base::id::{OrgId, UserId};
use keyward_model::{
    App, Connection, ConnectionState, Login, Record, References, Resource, Rule, Session, Source,
    Visibility,
};

use super::checking::{Checking, FaultKind};
use crate::directory::records::{AgentRecord, ConnectionRecord};
use crate::directory::rows::RowId;
use crate::directory::view::View;
use crate::store::Table;

impl Checking<'_> {
    /// Checks the references of all records.
    pub(super) fn references(&mut self, view: &View) {
        let read: usize = view.orgs().map(|org| view.all::<Source>(&org.id).count()).sum();
        let present = self.present.iter().filter(|(table, _)| *table == Table::Sources).count();
        self.knows_sources = read == present;
        self.organisations(view);
        for agent in view.agents() {
            self.agent(view, agent);
        }
        for connection in view.connections() {
            self.connection(view, connection);
        }
        for app in view.apps() {
            let at = RowId::new(Table::Apps, &app.org, &app.id);
            self.sources(view, &at, &app.spec.references);
            if !app.facts.secrets.is_empty() && !self.has(Table::Grants, &app.org, app.id.as_str())
            {
                self.secretless::<App>(&at, &app.name);
            }
        }
        for plugin in view.plugins() {
            let at = RowId::new(Table::Plugins, &plugin.org, &plugin.id);
            let agent = plugin.agent.as_str();
            if !self.has(Table::Agents, &at.org, agent) {
                let problem = format!("is of agent {agent}, which does not exist");
                let remedy = "none needed: the next start of the gateway removes it";
                self.fault_with(&at, FaultKind::Leftover, problem, remedy);
            }
        }
        for rule in view.rules() {
            self.rule(rule);
        }
        let orgs: Vec<OrgId> = view.orgs().map(|org| org.id.clone()).collect();
        for org in &orgs {
            self.of_people(view, org);
        }
    }

    /// Checks that the organisation of each row exists. Leftovers of a removed organisation are not used.
    fn organisations(&mut self, view: &View) {
        let no_org = |at: &RowId| {
            let of_store = matches!(at.table, Table::Meta | Table::Tokens | Table::Orgs);
            !of_store && view.org(&at.org).is_none() && !self.has(Table::Orgs, &at.org, "org")
        };
        let lost: Vec<RowId> =
            self.read.iter().map(|(at, _)| at).filter(|at| no_org(at)).cloned().collect();
        for at in lost {
            let problem = format!("is of organisation {}, which does not exist", at.org);
            match view.was_removed(&at.org) {
                true => self.fault_at(&at, FaultKind::Leftover, problem),
                false => self.fault_at(&at, FaultKind::Reference, problem),
            }
        }
    }

    fn agent(&mut self, view: &View, agent: &AgentRecord) {
        let at = RowId::new(Table::Agents, &agent.org, &agent.id);
        self.owner(&at, agent.facts.owner.as_ref());
        for binding in &agent.facts.bindings {
            let id = &binding.connection;
            let in_slot = || {
                view.plugins_of(&agent.org, &agent.id).any(|it| it.connections().any(|it| it == id))
            };
            if !self.has(Table::Connections, &agent.org, id.as_str()) {
                let problem =
                    format!("agent `{}` has a binding to {id}, which does not exist", agent.name);
                self.fault_at(&at, FaultKind::Reference, problem);
            } else if !binding.direct && !in_slot() {
                let problem =
                    format!("agent `{}` has a binding for a slot that no plugin has", agent.name);
                let remedy = "none needed: it allows nothing";
                self.fault_with(&at, FaultKind::Leftover, problem, remedy);
            }
        }
    }

    fn connection(&mut self, view: &View, connection: &ConnectionRecord) {
        let at = RowId::new(Table::Connections, &connection.org, &connection.id);
        let facts = &connection.facts;
        self.owner(&at, facts.owner.as_ref());
        self.sources(view, &at, &connection.spec.references);
        if facts.visibility == Visibility::Private && facts.owner.is_none() {
            let problem = format!("connection `{}` is private and has no owner", connection.name);
            self.fault_at(&at, FaultKind::Reference, problem);
        }
        if let Some(app) = connection.app_id()
            && !self.has(Table::Apps, &at.org, app.as_str())
        {
            let problem =
                format!("connection `{}` uses app {app}, which does not exist", connection.name);
            self.fault_at(&at, FaultKind::Reference, problem);
        }
        let is_used = facts.state == ConnectionState::Active;
        if is_used && !self.has(Table::Grants, &at.org, &at.id) {
            self.secretless::<Connection>(&at, &connection.name);
        }
    }

    fn rule(&mut self, rule: &Record<Rule>) {
        let at = RowId::new(Table::Rules, &rule.org, &rule.id);
        for id in rule.named() {
            let exists =
                [Table::Agents, Table::Connections].iter().any(|it| self.has(*it, &at.org, id));
            if !exists {
                let problem = format!("rule `{}` names {id}, which does not exist", rule.name());
                let remedy = "name another one with `keyward rule edit`, or remove the rule with \
                              `keyward rule remove`";
                self.fault_with(&at, FaultKind::Reference, problem, remedy);
            }
        }
    }

    /// Checks sessions of agents and logins of users. Those of a removed agent or user allow nothing.
    fn of_people(&mut self, view: &View, org: &OrgId) {
        let lacks =
            |this: &Self, table, id: Option<&str>| id.is_some_and(|id| !this.has(table, org, id));
        for session in view.all::<Session>(org) {
            let user = session.user.as_ref().map(|user| user.as_str());
            let agent = Some(session.agent.as_str());
            if lacks(self, Table::Agents, agent) || lacks(self, Table::Users, user) {
                let at = RowId::new(Table::Sessions, org, &session.id);
                let problem = "is of an agent or a user that does not exist".to_owned();
                self.fault_at(&at, FaultKind::Leftover, problem);
            }
        }
        for login in view.all::<Login>(org) {
            if lacks(self, Table::Users, Some(login.user.as_str())) {
                let at = RowId::new(Table::Logins, org, &login.id);
                let problem = "is of a user that does not exist".to_owned();
                self.fault_at(&at, FaultKind::Leftover, problem);
            }
        }
    }

    fn owner(&mut self, at: &RowId, owner: Option<&UserId>) {
        if let Some(owner) = owner
            && !self.has(Table::Users, &at.org, owner.as_str())
        {
            let problem = format!("is owned by {owner}, which does not exist");
            self.fault_at(at, FaultKind::Reference, problem);
        }
    }

    /// Checks references to sources, which are by name. Names of unreadable sources are unknown.
    fn sources(&mut self, view: &View, at: &RowId, references: &References) {
        if !self.knows_sources {
            return;
        }
        for reference in references.values() {
            let source = &reference.from;
            if view.find::<Source>(&at.org, source).is_none() {
                let problem = format!("has a field in source `{source}`, which does not exist");
                let remedy =
                    "add the source with `keyward source add`, or give the field in another way";
                self.fault_with(at, FaultKind::Reference, problem, remedy);
            }
        }
    }

    /// Adds the fault of a connection or app whose sealed secret is missing.
    fn secretless<R: Resource>(&mut self, at: &RowId, name: &str) {
        let what = R::KIND.one;
        let problem = format!("{what} `{name}` has no stored secret");
        let remedy = match at.table {
            Table::Apps => format!("give its secret again with `keyward app set {name}`"),
            _ => format!("give its credential again with `keyward connection reconnect {name}`"),
        };
        self.fault_with(at, FaultKind::Reference, problem, &remedy);
    }
}
