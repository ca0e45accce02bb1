//! Plugins: a manifest, installed for an agent, and the connection that is in each of its slots.
//!
//! Each connection in a slot has a binding in the agent's row. A change of a plugin writes both rows as one act, also if the
//! bindings stay as they are: so changes of an agent's plugins by two replicas conflict, and the later one sees the earlier.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::commit::RecordChange;
use super::error::DirectoryError;
use super::holders::NamedConnections;
use super::index::{Index, NameKind, TakenReason, Unique};
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

    /// Its bindings are removed with it.
    async fn removal<'a>(
        writer: &'a DirectoryWriter,
        record: &'a Record<Self>,
        change: &'a mut RecordChange,
    ) -> Result<(), DirectoryError> {
        let agent = match writer.read_agent_of(record).await {
            Err(DirectoryError::NotFound { .. }) => return Ok(()),
            agent => agent?,
        };
        let bound = writer.with_slots(&agent.record, &record.id, None, &[])?;
        writer.change_in(change, &agent, bound).map(drop)
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
        self.write(|writer| async move { writer.add_plugin(record, &bindings).await }).await
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
        bindings: &[BindingRecord],
    ) -> Result<Arc<PluginRecord>, DirectoryError> {
        for _ in 0..EDIT_TRIES {
            let agent = self.read_agent_of(&record).await?;
            self.check_plugin(&agent.record, &record, record.managed_by)?;
            let mut change = RecordChange::default();
            let bound = self.with_slots(&agent.record, &record.id, Some(&record), bindings)?;
            self.change_in(&mut change, &agent, bound)?;
            self.need_slots(&mut change, &record);
            let added = self.add_in(&mut change, record.clone())?;
            match self.commit(change).await {
                Err(error) if error.is_conflict() => {}
                made => return made.map(|()| added),
            }
        }
        Err(overtaken(&RowId::new(Table::Plugins, &record.org, &record.id)))
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
        let agent = self.read_agent_of(&after).await?;
        self.check_plugin(&agent.record, &after, new.by)?;
        let mut change = RecordChange::default();
        let bound = self.with_slots(&agent.record, &after.id, Some(&after), &new.bindings)?;
        self.change_in(&mut change, &agent, bound)?;
        self.need_slots(&mut change, &after);
        let changed = self.change_in(&mut change, &read, after)?;
        self.commit(change).await.map(|()| changed)
    }

    /// Adds the removal of an agent's plugins to the removal of the agent.
    pub(super) async fn remove_plugins_of(
        &self,
        agent: &AgentRecord,
        change: &mut RecordChange,
    ) -> Result<(), DirectoryError> {
        self.read_plugins_of(&agent.org, &agent.id).await?;
        for plugin in self.view.load_full().plugins_of(&agent.org, &agent.id) {
            self.remove_in::<Plugin>(change, plugin, None);
        }
        Ok(())
    }

    /// The agent of a plugin, and then its plugins. One that another replica adds, changes or removes after this changes the
    /// agent's row too.
    async fn read_agent_of(
        &self,
        plugin: &PluginRecord,
    ) -> Result<ReadRecord<AgentRecord>, DirectoryError> {
        let id = plugin.agent.id();
        let id = id.ok_or_else(|| DirectoryError::not_found("agent", &plugin.agent))?;
        let agent = self.read::<Agent>(&RowId::new(Table::Agents, &plugin.org, id)).await?;
        self.read_plugins_of(&plugin.org, id).await?;
        Ok(agent)
    }

    /// Checks that the agent may have the plugin, and that each connection fits its slot. A slot may keep the id of a
    /// connection that was removed.
    fn check_plugin(
        &self,
        agent: &AgentRecord,
        record: &PluginRecord,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        check::editable(agent, by)?;
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
            check::may_bind(agent, connection)?;
        }
        Ok(())
    }

    /// The connections in slots must exist when the change is made, but for those that were removed before.
    fn need_slots(&self, change: &mut RecordChange, plugin: &PluginRecord) {
        let view = self.view.load();
        for id in plugin.connections().filter(|id| view.connection(&plugin.org, id).is_some()) {
            let at = RowId::new(Table::Connections, &plugin.org, id);
            change.need(at, DirectoryError::not_found("connection", id));
        }
    }

    /// The agent with a binding for each connection in a slot, and with no other that exists only for slots. `after`: the
    /// plugin after its change; `None`: it is removed. A binding that the agent has stays as it is.
    fn with_slots(
        &self,
        agent: &AgentRecord,
        plugin: &PluginId,
        after: Option<&PluginRecord>,
        offered: &[BindingRecord],
    ) -> Result<AgentRecord, DirectoryError> {
        let (mut bound, view) = (agent.clone(), self.view.load_full());
        let others = view.plugins_of(&agent.org, &agent.id).filter(|other| other.id != *plugin);
        let plugins = others.map(|other| &**other).chain(after);
        let used: HashSet<ConnectionId> =
            plugins.flat_map(|plugin| plugin.connections().cloned()).collect();
        bound.facts.bindings.retain(|it| it.direct || used.contains(&it.connection));
        for binding in offered.iter().filter(|it| used.contains(&it.connection)) {
            if bound.facts.binding(&binding.connection).is_none() {
                check::room_for_binding(&bound)?;
                let limits = BindingLimits::default();
                let binding = BindingRecord { direct: false, limits, ..binding.clone() };
                bound.facts.bindings.push(binding);
            }
        }
        Ok(bound)
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
