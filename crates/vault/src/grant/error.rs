//! Errors of grants: invalid fields, and grants that give no credential. They name fields, never values.

use super::oauth::{ActingParty, ErrorCode, Failure, NO_REFRESH_TOKEN, Temporary};
use keyward_rules::provider::Later;

/// Why nothing was minted. Names no secret.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The grant or its client is finished: nothing is asked again until someone has acted.
    #[error("{reason} ({code})")]
    Dead {
        /// Who must act, and on what.
        reason: Dead,
        /// The server's code, or ours.
        code: ErrorCode,
        /// What the server said, cleaned, for people.
        said: Option<String>,
    },
    /// The authorization server gave no token now.
    #[error("{0}")]
    Unavailable(Box<Temporary>),
    /// The stored grant does not fit the provider any more, or was damaged.
    #[error("the stored grant cannot be used: {what}")]
    Malformed {
        /// What is wrong with it.
        what: String,
    },
}

/// Why a grant gives no more tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Dead {
    /// The server does not accept it any more.
    #[error("the grant is over: connect the account again")]
    Revoked,
    /// It cannot be renewed.
    #[error("the token has ended and there is no refresh token: connect the account again")]
    NoRefreshToken,
    /// The client is refused, or what it asks for.
    #[error("the client is refused: check the app's id, secret and scopes, or connect again")]
    ClientRejected,
}

impl From<Failure> for MintError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Temporary(temporary) => Self::Unavailable(Box::new(temporary)),
            Failure::Permanent { who, code, said } => {
                let reason = match who {
                    ActingParty::Operator => Dead::ClientRejected,
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
        /// The field.
        field: String,
        /// For people.
        label: String,
    },
    /// A field that the auth method does not have.
    #[error("auth `{auth}` has no field `{field}`; its fields are {known}")]
    Unknown {
        /// The auth method's id.
        auth: String,
        /// The field.
        field: String,
        /// Those there are.
        known: String,
    },
    /// Nothing, or blanks only.
    #[error("field `{field}` is empty")]
    Empty {
        /// The field.
        field: String,
    },
    /// Over [`super::fields::FIELD_BYTES_MAX`].
    #[error("field `{field}` is longer than 16 KiB; is this the right file?")]
    TooLong {
        /// The field.
        field: String,
    },
    /// Line breaks, other control bytes, or what is not ASCII.
    #[error(
        "field `{field}` holds a line break, control or non-ASCII character; give the value alone, on one line"
    )]
    Characters {
        /// The field.
        field: String,
    },
    /// Blanks around the value.
    #[error("field `{field}` begins or ends with a blank; remove it")]
    Blank {
        /// The field.
        field: String,
    },
    /// A placeholder of ours, or of a manual.
    #[error("field `{field}` looks like a placeholder, not a secret; give the real value ({hint})")]
    Placeholder {
        /// The field.
        field: String,
        /// Where it comes from or how it begins.
        hint: String,
    },
    /// Not what the provider's values look like.
    #[error("field `{field}` does not have the shape of a {label}; {hint}")]
    Shape {
        /// The field.
        field: String,
        /// For people.
        label: String,
        /// How it begins.
        hint: String,
    },
    /// A `:` in the user name of Basic authentication, RFC 7617 §2.
    #[error("field `{field}` holds a colon, which a user name of Basic authentication cannot have")]
    Colon {
        /// The field.
        field: String,
    },
    /// A delimiter of the place, such as `/` in a path.
    #[error("field `{field}` holds a character that would end its place in a {place}")]
    Delimiter {
        /// The field.
        field: String,
        /// `path` or `cookie`.
        place: &'static str,
    },
    /// OAuth without any token.
    #[error(
        "neither `refresh_token` nor `access_token` is given: give one, or connect the account by consent"
    )]
    NoToken,
    /// Not a service account's key file.
    #[error(
        "field `{field}` is not a service account's key file: give the JSON file as downloaded"
    )]
    KeyFile {
        /// The field.
        field: String,
    },
    /// A document without a token.
    #[error("field `{field}` holds a file without a token: give a token, or a file that has one")]
    TokenFile {
        /// The field.
        field: String,
    },
    /// A kind that comes later.
    #[error("auth `{auth}` cannot be used: {later} is not supported yet")]
    NotSupported {
        /// The auth method's id.
        auth: String,
        /// What is missing.
        later: Later,
    },
}
