//! The URL that a browser is sent to. PKCE S256, `state`, an exact redirect URI; what a
//! provider adds can change none of them.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::FlowError;
use keyward_rules::provider::OAuth;

/// RFC 3986 §2.3: everything else is encoded, spaces too.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the consent itself is made of: no setting may write these.
const OURS: &[&str] = &[
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "code_challenge",
    "code_challenge_method",
    "resource",
];

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) endpoint: &'a str,
    pub(super) client_id: &'a str,
    pub(super) redirect_uri: &'a str,
    pub(super) scopes: &'a [String],
    pub(super) state: &'a str,
    /// S256; none where the provider fails with PKCE.
    pub(super) challenge: Option<&'a str>,
    pub(super) resource: Option<&'a str>,
    /// How the browser is to come back, where that is not by a redirect.
    pub(super) response_mode: Option<&'static str>,
}

/// The whole URL. `variables` fill the provider's parameters.
///
/// # Errors
/// When a parameter of the provider or the app would be one of ours, or lacks a variable.
pub(super) fn url(
    question: &Question<'_>,
    oauth: &OAuth,
    variables: &BTreeMap<String, String>,
) -> Result<String, FlowError> {
    let extra = OAuth::params(&oauth.authorize_params, variables)?;
    for (name, value) in &extra {
        let lower = name.to_ascii_lowercase();
        // The provider's file says how the browser comes back: with another mode nothing would.
        let elsewhere =
            lower == "response_mode" && (value != "query" || question.response_mode.is_some());
        if elsewhere || OURS.contains(&lower.as_str()) {
            return Err(FlowError::Parameter { name: name.clone() });
        }
    }
    let scope = question.scopes.join(&oauth.scope_separator);
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", question.client_id),
        ("redirect_uri", question.redirect_uri),
        ("state", question.state),
    ];
    // Pipedrive refuses an empty one.
    let has_scope = !scope.is_empty() && !extra.contains_key("scope");
    pairs.extend(has_scope.then_some(("scope", scope.as_str())));
    if let Some(challenge) = question.challenge {
        pairs.extend([("code_challenge", challenge), ("code_challenge_method", "S256")]);
    }
    pairs.extend(question.resource.map(|resource| ("resource", resource)));
    pairs.extend(question.response_mode.map(|mode| ("response_mode", mode)));
    let renamed = |name: &str| oauth.renames.get(name).map_or(name.to_owned(), Clone::clone);
    let mut url = question.endpoint.to_owned();
    let ours = pairs.iter().map(|(name, value)| (renamed(name), (*value).to_owned()));
    for (name, value) in ours.chain(extra) {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&encoded(&name));
        url.push('=');
        url.push_str(&encoded(&value));
    }
    Ok(url)
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}
