//! What the directory keeps, as it is sealed: agents with their tokens and bindings, connections'
//! metadata. No secret is here; placeholders and hashes are.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::about::{About, SecretFacts};
use keyward_base::id::{AgentId, AppId, ConnectionId, OrgId, TokenId, UserId};
use keyward_base::secret::Secret;
use keyward_base::settings::Settings;
pub use keyward_model::ManagedBy;
use keyward_model::{AccountId, AppUrls, ConnectionState, Visibility};
use keyward_rules::inject::placeholder::Placeholder;

/// An agent and its tokens: one row.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AgentRecord {
    /// Its id.
    pub id: AgentId,
    /// Its org.
    pub org: OrgId,
    /// Unique among the org's agents.
    pub name: String,
    /// For people and rules.
    pub labels: BTreeMap<String, String>,
    /// Never bound to connections of another one.
    pub environment: Option<String>,
    /// Whose it is; `None`: the organisation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
    /// Taken out of the file.
    pub paused: bool,
    /// Paused by a person or an alarm, which the file does not end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Its tokens.
    pub tokens: Vec<TokenRecord>,
    /// What it may use.
    pub bindings: Vec<BindingRecord>,
    /// Its last tokens that were revoked: who sends one raises an alarm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<RevokedToken>,
}

/// A token that opens nothing any more.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RevokedToken {
    /// Its id.
    pub id: TokenId,
    /// SHA-256, hex.
    pub hash: String,
}

/// A token: its hash, never its text.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// SHA-256, hex.
    pub hash: String,
    /// For people.
    pub label: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops working.
    pub expires: Option<Timestamp>,
    /// `File` for a token that stands in the configuration.
    #[serde(default)]
    pub managed_by: ManagedBy,
}

/// A binding lives in its agent's row: one aggregate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BindingRecord {
    /// What may be used.
    pub connection: ConnectionId,
    /// When it was bound.
    pub created: Timestamp,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// By secret field.
    pub placeholders: BTreeMap<String, Placeholder>,
    /// By a person or the file, and without limits. Else it is there for slots of the agent's plugins,
    /// and allows what they do.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub direct: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_yes(direct: &bool) -> bool {
    *direct
}

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

/// A new agent.
#[derive(Clone, Debug, Default)]
pub struct NewAgent {
    /// Its name: 1 to 64 unreserved characters.
    pub name: String,
    /// For people and rules.
    pub labels: BTreeMap<String, String>,
    /// Never bound to connections of another one.
    pub environment: Option<String>,
    /// Whose it is; `None`: the organisation's.
    pub owner: Option<UserId>,
    /// Who may edit it.
    pub managed_by: ManagedBy,
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

impl ConnectionRecord {
    /// What the owner and the provider say about its hosts.
    pub fn host_variables(&self) -> BTreeMap<String, String> {
        let captured = self.captured.clone();
        captured.into_iter().chain(self.variables.clone()).collect()
    }
}

impl TokenRecord {
    /// Whether it still works.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl AgentRecord {
    /// Whether it may do nothing.
    pub fn is_paused(&self) -> bool {
        self.paused || self.held
    }

    /// Its binding to a connection.
    pub fn binding(&self, connection: &ConnectionId) -> Option<&BindingRecord> {
        self.bindings.iter().find(|binding| binding.connection == *connection)
    }
}
