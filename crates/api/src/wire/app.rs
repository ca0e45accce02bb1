//! Apps: OAuth clients that are registered at providers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SecretFields;
use keyward_base::id::AppId;
use keyward_state::directory::{AppSettings, AppUrls, ManagedBy, Registered};

/// A new app. `secrets` are sealed at once and never shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewApp {
    /// A provider's id.
    pub provider: String,
    /// The one way to authenticate that it is for; any that is OAuth when absent.
    #[serde(default)]
    pub auth: Option<String>,
    /// Unique.
    pub name: String,
    /// As the provider issued it.
    pub client_id: String,
    /// `client_secret`, or `private_key` and `certificate`; none for a public client.
    #[serde(default)]
    pub secrets: SecretFields,
    /// Asked for where a connection names none.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Variables of the provider's URLs.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Endpoints instead of the provider's.
    #[serde(default)]
    pub urls: AppUrls,
    /// How its tokens are got, and how requests of its connections are sent.
    #[serde(default)]
    pub settings: AppSettings,
    /// A template of the provider's: what is absent above is as it says.
    #[serde(default)]
    pub template: Option<String>,
}

/// A change of an app: what is absent stays. Maps and lists are replaced whole; `settings` and `urls` are
/// merge patches.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppPatch {
    /// Another client id; its secret is given with it.
    #[serde(default)]
    pub client_id: Option<String>,
    /// All of its secrets anew; an empty map makes it a public client.
    #[serde(default)]
    pub secrets: Option<SecretFields>,
    /// Scopes.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
    /// Variables.
    #[serde(default)]
    pub variables: Option<BTreeMap<String, String>>,
    /// Endpoints: `null` takes one away.
    #[serde(default)]
    pub urls: Option<Value>,
    /// Settings: `null` takes one away.
    #[serde(default)]
    pub settings: Option<Value>,
}

/// An app after a request to change it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AppChanged {
    /// As it is now.
    #[serde(flatten)]
    pub app: AppView,
    /// Whether that is otherwise than before.
    #[serde(default)]
    pub changed: bool,
    /// Names of its connections that the provider refused, and that the next request tries again.
    #[serde(default)]
    pub retried: Vec<String>,
}

/// An app, without its secrets.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AppView {
    /// `app_…`
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// The one way to authenticate that it is for.
    pub auth: Option<String>,
    /// As the provider issued it.
    pub client_id: String,
    /// What is to be registered at the provider, character by character.
    pub redirect_uri: String,
    /// Asked for where a connection names none; empty: the provider's.
    pub scopes: Vec<String>,
    /// Variables of the provider's URLs.
    pub variables: BTreeMap<String, String>,
    /// Endpoints instead of the provider's.
    #[serde(default)]
    pub urls: AppUrls,
    /// How its tokens are got.
    #[serde(default)]
    pub settings: AppSettings,
    /// Names of the secrets that are stored.
    pub secrets: Vec<String>,
    /// Where it registered itself, and when that ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<Registered>,
    /// Names of the connections that use it.
    pub connections: Vec<String>,
    /// It left the configuration file: nothing is asked for with it.
    pub paused: bool,
    /// Why nothing can be asked for with it, and what to do; absent when something can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}
