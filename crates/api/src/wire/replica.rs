//! The JSON of replicas: gateways that share a store.

use jiff::Timestamp;
use keyward_base::names::named_enum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a replica tells the others about itself, through their store. It holds no secret: the owner of the database
/// reads it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ReplicaInfo {
    /// The host's name.
    pub host: String,
    /// The program's version.
    pub version: String,
    /// Its first listener for agents.
    pub proxy: String,
    /// Its admin listener.
    pub admin: String,
    pub started: Timestamp,
    /// A hash of its configuration file.
    pub config: String,
    /// The fingerprint of its CA; absent from older versions.
    #[serde(default)]
    pub ca: Option<String>,
    /// The ids of its master keys, which rows of the store have too; absent from older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
    /// For how long it has had no news of the store, in milliseconds.
    pub lag_ms: u64,
    /// `ready`, `draining`, `stale`, `outdated` or `audit_unavailable`.
    pub status: String,
    /// The time by its own clock.
    #[serde(default)]
    pub clock: Option<Timestamp>,
    /// From this time without news on, it is stale, in milliseconds.
    #[serde(default)]
    pub stale_max_ms: Option<u64>,
    /// Its stored listeners for databases, which each replica opens on its own host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub database_listeners: Vec<ReplicaListener>,
}

impl ReplicaInfo {
    /// Whether it is known to have another CA.
    pub fn ca_differs(&self, other: &Self) -> bool {
        self.ca.as_ref().zip(other.ca.as_ref()).is_some_and(|(one, other)| one != other)
    }
}

/// A stored listener for databases on the host of a replica.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ReplicaListener {
    /// Its name.
    pub name: String,
    /// Where it is open there, or should be: `127.0.0.1:6432`.
    pub at: String,
    /// Why it is not open there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
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
    /// Whether its CA differs from that of the replica that answers: agents that trust one refuse the other.
    #[serde(default)]
    pub ca_differs: bool,
    /// How far its clock is ahead of that of the database, in milliseconds; behind it below zero.
    #[serde(default)]
    pub clock_ahead_ms: Option<i64>,
    /// From this time without news on, it is stale and not ready, in milliseconds.
    #[serde(default)]
    pub stale_max_ms: Option<u64>,
    /// Its stored listeners for databases: each replica opens them on its own host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub database_listeners: Vec<ReplicaListener>,
}

/// Clocks may differ by so much: tokens are renewed longer than this before they expire, and a list of replicas does not name
/// a slow statement.
const CLOCK_DIFFERENCE_MAX_MS: u64 = 5_000;

impl ReplicaView {
    /// How far its clock is ahead of that of the database in milliseconds, if that is too far.
    pub fn clock_differs(&self) -> Option<i64> {
        self.clock_ahead_ms.filter(|ahead| ahead.unsigned_abs() > CLOCK_DIFFERENCE_MAX_MS)
    }
}

named_enum! {
    /// Whether a replica works.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub enum ReplicaState by name {
        /// It serves agents.
        Ready = "ready",
        /// It is about to end.
        Draining = "draining",
        /// It has had no news of the store for too long.
        Stale = "stale",
        /// A newer version of Keyward changed the store: it writes nothing any more.
        Outdated = "outdated",
        /// Its audit log cannot be written: it refuses all requests.
        AuditUnavailable = "audit_unavailable",
        /// It has not announced itself for 20 seconds: it crashed, or cannot reach the store.
        Gone = "gone",
    }
}
