//! The JSON of connection tests. Of the provider's answer, it contains only the status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_base::id::ConnectionId;

/// `POST /connections/{id}/test`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConnectionTested {
    /// The connection's id.
    pub connection: ConnectionId,
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// Whether the provider accepted the credential.
    pub ok: bool,
    /// What was found.
    pub outcome: TestOutcome,
    /// The same, for people.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// `GET https://api.example.com/me`, without the credential; absent when none is known.
    pub request: Option<String>,
    /// The status of the provider's answer.
    pub status: Option<u16>,
    /// The time until the answer began or the test gave up, with look-up, connecting and TLS.
    pub latency_ms: Option<u64>,
    /// Seconds after which the provider may be asked again, where it says so.
    pub retry_after: Option<u64>,
    /// Whose account it is, as the provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Scopes that the credential has, where the provider tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Scopes that it lacks for the test, where the provider tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// What the server of a database says; absent for other services, and when it opens no session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<TestedDatabase>,
    /// As audit and log name it; absent when nothing was asked.
    pub exchange: Option<String>,
}

/// What the server of a database says of a connection's login.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TestedDatabase {
    /// Such as `16.4`.
    pub version: String,
    /// The role or user.
    pub role: String,
    /// Where it is, if the connection has several servers.
    pub server: Option<String>,
    /// Whether sessions are read-only.
    pub read_only: bool,
    /// Whether nothing restricts the role.
    pub superuser: bool,
    /// What the role may do beyond the mode of the sessions, where the server tells: `create roles`.
    pub rights: Vec<String>,
    /// What the login did not prove: `the server requests no password`.
    pub weakness: Option<String>,
}

/// What a test found.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TestOutcome {
    /// The provider accepted the credential.
    Ok,
    /// The provider rejected it.
    WrongKey,
    /// The provider knows the credential, but does not permit this request.
    MissingPermission,
    /// This machine's clock is so wrong that the provider may refuse any credential.
    ClockWrong,
    /// There is no such API at the address.
    WrongAddress,
    /// The provider's rate limit was reached.
    RateLimited,
    /// It answers with a server error.
    ProviderDown,
    /// It gives an unexpected answer.
    UnexpectedAnswer,
    /// Its host has no address.
    Unresolved,
    /// Its host's address may not be dialled.
    AddressRefused,
    /// Nothing accepts streams there.
    Unreachable,
    /// No verified TLS.
    TlsUntrusted,
    /// No answer in time.
    Timeout,
    /// The request was not sent: there is no usable credential, or no record could be made.
    NotSent,
    /// No test request is known for the provider.
    NoTest,
}
