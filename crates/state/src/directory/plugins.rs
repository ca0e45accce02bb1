//! Plugins: a manifest, installed for an agent, and the connection that is in each of its slots.
//!
//! A binding that exists only for slots allows nothing unless a plugin of its agent has the connection in a slot. So
//! the agent's row is written first: a crash before the plugin's row is written leaves a binding that allows nothing,
//! which `open.rs` removes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::error::DirectoryError;
use super::holders::NamedConnections;
use super::index::{Index, IndexChange, NameKind, TakenReason, Unique};
use super::records::{AgentRecord, BindingRecord, ManagedBy, PluginRecord};
use super::rows::{ReadRecord, RowId};
use super::stored::{EDIT_TRIES, Stored, overtaken, stored_in};
use super::view::View;
use super::{Directory, DirectoryWriter, check, run_to_completion};
use crate::store::Table;
use keyward_base::id::{AgentId, ConnectionId, OrgId, PluginId};
use keyward_model::{Agent, PLUGINS_MAX, Plugin, PluginFacts, PluginSpec, Record};

/// The data of a plugin to store.
#[derive(Clone, Debug)]
pub struct NewPlugin {
    /// The checked spec, with ids.
    pub spec: PluginSpec,
    /// A binding for each connection in a slot, with the placeholders that the agent will hold if it
    /// holds none yet.
    pub bindings: Vec<BindingRecord>,
    /// Whether the file or a person makes the change.
    pub by: ManagedBy,
}

impl Stored for Plugin {
    const TABLE: Table = Table::Plugins;
    const NAMED: NameKind = NameKind::Plugin;

    stored_in!(plugins);

    /// The names of plugins are unique per agent.
    fn full_name(record: &Record<Self>) -> Cow<'_, str> {
        Cow::Owned(format!("{}/{}", record.agent, record.name()))
    }

    fn unique(record: &Record<Self>, index: &Index) -> Vec<Unique> {
        let at = index.name(&record.org, Self::NAMED, &Self::full_name(record));
        let refusal = TakenReason::Name { kind: Self::NAMED, name: record.name().to_owned() };
        vec![Unique { at, what: "name", refusal }]
    }

    fn held(record: &Record<Self>) -> Option<NamedConnections> {
        let connections = record.connections().cloned().collect();
        Some(NamedConnections { agent: record.agent.id()?.clone(), connections })
    }

    fn add_to_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        view.put_plugin_of_agent(record);
    }

    fn remove_from_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        view.remove_plugin_of_agent(record);
    }

    fn may_remove(record: &Record<Self>, by: ManagedBy, view: &View) -> Result<(), DirectoryError> {
        match (record.managed_by, view.agent_of(record)) {
            (ManagedBy::File, _) if record.facts.paused => Ok(()),
            (ManagedBy::File, _) => check::editable(record, by),
            (ManagedBy::Store, Some(agent)) => check::removable(agent, by),
            (ManagedBy::Store, None) => Ok(()),
        }
    }

    async fn after_removal(
        writer: DirectoryWriter,
        record: Record<Self>,
    ) -> Result<(), DirectoryError> {
        writer.withdraw(&record).await;
        Ok(())
    }
}

impl Directory {
    /// Installs a plugin for an agent, with the connections in its slots.
    ///
    /// # Errors
    /// When the agent has a plugin of that name, a connection does not exist, is of another provider than its slot asks
    /// for or of another environment than the agent, or the file manages the agent (and the caller is not the file).
    pub async fn add_plugin(
        &self,
        org: &OrgId,
        new: NewPlugin,
    ) -> Result<Arc<PluginRecord>, DirectoryError> {
        let NewPlugin { spec, bindings, by } = new;
        let facts = PluginFacts::default();
        let record = PluginRecord::new(org, by, spec, facts, self.shared.clock.now());
        self.write(|writer| async move { writer.add_plugin(record, bindings).await }).await
    }

