//! Pushed authorization requests (RFC 9126): the server gets the parameters of an authorization request from the client
//! itself, and gives a reference to them for the URL of the browser.

use serde_json::Value;

use super::failure::TokenFailure;
use super::params::Params;
use super::request_context::RequestContext;

/// Longest reference, in bytes.
const REFERENCE_BYTES_MAX: usize = 2 * 1024;

/// Sends the parameters to `url` with client authentication. Returns `request_uri`.
///
/// # Errors
/// When the server refuses, or its answer has no reference.
pub async fn push_authorization<'p>(
    ask: &RequestContext<'_>,
    url: &str,
    params: impl Iterator<Item = (&'p str, &'p str)>,
) -> Result<String, TokenFailure> {
    let mut sent = Params::default();
    for (name, value) in params {
        sent.set(name, value);
    }
    let answer = ask.post(url, &mut sent).await?;
    let reading = ask.reading(&sent, false);
    let object = reading.object(&answer)?;
    if !answer.status().is_success() {
        return Err(reading.refused(&answer, None, None));
    }
    let fits = |text: &&str| {
        (1..=REFERENCE_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let reference = object.get("request_uri").and_then(Value::as_str).filter(fits);
    let missing = || {
        TokenFailure::unreadable(
            "the answer is not that of a pushed authorization request endpoint",
        )
    };
    reference.map(str::to_owned).ok_or_else(missing)
}
