//! The schema's keys of places: where a request has the credential, and which fields are emptied before.

use serde::Deserialize;

use super::decode::one_or_many;
use crate::inject::placement::LoginPart;

/// A place, with exactly one of the first eight keys, and the format of its value.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PlaceText {
    pub header: Option<String>,
    /// A query parameter.
    pub query: Option<String>,
    pub cookie: Option<String>,
    /// A template of the beginning of the path.
    pub path: Option<String>,
    /// `Authorization: Basic`, the template of `user:password`.
    pub basic: Option<String>,
    /// A member of a JSON body (dotted path), or a form field.
    pub body: Option<String>,
    /// A template of whole query parameters, such as a signed URL's.
    pub query_string: Option<String>,
    /// A part of a database login: `user` or `password`.
    pub login: Option<LoginPart>,
    /// Text before the value.
    pub prefix: Option<String>,
    /// A template; replaces `prefix`.
    pub value: Option<String>,
}

/// Places for some hosts and paths.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopedText {
    /// The hosts, a subset of the provider's; empty means all.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Paths; empty means all.
    #[serde(default)]
    pub paths: Vec<String>,
    /// One place or a list of places. With paths, it may be empty: requests there are sent without the credential.
    #[serde(deserialize_with = "one_or_many")]
    pub place: Vec<PlaceText>,
}

/// Places that are emptied before a credential is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClearsText {
    pub headers: Vec<String>,
    pub queries: Vec<String>,
    pub cookies: Vec<String>,
}
