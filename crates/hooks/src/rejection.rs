//! Why a webhook was refused. It contains nothing of the request or the secret, so it may be logged.

use keyward_base::names::labelled_enum;

labelled_enum! {
    /// Why a request was refused.
    #[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
    pub enum Rejection by code, all {
        /// No header, or no signature of the version that the scheme verifies.
        #[error("the request has no signature of this scheme")]
        SignatureMissing = "signature_missing",
        /// Not in the scheme's layout or encoding.
        #[error("the signature is not in the form that this scheme defines")]
        SignatureMalformed = "signature_malformed",
        /// Made by another key, or over other bytes.
        #[error(
            "the signature does not match: check the secret, and that nothing changes the body on its way"
        )]
        SignatureWrong = "signature_wrong",
        /// No secret was given that has the scheme's form.
        #[error("there is no usable secret: enter the one that the service shows")]
        NoSecret = "no_secret",
        /// The service transmits a secret, but the hook already has another one.
        #[error("the service sent a new secret, but one is known: remove it first")]
        SecretKnown = "secret_known",
        /// A header that is part of what was signed is missing.
        #[error("a header that is signed is missing")]
        HeaderMissing = "header_missing",
        /// It is unclear which of the values was signed.
        #[error("a header of the signature is given more than once")]
        HeaderRepeated = "header_repeated",
        /// Too long, not ASCII, or ambiguous.
        #[error("a header of the signature has a value that no service sends")]
        HeaderStrange = "header_strange",
        /// No time, or not in the scheme's unit.
        #[error("the signed time is missing or malformed")]
        TimeMalformed = "time_malformed",
        /// Before the time window.
        #[error(
            "the request was signed too long ago: check the clock, and that requests are not delayed"
        )]
        TooOld = "too_old",
        /// After the time window.
        #[error("the request was signed in the future: check the clock")]
        FromTheFuture = "from_the_future",
        /// Not of the kind that the scheme signs, such as a body that is not JSON.
        #[error("the body is not of the kind that this scheme signs")]
        BodyStrange = "body_strange",
        /// The URL of the key is not a URL of the service.
        #[error("the request names a key that is not at a place of the service")]
        KeyElsewhere = "key_elsewhere",
        /// A document without a usable key: one of another kind, or a certificate that is expired or for another name.
        #[error("the key that was fetched is not one that the service signs with")]
        KeyStrange = "key_strange",
        /// No key of this id, or one that the service has replaced.
        #[error("the request is signed with a key that the service does not publish")]
        KeyUnknown = "key_unknown",
        /// The signature of the service is valid, but the request has another sender or receiver.
        #[error(
            "the request is signed by the service, but is not for this hook: check what the secret of the hook names"
        )]
        OtherReceiver = "other_receiver",
        /// A wrong verify token, or a challenge that is no plain text.
        #[error("the challenge is malformed, or its verify token is wrong")]
        ChallengeRefused = "challenge_refused",
    }
}
