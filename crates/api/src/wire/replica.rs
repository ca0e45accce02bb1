//! Gateways that share a store.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a replica tells the others about itself, through their store. It holds no secret: the owner of the database
/// reads it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ReplicaAbout {
    /// The host's name.
    pub host: String,
    /// The program's version.
    pub version: String,
    /// Its first listener for agents.
    pub proxy: String,
    /// Its admin listener.
    pub admin: String,
    /// When it started.
    pub started: Timestamp,
    /// A hash of its configuration file.
    pub config: String,
    /// For how long it has had no news of the store, in milliseconds.
    pub lag_ms: u64,
    /// `ready`, `draining` or `stale`.
    pub status: String,
}

/// A gateway that uses the same store.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ReplicaView {
    /// The name of its host.
    pub host: String,
    /// Its first listener for agents, as it is bound: `0.0.0.0:8080`.
    pub proxy: String,
    /// Its admin listener.
    pub admin: String,
    /// The program's version.
    pub version: String,
    /// When it started.
    pub started: Timestamp,
    /// When it announced itself last.
    pub seen: Timestamp,
    /// For how long it had no news of the store then, in milliseconds.
    pub lag_ms: u64,
    /// Whether it works.
    pub state: ReplicaState,
    /// Whether it is the replica that answers.
    pub own: bool,
    /// Whether its configuration file differs from that of the replica that answers.
    pub config_differs: bool,
}

/// Whether a replica works.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaState {
    /// It serves agents.
    Ready,
    /// It is about to end.
    Draining,
    /// It has had no news of the store for too long.
    Stale,
    /// It has not announced itself for 20 seconds: it crashed, or cannot reach the store.
    Gone,
}

impl ReplicaState {
    /// As it is in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stale => "stale",
            Self::Gone => "gone",
        }
    }
}