    /// Replaces the manifest and the connections of a plugin by what `change` makes of it; it is called again after a
    /// conflict with another writer. A connection that stays in its slot keeps its permission throughout the change.
    ///
    /// # Errors
    /// As [`Directory::add_plugin`]; when `change` refuses; when the manifest is another plugin's; when the file
    /// manages the plugin (and the caller is not the file); when there is none.
    pub async fn change_plugin<E: From<DirectoryError>>(
        &self,
        org: &OrgId,
        id: &PluginId,
        change: &(dyn Fn(&PluginRecord) -> Result<NewPlugin, E> + Sync),
    ) -> Result<Arc<PluginRecord>, E> {
        let at = RowId::new(Table::Plugins, org, id);
        for _ in 0..EDIT_TRIES {
            let writer = self.turn().await?;
            let before = writer.read::<Plugin>(&at).await?;
            let new = change(&before.record)?;
            let work = async move { writer.change_plugin(before, new).await };
            match run_to_completion(Box::pin(work)).await {
                Err(error) if error.is_conflict() => {}
                other => return Ok(other?),
            }
        }
        Err(overtaken(&at).into())
    }

    /// Pauses a plugin that was removed from the configuration file. Writes only if that is a change;
    /// [`Directory::change_plugin`] by the file ends it.
    ///
    /// # Errors
    /// When there is none.
    pub async fn pause_plugin(&self, org: &OrgId, id: &PluginId) -> Result<(), DirectoryError> {
        let pause = |plugin: &mut PluginRecord| plugin.facts.paused = true;
        self.change::<Plugin>(org, id, pause).await.map(drop)
    }
}

impl DirectoryWriter {
    async fn add_plugin(
        &self,
        record: PluginRecord,
        bindings: Vec<BindingRecord>,
    ) -> Result<Arc<PluginRecord>, DirectoryError> {
        self.check_plugin(&record, record.managed_by).await?;
        let at = RowId::new(Table::Plugins, &record.org, &record.id);
        let reserved = self.reserve_unique(Plugin::unique(&record, &self.index), &at, None).await?;
        let added = match self.offer(&record, bindings).await {
            Ok(()) => {
                let index = IndexChange { reserved, freed: Vec::new() };
                self.commit(&at, record.clone(), None, index).await
            }
            Err(error) => {
                self.release_all(&reserved, &at.id).await;
                Err(error)
            }
        };
        // If the plugin may have been added, its bindings stay.
        if added.as_ref().is_err_and(|error| !error.is_outcome_unknown()) {
            self.withdraw(&record).await;
        }
        added
    }

    async fn change_plugin(
        &self,
        read: ReadRecord<PluginRecord>,
        new: NewPlugin,
    ) -> Result<Arc<PluginRecord>, DirectoryError> {
        let ReadRecord { record: before, version } = read;
        check::editable(&before, new.by)?;
        let mut after = PluginRecord { spec: new.spec, ..before.clone() };
        after.facts.paused = false;
        if after.name() != before.name() {
            return Err(DirectoryError::OtherPlugin {
                installed: before.name().to_owned(),
                given: after.name().to_owned(),
            });
        }
        self.check_plugin(&after, new.by).await?;
        self.offer(&after, new.bindings).await?;
        let changed = self.put_changed(before.clone(), version, after).await;
        let knows_slots = match &changed {
            Ok(_) => true,
            Err(error) if error.is_conflict() => self.knows_slots(&before).await,
            Err(error) => !error.is_outcome_unknown(),
        };
        if knows_slots {
            self.withdraw(&before).await;
        }
        changed
    }

    /// Reads a plugin that another replica has changed: a binding must stay for a slot that the other replica filled.
    async fn knows_slots(&self, plugin: &PluginRecord) -> bool {
        let at = RowId::new(Table::Plugins, &plugin.org, &plugin.id);
        let read = self.read::<Plugin>(&at).await;
        matches!(read, Ok(_) | Err(DirectoryError::NotFound { .. }))
    }

