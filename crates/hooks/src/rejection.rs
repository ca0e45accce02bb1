//! Why a webhook was refused. It contains nothing of the request or the secret, so it may be logged.

/// Why a request was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// No header, or no signature of the version that the scheme verifies.
    #[error("the request has no signature of this scheme")]
    SignatureMissing,
    /// Not in the scheme's layout or encoding.
    #[error("the signature is not in the form that this scheme defines")]
    SignatureMalformed,
    /// Made by another key, or over other bytes.
    #[error(
        "the signature does not match: check the secret, and that nothing changes the body on its way"
    )]
    SignatureWrong,
    /// No secret was given that has the scheme's form.
    #[error("there is no usable secret: enter the one that the service shows")]
    NoSecret,
    /// The service transmits a secret, but the hook already has another one.
    #[error("the service sent a new secret, but one is known: remove it first")]
    SecretKnown,
    /// A header that is part of what was signed is missing.
    #[error("a header that is signed is missing")]
    HeaderMissing,
    /// It is unclear which of the values was signed.
    #[error("a header of the signature is given more than once")]
    HeaderRepeated,
    /// Too long, not ASCII, or ambiguous.
    #[error("a header of the signature has a value that no service sends")]
    HeaderStrange,
    /// No time, or not in the scheme's unit.
    #[error("the signed time is missing or malformed")]
    TimeMalformed,
    /// Before the time window.
    #[error(
        "the request was signed too long ago: check the clock, and that requests are not delayed"
    )]
    TooOld,
    /// After the time window.
    #[error("the request was signed in the future: check the clock")]
    FromTheFuture,
    /// Not of the kind that the scheme signs, such as a body that is not JSON.
    #[error("the body is not of the kind that this scheme signs")]
    BodyStrange,
    /// The URL of the key is not a URL of the service.
    #[error("the request names a key that is not at a place of the service")]
    KeyElsewhere,
    /// A document without a usable key: one of another kind, or a certificate that is expired or for another name.
    #[error("the key that was fetched is not one that the service signs with")]
    KeyStrange,
    /// No key of this id, or one that the service has replaced.
    #[error("the request is signed with a key that the service does not publish")]
    KeyUnknown,
    /// The signature of the service is valid, but the request has another sender or receiver.
    #[error(
        "the request is signed by the service, but is not for this hook: check what the secret of the hook names"
    )]
    OtherReceiver,
    /// A wrong verify token, or a challenge that is no plain text.
    #[error("the challenge is malformed, or its verify token is wrong")]
    ChallengeRefused,
}

impl Rejection {
    pub const ALL: [Self; 17] = [
        Self::SignatureMissing,
        Self::SignatureMalformed,
        Self::SignatureWrong,
        Self::NoSecret,
        Self::SecretKnown,
        Self::HeaderMissing,
        Self::HeaderRepeated,
        Self::HeaderStrange,
        Self::TimeMalformed,
        Self::TooOld,
        Self::FromTheFuture,
        Self::BodyStrange,
        Self::KeyElsewhere,
        Self::KeyStrange,
        Self::KeyUnknown,
        Self::OtherReceiver,
        Self::ChallengeRefused,
    ];

    /// Its name in the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Self::SignatureMissing => "signature_missing",
            Self::SignatureMalformed => "signature_malformed",
            Self::SignatureWrong => "signature_wrong",
            Self::NoSecret => "no_secret",
            Self::SecretKnown => "secret_known",
            Self::HeaderMissing => "header_missing",
            Self::HeaderRepeated => "header_repeated",
            Self::HeaderStrange => "header_strange",
            Self::TimeMalformed => "time_malformed",
            Self::TooOld => "too_old",
            Self::FromTheFuture => "from_the_future",
            Self::BodyStrange => "body_strange",
            Self::KeyElsewhere => "key_elsewhere",
            Self::KeyStrange => "key_strange",
            Self::KeyUnknown => "key_unknown",
            Self::OtherReceiver => "other_receiver",
            Self::ChallengeRefused => "challenge_refused",
        }
    }
}
