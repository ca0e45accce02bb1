//! How a connection's credential is replaced, and how its token is.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the credential of a connection is replaced.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Renewal {
    /// By another secret: a key, a password, a key file, tokens of another tool.
    Secret,
    /// By another consent at the provider.
    Consent,
    /// By its app, whose id and secret are all there is (client credentials, RFC 6749 §4.4).
    App,
}

/// The state of a connection's token, for people.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TokenStatus {
    /// One more at every change of the tokens.
    pub generation: u64,
    /// When the access token ends; `null`: nobody knows, or there is none.
    pub expires: Option<Timestamp>,
    /// When it was asked for.
    pub refreshed: Option<Timestamp>,
    /// When it is refreshed at the latest, used or not; `null`: only when it is used.
    #[serde(default)]
    pub keep_alive: Option<Timestamp>,
    /// Since when the answer to a refresh is awaited, where it takes longer than `oauth.exchange_timeout`.
    #[serde(default)]
    pub awaited: Option<Timestamp>,
    /// The refreshes that fail, while none succeeds.
    pub failing: Option<Failing>,
}

/// Refreshes that fail, but may succeed yet.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Failing {
    /// The first of them.
    pub since: Timestamp,
    /// How many there were in a row.
    pub count: u32,
    /// The provider's own code in the last, where it gave one.
    pub code: Option<String>,
    /// Why the last had no answer to read, in one word; `null` where the server answered.
    #[serde(default)]
    pub cause: Option<String>,
    /// What happened in the last, in words.
    #[serde(default)]
    pub message: Option<String>,
    /// What can be done about it, where that is known.
    #[serde(default)]
    pub hint: Option<String>,
    /// When the next one may be tried.
    pub next_try: Timestamp,
    /// They have failed for so long that somebody should look: `oauth.alert_after`.
    #[serde(default)]
    pub alert: bool,
}
