//! A call with a connection by its id.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /connections/{id}/request`.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// `GET` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// A path with its query, at the connection's own host; or a whole `https://` URL at one of its hosts.
    pub path: String,
    /// Fields by name. `Host`, lengths and what concerns one stream are Keyward's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// JSON: a text is sent as it is, anything else as `application/json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
    /// Base64 (RFC 4648 §4), for bodies that are no text. Not beside `body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// The provider's answer to it, without the credential.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct CallView {
    /// As audit and log name it.
    pub exchange: Option<String>,
    /// Its status.
    pub status: u16,
    /// Its fields, in order; a value that is no text as Latin-1.
    pub headers: Vec<(String, String)>,
    /// Its body, when that is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Its body in Base64, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}
