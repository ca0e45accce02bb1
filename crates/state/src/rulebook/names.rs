//! [`Names`]: resolves names in rules. An account is derived only when a rule names its connection, so that the cost of
//! a check depends on the rules, not on the size of the directory. Also the parts of agents and connections that
//! policies depend on: a change of other parts recompiles nothing.

use std::sync::Arc;

use super::account::{ProviderParts, connection_facts};
use crate::directory::{
    AgentRecord, AppRecord, BindingRecord, ConnectionRecord, ConnectionState, View, Visibility,
};
use keyward_base::id::{OrgId, UserId};
use keyward_model::{Agent, Connection, LostConnection};
use keyward_rules::policy::{Account, AllowedSets};
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

/// The parts of an agent that determine its bindings and sets of hosts, apart from the connections.
#[derive(PartialEq)]
pub(super) struct BindingInputs<'a> {
    is_paused: bool,
    owner: Option<&'a UserId>,
    bindings: &'a [BindingRecord],
    lost: &'a [LostConnection],
    require_selection: bool,
    allow: Option<&'a [String]>,
    environment: Option<&'a str>,
    user_providers: &'a [String],
}

pub(super) fn binding_inputs(agent: &AgentRecord) -> BindingInputs<'_> {
    BindingInputs {
        is_paused: agent.facts.is_paused(),
        owner: agent.facts.owner.as_ref(),
        bindings: &agent.facts.bindings,
        lost: &agent.facts.lost,
        require_selection: agent.require_selection,
        allow: agent.spec.allow.as_deref(),
        environment: agent.environment.as_deref(),
        user_providers: &agent.user_providers,
    }
}

/// The parts of an agent that determine which rules apply to it.
pub(super) fn rule_inputs(agent: &AgentRecord) -> (&str, Option<&UserId>, Option<&str>) {
    (agent.name(), agent.facts.owner.as_ref(), agent.spec.environment.as_deref())
}

/// The parts of a connection that rules, bindings and slots depend on, apart from its account.
pub(super) fn connection_inputs(
    it: &ConnectionRecord,
) -> (&str, &ConnectionState, Option<&UserId>, Visibility, Option<&str>) {
    (
        &it.name,
        &it.facts.state,
        it.facts.owner.as_ref(),
        it.facts.visibility,
        it.environment.as_deref(),
    )
}

/// The sets of hosts that the agent may reach without a credential.
pub(super) fn allowed_sets(agent: &AgentRecord) -> AllowedSets {
    AllowedSets::named(agent.spec.allow.iter().flatten().map(String::as_str))
}

/// The app through which a connection gets its tokens.
pub(super) fn app_of<'a>(view: &'a View, connection: &ConnectionRecord) -> Option<&'a AppRecord> {
    view.app(&connection.org, connection.app_id()?).map(|app| &**app)
}
