//! [`ConnectionState`]: whether a connection can be used, and if not, why; how its credential is replaced, and the
//! state of its token.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_base::names::named_enum;

/// What may become of a connection.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ConnectionState {
    /// Never connected: nothing was consented to yet, or the provider has not accepted its secret.
    Draft {
        /// Why the last attempt failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// The provider tests what was given; or it can be used, and the next refresh shows whether the provider accepts
    /// the changed client.
    Testing,
    /// It can be used.
    #[default]
    Active,
    /// By a person, or because it was removed from the file.
    Paused,
    /// It cannot be used until someone acts.
    Broken {
        /// Why.
        reason: BrokenReason,
        /// The provider's own code, cut and cleaned.
        detail: Option<String>,
    },
}

named_enum! {
    /// Why a connection is broken.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub enum BrokenReason by code {
        /// The owner or the provider revoked the grant.
        Revoked = "revoked",
        /// The grant has expired.
        Expired = "expired",
        /// The grant has no refresh token.
        NoRefreshToken = "no_refresh_token",
        /// A refresh got no answer, and the provider does not accept its refresh token any more.
        AnswerLost = "answer_lost",
        /// The provider does not accept the app, or the key that tokens are requested with.
        ClientRejected = "client_rejected",
        /// The test request failed.
        TestFailed = "test_failed",
        /// The provider answers 401 to requests and to the test request.
        Rejected = "rejected",
        /// The grant cannot be opened with the current master keys.
        StoreKeyMissing = "store_key_missing",
    }
}

impl ConnectionState {
    /// All stable names.
    pub const CODES: [&str; 5] = ["draft", "testing", "active", "paused", "broken"];

    /// The stable name, as in JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Draft { .. } => "draft",
            Self::Testing => "testing",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Broken { .. } => "broken",
        }
    }

    /// Whether its credential may be injected.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Active | Self::Testing)
    }
}

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