    /// Removes the plugins of a removed agent.
    pub(super) async fn remove_plugins_of(
        &self,
        org: &OrgId,
        agent: &AgentId,
    ) -> Result<(), DirectoryError> {
        let plugins: Vec<_> = self.view.load().plugins_of(org, agent).cloned().collect();
        for plugin in plugins {
            let at = RowId::new(Table::Plugins, org, &plugin.id);
            let index = Plugin::unique(&plugin, &self.index);
            let index = index.into_iter().map(|unique| unique.at).collect();
            self.erase(&at, None, index, |view| view.take_out::<Plugin>(org, &plugin.id)).await?;
        }
        Ok(())
    }

    /// Checks that the agent may have the plugin, and that each connection fits its slot. A slot may keep the id of a
    /// connection that was removed.
    async fn check_plugin(
        &self,
        record: &PluginRecord,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        let agent =
            self.read::<Agent>(&RowId::new(Table::Agents, &record.org, agent_of(record)?)).await?;
        let agent = agent.record;
        check::editable(&agent, by)?;
        let view = self.view.load();
        let others = view.plugins_of(&record.org, &agent.id);
        if others.filter(|other| other.id != record.id).count() >= PLUGINS_MAX {
            return Err(DirectoryError::TooMany { what: "plugins", max: PLUGINS_MAX });
        }
        let before = view.plugin(&record.org, &record.id);
        for (name, connection) in &record.slots {
            let plugin = || record.name().to_owned();
            let slot = record.manifest.slot(name);
            let slot = slot
                .ok_or_else(|| DirectoryError::NoSlot { plugin: plugin(), slot: name.clone() })?;
            let found = connection.id().and_then(|id| view.connection(&record.org, id));
            let Some(connection) = found else {
                match before.is_some_and(|before| before.slots.get(name) == Some(connection)) {
                    true => continue,
                    false => return Err(DirectoryError::not_found("connection", connection)),
                }
            };
            if connection.provider != slot.provider {
                return Err(DirectoryError::SlotProvider {
                    slot: name.clone(),
                    wanted: slot.provider.clone(),
                    connection: connection.name.clone(),
                    provider: connection.provider.clone(),
                });
            }
            check::may_bind(&agent, connection)?;
        }
        Ok(())
    }

    /// Adds bindings that allow nothing yet to the agent; existing ones stay unchanged.
    async fn offer(
        &self,
        plugin: &PluginRecord,
        bindings: Vec<BindingRecord>,
    ) -> Result<(), DirectoryError> {
        let change = |agent: &mut AgentRecord| {
            for binding in &bindings {
                if agent.facts.binding(&binding.connection).is_none() {
                    check::room_for_binding(agent)?;
                    agent.facts.bindings.push(BindingRecord { direct: false, ..binding.clone() });
                }
            }
            Ok(())
        };
        self.edit::<Agent>(&plugin.org, agent_of(plugin)?, &change).await.map(drop)
    }

    /// Removes bindings of its agent that are in no slot. They already allow nothing. A binding that cannot be removed
    /// now is removed when the store is opened again.
    async fn withdraw(&self, plugin: &PluginRecord) {
        let Some(agent) = plugin.agent.id() else { return };
        let used = used(self.view.load().plugins_of(&plugin.org, agent));
        let change = |agent: &mut AgentRecord| {
            agent.facts.bindings.retain(|it| it.direct || used.contains(&it.connection));
            Ok(())
        };
        if let Err(error) = self.edit::<Agent>(&plugin.org, agent, &change).await {
            tracing::warn!(%agent, %error, "a binding that allows nothing stays until the next start");
        }
    }
}

/// The id of its agent, which every stored plugin has.
fn agent_of(plugin: &PluginRecord) -> Result<&AgentId, DirectoryError> {
    plugin.agent.id().ok_or_else(|| DirectoryError::not_found("agent", &plugin.agent))
}

/// The connections that are in slots of these plugins.
pub(super) fn used<'a>(
    plugins: impl Iterator<Item = &'a Arc<PluginRecord>>,
) -> HashSet<ConnectionId> {
    plugins.flat_map(|plugin| plugin.connections().cloned()).collect()
}
