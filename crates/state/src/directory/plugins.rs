//! Plugins: a manifest, installed for an agent, and the connection that is in each of its slots.
//!
//! The plugin's row is what counts: a binding that is there for slots alone allows nothing unless a
//! plugin of its agent has the connection in a slot. So the agent's row is written first, and a crash
//! between the two leaves a binding that allows nothing; `open.rs` drops it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::DirectoryError;
use super::index::Named;
use super::manifest::{Manifest, Slot};
use super::records::{AgentRecord, BindingRecord, ConnectionRecord, ManagedBy};
use super::rows::{At, Read};
use super::{Directory, Writer, check};
use crate::store::Table;
use keyward_base::id::{AgentId, ConnectionId, OrgId, PluginId};
use keyward_model::{Agent, ConnectionState};

/// Plugins of one agent.
pub const PLUGINS_MAX: usize = 100;

/// A plugin that is installed for an agent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PluginRecord {
    /// Its id.
    pub id: PluginId,
    /// Its org.
    pub org: OrgId,
    /// Whose it is. An agent has one plugin of a name.
    pub agent: AgentId,
    /// What its author declares.
    pub manifest: Manifest,
    /// The connection in each slot that has one. One that was removed since stays named.
    pub slots: BTreeMap<String, ConnectionId>,
    /// Who may edit it. Records of before it existed are the store's.
    #[serde(default)]
    pub managed_by: ManagedBy,
    /// Taken out of the file: it allows nothing.
    #[serde(default)]
    pub paused: bool,
    /// When it was installed.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// What is to be stored of a plugin.
#[derive(Clone, Debug)]
pub struct Plugged {
    /// What its author declares, checked.
    pub manifest: Manifest,
    /// The connection in each slot that has one.
    pub slots: BTreeMap<String, ConnectionId>,
    /// A binding for each of those connections, with the placeholders that the agent will hold if it
    /// holds none yet.
    pub bindings: Vec<BindingRecord>,
    /// Who asks for it.
    pub by: ManagedBy,
}

/// Whether a plugin can work.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginState {
    /// Every slot has a connection that can be used.
    Ready,
    /// An optional slot has none.
    Degraded,
    /// A required slot has none.
    Blocked,
    /// The configuration names it no more.
    Paused,
}

/// A slot without a connection that can be used.
#[derive(Clone, Copy, Debug)]
pub struct Missing<'a> {
    /// The slot.
    pub slot: &'a Slot,
    /// The connection that is in it, when it is still there.
    pub connection: Option<&'a ConnectionRecord>,
}

impl PluginState {
    /// The stable name, as in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Blocked => "blocked",
            Self::Paused => "paused",
        }
    }
}

impl PluginRecord {
    /// Its name, unique among its agent's.
    pub fn name(&self) -> &str {
        &self.manifest.plugin
    }

    /// Its slots that have no connection that can be used, in the manifest's order. `find` answers for
    /// its org.
    pub fn missing<'a>(
        &'a self,
        find: impl Fn(&ConnectionId) -> Option<&'a ConnectionRecord>,
    ) -> Vec<Missing<'a>> {
        let each = self.manifest.connections.iter().map(|slot| {
            let connection = self.slots.get(&slot.slot).and_then(&find);
            Missing { slot, connection }
        });
        each.filter(|missing| missing.connection.is_none_or(|it| !it.facts.state.is_usable()))
            .collect()
    }

    /// Its state when it lacks these.
    pub fn state(&self, missing: &[Missing<'_>]) -> PluginState {
        match missing {
            _ if self.paused => PluginState::Paused,
            [] => PluginState::Ready,
            some if some.iter().any(|missing| missing.slot.required) => PluginState::Blocked,
            _ => PluginState::Degraded,
        }
    }

    /// The slots that a connection is in.
    pub fn slots_with<'a>(
        &'a self,
        connection: &'a ConnectionId,
    ) -> impl Iterator<Item = &'a Slot> + 'a {
        let has = move |slot: &&Slot| self.slots.get(&slot.slot) == Some(connection);
        self.manifest.connections.iter().filter(has)
    }
}

impl Missing<'_> {
    /// Why the slot has nothing: the connection's state, or `None` where there is no connection.
    pub fn state(&self) -> Option<&ConnectionState> {
        self.connection.map(|connection| &connection.facts.state)
    }
}

