//! Requests of Google's libraries for a token (RFC 6749 §6) with the placeholder of the credentials file that the environment of
//! `keyward run` and `keyward env` has. Keyward answers them itself: no upstream knows the placeholder.

use http::{Method, header};

use super::held_body;
use super::inbound::Inbound;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use keyward_base::host::Scheme;
use keyward_rules::inject::placeholder::{GOOGLE_TOKEN_HOST, OF_ANY_CONNECTION};

/// More than any such form has.
const BYTES_MAX: u64 = 4_096;

/// Whether the body must be read to know.
pub fn is_possible(inbound: &Inbound) -> bool {
    let (head, target) = (&inbound.head, inbound.target());
    let length = || head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok();
    head.uri.path() == "/token"
        && head.method == Method::POST
        && target.scheme() == Scheme::Https
        && target.host().name() == Some(GOOGLE_TOKEN_HOST)
        && length().is_some_and(|bytes| bytes <= BYTES_MAX)
}

/// Reads the body, and keeps it for the upstream.
///
/// # Errors
/// [`Refusal::PlaceholderToken`] if it has the placeholder, and as [`held_body::hold`].
pub async fn check(gateway: &Gateway, inbound: &mut Inbound) -> Result<(), Refusal> {
    let body = held_body::hold(gateway, inbound).await?;
    // Of unreserved characters, so that it is the same in every encoding of a form.
    let mut pairs = body.split(|byte| *byte == b'&');
    let is_placeholder = pairs
        .any(|pair| pair.strip_prefix(b"refresh_token=") == Some(OF_ANY_CONNECTION.as_bytes()));
    match is_placeholder {
        true => Err(Refusal::PlaceholderToken),
        false => Ok(()),
    }
}
