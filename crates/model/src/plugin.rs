//! Plugins: manifests that are installed for agents, with the connection in each slot.

mod view;

use std::collections::BTreeMap;

use keyward_base::id::{AgentId, ConnectionId, PluginId};
use keyward_base::keys::section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection::{Connection, ConnectionState};
use super::manifest::{Manifest, Slot};
use super::reference::Reference;
use super::refusal::Refusal;
use super::resource::{Kind, NoMembers, Record, Resource};
use keyward_base::names::named_enum;

pub use view::{
    MissingSlotView, PluginAffected, PluginRemoved, PluginView, RemainingConnectionView,
    SlotConnectionView, SlotView,
};

/// Plugins of one agent.
pub const PLUGINS_MAX: usize = 100;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plugin {}

section! {
    /// What a person gives. In the configuration, the manifest may be in a file of its own, so `plugins:` has
    /// keys of its own.
    #[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct PluginSpec {
        /// As its author declares it.
        #[key("[manifest](../guides/plugins.md#the-manifest)", required)]
        pub manifest: Manifest,
        /// The agent that it is installed for. An agent has one plugin of a name.
        #[key("name or id of an agent", required)]
        pub agent: Reference<AgentId>,
        /// The connection in each slot; one that was removed since stays named. Required slots need one.
        #[key("map of slots to names or ids of connections", "{}")]
        #[serde(default)]
        pub slots: BTreeMap<String, Reference<ConnectionId>>,
    }
}

section! {
    /// What a request that changes one gives. It replaces the manifest instead of merging it.
    #[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
    pub struct PluginChangeOptions {
        /// Another version.
        #[key("[manifest](../guides/plugins.md#the-manifest)")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub manifest: Option<Manifest>,
        /// Connections by slot; `null` empties an optional one. Other slots stay as they are.
        #[key("map of slots to names or ids of connections", "{}")]
        #[serde(default)]
        pub slots: BTreeMap<String, Option<Reference<ConnectionId>>>,
    }
}

/// What the gateway adds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PluginFacts {
    /// It is no longer in the configuration, and allows nothing.
    #[serde(default)]
    pub paused: bool,
}

named_enum! {
    /// Whether a plugin can work.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub enum PluginState by code {
        /// Every slot that is required or was filled has a connection that can be used.
        Ready = "ready",
        /// An optional slot that was filled has none any more.
        Degraded = "degraded",
        /// A required slot has none.
        Blocked = "blocked",
        /// It is no longer in the configuration.
        Paused = "paused",
    }
}

/// A slot without a connection that can be used.
#[derive(Clone, Copy, Debug)]
pub struct Missing<'a> {
    pub slot: &'a Slot,
    /// The connection that is in it, if it still exists.
    pub connection: Option<&'a Record<Connection>>,
}

impl Resource for Plugin {
    type Id = PluginId;
    type Spec = PluginSpec;
    type CreateOptions = NoMembers;
    type ChangeOptions = PluginChangeOptions;
    type Facts = PluginFacts;
    /// Answers are a [`PluginView`], where `agent` and `slots` say more than in the spec.
    type Shown = NoMembers;

    const KIND: Kind =
        Kind { one: "plugin", article: "a plugin", many: "plugins", max: usize::MAX };

    const FIXED: &[&str] = &["agent"];

    const DATED: bool = true;

    /// Unique for its agent.
    fn name(spec: &PluginSpec) -> &str {
        &spec.manifest.plugin
    }

    /// A manifest is checked with the providers that it names: [`Manifest::faults`].
    fn refusals(_: &PluginSpec) -> Vec<Refusal> {
        Vec::new()
    }
}

impl PluginSpec {
    pub fn connection_in(&self, slot: &str) -> Option<&ConnectionId> {
        self.slots.get(slot)?.id()
    }

    /// The connections in its slots.
    pub fn connections(&self) -> impl Iterator<Item = &ConnectionId> {
        self.slots.values().filter_map(Reference::id)
    }

    /// The slots that a connection is in.
    pub fn slots_with<'a>(
        &'a self,
        connection: &'a ConnectionId,
    ) -> impl Iterator<Item = &'a Slot> + 'a {
        let has = move |slot: &&Slot| self.connection_in(&slot.slot) == Some(connection);
        self.manifest.connections.iter().filter(has)
    }
}

impl Record<Plugin> {
    /// Its slots that have no connection that can be used, in the manifest's order, without optional slots that
    /// were left empty. `find` answers for its organisation.
    pub fn missing<'a>(
        &'a self,
        find: impl Fn(&ConnectionId) -> Option<&'a Record<Connection>>,
    ) -> Vec<Missing<'a>> {
        // An optional slot that was never filled is empty on purpose.
        let is_wanted = |slot: &&Slot| slot.required || self.spec.slots.contains_key(&slot.slot);
        let each = self.spec.manifest.connections.iter().filter(is_wanted).map(|slot| {
            let connection = self.spec.connection_in(&slot.slot).and_then(&find);
            Missing { slot, connection }
        });
        each.filter(|missing| missing.connection.is_none_or(|it| !it.facts.state.is_usable()))
            .collect()
    }

    /// Its state when it lacks these.
    pub fn state(&self, missing: &[Missing<'_>]) -> PluginState {
        match missing {
            _ if self.facts.paused => PluginState::Paused,
            [] => PluginState::Ready,
            some if some.iter().any(|missing| missing.slot.required) => PluginState::Blocked,
            _ => PluginState::Degraded,
        }
    }
}

impl Missing<'_> {
    /// The state of the connection in the slot; `None` if there is no connection.
    pub fn state(&self) -> Option<&ConnectionState> {
        self.connection.map(|connection| &connection.facts.state)
    }
}