impl Directory {
    /// Installs a plugin for an agent, with the connections in its slots.
    ///
    /// # Errors
    /// When the agent has one of that name, a connection does not exist, is of another provider than
    /// its slot asks for or of another environment than the agent, or the file manages the agent (and
    /// it is not the file that asks).
    pub async fn add_plugin(
        &self,
        (org, agent): (&OrgId, &AgentId),
        new: Plugged,
    ) -> Result<Arc<PluginRecord>, DirectoryError> {
        let now = self.shared.clock.now();
        let record = PluginRecord {
            id: PluginId::random(),
            org: org.clone(),
            agent: agent.clone(),
            manifest: new.manifest,
            slots: new.slots,
            managed_by: new.by,
            paused: false,
            created: now,
            updated: now,
        };
        self.write(|writer| async move { writer.add_plugin(record, new.bindings).await }).await
    }

    /// Gives a plugin another manifest and other connections. What is in a slot before and after is
    /// never without its permission in between.
    ///
    /// # Errors
    /// As [`Directory::add_plugin`]; when the manifest is another plugin's; when the file manages the
    /// plugin (and it is not the file that asks); when there is none.
    pub async fn change_plugin(
        &self,
        org: &OrgId,
        id: &PluginId,
        new: Plugged,
    ) -> Result<Arc<PluginRecord>, DirectoryError> {
        let at = At::new(Table::Plugins, org, id);
        self.write(|writer| async move { writer.change_plugin(at, new).await }).await
    }

    /// Pauses a plugin that was taken out of the file. Writes only when that is a change;
    /// [`Directory::change_plugin`] by the file ends it.
    ///
    /// # Errors
    /// When there is none.
    pub async fn pause_plugin(&self, org: &OrgId, id: &PluginId) -> Result<(), DirectoryError> {
        let at = At::new(Table::Plugins, org, id);
        self.write(|writer| async move { writer.pause_plugin(at).await }).await
    }

    /// Removes a plugin with the bindings that are there for it alone. Connections stay.
    ///
    /// # Errors
    /// When there is none, or the file manages it or its agent (and still names it).
    pub async fn remove_plugin(&self, org: &OrgId, id: &PluginId) -> Result<(), DirectoryError> {
        let at = At::new(Table::Plugins, org, id);
        self.write(|writer| async move { writer.remove_plugin(at).await }).await
    }
}

impl Writer {
    async fn add_plugin(
        &self,
        record: PluginRecord,
        bindings: Vec<BindingRecord>,
    ) -> Result<Arc<PluginRecord>, DirectoryError> {
        self.check_plugin(&record, record.managed_by).await?;
        let name = self.plugin_name(&record);
        self.take_name(&name, &record.id, (Named::Plugin, record.name())).await?;
        let at = At::new(Table::Plugins, &record.org, &record.id);
        let offered = self.offer((&record.org, &record.agent), bindings).await;
        let agent = record.agent.clone();
        let added = match offered {
            Ok(()) => self.commit(&at, record, None).await,
            Err(error) => Err(error),
        };
        if added.is_err() {
            self.give_back(&[name]).await;
            self.withdraw(&at.org, &agent).await;
        }
        added
    }

    async fn change_plugin(
        &self,
        at: At,
        new: Plugged,
    ) -> Result<Arc<PluginRecord>, DirectoryError> {
        let Read { record: before, version } = self.read_plugin(&at).await?;
        check::editor(before.managed_by, new.by, ("plugin", before.name()))?;
        let after = PluginRecord {
            manifest: new.manifest,
            slots: new.slots,
            paused: false,
            updated: self.clock.now(),
            ..before.clone()
        };
        if after.name() != before.name() {
            return Err(DirectoryError::OtherPlugin {
                installed: before.name().to_owned(),
                given: after.name().to_owned(),
            });
        }
        self.check_plugin(&after, new.by).await?;
        self.offer((&after.org, &after.agent), new.bindings).await?;
        let changed = self.commit(&at, after, Some(version)).await;
        self.withdraw(&before.org, &before.agent).await;
        changed
    }

    async fn pause_plugin(&self, at: At) -> Result<(), DirectoryError> {
        let Read { record: before, version } = self.read_plugin(&at).await?;
        if before.paused {
            return Ok(());
        }
        let after = PluginRecord { paused: true, updated: self.clock.now(), ..before };
        self.rows.write(&at, &after, Some(version)).await?;
        self.publish(|view| view.put_plugin(Arc::new(after)));
        Ok(())
    }

