//! Refusals during a run, for the summary that `keyward run` prints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use keyward_state::observe::run_refusals::RefusedHost as HostRefusals;

/// `GET /agents/{agent}/tokens/{token}/refusals` of an open run.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RunRefusals {
    /// Requests that Keyward refused.
    pub requests: u64,
    /// Their hosts, at most 64, in the order of their first refusal.
    pub hosts: Vec<HostRefusals>,
    /// Connections whose credential the provider rejected with 401.
    pub rejected: Vec<Rejected>,
}

/// A connection whose credential the provider rejected.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Rejected {
    /// The connection's name.
    pub connection: String,
    /// The provider's name.
    pub provider: String,
    /// Requests.
    pub requests: u64,
    /// What a person can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
