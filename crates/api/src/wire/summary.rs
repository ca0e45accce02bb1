//! `/summary`: numbers of what the caller may see.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Numbers of what the caller may see, by state.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Summary {
    /// Connections.
    pub connections: ConnectionNumbers,
    /// Agents.
    pub agents: AgentNumbers,
    /// Plugins.
    pub plugins: PluginNumbers,
    /// The providers of the connections, by id.
    pub providers: BTreeMap<String, ProviderCount>,
    /// Connections by environment.
    pub environments: BTreeMap<String, usize>,
    /// Connections by tag.
    pub tags: BTreeMap<String, usize>,
}

/// Connections by state.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConnectionNumbers {
    /// All of them.
    pub total: usize,
    /// Usable.
    pub active: usize,
    /// Usable until a person replaces the credential, or a test ends.
    pub testing: usize,
    /// Unusable until a person acts.
    pub broken: usize,
    /// Paused by a person or the configuration.
    pub paused: usize,
    /// Never connected.
    pub draft: usize,
    /// Whose secret has to be replaced within two weeks.
    pub due: usize,
}

/// Agents by state.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AgentNumbers {
    /// All of them.
    pub total: usize,
    /// Paused by a person or an alarm.
    pub paused: usize,
}

/// Plugins by state.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PluginNumbers {
    /// All of them.
    pub total: usize,
    /// That need a connection which is missing or broken.
    pub blocked: usize,
    /// That lack an optional connection.
    pub degraded: usize,
}

/// A provider of connections.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ProviderCount {
    /// Its name.
    pub name: String,
    /// Its connections.
    pub connections: usize,
}
