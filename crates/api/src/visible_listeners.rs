//! [`VisibleListeners`]: the listeners that `/status` names, as far as the caller may see the agents and connections that
//! they are for. The operator sees those of all organisations.

use std::sync::Arc;

use super::auth::Caller;
use super::context::Context;
use super::database_listeners::{failed_view, open_view};
use super::state::{DatabaseLocation, Locations};
use super::wire::{AgentListener, DatabaseListenerView, FailedListenerView};
use keyward_base::id::OrgId;
use keyward_databases::{ListenerStatus, ListenerTerms};
use keyward_proxy::ListenerOwner;
use keyward_state::directory::View;

/// The listeners that the caller may see.
pub(super) struct VisibleListeners {
    pub(super) agents: Vec<AgentListener>,
    pub(super) databases: Vec<DatabaseListenerView>,
    pub(super) databases_failed: Vec<FailedListenerView>,
}

/// Who reads, with the records as of now.
struct ListenerReader<'a> {
    caller: &'a Caller,
    view: Arc<View>,
}

impl VisibleListeners {
    pub(super) fn of(context: &Context, places: &Locations) -> Self {
        let reader = ListenerReader { caller: &context.caller, view: context.view() };
        let stored = context.deps().database_listeners.statuses();
        let of_agents = places.agents.iter().filter(|(owner, _)| reader.sees_owner(owner, None));
        let of_file = places.databases.iter().filter(|place| reader.sees_location(place));
        let open = stored.iter().filter_map(|status| reader.open(status));
        let failed = stored.iter().filter(|status| reader.sees_terms(&status.terms));
        Self {
            agents: of_agents.map(|(owner, at)| agent_view(owner, at)).collect(),
            databases: of_file.map(location_view).chain(open).collect(),
            databases_failed: failed.filter_map(|status| failed_view(status.clone())).collect(),
        }
    }
}

impl ListenerReader<'_> {
    /// Whether the reader may see a listener of an agent, which may be for one connection.
    fn sees_owner(&self, owner: &ListenerOwner, connection: Option<&str>) -> bool {
        self.sees(&owner.org, Some(&owner.agent), connection)
    }

    /// Whether the reader may see a listener of the configuration. Without an agent it belongs to no organisation: the
    /// session's token decides in which one the connection is looked up.
    fn sees_location(&self, place: &DatabaseLocation) -> bool {
        let connection = place.connection.as_deref();
        match &place.agent {
            Some(owner) => self.sees_owner(owner, connection),
            None if self.caller.reads_install() => true,
            None => connection.is_none_or(|name| self.sees_connection(self.caller.org(), name)),
        }
    }

    fn sees_terms(&self, terms: &ListenerTerms) -> bool {
        self.sees(&terms.org, terms.agent.as_deref(), terms.connection.as_deref())
    }

    /// A stored listener that is open. Agents of every organisation can use one that names neither an agent nor a
    /// connection; its name is for readers of its organisation and of the installation.
    fn open(&self, status: &ListenerStatus) -> Option<DatabaseListenerView> {
        let view = open_view(status)?;
        if self.sees_terms(&status.terms) {
            return Some(view);
        }
        let is_for_all = view.agent.is_none() && view.connection.is_none();
        let reads_name = self.caller.reads_install();
        is_for_all.then(|| DatabaseListenerView { name: view.name.filter(|_| reads_name), ..view })
    }

    /// Whether the reader may see a listener of this organisation that names this agent and connection.
    fn sees(&self, org: &OrgId, agent: Option<&str>, connection: Option<&str>) -> bool {
        if self.caller.is_operator() {
            return true;
        }
        let sees_named = || {
            agent.is_none_or(|name| self.sees_agent(org, name))
                && connection.is_none_or(|name| self.sees_connection(org, name))
        };
        org == self.caller.org() && (self.caller.sees_all() || sees_named())
    }

    fn sees_agent(&self, org: &OrgId, name: &str) -> bool {
        self.view.find_agent(org, name).is_some_and(|agent| self.caller.sees_agent(agent))
    }

    fn sees_connection(&self, org: &OrgId, name: &str) -> bool {
        let found = self.view.find_connection(org, name);
        found.is_some_and(|connection| self.caller.sees_connection(connection))
    }
}

fn agent_view(owner: &ListenerOwner, at: &str) -> AgentListener {
    let (org, agent) = (owner.org.name().to_owned(), owner.agent.clone());
    AgentListener { org, agent, at: at.to_owned() }
}

fn location_view(place: &DatabaseLocation) -> DatabaseListenerView {
    let DatabaseLocation { at, protocol, connection, agent } = place.clone();
    let agent = agent.map(|owner| owner.agent);
    DatabaseListenerView { at, protocol, connection, agent, name: None }
}
