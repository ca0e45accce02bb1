//! The JSON of consents.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectionTested, SecretFields};
use keyward_base::id::FlowId;
use keyward_model::{Connection, Shown};
use keyward_vault::oauth::FlowView;

/// A connection that was made or is being connected again, and what its owner does next.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConnectionCreated {
    /// The connection.
    #[serde(flatten)]
    pub connection: Shown<Connection>,
    /// Absent where no consent is needed.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<ConsentView>,
    /// What the provider said of its secret; absent when it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<ConnectionTested>,
    /// Parameters of its URL that say how a client works, which have no effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// A draft is to become active.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// Its secret, or another one; empty: the one that it has.
    #[serde(default)]
    pub fields: SecretFields,
    /// Whether it is tested at the provider first.
    #[serde(default = "yes")]
    pub test: bool,
    /// Whether secrets are refused that look like something else, such as a key of another service or a key in quotes.
    #[serde(default)]
    pub check_format: bool,
}

fn yes() -> bool {
    true
}

/// What a person does to consent: opens a page, or enters a code. For that person alone.
#[derive(Clone, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConsentView {
    /// `flw_…`: `/flows/…` shows its state.
    pub flow: FlowId,
    /// The page to open in a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorize_url: Option<String>,
    /// What to enter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_code: Option<String>,
    /// Where to enter it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_uri: Option<String>,
    /// The same with the code in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_uri_complete: Option<String>,
    /// When the code ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A consent that is open, in a list.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct OpenConsent {
    /// The connection's name.
    pub name: String,
    /// The consent.
    #[serde(flatten)]
    pub flow: FlowView,
}

/// A request for another consent.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reconnect {
    /// By a code, where the provider has both.
    #[serde(default)]
    pub device: bool,
    /// Scopes beside those that it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Register a new client first, if Keyward registered the present one.
    #[serde(default)]
    pub register: bool,
}

/// A person's decision about another account.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FlowDecision {
    /// Whether the new account replaces the old one.
    pub accept: bool,
}

impl ConsentView {
    /// A page to open.
    pub fn page(flow: FlowId, url: String) -> Self {
        Self {
            flow,
            authorize_url: Some(url),
            user_code: None,
            verification_uri: None,
            verification_uri_complete: None,
            expires: None,
        }
    }
}

impl fmt::Debug for ConsentView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsentView").field("flow", &self.flow).finish_non_exhaustive()
    }
}
