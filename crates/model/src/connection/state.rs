//! [`ConnectionState`]: whether a connection can be used, and if not, why.

use keyward_base::names::named_enum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
