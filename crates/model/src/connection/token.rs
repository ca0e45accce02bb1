//! How a connection's credential is replaced, and the state of its token.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the credential of a connection is replaced.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Renewal {
    /// By a new secret: a key, a password, a key file, tokens of another tool.
    Secret,
    /// By a new consent at the provider.
    Consent,
    /// By its app: the app's id and secret are the credential (client credentials, RFC 6749 §4.4).
    App,
}

/// The state of a connection's token, for people.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TokenStatus {
    /// Incremented at every change of the tokens.
    pub generation: u64,
    /// When the access token expires; `null`: unknown, or there is none.
    pub expires: Option<Timestamp>,
    /// When it was requested.
    pub refreshed: Option<Timestamp>,
    /// When it is refreshed at the latest; `null`: only when it is used.
    #[serde(default)]
    pub keep_alive: Option<Timestamp>,
    /// Since when the response to a refresh is awaited, if that takes longer than `oauth.exchange_timeout`.
    #[serde(default)]
    pub awaited: Option<Timestamp>,
    /// Until when no refresh is requested because the authorization server throttles the client (429), also after a
    /// request for another connection of the client.
    #[serde(default)]
    pub client_paused: Option<Timestamp>,
    /// What the provider asked for beyond a valid token: other scopes, another sign-in (RFC 9470), claims.
    #[serde(default)]
    pub asked: Option<String>,
    /// The host that the provider names for the account, if it is no host of the connection.
    #[serde(default)]
    pub account_host: Option<String>,
    /// The failing refreshes, if the last one failed.
    pub failing: Option<Failures>,
}

/// Consecutive failed refreshes.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Failures {
    /// The time of the first.
    pub since: Timestamp,
    /// Their number.
    pub count: u32,
    /// The provider's error code in the last one.
    pub code: Option<String>,
    /// Why the last one had no readable response; `null` if the server responded.
    #[serde(default)]
    pub cause: Option<String>,
    /// The message of the last one.
    #[serde(default)]
    pub message: Option<String>,
    /// What the provider said in the last one: cut, without secrets.
    #[serde(default)]
    pub said: Option<String>,
    /// A remedy, if it is known.
    #[serde(default)]
    pub hint: Option<String>,
    /// When the next one may be tried.
    pub next_try: Timestamp,
    /// Whether they last longer than `oauth.alert_after`.
    #[serde(default)]
    pub alert: bool,
}
