//! [`Plugins`]: the slots of an agent's plugins, and which plugins are blocked.

use std::collections::HashMap;
use std::sync::Arc;

use super::account::broken;
use super::limits::action_list;
use crate::directory::{ConnectionState, Missing, PluginRecord, Remedies, RemedyCause, View};
use keyward_base::id::ConnectionId;
use keyward_rules::policy::{Blocked, EmptySlot, Slot, SlotProblem};
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
