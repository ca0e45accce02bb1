//! Errors of grants: invalid fields, and grants that give no credential. They name fields, never values.

use super::oauth::{ActingParty, Correction, ErrorCode, NO_REFRESH_TOKEN, Temporary, TokenFailure};

/// Why no credential was minted. Names no secret.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The grant or its client is invalid: no requests until a person has acted.
    #[error("{reason} ({})", .code.explained())]
    Dead {
        /// What is invalid.
        reason: Dead,
        /// The error code of the server, or ours.
        code: ErrorCode,
        /// The server's message, cleaned.
        said: Option<String>,
    },
    /// The authorization server issued no token now.
    #[error("{0}")]
    Unavailable(Box<Temporary>),
    /// The stored grant no longer fits the provider, or is damaged.
    #[error("the stored grant cannot be used: {what}")]
    Malformed {
        /// The problem.
        what: String,
    },
}

/// Why a grant gives no more tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Dead {
    /// The server rejects the grant.
    #[error("the grant is no longer valid: connect the account again")]
    Revoked,
    /// The grant cannot be renewed.
    #[error("the token has ended and there is no refresh token: connect the account again")]
    NoRefreshToken,
    /// The server rejects the client.
    #[error("the client is refused: check the app's id, secret and scopes, or connect again")]
    ClientRejected,
    /// The server rejects the client's request, whatever its secret is.
    #[error("the client's request is refused: check the app's scopes and URLs, or connect again")]
    RequestRejected,
}

impl From<TokenFailure> for MintError {
    fn from(failure: TokenFailure) -> Self {
        match failure {
            TokenFailure::Temporary(temporary) => Self::Unavailable(Box::new(temporary)),
            TokenFailure::Permanent { who, code, said } => {
                let reason = match who {
                    ActingParty::Operator(Correction::Credentials) => Dead::ClientRejected,
                    ActingParty::Operator(Correction::Request) => Dead::RequestRejected,
                    ActingParty::Person if code.as_str() == NO_REFRESH_TOKEN => {
                        Dead::NoRefreshToken
                    }
                    ActingParty::Person => Dead::Revoked,
                };
                Self::Dead { reason, code, said }
            }
        }
    }
}

/// Fields that do not fit the auth method. Names fields, never values.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum GrantError {
    /// A required field was not given.
    #[error("field `{field}` ({label}) is missing")]
    Missing {
        field: String,
        /// A label for people.
        label: String,
    },
    /// Fields of this kind cannot be references.
    #[error(
        "auth `{auth}` renews its own secret, which a reference cannot follow: give the fields as text"
    )]
    NoReferences {
        /// The auth method's id.
        auth: String,
    },
    /// A field that can only be a reference.
    #[error(
        "field `{field}` expires, so its value must come from a secret source: write {{ from: SOURCE, ref: REFERENCE }}"
    )]
    OnlyReference { field: String },
    /// An unknown field.
    #[error("auth `{auth}` has no field `{field}`; its fields are {known}")]
    Unknown {
        /// The auth method's id.
        auth: String,
        field: String,
        /// The known fields.
        known: String,
    },
    /// A value that a library rejects, with its reason.
    #[error("field `{field}`: {why}")]
    Refused {
        field: String,
        /// The reason, without the value.
        why: String,
    },
    /// An empty value.
    #[error("field `{field}` is empty")]
    Empty { field: String },
    /// A value longer than [`super::fields::FIELD_BYTES_MAX`].
    #[error("field `{field}` is longer than 16 KiB; is this the right file?")]
    TooLong { field: String },
    /// A value with line breaks, control bytes, or non-ASCII characters.
    #[error(
        "field `{field}` holds a line break, control or non-ASCII character; give the value alone, on one line"
    )]
    Characters { field: String },
    /// A value with spaces around it.
    #[error("field `{field}` begins or ends with a blank; remove it")]
    Blank { field: String },
    /// A placeholder of Keyward, or an example from a manual.
    #[error("field `{field}` looks like a placeholder, not a secret; give the real value ({hint})")]
    Placeholder {
        field: String,
        /// Its origin or beginning.
        hint: String,
    },
    /// A value that does not look like the provider's.
    #[error(
        "field `{field}` does not have the shape of {label}: the provider's pattern is `{pattern}`"
    )]
    Shape {
        field: String,
        /// A label for people, with its article.
        label: String,
        /// What whole values match.
        pattern: String,
    },
    /// A `:` in the user name of Basic authentication, RFC 7617 §2.
    #[error("field `{field}` holds a colon, which a user name of Basic authentication cannot have")]
    Colon { field: String },
    /// A value with a delimiter of its place, such as `/` in a path.
    #[error("field `{field}` holds a character that would end its place in a {place}")]
    Delimiter {
        field: String,
        /// `path` or `cookie`.
        place: &'static str,
    },
    /// OAuth without a token.
    #[error(
        "neither `refresh_token` nor `access_token` is given: give one, or connect the account by consent"
    )]
    NoToken,
    /// A value that is not a service account's key file.
    #[error(
        "field `{field}` is not a service account's key file: give the JSON file as downloaded"
    )]
    KeyFile { field: String },
    /// A document without a token.
    #[error("field `{field}` holds a file without a token: give a token, or a file that has one")]
    TokenFile { field: String },
}
