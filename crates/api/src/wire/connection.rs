//! The JSON of what is done with a connection: tests, calls, refreshed tokens and rotations. Of the provider's
//! answer to a test, it contains only the status.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use keyward_vault::{Failures, TokenStatus};

use super::SecretFields;
use keyward_base::id::ConnectionId;
use keyward_model::{Connection, Shown};

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

/// `POST /connections/{id}/request`.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// `GET` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// A path with its query, at the connection's own host; or a whole `https://` URL at one of its hosts.
    pub path: String,
    /// Fields by name. `Host`, lengths and what concerns one stream are Keyward's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// JSON: a text is sent as it is, anything else as `application/json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
    /// Base64 (RFC 4648 §4), for bodies that are no text. Not beside `body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// The provider's answer to it, without the credential.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct CallView {
    /// As audit and log name it.
    pub exchange: Option<String>,
    /// Its status.
    pub status: u16,
    /// Its fields, in order; a value that is no text as Latin-1.
    pub headers: Vec<(String, String)>,
    /// Its body, when that is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Its body in Base64, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// What a refresh by hand brought.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TokenRefreshed {
    /// The connection's name.
    pub name: String,
    /// Its token now.
    pub token: Option<TokenStatus>,
}

/// A new secret for a connection.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// The fields of its auth method.
    pub fields: SecretFields,
    /// Whether it is tested at the provider first; it is then in force only if the provider accepts it.
    #[serde(default = "yes")]
    pub test: bool,
    /// Whether secrets are refused that look like something else, such as a key of another service or a key in quotes.
    #[serde(default)]
    pub check_format: bool,
    /// How long the old one is kept for a rollback, `24h`; the configuration's when absent.
    #[serde(default)]
    pub keep_old: Option<String>,
    /// The old one is wiped at once: no rollback is possible.
    #[serde(default)]
    pub confirm: bool,
    /// When the new one ends: `90d`, a day, or a time.
    #[serde(default)]
    pub expires: Option<String>,
}

/// Values that are compared with the secret of a connection.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComparedValues {
    /// Fields of its auth method; absent ones are not compared.
    pub fields: SecretFields,
}

/// Whether a connection has values.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Comparison {
    /// Whether all of them are in force. `false` also where they cannot be compared: in a draft, and with references.
    pub same: bool,
}

/// The result of a rotation.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Rotated {
    /// The connection.
    #[serde(flatten)]
    pub connection: Shown<Connection>,
    /// What the provider said of the new secret; absent when it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<ConnectionTested>,
    /// Whose account the old one was, where that is known and the new one is of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_before: Option<String>,
}

fn yes() -> bool {
    true
}
