//! [`Names`]: resolves names in rules. An account is derived only when a rule names its connection, so that the cost of
//! a check depends on the rules, not on the size of the directory.

use std::sync::Arc;

use super::account::{ProviderParts, connection_facts};
use super::inputs::app_of;
use crate::directory::{AgentRecord, ConnectionRecord, View};
use keyward_base::id::OrgId;
use keyward_model::{Agent, Connection};
use keyward_rules::policy::Account;
use keyward_rules::provider::{Catalogue, Provider};

/// The agents, connections and providers of one view.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) catalogue: &'a Arc<Catalogue>,
    pub(super) view: &'a View,
}

impl<'a> Names<'a> {
    /// The agent with this name or id.
    pub(super) fn agent(self, org: &OrgId, name: &str) -> Option<&'a AgentRecord> {
        self.view.find_agent(org, name).map(|agent| &**agent)
    }

    /// The connection with this name or id, and its account in the policy.
    pub(super) fn connection(
        self,
        org: &OrgId,
        name: &str,
    ) -> Option<(&'a ConnectionRecord, Arc<Account>)> {
        let record = self.view.find_connection(org, name)?;
        Some((record, self.account(record)))
    }

    /// The account of a connection.
    pub(super) fn account(self, record: &ConnectionRecord) -> Arc<Account> {
        let catalogue = self.view.catalogue(&record.org, self.catalogue);
        let app = app_of(self.view, record);
        Arc::new(connection_facts(record, app, &catalogue, &ProviderParts::default()).account)
    }

    /// The provider with this id, as the org has it.
    pub(super) fn provider(self, org: &OrgId, id: &str) -> Option<Arc<Provider>> {
        self.view.catalogue(org, self.catalogue).get(id).cloned()
    }

    /// The names of the org's agents, for suggestions.
    pub(super) fn agents(self, org: &OrgId) -> impl Iterator<Item = &'a str> {
        self.view.all::<Agent>(org).map(|agent| agent.name.as_str())
    }

    /// The names of the org's connections, for suggestions.
    pub(super) fn connections(self, org: &OrgId) -> impl Iterator<Item = &'a str> {
        self.view.all::<Connection>(org).map(|connection| connection.name.as_str())
    }
}
