//! [`PluginView`]: a plugin as the API answers with it, its slots and what it lacks.

use jiff::Timestamp;
use keyward_base::id::{AgentId, ConnectionId, PluginId};
use keyward_rules::policy::OwnAuthorization;
use keyward_rules::provider::scope_words::ScopeWords;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PluginState;
use crate::connection::{ConnectionState, Renewal};
use crate::manifest::Slot;
use crate::reference::Reference;
use crate::resource::ManagedBy;

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
