//! Checks the consent of an auth method of OAuth 1.0a (RFC 5849 §2). Without one, the owner gives all four values.

use super::Field;
use super::check_oauth::OAuthCheck;
use super::document::{Problems, key_of};
use super::oauth::{OAuth, TemporaryEndpoint};
use super::own_hosts::OwnHosts;
use super::schema::AuthText;

/// Fields whose values a consent and its app give.
const GIVEN_BY_CONSENT: [&str; 4] = ["consumer_key", "consumer_secret", "token", "token_secret"];

/// Checks the endpoints of a consent and related keys; `None` for a method without one.
pub(super) fn consent(
    text: &AuthText,
    path: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) -> Option<OAuth> {
    let endpoints = [
        ("request_token", text.request_token.is_some()),
        ("authorize", text.oauth.authorize.is_some()),
        ("token", text.oauth.token.is_some()),
    ];
    if endpoints.iter().all(|(_, is_named)| !is_named) {
        without_consent(text, path, problems);
        return None;
    }
    for (key, _) in endpoints.iter().filter(|(_, is_named)| !is_named) {
        let message = format!("a consent of OAuth 1.0a needs `{key}` too");
        let remedy = "name all of `request_token`, `authorize` and `token`, or none";
        problems.add(path, message, remedy);
    }
    fields(text, path, problems);
    let check = OAuthCheck { text, path, own };
    check.params(problems);
    check.captures(problems);
    check.access_page(problems);
    let url = text.request_token.clone()?;
    check.url("request_token", Some(&url), problems);
    let confirms = !text.unconfirmed_callback;
    let temporary = TemporaryEndpoint { url, confirms, takes_state: text.authorize_state };
    Some(OAuth { temporary: Some(temporary), ..check.built(problems) })
}

/// A consent gives the values of four fields, so no other may be required.
fn fields(text: &AuthText, path: &str, problems: &mut Problems<'_>) {
    let declared = text.fields.iter().flatten();
    for field in declared.filter(|field| !field.optional) {
        if !GIVEN_BY_CONSENT.contains(&field.name.as_str()) {
            let message = format!("a consent gives no `{}`", field.name);
            let remedy = "declare it under `variables`, or with `optional: true`";
            problems.add(&key_of(path, "fields"), message, remedy);
        }
    }
}

/// Makes the fields optional that a consent gives.
pub(super) fn leave_to_consent(fields: &mut [Field]) {
    for field in fields {
        field.optional |= GIVEN_BY_CONSENT.contains(&field.name.as_str());
    }
}

/// Keys that only a consent has.
fn without_consent(text: &AuthText, path: &str, problems: &mut Problems<'_>) {
    let keys = [
        ("revoke", text.oauth.revoke.is_some()),
        ("unconfirmed_callback", text.unconfirmed_callback),
        ("authorize_state", text.authorize_state),
        ("app_steps", !text.app_steps.is_empty()),
        ("app_source", text.app_source.is_some()),
        ("authorize_params", !text.oauth.authorize_params.is_empty()),
        ("account", !text.account.is_empty()),
        ("capture", !text.oauth.capture.is_empty()),
        ("callback_capture", !text.oauth.callback_capture.is_empty()),
        ("access_page", text.access_page.is_some()),
    ];
    for (key, _) in keys.iter().filter(|(_, is_named)| *is_named) {
        let message = format!("`{key}` belongs to a consent, which this method does not have");
        let remedy = "name `request_token`, `authorize` and `token` too, or remove it";
        problems.add(&key_of(path, key), message, remedy);
    }
}

#[cfg(test)]
mod tests;
