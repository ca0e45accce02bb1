//! Plugins: a manifest, installed for an agent, and the connection that is in each of its slots.
//!
//! A binding that exists only for slots allows nothing unless a plugin of its agent has the connection in a slot. So
//! the agent's row is written first: a crash before the plugin's row is written leaves a binding that allows nothing,
//! which `open.rs` removes. Changes of two plugins by two replicas are not exclusive: each replica looks for the plugins
//! of the other one after it has removed a binding, and for its bindings after it has written a plugin.

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
use keyward_model::{Agent, BindingLimits, PLUGINS_MAX, Plugin, PluginFacts, PluginSpec, Record};

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
        writer.withdraw(&record, &used([&record])).await;
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
            Ok(offered) => {
                let index = IndexChange { reserved, freed: Vec::new() };
                let added = self.commit(&at, record.clone(), None, index).await;
                if added.is_ok() {
                    self.offer_again(&record, &offered).await;
                }
                added
            }
            Err(error) => {
                self.release_all(&reserved, &at.id).await;
                Err(error)
            }
        };
        // If the plugin may have been added, its bindings stay.
        if added.as_ref().is_err_and(|error| !error.is_outcome_unknown()) {
            self.withdraw(&record, &used([&record])).await;
        }
        added
    }

    async fn change_plugin(
        &self,
        read: ReadRecord<PluginRecord>,
        new: NewPlugin,
    ) -> Result<Arc<PluginRecord>, DirectoryError> {
        let before = &read.record;
        check::editable(before, new.by)?;
        let mut after = PluginRecord { spec: new.spec, ..before.clone() };
        after.facts.paused = false;
        if after.name() != before.name() {
            return Err(DirectoryError::OtherPlugin {
                installed: before.name().to_owned(),
                given: after.name().to_owned(),
            });
        }
        self.check_plugin(&after, new.by).await?;
        let offered = self.offer(&after, new.bindings).await?;
        let mut touched = used([before, &after]);
        touched.extend(offered.iter().map(|it| it.connection.clone()));
        let changed = self.put_changed(&read, after).await;
        if changed.is_ok() {
            self.offer_again(before, &offered).await;
        }
        let knows_slots = match &changed {
            Ok(_) => true,
            Err(error) if error.is_conflict() => self.knows_slots(before).await,
            Err(error) => !error.is_outcome_unknown(),
        };
        if knows_slots {
            self.withdraw(before, &touched).await;
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
            let after = self.viewed(|view| view.take_out::<Plugin>(org, &plugin.id));
            self.erase(&at, None, index, after).await?;
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

    /// Adds bindings that allow nothing yet to the agent; existing ones stay unchanged. Returns the agent's bindings to these
    /// connections.
    async fn offer(
        &self,
        plugin: &PluginRecord,
        bindings: Vec<BindingRecord>,
    ) -> Result<Vec<BindingRecord>, DirectoryError> {
        let agent = self.add_for_slots(&plugin.org, agent_of(plugin)?, &bindings).await?;
        let offered = bindings.iter().filter_map(|it| agent.facts.binding(&it.connection));
        Ok(offered.cloned().collect())
    }

    /// Adds those of the bindings that the agent lacks, for slots alone.
    async fn add_for_slots(
        &self,
        org: &OrgId,
        agent: &AgentId,
        bindings: &[BindingRecord],
    ) -> Result<Arc<AgentRecord>, DirectoryError> {
        let change = |agent: &mut AgentRecord| {
            for binding in bindings {
                if agent.facts.binding(&binding.connection).is_none() {
                    check::room_for_binding(agent)?;
                    let limits = BindingLimits::default();
                    let binding = BindingRecord { direct: false, limits, ..binding.clone() };
                    agent.facts.bindings.push(binding);
                }
            }
            Ok(())
        };
        self.edit::<Agent>(org, agent, &change).await.map(|(_, after)| after)
    }

    /// Offers the bindings of a written plugin again: another replica may have removed them before the plugin's row was
    /// written.
    async fn offer_again(&self, plugin: &PluginRecord, offered: &[BindingRecord]) {
        let Some(agent) = plugin.agent.id() else { return };
        if self.rows.store.shared().is_some()
            && let Err(error) = self.add_for_slots(&plugin.org, agent, offered).await
        {
            tracing::warn!(%agent, plugin = plugin.name(), %error, "a slot may lack its binding: change the plugin again");
        }
    }

    /// Removes those bindings of its agent to `connections` that are in no slot. They already allow nothing. A binding that
    /// cannot be removed now is removed when the store is opened again.
    async fn withdraw(&self, plugin: &PluginRecord, connections: &HashSet<ConnectionId>) {
        let (org, Some(agent)) = (&plugin.org, plugin.agent.id()) else { return };
        let withdrawn = async {
            let used = self.used_by(org, agent).await?;
            let stays = |it: &BindingRecord| {
                it.direct || used.contains(&it.connection) || !connections.contains(&it.connection)
            };
            let change = |agent: &mut AgentRecord| {
                agent.facts.bindings.retain(stays);
                Ok(())
            };
            self.edit::<Agent>(org, agent, &change).await
        };
        match withdrawn.await {
            Ok((before, after)) => self.give_back(&before, &after).await,
            Err(error) => {
                tracing::warn!(%agent, %error, "a binding that allows nothing stays until the next start");
            }
        }
    }

    /// Gives an agent those of its removed bindings again whose connections another replica has put into slots meanwhile.
    pub(super) async fn give_back(&self, before: &AgentRecord, after: &AgentRecord) {
        let mut removed = before.facts.bindings.clone();
        removed.retain(|it| after.facts.binding(&it.connection).is_none());
        if removed.is_empty() || self.rows.store.shared().is_none() {
            return;
        }
        let (org, agent) = (&before.org, &before.id);
        let given = async {
            let used = self.used_by(org, agent).await?;
            removed.retain(|it| used.contains(&it.connection));
            self.add_for_slots(org, agent, &removed).await
        };
        if let Err(error) = given.await {
            tracing::warn!(%agent, %error, "a slot may lack its binding: change its plugin again");
        }
    }

    /// The connections that are in slots of the agent's plugins.
    async fn used_by(
        &self,
        org: &OrgId,
        agent: &AgentId,
    ) -> Result<HashSet<ConnectionId>, DirectoryError> {
        self.read_plugins_of(org, agent).await?;
        Ok(used(self.view.load().plugins_of(org, agent).map(|it| &**it)))
    }

    /// Brings the agent's plugins into the view as they are stored, if other replicas may have changed them.
    pub(super) async fn read_plugins_of(
        &self,
        org: &OrgId,
        agent: &AgentId,
    ) -> Result<(), DirectoryError> {
        if self.rows.store.shared().is_none() {
            return Ok(());
        }
        let view = self.view.load_full();
        let seen = view.plugins_of(org, agent).map(|it| RowId::new(Table::Plugins, org, &it.id));
        let mut all = self.rows.places(Table::Plugins, org).await?;
        all.retain(|at| PluginId::parse(&at.id).is_ok_and(|id| view.plugin(org, &id).is_none()));
        for at in seen.chain(all) {
            self.follow_row(at.table, &at.key()).await?;
        }
        Ok(())
    }
}

/// The id of its agent, which every stored plugin has.
fn agent_of(plugin: &PluginRecord) -> Result<&AgentId, DirectoryError> {
    plugin.agent.id().ok_or_else(|| DirectoryError::not_found("agent", &plugin.agent))
}

/// The connections that are in slots of these plugins.
fn used<'a>(plugins: impl IntoIterator<Item = &'a PluginRecord>) -> HashSet<ConnectionId> {
    plugins.into_iter().flat_map(|plugin| plugin.connections().cloned()).collect()
}
