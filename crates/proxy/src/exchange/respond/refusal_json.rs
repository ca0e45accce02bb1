//! The JSON of a refusal.

use bytes::Bytes;
use serde::Serialize;

/// The message is repeated next to `error`, where clients of many APIs look for it: `gh` prints nothing else.
#[derive(Serialize)]
struct RefusalJson<'a> {
    message: &'a str,
    error: ErrorJson<'a>,
}

/// The member `error` of a refusal.
#[derive(Serialize)]
pub(super) struct ErrorJson<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    pub(super) exchange: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) docs: Option<&'a str>,
    /// The id of the provider whose account can be connected for the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<&'a str>,
    /// The page where a person connects the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connect_url: Option<&'a str>,
}

impl ErrorJson<'_> {
    /// The body of the response.
    pub(super) fn body(self) -> Bytes {
        let whole = RefusalJson { message: self.message, error: self };
        let mut text = serde_json::to_vec(&whole).expect("texts serialise");
        text.push(b'\n');
        text.into()
    }
}
