//! The JSON of what is in use: `/streams`, `/upstreams`, and refusals during a run, for the summary that `keyward
//! run` prints.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_base::agent::AgentSession;
use keyward_base::host::Target;
use keyward_base::id::{AgentId, ConnectionId, ExchangeId, SessionId};
use keyward_net::reach::{Reached, Unreached};
use keyward_proxy::CountedExchange;

pub use keyward_proxy::OpenKind as StreamKind;
pub use keyward_state::observe::run_refusals::RefusedHost as HostRefusals;

/// A request, a WebSocket or a tunnel of an agent that is open now.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct StreamView {
    /// The id of the exchange, as in the audit log.
    pub id: ExchangeId,
    /// What is open.
    pub kind: StreamKind,
    /// The agent's name.
    pub agent: String,
    /// The agent's id.
    pub agent_id: AgentId,
    /// The session that the agent acts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The name of the session's end user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The connection whose credential is used, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The id of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<ConnectionId>,
    /// The upstream: `https://host`, `https://host:port`, or `postgres://host:port/database`.
    pub target: String,
    /// The method; absent for a tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path without query; absent for a tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// When it began.
    pub since: Timestamp,
    /// Body bytes from the agent so far.
    pub bytes_in: u64,
    /// Body bytes to the agent so far.
    pub bytes_out: u64,
}

impl StreamView {
    pub(crate) fn of(found: CountedExchange) -> Self {
        let CountedExchange { open, bytes_in, bytes_out } = found;
        let session: Option<&AgentSession> = open.agent.session.as_deref();
        let user = session.and_then(|session| session.user.as_ref());
        let (connection_id, connection) = open.connection.clone().unzip();
        Self {
            id: open.exchange.clone(),
            kind: open.kind(),
            agent: open.agent.name.to_string(),
            agent_id: open.agent.id.clone(),
            session: session.map(|session| session.id.clone()),
            user: user.map(|(_, name)| name.to_string()),
            connection: connection.map(|name| name.to_string()),
            connection_id,
            target: open.target_text(),
            method: open.method().map(ToString::to_string),
            path: open.path().map(str::to_owned),
            since: open.since,
            bytes_in,
            bytes_out,
        }
    }

    /// What was asked: `GET https://host/path`, or the host of a tunnel.
    pub fn request(&self) -> String {
        let path = self.path.as_deref().unwrap_or_default();
        match &self.method {
            Some(method) => format!("{method} {}{path}", self.target),
            None => self.target.clone(),
        }
    }
}

const OVER_CLEARTEXT: &str =
    "it speaks no TLS, and a rule allows cleartext there: no certificate was checked";

/// A host of a connection, and whether it is reached.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct UpstreamView {
    /// With its port.
    pub host: String,
    /// Whether it answers and proves who it is; where a rule allows cleartext, whether it answers.
    pub reached: bool,
    /// The corporate proxy that it is reached by; absent: directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// What is wrong; of a host that is reached over cleartext, what was not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl UpstreamView {
    /// What came of trying it.
    pub fn new(target: &Target, tried: Result<Reached, Unreached>) -> Self {
        let host = target.authority();
        match tried {
            Ok(Reached { proxy, cleartext }) => {
                let proxy = proxy.map(|proxy| proxy.to_string());
                let message = cleartext.then(|| OVER_CLEARTEXT.to_owned());
                Self { host, reached: true, proxy, message, hint: None }
            }
            Err(Unreached { message, hint, .. }) => {
                let (message, hint) = (Some(message), Some(hint));
                Self { host, reached: false, proxy: None, message, hint }
            }
        }
    }
}

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
