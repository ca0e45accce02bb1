//! The JSON of explanations: what the gateway would do with a request.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ErrorView, TokenStatus};
use keyward_base::id::ConnectionId;
use keyward_base::settings::Settings;
use keyward_rules::policy::ConsideredRule;
use keyward_rules::policy::explain::ActionKind;

/// A request to explain.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The agent's name or id.
    pub agent: String,
    /// Its method; GET when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Absolute, `http` or `https`; or a base URL of the gateway, as a program would ask by it; or a login,
    /// `ssh://USER@HOST:PORT`.
    pub url: String,
    /// The id of the agent's session that the request would be of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// As `Keyward-Connection` would name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Fields that would be sent.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The GraphQL document of its body, which would be `application/json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphql: Option<String>,
    /// The branches that git would push to; `:NAME` would be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub push: Vec<String>,
}

/// What the gateway would do with a request.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Explanation {
    /// The agent's name.
    pub agent: String,
    /// The method.
    pub method: String,
    /// `https://api.example.com:443`.
    pub target: String,
    /// The path as the agent writes it, decoded.
    pub path: String,
    /// The path that would be sent, if it contains the credential: `{credential}` in its place.
    /// Rules must permit both. Absent if the path is sent unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_sent: Option<String>,
    /// Whether it would be sent.
    pub allowed: bool,
    /// What would be done.
    pub action: ActionKind,
    /// What decided; absent when nothing did.
    pub rule: Option<String>,
    /// The pattern of it that means the host; absent where it is for every host.
    pub host: Option<String>,
    /// The connection whose credential would be used.
    pub connection: Option<ExplainedConnection>,
    /// How its requests are sent: timeout, further attempts, limits, fields; absent where nothing is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,
    /// Where the credential would go.
    pub placements: Vec<PlacementView>,
    /// Addresses of the host, judged; empty when refused before, and where a proxy resolves it.
    pub addresses: Vec<AddressView>,
    /// The corporate proxy that the host is reached by; absent where it is reached directly.
    #[serde(default)]
    pub proxy: Option<String>,
    /// What prevents the request; empty when nothing does.
    pub stopped_by: Vec<ErrorView>,
    /// All rules of the organisation, bindings and sets of the agent, and the default, in the order in which they
    /// decide; the bindings among themselves have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub considered: Vec<ConsideredRule>,
}

/// The connection of an explanation.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ExplainedConnection {
    /// `con_…`
    pub id: ConnectionId,
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// The names of other connections that fit as well: this one is the agent's default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub default_over: Vec<String>,
    /// The app that requests its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<ExplainedApp>,
    /// Its token, for kinds that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenStatus>,
    /// It has to be connected again before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
}

/// The app of the connection of an explanation.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ExplainedApp {
    /// Its name.
    pub name: String,
    /// What is to be registered at the provider.
    pub redirect_uri: String,
    /// Why no token can be requested with it, and what to do; absent when one can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Where a credential goes, and the shape of what is written.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PlacementView {
    /// `header authorization`, `query key`, `cookie sid`, `path`.
    pub at: String,
    /// The template: `Bearer {token}`.
    pub value: String,
}

/// An address and its judgement.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AddressView {
    /// With the port.
    pub address: String,
    /// Whether it would be dialled.
    pub allowed: bool,
    /// What kind of address it is.
    pub class: String,
}