    async fn remove_plugin(&self, at: At) -> Result<(), DirectoryError> {
        let Read { record, version } = self.read_plugin(&at).await?;
        let agent = self.view.load().agent(&record.org, &record.agent).cloned();
        match (record.managed_by, agent) {
            // What was taken out of the file may be removed by anyone: otherwise nobody could.
            (ManagedBy::File, _) if record.paused => {}
            (ManagedBy::File, _) => {
                check::editor(ManagedBy::File, ManagedBy::Store, ("plugin", record.name()))?;
            }
            (ManagedBy::Store, Some(agent)) => check::removable(&agent, ManagedBy::Store)?,
            (ManagedBy::Store, None) => {}
        }
        let hide = |view: &mut super::View| view.remove_plugin(&record.org, &record.id);
        self.erase(&at, Some(version), hide).await?;
        self.withdraw(&record.org, &record.agent).await;
        Ok(self.rows.delete(&self.plugin_name(&record), None).await?)
    }

    /// The plugins of an agent that is gone.
    pub(super) async fn remove_plugins_of(
        &self,
        org: &OrgId,
        agent: &AgentId,
    ) -> Result<(), DirectoryError> {
        let plugins: Vec<_> = self.view.load().plugins_of(org, agent).cloned().collect();
        for plugin in plugins {
            let at = At::new(Table::Plugins, org, &plugin.id);
            self.erase(&at, None, |view| view.remove_plugin(org, &plugin.id)).await?;
            self.rows.delete(&self.plugin_name(&plugin), None).await?;
        }
        Ok(())
    }

    /// Whether its agent may have it, and what is in each slot fits. What was in its slot before and
    /// is gone since may stay named.
    async fn check_plugin(
        &self,
        record: &PluginRecord,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        let at = At::new(Table::Agents, &record.org, &record.agent);
        let agent = self.read::<Agent>(&at).await?.record;
        check::editable(&agent, by)?;
        let view = self.view.load();
        let others = view.plugins_of(&record.org, &record.agent);
        if others.filter(|other| other.id != record.id).count() >= PLUGINS_MAX {
            return Err(DirectoryError::TooMany { what: "plugins", max: PLUGINS_MAX });
        }
        let before = view.plugin(&record.org, &record.id);
        for (name, id) in &record.slots {
            let plugin = || record.name().to_owned();
            let slot = record.manifest.slot(name);
            let slot = slot
                .ok_or_else(|| DirectoryError::NoSlot { plugin: plugin(), slot: name.clone() })?;
            let Some(connection) = view.connection(&record.org, id) else {
                match before.is_some_and(|before| before.slots.get(name) == Some(id)) {
                    true => continue,
                    false => return Err(DirectoryError::not_found("connection", id)),
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

    /// Gives the agent bindings that allow nothing yet; those that it has stay as they are.
    async fn offer(
        &self,
        (org, agent): (&OrgId, &AgentId),
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
        self.edit::<Agent>(org, agent, &change).await.map(drop)
    }

    /// Takes away bindings that are there for no slot any more. They allow nothing already: one that
    /// cannot be taken away goes when the store is opened again.
    async fn withdraw(&self, org: &OrgId, agent: &AgentId) {
        let used = used(self.view.load().plugins_of(org, agent));
        let change = |agent: &mut AgentRecord| {
            agent.facts.bindings.retain(|it| it.direct || used.contains(&it.connection));
            Ok(())
        };
        if let Err(error) = self.edit::<Agent>(org, agent, &change).await {
            tracing::warn!(%agent, %error, "a binding that allows nothing stays until the next start");
        }
    }

    /// Reads a plugin anew; the view follows.
    async fn read_plugin(&self, at: &At) -> Result<Read<PluginRecord>, DirectoryError> {
        let read = self.rows.read::<PluginRecord>(at).await?;
        let id = PluginId::parse(&at.id).map_err(|_| at.malformed())?;
        let seen = self.view.load().plugin(&at.org, &id).cloned();
        match read {
            Some(read) => {
                if seen.as_deref() != Some(&read.record) {
                    self.publish(|view| view.put_plugin(Arc::new(read.record.clone())));
                }
                Ok(read)
            }
            None => {
                if seen.is_some() {
                    self.publish(|view| view.remove_plugin(&at.org, &id));
                }
                Err(DirectoryError::not_found("plugin", &id))
            }
        }
    }

    fn plugin_name(&self, record: &PluginRecord) -> At {
        self.index.name(&record.org, Named::Plugin, &name_of(record))
    }
}

/// What is unique among the plugins of an org: names are an agent's own.
pub(super) fn name_of(record: &PluginRecord) -> String {
    format!("{}/{}", record.agent, record.name())
}

/// The connections that are in slots of these plugins.
pub(super) fn used<'a>(
    plugins: impl Iterator<Item = &'a Arc<PluginRecord>>,
) -> HashSet<ConnectionId> {
    plugins.flat_map(|plugin| plugin.slots.values().cloned()).collect()
}
