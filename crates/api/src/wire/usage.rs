//! The JSON of numbers: usage over time, and `/summary`, of what the caller may see.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Failures;
use keyward_base::id::{AgentId, ConnectionId};
use keyward_base::names::named_enum;

/// What a connection was used for since the gateway began. The audit log has what was before.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct UsageView {
    /// `con_…`
    pub id: ConnectionId,
    /// Its name.
    pub name: String,
    /// Since when it is counted.
    pub since: Timestamp,
    /// Requests that were permitted to use it, tests and calls by people among them.
    pub requests: u64,
    /// Those of them that were refused after all, answered with 400 or more, or cut by the provider.
    pub failed: u64,
    /// How often the provider answered with which status of 400 or more.
    pub statuses: BTreeMap<String, u64>,
    /// How often Keyward answered itself, by code: `rate_limited`, `upstream_timeout`.
    pub refusals: BTreeMap<String, u64>,
    /// Body bytes to the provider.
    pub bytes_in: u64,
    /// Body bytes from it.
    pub bytes_out: u64,
    /// Until answers began; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<LatencyPercentiles>,
    /// When the last request began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
    /// What the provider last said of its own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_limit: Option<LimitView>,
    /// When its token was last fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refresh: Option<Timestamp>,
    /// When its token ends, or its secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_expiry: Option<Timestamp>,
    /// The refreshes that fail, while none succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failures>,
    /// Who may use it, and who did.
    pub agents: Vec<AgentUse>,
    /// Its usage over time, which outlives a restart.
    pub history: UsageSeries,
}

/// The query of usage.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsageRequest {
    /// The period until now: `24h`, `7d`, at most `30d`, an RFC 3339 time, or a day. Default: `24h`. Up to `48h` has a
    /// point for each hour, more one for each day; up to `1h` of an organisation has one for each minute.
    pub since: Option<String>,
}

/// The usage of an agent.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AgentUsageView {
    /// `agt_…`
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// All its requests, also those without a connection and in sessions.
    pub history: UsageSeries,
}

/// The usage of all agents of an organisation.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct OrgUsageView {
    /// All requests of its agents, also of those that were removed.
    pub history: UsageSeries,
}

/// Usage over time.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct UsageSeries {
    /// When the first point begins.
    pub since: Timestamp,
    /// The length of a point: 60, 3600 or 86400. Days are of UTC.
    pub step_seconds: u32,
    /// The sum of all points.
    pub total: UsageTotals,
    /// Without gaps, oldest first. The last one is the present minute, hour or day.
    pub points: Vec<UsagePoint>,
}

/// The usage of a minute, an hour or a day. A request is counted when it ends.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct UsagePoint {
    /// When it begins.
    pub at: Timestamp,
    /// What was counted.
    #[serde(flatten)]
    pub sums: UsageTotals,
}

/// Counted requests. A request is in at most one of the five classes of failures.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct UsageTotals {
    /// All requests.
    pub requests: u64,
    /// Those that Keyward refused.
    pub refused: u64,
    /// Those that the upstream answered with 400 to 499, without 429.
    pub client_errors: u64,
    /// Those that the upstream answered with 429.
    pub rate_limited: u64,
    /// Those that the upstream answered with 500 or more.
    pub server_errors: u64,
    /// Those without a whole answer: unreachable, no TLS, timeout, malformed, cut.
    pub upstream_failures: u64,
    /// Body bytes from agents.
    pub bytes_in: u64,
    /// Body bytes to agents.
    pub bytes_out: u64,
    /// Until answers began; absent without answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<LatencyPercentiles>,
    /// The provider's own limit, as last reported in this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_limit: Option<LimitView>,
}

/// The milliseconds in which that part of the answers began, rounded up to a power of two.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LatencyPercentiles {
    /// Half of them.
    pub p50: u64,
    /// 95 of 100.
    pub p95: u64,
    /// 99 of 100.
    pub p99: u64,
}

/// A limit of the provider's.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LimitView {
    /// Requests that are left.
    pub remaining: u64,
    /// Of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// When the limit is reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Timestamp>,
    /// When it said so.
    pub at: Timestamp,
}

/// An agent that may use a connection, or did.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AgentUse {
    /// `agt_…`
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// Why it may.
    pub by: Share,
    /// Its requests.
    pub requests: u64,
    /// When the last one began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
}

named_enum! {
    /// Why an agent may use a connection.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub enum Share by as_str {
        /// It is bound.
        Bound = "bound",
        /// It is in a slot of one of its plugins.
        Plugin = "plugin",
        /// In sessions of the end user who owns it.
        Session = "session",
        /// A rule lent it, or it was bound when it did.
        Rule = "rule",
    }
}

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
