//! [`PostgresLoginError`]: why a server of PostgreSQL opens no session.

use super::messages::PostgresReadError;
use keyward_base::codes::Code;

/// Why a server opens no session.
#[derive(Debug, thiserror::Error)]
pub enum PostgresLoginError {
    /// It closed the stream, or does not speak the protocol.
    #[error(transparent)]
    Read(#[from] PostgresReadError),
    /// It does not speak the protocol.
    #[error("the server does not answer as PostgreSQL does")]
    Protocol,
    /// It requests an authentication method that would reveal the password.
    #[error("the server requests {method}, which is answered only over verified TLS")]
    Weak { method: &'static str },
    /// It requests an unsupported authentication method.
    #[error("the server requests {method}, which is not supported")]
    Unsupported { method: &'static str },
    /// It does not prove that it knows the password, or the exchange was tampered with.
    #[error("the server does not prove that it knows the password")]
    Unproved,
    #[error("the database server refuses the login: {message}")]
    Refused { state: String, message: String },
    /// It ignores settings with which the session must begin.
    #[error("the server does not begin the session as the connection's settings say")]
    ModeMismatch,
    /// It takes too long.
    #[error("the server did not finish the login in time")]
    Timeout,
}

impl PostgresLoginError {
    /// The code for the audit log.
    pub fn code(&self) -> Code {
        match self {
            Self::Read(PostgresReadError::Ended(_)) => Code::UpstreamUnreachable,
            Self::Timeout => Code::UpstreamTimeout,
            // Invalid authorization specification: the password or the role.
            Self::Refused { state, .. } if state.starts_with("28") => Code::ConnectionBroken,
            Self::Refused { .. } => Code::UpstreamUnreachable,
            Self::Unproved => Code::UpstreamTls,
            Self::Read(PostgresReadError::Malformed)
            | Self::Protocol
            | Self::ModeMismatch
            | Self::Weak { .. }
            | Self::Unsupported { .. } => Code::UpstreamProtocol,
        }
    }

    /// The SQLSTATE for the agent. A rejected password of the connection is not the agent's own.
    pub fn state(&self) -> &str {
        match self {
            Self::Refused { state, .. } if !state.starts_with("28") => state,
            Self::Refused { .. } => "57P03",
            _ => "08001",
        }
    }

    /// What a person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Weak { .. } => Some(
                "set `password_encryption = 'scram-sha-256'` at the server and the password once more, or use \
                 `sslmode: verify-full`",
            ),
            Self::Unsupported { .. } => Some("a password with scram-sha-256 is supported"),
            Self::ModeMismatch => Some(
                "a pooler before the server may drop parameters of the session: log in at the server itself",
            ),
            Self::Unproved => Some("another program may answer at this address; check it"),
            Self::Refused { message, .. } if message.contains("startup parameter") => Some(
                "a pooler before the server refuses a setting with which the session begins: log in at the server itself, or \
                 have the pooler ignore the setting, and set it for the role by `ALTER ROLE … SET`",
            ),
            _ => None,
        }
    }
}
