//! [`Plugins`]: the slots of an agent's plugins, and which plugins are blocked. Also the requests that a binding
//! allows: all requests with the connection, or those of named actions and slots.

use std::collections::HashMap;
use std::sync::Arc;

use super::account::broken;
use crate::directory::{
    BindingRecord, ConnectionRecord, ConnectionState, Missing, PluginRecord, Remedies, RemedyCause,
    View,
};
use keyward_base::id::ConnectionId;
use keyward_rules::policy::{
    ActionList, Blocked, EmptySlot, Extent, OwnAuthorization, Parts, Slot, SlotProblem,
};
use keyward_rules::provider::Catalogue;

/// The slots of one agent.
#[derive(Debug, Default)]
pub(super) struct Plugins {
    slots: HashMap<ConnectionId, Vec<Arc<Slot>>>,
    /// Required slots without a connection, and slots of paused plugins.
    pub(super) empty: Vec<EmptySlot>,
}

impl Plugins {
    /// The slots that contain the connection; `None` if there are none.
    pub(super) fn slots(&self, connection: &ConnectionId) -> Option<Vec<Arc<Slot>>> {
        self.slots.get(connection).cloned()
    }

    /// Adds a plugin and its empty slots.
    pub(super) fn add(
        &mut self,
        plugin: &PluginRecord,
        missing: &[Missing<'_>],
        catalogue: &Catalogue,
        view: &View,
    ) {
        if plugin.facts.paused {
            return self.withdrawn(plugin, catalogue);
        }
        let first = missing.iter().find(|missing| missing.slot.required);
        let blocked = first.map(|missing| Arc::new(blocked(plugin, missing, catalogue, view)));
        for slot in &plugin.manifest.connections {
            let Some(connection) = plugin.connection_in(&slot.slot) else { continue };
            let record = view.connection(&plugin.org, connection).map(|record| &**record);
            let slot = Slot {
                plugin: plugin.name().into(),
                name: slot.slot.as_str().into(),
                methods: slot.parsed_methods(),
                paths: slot.parsed_paths(),
                allow: action_list(&slot.allow, record, catalogue),
                own_authorization: slot.own_authorization,
                blocked: blocked.clone(),
            };
            self.slots.entry(connection.clone()).or_default().push(Arc::new(slot));
        }
        let empty = missing.iter().filter(|it| it.slot.required && it.connection.is_none());
        for missing in empty {
            let why = self::blocked(plugin, missing, catalogue, view);
            self.block_hosts(plugin, &missing.slot.provider, why, catalogue);
        }
    }

    /// Handles a plugin that was removed from the configuration: it has no effect, but requests of its agent
    /// get the reason.
    fn withdrawn(&mut self, plugin: &PluginRecord, catalogue: &Catalogue) {
        let slots = plugin.manifest.connections.iter();
        for slot in slots.filter(|slot| plugin.slots.contains_key(&slot.slot)) {
            let blocked = Blocked {
                plugin: plugin.name().into(),
                slot: slot.slot.as_str().into(),
                connection: None,
                problem: SlotProblem::Withdrawn,
                remedy: None,
            };
            self.block_hosts(plugin, &slot.provider, blocked, catalogue);
        }
    }

    fn block_hosts(
        &mut self,
        plugin: &PluginRecord,
        provider: &str,
        blocked: Blocked,
        catalogue: &Catalogue,
    ) {
        let (Some(agent), provider) = (plugin.agent.id(), catalogue.get(provider)) else { return };
        self.empty.push(EmptySlot {
            org: plugin.org.clone(),
            agent: agent.clone(),
            hosts: provider.into_iter().flat_map(|it| it.known_hosts()).collect(),
            blocked: Arc::new(blocked),
        });
    }
}

fn blocked(
    plugin: &PluginRecord,
    missing: &Missing<'_>,
    catalogue: &Catalogue,
    view: &View,
) -> Blocked {
    let problem = match missing.state() {
        None | Some(ConnectionState::Active | ConnectionState::Testing) => SlotProblem::Empty,
        Some(ConnectionState::Draft { .. }) => SlotProblem::Draft,
        Some(ConnectionState::Paused) => SlotProblem::Paused,
        Some(ConnectionState::Broken { reason, detail }) => {
            SlotProblem::Broken(broken(*reason, detail.as_deref()))
        }
    };
    let connection = missing.connection.map(|it| Remedies::in_view(it, catalogue, view));
    let remedy = connection.and_then(|it| it.remedy(RemedyCause::Use));
    Blocked {
        plugin: plugin.name().into(),
        slot: missing.slot.slot.as_str().into(),
        connection: missing.connection.map(|connection| connection.name.as_str().into()),
        problem,
        remedy: remedy.map(Into::into),
    }
}

/// The requests that a binding allows.
#[derive(Debug)]
pub(super) struct Allowed {
    pub(super) extent: Extent,
    /// The requests that it always denies.
    pub(super) deny: Option<ActionList>,
    /// What is done with authorizations of requests' own, slots excepted.
    pub(super) own_authorization: OwnAuthorization,
}

impl Allowed {
    /// The requests that the binding, or else slots alone, allow with the connection; `None` if they allow nothing.
    pub(super) fn of(
        binding: Option<&BindingRecord>,
        record: &ConnectionRecord,
        slots: Option<Vec<Arc<Slot>>>,
        catalogue: &Catalogue,
    ) -> Option<Self> {
        let Some(binding) = binding.filter(|binding| binding.direct) else {
            let extent = Extent::Parts(Parts { allow: None, slots: slots? });
            return Some(Self {
                extent,
                deny: None,
                own_authorization: OwnAuthorization::default(),
            });
        };
        let list = |names: &[String]| action_list(names, Some(record), catalogue);
        let extent = match list(&binding.limits.allow) {
            None => Extent::Whole,
            allow => Extent::Parts(Parts { allow, slots: slots.unwrap_or_default() }),
        };
        let deny = list(&binding.limits.deny);
        Some(Self { extent, deny, own_authorization: binding.limits.own_authorization })
    }
}

/// The requests of these actions of the connection's provider; `None` if none is named. Without the connection there are
/// none.
fn action_list(
    names: &[String],
    record: Option<&ConnectionRecord>,
    catalogue: &Catalogue,
) -> Option<ActionList> {
    if names.is_empty() {
        return None;
    }
    let mut list = ActionList::default();
    let provider = record.and_then(|record| catalogue.get(&record.provider));
    let variables = record.map(ConnectionRecord::host_variables).unwrap_or_default();
    for name in names {
        list.names.push(name.as_str().into());
        match provider.and_then(|provider| provider.action(name, &variables)) {
            Some(Ok(scopes)) => list.scopes.extend(scopes),
            // With an unknown action, an `allow` list allows less, and a `deny` list denies everything.
            None | Some(Err(_)) => list.lost = Some(name.as_str().into()),
        }
    }
    Some(list)
}
