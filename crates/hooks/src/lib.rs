//! The signature schemes of webhooks, and the verification of requests. Data: `schemes.yaml` has a [`Scheme`] for each
//! way to sign. Pure: the caller reads the request, remembers ids, keeps secrets and sends answers.
//!
//! A request goes first to [`Scheme::challenge`], which answers requests that only prove the URL, and then to
//! [`Scheme::verify`]. Both take the body as it was received: a signature covers bytes, not JSON. If the key must be
//! fetched, [`Scheme::key_place`] returns its location, and [`Scheme::read_with`] replaces both.

mod challenge;
mod challenge_rule;
mod fetched;
mod key;
mod proof;
mod rejection;
mod request;
mod scheme;
mod schemes;
mod template;
mod verify;
mod written;

#[cfg(test)]
mod tests;

pub use challenge_rule::{ChallengeAction, EventAnswer};
pub use fetched::key_place::{HookMessage, KeyPlace};
pub use key::SecretError;
pub use rejection::Rejection;
pub use scheme::{BODY_BYTES_MAX, Scheme};
pub use schemes::{all, get};
pub use verify::VerifiedRequest;

/// A request as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    pub method: &'a http::Method,
    /// The public URL that the service was given, with the query of the request. Some services sign it.
    pub url: &'a str,
    pub headers: &'a http::HeaderMap,
    /// The whole body, without any change.
    pub body: &'a [u8],
}
