//! The JSON of a gateway's status: its health, its addresses, and its last reload.

use jiff::Timestamp;
use keyward_base::database::DatabaseProtocol;
use keyward_rules::policy::DefaultAction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `/healthz` and `/readyz`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Health {
    /// `ok`, `ready`, `draining`, `stale` without news of a shared store for too long, `outdated` when a newer version of
    /// Keyward changed that store, or `audit_unavailable` while the audit log cannot be written.
    pub status: String,
}

/// `/api/v1/status` of a running gateway. Listeners of one agent, and for databases, are those that the caller may see. Only
/// the operator, and admins and auditors of `default` whose token has `install:read`, get `process`, `telemetry`, `reload`
/// and the paths `data`, `config` and `ca`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Status {
    /// `ready`, `draining`, `stale`, `outdated` or `audit_unavailable`.
    pub status: String,
    /// The program's version.
    pub version: String,
    /// The id of its process.
    #[serde(default)]
    pub process: Option<u32>,
    /// When it started.
    #[serde(default)]
    pub started: Option<Timestamp>,
    /// What fails in the gateway now, and that others changed its audit log since its start. Absent: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultView>,
    /// Listeners for agents: `127.0.0.1:8080` or `unix:/run/keyward.sock`.
    pub proxy: Vec<String>,
    /// Listeners of one agent each.
    #[serde(default)]
    pub agents: Vec<AgentListener>,
    /// Open listeners for sessions with databases: those of the configuration, then those that are stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<DatabaseListenerView>,
    /// Stored listeners for databases that cannot be opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases_failed: Vec<FailedListenerView>,
    /// The admin listener.
    pub admin: String,
    /// The listener for metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// The base of the hooks' URLs, if `listen.hooks` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<String>,
    /// The data directory. Empty for callers who may not read it.
    pub data: String,
    /// The configuration file, which may be absent. Empty for callers who may not read it.
    #[serde(default)]
    pub config: String,
    /// The CA's certificate. Empty for callers who may not read it.
    pub ca: String,
    /// Whether it ends with the last run.
    #[serde(default)]
    pub private: bool,
    /// Open runs.
    #[serde(default)]
    pub runs: usize,
    /// What becomes of requests to hosts that no rule or binding names.
    #[serde(default)]
    pub default: DefaultAction,
    /// The identity provider that people of the caller's organisation sign in with, if one is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcView>,
    /// The collector that gets traces and logs, if one is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<TelemetryView>,
    /// The store, if replicas share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<SharedStoreView>,
    /// The result of the last reload; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<ReloadView>,
    /// Names of the environment variables that the gateway reads secrets from. Only over its Unix socket: for programs that
    /// are started on its machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_variables: Vec<String>,
}

/// A part of the gateway that fails.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct FaultView {
    /// `audit` or `store`.
    pub part: String,
    /// What fails, and what follows from it.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// A store that replicas share, as the gateway that answers sees it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SharedStoreView {
    /// For how long changes of other replicas may be missing here, in milliseconds: the metric
    /// `keyward_store_staleness_seconds`.
    pub staleness_ms: u64,
    /// From this on, the gateway is not ready.
    pub stale_max_ms: u64,
    /// Whether a newer version of Keyward changed the store: this gateway writes nothing any more.
    pub outdated: bool,
    /// Running gateways, with this one.
    pub replicas: i64,
}

/// A listener for sessions with databases.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct DatabaseListenerView {
    /// `127.0.0.1:6432`, or `unix:/run/keyward/.s.PGSQL.5432`.
    pub at: String,
    /// What is spoken there.
    #[serde(default)]
    pub protocol: DatabaseProtocol,
    /// The connection of all its sessions, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The agent of all its sessions, which need no token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The name of a stored listener; absent for one of the configuration, and of another organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A stored listener for databases that cannot be opened. It is tried again.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct FailedListenerView {
    /// Its name.
    pub name: String,
    /// Where it should be: `127.0.0.1:6432` or `unix:.s.PGSQL.5432`.
    pub at: String,
    /// Why it is not open.
    pub problem: String,
}

/// Sign-in with an identity provider, by OpenID Connect.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct OidcView {
    /// The provider's name.
    pub name: String,
    /// Its issuer identifier.
    pub issuer: String,
    /// The name of the organisation that people sign in to.
    pub org: String,
    /// What is registered at the provider as redirect URI.
    pub redirect_uri: String,
}

/// Export to an OpenTelemetry collector.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TelemetryView {
    /// The collector.
    pub endpoint: String,
    /// Whether exchanges leave spans.
    pub traces: bool,
    /// Whether the log is exported.
    pub logs: bool,
    /// The last export, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<TelemetryFailure>,
}

impl TelemetryView {
    /// What is exported: `traces and logs`.
    pub fn signals(&self) -> &'static str {
        match (self.traces, self.logs) {
            (true, true) => "traces and logs",
            (true, false) => "traces",
            (false, _) => "logs",
        }
    }
}

/// A failed export.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TelemetryFailure {
    /// When.
    pub time: Timestamp,
    /// Why.
    pub why: String,
}

/// `/api/v1/caller`: who asks.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct CallerView {
    /// The user of the token; `null`: the operator, who needs none.
    pub user: Option<String>,
    /// Their role.
    pub role: Option<String>,
    /// What the token may be used for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The organisation of the request.
    pub org: String,
}

/// A listener of one agent.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AgentListener {
    /// The name of its organisation.
    #[serde(default)]
    pub org: String,
    /// The agent's name.
    pub agent: String,
    /// `127.0.0.1:8090` or `unix:/run/ci.sock`.
    pub at: String,
}

/// The result of a reload of the configuration.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ReloadView {
    /// When.
    pub time: Timestamp,
    /// Why it was refused or interrupted; none when it is in force.
    pub errors: Vec<String>,
    /// Whether a part of it may be in force, because the change was interrupted. It is tried again until it succeeds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
    /// What waits for a restart.
    pub warnings: Vec<String>,
}
