//! [`AgentSource`]: the bindings of agents, derived from one view and the catalogue on demand. Only the common parts of
//! connections are kept.

use std::sync::Arc;

use super::account::{ConnectionFacts, OwnHosts, ProviderParts, connection_facts, lost_accounts};
use super::names::{Names, allowed_sets, app_of};
use super::plugins::{Allowed, Plugins};
use crate::directory::{AgentRecord, BindingRecord, ConnectionRecord, View, may_be_used_by};
use keyward_base::id::{AgentId, OrgId};
use keyward_rules::inject::placeholder::Placeholder;
use keyward_rules::policy::{Account, AccountBinding, AgentBindings, BindingSource};
use keyward_rules::provider::Catalogue;

/// The agents and connections of one view, with the catalogue.
#[derive(Debug)]
pub(super) struct AgentSource {
    catalogue: Arc<Catalogue>,
    view: Arc<View>,
    /// Shared by the sources of all views.
    parts: Arc<ProviderParts>,
}

impl BindingSource for AgentSource {
    fn bindings(&self, org: &OrgId, agent: &AgentId) -> AgentBindings {
        let agent = self.view.agent(org, agent).filter(|agent| !agent.facts.is_paused());
        agent.map(|agent| self.bindings_of(agent)).unwrap_or_default()
    }
}

impl AgentSource {
    pub(super) fn new(catalogue: Arc<Catalogue>, view: Arc<View>) -> Self {
        Self { parts: Arc::new(ProviderParts::new(&catalogue)), catalogue, view }
    }

    /// The source of another view.
    pub(super) fn of(&self, view: Arc<View>) -> Self {
        Self { catalogue: self.catalogue.clone(), view, parts: self.parts.clone() }
    }

    /// The view that it derives from.
    pub(super) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The catalogue without the providers of organisations.
    pub(super) fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// Resolves names in rules.
    pub(super) fn names(&self) -> Names<'_> {
        Names { catalogue: &self.catalogue, view: &self.view }
    }

    /// The derived data of a connection.
    pub(super) fn facts(&self, connection: &ConnectionRecord) -> ConnectionFacts {
        let catalogue = self.view.catalogue(&connection.org, &self.catalogue);
        connection_facts(connection, app_of(&self.view, connection), &catalogue, &self.parts)
    }

    /// The hosts and endpoints that a connection adds to those of the catalogue. Logs a warning if the connection
    /// cannot be used.
    pub(super) fn own_hosts(&self, connection: &ConnectionRecord) -> OwnHosts {
        let catalogue = self.view.catalogue(&connection.org, &self.catalogue);
        self.parts.own_hosts(connection, &catalogue)
    }

    /// The account of a connection.
    pub(super) fn account(&self, connection: &ConnectionRecord) -> Arc<Account> {
        Arc::new(self.facts(connection).account)
    }

    /// Whether an agent may use any connection or host, as far as that is known without its connections.
    pub(super) fn may_use_something(&self, agent: &AgentRecord) -> bool {
        let facts = &agent.facts;
        let has_some = !facts.bindings.is_empty()
            || !facts.lost.is_empty()
            || agent.spec.allow.as_ref().is_some_and(|sets| !sets.is_empty());
        let has_plugin = || self.view.plugins_of(&agent.org, &agent.id).next().is_some();
        !facts.is_paused() && (has_some || has_plugin())
    }

    /// The bindings, slots and sets of hosts of an agent that is not paused.
    fn bindings_of(&self, agent: &AgentRecord) -> AgentBindings {
        let org = &agent.org;
        let plugins = self.plugins_of(agent);
        let bound = agent.facts.by_preference().into_iter().filter_map(|binding| {
            let record = self.view.connection(org, &binding.connection)?;
            // Bindings across owners cannot be created; an existing one has no effect.
            if !may_be_used_by(record, agent) {
                return None;
            }
            // A binding for slots allows nothing without a slot.
            let Allowed { extent, deny, own_authorization } =
                self.allowed(Some(binding), record, &plugins)?;
            Some(AccountBinding {
                org: agent.org.clone(),
                agent: agent.id.clone(),
                account: self.account(record),
                placeholders: binding.placeholders.values().map(Placeholder::core).collect(),
                extent,
                deny,
                // A connection that is bound only for plugins is never a default.
                by_default: binding.direct && !agent.require_selection,
                own_authorization,
            })
        });
        AgentBindings {
            bindings: bound.collect(),
            empty: plugins.empty,
            lost: lost_accounts(agent, &self.view.catalogue(org, &self.catalogue)),
            allow: allowed_sets(agent),
        }
    }

    /// The requests that the binding, or else slots alone, allow with the connection; `None` if they allow nothing.
    pub(super) fn allowed(
        &self,
        binding: Option<&BindingRecord>,
        record: &ConnectionRecord,
        plugins: &Plugins,
    ) -> Option<Allowed> {
        let catalogue = self.view.catalogue(&record.org, &self.catalogue);
        Allowed::of(binding, record, plugins.slots(&record.id), &catalogue)
    }

    /// The slots of the agent's plugins.
    pub(super) fn plugins_of(&self, agent: &AgentRecord) -> Plugins {
        let org = &agent.org;
        let mut plugins = Plugins::default();
        let catalogue = self.view.catalogue(org, &self.catalogue);
        for plugin in self.view.plugins_of(org, &agent.id) {
            let missing = plugin.missing(|id| self.view.connection(org, id).map(|it| &**it));
            plugins.add(plugin, &missing, &catalogue, &self.view);
        }
        plugins
    }
}
