//! [`SignInError`]: why a person is not signed in by OpenID Connect. Unauthenticated people read the messages, so they
//! contain nothing of a token, a claim or an answer; the chain of their sources is for the log.

use std::sync::Arc;

use http::StatusCode;

use super::admission::NotAdmitted;
use super::id_token::IdTokenFault;
use crate::VaultError;
use crate::grant::oauth::{ErrorCode, MetadataError, TokenFailure};
use crate::oauth::{CallbackRefusal, FlowError};

/// Why there is no sign-in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    // The browser: start again.
    /// The callback's query cannot be read.
    #[error("the answer of the identity provider is malformed")]
    Malformed,
    /// The browser has no cookie of this sign-in.
    #[error("this browser did not begin this sign-in, or began another one after it")]
    OtherBrowser,
    /// It took longer than 10 minutes.
    #[error("the sign-in took longer than 10 minutes")]
    Expired,
    /// It was completed, or refused, before.
    #[error("this sign-in has ended: it can be completed once")]
    Used,
    /// The issuer in the callback is another one (RFC 9207).
    #[error("the answer did not come from the identity provider of this sign-in")]
    OtherServer,
    /// The person or the provider declined.
    #[error("{}", declined(.0))]
    Declined(String),

    // The person: an admin must let them in.
    /// A requirement is not met.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),

    // The operator.
    /// The store does not answer.
    #[error("the gateway cannot reach its store at present")]
    Store(#[source] Box<VaultError>),
    /// The metadata of the provider cannot be read, or is not accepted.
    #[error("the identity provider cannot be used at present")]
    Metadata(#[source] Arc<MetadataError>),
    /// The metadata lacks an endpoint.
    #[error("the identity provider does not say where its {0} is")]
    Incomplete(&'static str),
    /// The authorization URL cannot be made.
    #[error("the address of the identity provider is not usable")]
    Url(#[source] FlowError),
    /// The provider gives no tokens for the code.
    #[error(
        "the identity provider did not accept this gateway as its client, or the code of this sign-in"
    )]
    NoTokens(#[source] TokenFailure),
    #[error("the identity provider did not say who you are: it sent no ID token")]
    NoIdToken,
    /// The ID token is not valid.
    #[error("the identity provider's statement of who you are is not valid")]
    IdToken(#[source] IdTokenFault),
    /// The signing keys cannot be read.
    #[error("the keys of the identity provider cannot be read at present")]
    Keys,
    /// Further claims cannot be read.
    #[error("the identity provider did not say enough about you")]
    Userinfo(#[source] TokenFailure),
    /// The userinfo is of another account (OpenID Connect Core §5.3.2).
    #[error("the identity provider's two statements of who you are differ")]
    OtherSubject,
    /// A step took longer than its time limit.
    #[error("the identity provider did not answer within 10 seconds")]
    Late,
}

impl SignInError {
    /// The status of the page.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed | Self::Expired | Self::Used | Self::OtherServer => {
                StatusCode::BAD_REQUEST
            }
            Self::OtherBrowser | Self::Declined(_) | Self::NotAdmitted(_) => StatusCode::FORBIDDEN,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// What the person can do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotAdmitted(why) => why.remedy(),
            _ if self.is_of_operator() => {
                "try again in a moment; if it stays so, ask the operator of this gateway: its \
                 log has the cause"
            }
            _ => "start again",
        }
    }

    /// Whether the configuration, the network or the provider is at fault.
    pub fn is_of_operator(&self) -> bool {
        matches!(self.status(), StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
    }
}

impl From<CallbackRefusal> for SignInError {
    fn from(_: CallbackRefusal) -> Self {
        Self::Malformed
    }
}

/// A message for an error code of RFC 6749 §4.1.2.1.
fn declined(code: &str) -> String {
    match code {
        "access_denied" => {
            "the sign-in was declined, or the identity provider does not let you use this gateway"
                .to_owned()
        }
        code => format!(
            "the identity provider refused the sign-in ({})",
            ErrorCode::received(code, None)
        ),
    }
}
