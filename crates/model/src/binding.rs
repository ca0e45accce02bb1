//! Bindings: which connections an agent may use. They stand in the agent's row.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyward_base::id::ConnectionId;
use keyward_base::keys::section;
use keyward_rules::inject::placeholder::Placeholder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reference::Reference;
use super::resource::ManagedBy;

/// Bindings of one agent: its row must stay under the store's limit.
pub const BINDINGS_MAX: usize = 5_000;

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct BindingSpec {
        /// What the agent may use.
        #[key("name or id of a connection", required)]
        pub connection: Reference<ConnectionId>,
        /// Make it the default: requests that select no connection use it, where several of the agent fit.
        #[key(one of ["true", "false"], "false")]
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub default: bool,
    }
}

/// A binding as it is stored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BindingRecord {
    /// What may be used.
    pub connection: ConnectionId,
    /// When it was bound.
    pub created: Timestamp,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// By secret field.
    pub placeholders: BTreeMap<String, Placeholder>,
    /// A person or the file made it, without limits. Otherwise it exists for slots of the agent's plugins, and
    /// allows what they do.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub direct: bool,
    /// When it was made the default. Of several, the latest is; without any, the oldest binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred: Option<Timestamp>,
}

/// A binding as the API answers with it. Placeholders are text here: what reads an answer does not check them.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct BindingShown {
    /// The connection's id.
    #[schemars(with = "String")]
    pub connection: ConnectionId,
    /// The connection's name.
    pub name: String,
    /// The connection's provider.
    pub provider: String,
    /// Who may edit the binding.
    pub managed_by: ManagedBy,
    /// When it was bound.
    #[schemars(with = "String")]
    pub created: Timestamp,
    /// What the agent holds instead of each secret field.
    pub placeholders: BTreeMap<String, String>,
    /// Variables that the provider's SDKs read, with the placeholders to put there.
    pub env: BTreeMap<String, String>,
    /// Slots of the agent's plugins that it is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<BoundSlot>,
    /// `false`: it allows what its slots do, and nothing more.
    #[serde(default = "yes")]
    pub direct: bool,
    /// Requests that select no connection use it, at least for one of its hosts.
    #[serde(default)]
    pub default: bool,
}

/// A slot that a binding is in.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct BoundSlot {
    /// The plugin's name.
    pub plugin: String,
    /// The slot's name.
    pub slot: String,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_yes(direct: &bool) -> bool {
    *direct
}
