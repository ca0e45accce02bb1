//! The services whose keys are fetched, and their properties that do not depend on a request.

use http::HeaderName;
use jiff::SignedDuration;
use serde::Deserialize;

use super::{paypal, plaid, pubsub, sns};
use crate::SecretError;
use crate::key::trimmed;
use keyward_base::secret::Secret;

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

    /// Checks the form of the text that names the accepted sender or receiver.
    pub(crate) fn check(self, secret: &Secret) -> Result<(), SecretError> {
        let text = std::str::from_utf8(trimmed(secret)?).unwrap_or_default();
        let (is_right, expected) = match self {
            Self::Sns => (sns::Topic::parse(text).is_some(), "arn:aws:sns:REGION:ACCOUNT:NAME"),
            Self::Pubsub => (
                pubsub::Pusher::parse(text).is_some(),
                "the email address of a service account, then a space and the audience if it is \
                 not the URL of the hook",
            ),
            Self::Paypal => (paypal::is_id(text), "the ID of the webhook, letters and digits"),
            Self::Plaid => (false, "none: its keys are fetched with the connection"),
        };
        if is_right { Ok(()) } else { Err(SecretError::Form { expected }) }
    }
}
