//! [`SignError`]: why a request cannot be signed.

/// Why a request cannot be signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignError {
    /// The agent's signature cannot be read.
    #[error("the request's own AWS signature cannot be read: {0}")]
    Unreadable(&'static str),
    /// Neither the request nor its host nor the connection names region and service.
    #[error(
        "the AWS region and service of this request are unknown: sign it with the placeholder keys, or set the \
         connection's fields `region` and `service`"
    )]
    NoScope,
    /// The signature is of a kind that is not made here.
    #[error("the request is signed with {0}, which is not supported; use AWS4-HMAC-SHA256")]
    Algorithm(&'static str),
    /// The answer would contain credentials.
    #[error(
        "`{0}` answers with credentials, which the agent would get; add a connection that has them \
         instead"
    )]
    AnswersWithCredentials(&'static str),
    /// A field cannot be part of a signature.
    #[error("a field of the request cannot be signed")]
    Unsignable,
    /// A field of the owner has no value.
    #[error("the connection has no value for a field that its signatures need; connect it again")]
    FieldMissing,
    /// The key cannot be read.
    #[error(
        "the connection's key is not a private key in PEM, or not encoded as its provider says"
    )]
    Key,
    /// The key belongs to another algorithm.
    #[error("the connection's key is not of the required algorithm")]
    KeyAlgorithm,
    /// The system has no randomness.
    #[error("the system gives no random numbers")]
    Random,
}
