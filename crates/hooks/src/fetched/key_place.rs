//! The location of the key of a request, and the meaning of a request with a valid signature.

use jiff::SignedDuration;

use crate::{ChallengeAction, Rejection, VerifiedRequest};

/// A clock of a service may be ahead of ours by as much.
pub(super) const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Where the key of a request is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum KeyPlace {
    /// A public document at this URL of the service.
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
    pub(super) fn public(url: &str, is_of_service: bool) -> Result<Self, Rejection> {
        match is_of_service {
            true => Ok(Self::Public(url.to_owned())),
            false => Err(Rejection::KeyElsewhere),
        }
    }
}

/// What a request with a valid signature is.
#[derive(Debug)]
pub enum HookMessage {
    Event(VerifiedRequest),
    /// A question of the service, such as for the confirmation of a subscription.
    Challenge(ChallengeAction),
}
