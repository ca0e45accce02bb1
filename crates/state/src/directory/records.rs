//! What the directory keeps, as it is sealed: agents with their tokens and bindings, connections'
//! metadata. No secret is here; placeholders and hashes are.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::about::{About, SecretFacts};
use super::account::AccountId;
use super::apps::AppUrls;
use super::users::Visibility;
use keyward_base::id::{AppId, ConnectionId, OrgId, TokenId, UserId};
use keyward_base::secret::Secret;
use keyward_base::settings::Settings;
use keyward_model::{Agent, Record};
pub use keyward_model::{BindingRecord, ManagedBy, RevokedToken, TokenRecord};

/// An agent with its tokens and bindings: one row.
pub type AgentRecord = Record<Agent>;

/// A connection's metadata: safe to show.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConnectionRecord {
    /// Its id.
    pub id: ConnectionId,
    /// Its org.
    pub org: OrgId,
    /// Unique among the org's connections.
    pub name: String,
    /// Its provider's id.
    pub provider: String,
    /// The id of the provider's way to authenticate.
    pub auth: String,
    /// Host variables.
    pub variables: BTreeMap<String, String>,
    /// Never bound to agents of another one.
    pub environment: Option<String>,
    /// How its requests are sent. Records of before they existed are without.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
    /// Host variables that the provider's own answers gave: beside `variables`, never instead.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub captured: BTreeMap<String, String>,
    /// Endpoints that its issuer named in its metadata (RFC 8414), where nobody configured or consented to any:
    /// with the issuer that named them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovered: Option<AppUrls>,
    /// The app that asks for its tokens; `None`: it has no tokens, or no app is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppId>,
    /// Scopes to ask for; empty: the app's, or the provider's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Scopes that the provider granted, as far as it tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<String>,
    /// Whose account it is, as the provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What tells that account from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// It has to be connected again before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
    /// For people.
    #[serde(default, skip_serializing_if = "About::is_empty")]
    pub about: About,
    /// Of its secret: age, end, rotation.
    #[serde(default, skip_serializing_if = "SecretFacts::is_empty")]
    pub secret: SecretFacts,
    /// Whose it is; `None`: the organisation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// Whose agents may use it.
    #[serde(default, skip_serializing_if = "Visibility::is_shared")]
    pub visibility: Visibility,
    /// Whether it can be used.
    pub state: ConnectionState,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// What may become of a connection.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ConnectionState {
    /// Never connected: nothing was consented to yet, or the provider has not taken its secret.
    Draft {
        /// Why the last attempt came to nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// The provider is being asked whether it takes what was given; or it can be used, and the next refresh
    /// tells, since its client was refused and has changed.
    Testing,
    /// It can be used.
    Active,
    /// By a person, or taken out of the file.
    Paused,
    /// It cannot be used until someone acts.
    Broken {
        /// Why.
        reason: BrokenReason,
        /// The provider's own code, cut and cleaned.
        detail: Option<String>,
    },
}

/// Why a connection is broken.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BrokenReason {
    /// The owner or the provider took the grant back.
    Revoked,
    /// The grant's time is over.
    Expired,
    /// There is nothing to renew with.
    NoRefreshToken,
    /// The provider does not know the app any more.
    ClientRejected,
    /// The test request failed.
    TestFailed,
    /// The grant does not open with the keys there are.
    StoreKeyMissing,
}

impl BrokenReason {
    /// The stable name, as in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::NoRefreshToken => "no_refresh_token",
            Self::ClientRejected => "client_rejected",
            Self::TestFailed => "test_failed",
            Self::StoreKeyMissing => "store_key_missing",
        }
    }
}

/// A token, shown once.
#[derive(Debug)]
pub struct IssuedToken {
    /// Its id.
    pub id: TokenId,
    /// Its text, kept nowhere else. Wiped on drop.
    pub text: Secret,
    /// When it stops working.
    pub expires: Option<Timestamp>,
}

impl ConnectionState {
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

impl ConnectionRecord {
    /// What the owner and the provider say about its hosts.
    pub fn host_variables(&self) -> BTreeMap<String, String> {
        let captured = self.captured.clone();
        captured.into_iter().chain(self.variables.clone()).collect()
    }
}
