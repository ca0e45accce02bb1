//! A connection as JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Scopes, SecretView, TokenStatus};
use keyward_base::id::{ConnectionId, UserId};
use keyward_base::settings::Settings;
use keyward_state::directory::{About, ConnectionState, ManagedBy, Renewal, Visibility};

/// A connection.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConnectionView {
    /// `con_…`
    pub id: ConnectionId,
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// Its way to authenticate.
    pub auth: String,
    /// Its environment.
    pub environment: Option<String>,
    /// Variables of the provider's hosts.
    pub variables: BTreeMap<String, String>,
    /// How its requests are sent; empty: as all others.
    #[serde(default)]
    pub settings: Settings,
    /// Hosts that its credential may go to.
    pub hosts: Vec<String>,
    /// The app that asks for its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Scopes that were granted, as far as the provider tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<String>,
    /// Whose account it is, as the provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// It has to be connected again before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
    /// For people.
    #[serde(flatten)]
    pub about: About,
    /// Of its secret: age, end, rotation.
    #[serde(flatten)]
    pub secret: SecretView,
    /// `requested`, and what is `missing` of them.
    #[serde(flatten)]
    pub scopes: Scopes,
    /// Whose it is; absent: the organisation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// Whose agents may use it: its owner's (`private`), or all (`shared`).
    #[serde(default)]
    pub visibility: Visibility,
    /// `state`, and for `broken` a `reason` and a `detail`, for `draft` a `failure`.
    #[serde(flatten)]
    pub state: ConnectionState,
    /// What a person does, where it cannot be used, or not for long any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// How its credential is replaced: by another `secret`, another `consent`, or its `app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Renewal>,
    /// Its token, for kinds that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenStatus>,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}
