//! The JSON of a refusal.

use bytes::Bytes;
use serde::Serialize;

use super::RefusalView;
use keyward_base::codes::RefusalText;

/// The body of a refusal. The message is repeated next to `error`, where clients of many APIs look for it: `gh`
/// prints nothing else.
#[derive(Serialize)]
struct RefusalJson<'a> {
    message: &'a str,
    error: ErrorJson<'a>,
}

#[derive(Serialize)]
struct ErrorJson<'a> {
    code: &'a str,
    message: &'a str,
    exchange: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    docs: Option<&'a str>,
    /// The id of the provider whose account can be connected for the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    /// The page where a person connects the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_url: Option<&'a str>,
}

pub(super) fn body(view: &RefusalView, exchange: &str) -> Bytes {
    let RefusalText { code, message, hint } = &view.text;
    let (code, hint) = (code.as_str(), hint.as_deref());
    let (connection, docs) = (view.connection.as_deref(), view.docs.as_deref());
    let (provider, connect_url) = (view.link.provider.as_deref(), view.link.url.as_deref());
    let error =
        ErrorJson { code, message, exchange, connection, hint, docs, provider, connect_url };
    let wrapped = RefusalJson { message, error };
    let mut text = serde_json::to_vec(&wrapped).expect("texts serialise");
    text.push(b'\n');
    text.into()
}
