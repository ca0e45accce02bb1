//! [`InboxError`] and [`InboxRefusal`]: why an operation on a hook fails, and why a request to a hook is refused.

use keyward_hooks::Rejection;
use keyward_state::directory::DirectoryError;
use keyward_vault::RowError;

/// Why an operation on a hook failed.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// The row of an event or of keys.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The record of the hook.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The event is not there: it was taken, or never came.
    #[error("there is no event `{0}`")]
    NoEvent(String),
    /// A secret of the service does not have the form of its scheme.
    #[error("{0}")]
    Secret(String),
    /// The service hands its secret over, and has not done so.
    #[error("the service has not sent the secret of this hook yet")]
    SecretNotSent,
    /// The secret is shown only to enter it at the service that handed it over.
    #[error("the secret of this hook is not shown")]
    SecretNotShown,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum InboxRefusal {
    /// It is not a valid request of the service.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The hook's connection or provider is gone, or has no scheme.
    #[error("the hook has no signature scheme")]
    NoScheme,
    /// Too many events wait. The service repeats the request.
    #[error("too many events wait at this hook")]
    Full,
    /// The service transmits a secret, but the hook already has another one.
    #[error("the hook has a secret already")]
    HasSecret,
    /// The key of the service could not be fetched. The service repeats the request.
    #[error("the signing key cannot be fetched: {0}")]
    NoKey(String),
    /// The service's confirmation page could not be fetched.
    #[error("the confirmation failed: {0}")]
    Unconfirmed(String),
    /// The store failed. The service repeats the request.
    #[error(transparent)]
    Inbox(#[from] InboxError),
}

impl InboxRefusal {
    /// The codes of what the request itself is not the reason of.
    const CODES: [&'static str; 6] = [
        "scheme_missing",
        "queue_full",
        "secret_known",
        "key_unavailable",
        "unconfirmed",
        "store_unavailable",
    ];

    pub(crate) fn codes() -> Vec<&'static str> {
        let rejections = Rejection::ALL.map(Rejection::code);
        rejections.into_iter().chain(Self::CODES).collect()
    }

    /// As in the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::NoScheme => "scheme_missing",
            Self::Full => "queue_full",
            Self::HasSecret => "secret_known",
            Self::NoKey(_) => "key_unavailable",
            Self::Unconfirmed(_) => "unconfirmed",
            Self::Inbox(_) => "store_unavailable",
        }
    }
}
