//! Schemes whose key is not a secret of the hook: the caller fetches a certificate or a set of keys from a place that the
//! scheme names ([`Scheme::key_place`]), and the request is verified with it ([`Scheme::read_with`]).
//!
//! A request may name the place of its key. So each scheme says which places are the service's, and nothing is fetched for a
//! request that cannot be meant for the hook: its secret, which is no secret of the service but says whose requests are
//! accepted, is compared first.
//!
//! ```text
//! sns          messages of AWS SNS
//! pubsub       pushes of Google Pub/Sub
//! paypal       webhooks of PayPal
//! plaid        webhooks of Plaid
//! certificate  the public key of a certificate
//! jwt          JSON Web Tokens and keys
//! ```

mod certificate;
mod jwt;
mod paypal;
mod plaid;
mod pubsub;
mod sns;

use http::HeaderName;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use keyward_base::secret::Secret;

use crate::key::{texts, trimmed};
use crate::request::Request;
use crate::{Challenge, Incoming, Rejection, Scheme, SecretError, Verified};

/// A clock of a service may be ahead of ours by as much.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A service whose keys are fetched.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FetchedForm {
    /// RSA, by a certificate at a URL of the body.
    Sns,
    /// A JSON Web Token of Google in `Authorization`.
    Pubsub,
    /// RSA, by a certificate at a URL of a header.
    Paypal,
    /// A JSON Web Token by a key of the service's API.
    Plaid,
}

/// Where the key of a request is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum KeyPlace {
    /// A document at this URL of the service, which everybody may fetch.
    Public(String),
    /// The answer of the service's API to a JSON document at this path, with the credential of the hook's connection.
    Api {
        /// The path and query.
        path: &'static str,
        /// What is posted there.
        body: String,
    },
}

impl KeyPlace {
    /// A URL that a request names, if it is one of the service.
    fn public(url: &str, is_of_service: bool) -> Result<Self, Rejection> {
        match is_of_service {
            true => Ok(Self::Public(url.to_owned())),
            false => Err(Rejection::KeyElsewhere),
        }
    }
}

/// What a request with a valid signature is.
#[derive(Debug)]
pub enum Read {
    /// An event.
    Event(Verified),
    /// A question of the service, such as for the confirmation of a subscription.
    Challenge(Challenge),
}

impl Scheme {
    /// Where the key of a request is; `None` if the scheme's keys are secrets of the hook.
    ///
    /// # Errors
    /// When the request is not one of the service for this hook.
    pub fn key_place(
        &self,
        incoming: &Incoming<'_>,
        secrets: &[Secret],
    ) -> Result<Option<KeyPlace>, Rejection> {
        let Some(form) = self.fetched else { return Ok(None) };
        let request = Request::new(incoming);
        let accepted = texts(secrets);
        let place = match form {
            FetchedForm::Sns => sns::key_place(&request, &accepted),
            FetchedForm::Pubsub => pubsub::key_place(&request, &accepted),
            FetchedForm::Paypal => paypal::key_place(&request, &accepted),
            FetchedForm::Plaid => plaid::key_place(&request),
        };
        place.map(Some)
    }

    /// Verifies a request with the document of its [`KeyPlace`].
    ///
    /// # Errors
    /// When the signature is not by a key of the document, the signed time is outside of the window, or the request is for
    /// another receiver.
    pub fn read_with(
        &self,
        document: &[u8],
        incoming: &Incoming<'_>,
        secrets: &[Secret],
        now: Timestamp,
    ) -> Result<Read, Rejection> {
        let form = self.fetched.ok_or(Rejection::KeyUnknown)?;
        let request = Request::new(incoming);
        let accepted = texts(secrets);
        match form {
            FetchedForm::Sns => sns::read(document, &request, &accepted, now),
            FetchedForm::Pubsub => pubsub::read(document, &request, &accepted, now),
            FetchedForm::Paypal => paypal::read(document, &request, &accepted, now),
            FetchedForm::Plaid => plaid::read(document, &request, now),
        }
    }

    /// Whether the key is fetched with the credential of the hook's connection. Then there is no secret.
    pub fn asks_api(&self) -> bool {
        self.fetched == Some(FetchedForm::Plaid)
    }
}

impl FetchedForm {
    /// The header that proves a request.
    pub(crate) fn proof(self) -> Option<HeaderName> {
        match self {
            Self::Sns => None,
            Self::Pubsub => Some(http::header::AUTHORIZATION),
            Self::Paypal => Some(paypal::SIGNATURE),
            Self::Plaid => Some(plaid::TOKEN),
        }
    }

    pub(crate) fn signs_body(self) -> bool {
        self != Self::Pubsub
    }

    /// How long ids must be remembered.
    pub(crate) fn replay_window(self) -> SignedDuration {
        match self {
            Self::Sns => sns::WINDOW * 2,
            Self::Pubsub => pubsub::REPLAY_WINDOW,
            Self::Paypal => paypal::WINDOW * 2,
            Self::Plaid => plaid::WINDOW * 2,
        }
    }

    /// Checks the form of what says whose requests are accepted.
    pub(crate) fn check(self, secret: &Secret) -> Result<(), SecretError> {
        let text = std::str::from_utf8(trimmed(secret)?).unwrap_or_default();
        let (is_right, expected) = match self {
            Self::Sns => (sns::Topic::parse(text).is_some(), "arn:aws:sns:REGION:ACCOUNT:NAME"),
            Self::Pubsub => (
                pubsub::Pusher::parse(text).is_some(),
                "the email address of a service account, and behind a space the audience if it is not the URL of the hook",
            ),
            Self::Paypal => (paypal::is_id(text), "the ID of the webhook, letters and digits"),
            Self::Plaid => (false, "none: its keys are fetched with the connection"),
        };
        if is_right { Ok(()) } else { Err(SecretError::Form { expected }) }
    }
}

/// Checks a signed time.
fn check_time(sent: Timestamp, window: SignedDuration, now: Timestamp) -> Result<(), Rejection> {
    let age = now.duration_since(sent);
    if age > window {
        return Err(Rejection::TooOld);
    }
    if age < -CLOCK_SKEW {
        return Err(Rejection::FromTheFuture);
    }
    Ok(())
}
