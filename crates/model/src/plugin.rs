//! Plugins: manifests that are installed for agents, with the connection in each slot; and [`PluginView`]: a plugin as
//! the API answers with it, its slots and what it lacks.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection::{Connection, ConnectionState, Renewal};
use super::manifest::{Manifest, Slot};
use super::reference::Reference;
use super::refusal::Refusal;
use super::resource::{Kind, ManagedBy, NoMembers, Record, Resource};
use keyward_base::id::{AgentId, ConnectionId, PluginId};
use keyward_base::keys::section;
use keyward_base::names::named_enum;
use keyward_rules::policy::OwnAuthorization;
use keyward_rules::provider::scope_words::ScopeWords;

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

/// A plugin that is installed.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PluginView {
    /// `plg_…`
    #[schemars(with = "String")]
    pub id: PluginId,
    /// Unique for its agent.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Its agent's name.
    pub agent: String,
    /// Its agent's id.
    pub agent_id: Reference<AgentId>,
    /// `ready`, `degraded`, `blocked`, or `paused` if it is no longer in the configuration.
    pub state: PluginState,
    /// Slots without a connection that can be used.
    pub missing: Vec<MissingSlotView>,
    /// All slots, in the manifest's order.
    pub slots: Vec<SlotView>,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// When it was installed.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// A slot without a connection that can be used.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct MissingSlotView {
    /// Its name.
    pub slot: String,
    /// Whether the plugin is blocked by it.
    pub required: bool,
    /// The connection in it, when it is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// A slot.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SlotView {
    /// Its name.
    pub slot: String,
    /// The provider whose account is wanted.
    pub provider: String,
    /// What the account is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What it is used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Without it the plugin does not work.
    pub required: bool,
    /// Scopes that it asks for.
    pub scopes: Vec<String>,
    /// What these scopes allow, in words, as far as the provider has some.
    #[serde(default, skip_serializing_if = "ScopeWords::is_empty")]
    pub scope_words: ScopeWords,
    /// Methods; empty: all.
    pub methods: Vec<String>,
    /// Paths; empty: all.
    pub paths: Vec<String>,
    /// Named actions; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// What is done with requests that have an authorization of their own; absent: `refuse`.
    #[serde(default, skip_serializing_if = "OwnAuthorization::is_default")]
    pub own_authorization: OwnAuthorization,
    /// What is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<SlotConnectionView>,
}

impl SlotView {
    /// A slot of the manifest and what is in it. Only the gateway has the words of scopes.
    pub fn new(slot: &Slot, connection: Option<SlotConnectionView>) -> Self {
        let Slot { allow, own_authorization, .. } = slot.clone();
        let Slot { slot, provider, label, help, required, scopes, methods, paths, .. } =
            slot.clone();
        let scope_words = ScopeWords::new();
        Self {
            slot,
            provider,
            label,
            help,
            required,
            scopes,
            scope_words,
            methods,
            paths,
            allow,
            own_authorization,
            connection,
        }
    }
}

/// A connection in a slot.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SlotConnectionView {
    /// `con_…`
    #[schemars(with = "String")]
    pub id: ConnectionId,
    /// Its name.
    pub name: String,
    /// Whose account it is, as the provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Hosts that its credential may go to.
    pub hosts: Vec<String>,
    /// Scopes of the slot that the provider did not grant, as far as it tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes_missing: Vec<String>,
    /// The agent may use it beside the plugin: the slot's methods and paths limit nothing then.
    pub unlimited: bool,
    /// What a person does, where it cannot be used or lacks scopes of the slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// How its credential is replaced: by another `secret`, another `consent`, or its `app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Renewal>,
    /// `state`, and for `broken` a `reason` and a `detail`.
    #[serde(flatten)]
    pub state: ConnectionState,
}

/// The result of removing a plugin.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PluginRemoved {
    /// The plugin's id.
    #[schemars(with = "String")]
    pub removed: PluginId,
    /// The connections that were in its slots. They stay, and nothing was revoked at their providers.
    pub connections: Vec<RemainingConnectionView>,
}

/// A connection that stays.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RemainingConnectionView {
    /// `con_…`
    #[schemars(with = "String")]
    pub id: ConnectionId,
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// Agents and plugins that use it: `claude`, `crm-digest of claude`.
    pub used_by: Vec<String>,
}

/// A plugin that a connection is missing from.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PluginAffected {
    /// Its id.
    #[schemars(with = "String")]
    pub id: PluginId,
    /// Its name.
    pub plugin: String,
    /// Its agent's name.
    pub agent: String,
    /// The slots that the connection was in.
    pub slots: Vec<String>,
    /// What the plugin is without it.
    pub state: PluginState,
}
