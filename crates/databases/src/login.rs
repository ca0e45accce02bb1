//! What every login at a server begins with: the user and password of its connection, and why a server opens no session.
//! [`DatabaseFacts`]: facts about a login that the test of a connection reads from the server.

use crate::refused::{Refused, ServerRefusal};
use keyward_base::codes::Code;
use keyward_base::database::{DatabaseProtocol, StreamSecurity};
use keyward_base::secret::Secret;
use keyward_base::settings::Settings;
use keyward_proxy::ServiceExchange;
use keyward_rules::inject::placement::{Location, LoginPart};
use keyward_rules::inject::sign::CredentialSigner;
use keyward_rules::policy::PermittedLogin;

/// The user of the login, if the connection has one.
pub fn user_of(permitted: &PermittedLogin) -> Option<&str> {
    part(permitted, LoginPart::User).and_then(Secret::expose_text)
}

/// How the login is presented, if the connection says it.
pub fn scheme_of(permitted: &PermittedLogin) -> Option<&str> {
    part(permitted, LoginPart::Scheme).and_then(Secret::expose_text)
}

/// The password of the login: the credential's, or one that its AWS key signs for this login.
///
/// # Errors
/// When the credential has none, or the signed one would be sent without TLS.
pub fn password_of(permitted: &PermittedLogin) -> Result<Secret, Refused> {
    let Some(CredentialSigner::AwsSigV4(keys)) = &permitted.credential().signer else {
        return part(permitted, LoginPart::Password).cloned().ok_or_else(incomplete);
    };
    let (endpoint, user) =
        (permitted.permit().endpoint(), user_of(permitted).ok_or_else(incomplete)?);
    if endpoint.security == StreamSecurity::Cleartext {
        let text = "passwords of AWS IAM are sent over verified TLS only";
        let hint = "set `sslmode: verify-full`, and name Amazon's root in `upstream.trust`";
        return Err(Refused::Keyward(Code::UpstreamTls.because(text).hint(hint)));
    }
    let signed = keys.database_password(&endpoint.target, user, permitted.time());
    signed.map_err(|error| Refused::Keyward(Code::ConnectionBroken.because(error.to_string())))
}

/// The refusal of a connection that lacks a part of its login.
pub fn incomplete() -> Refused {
    Refused::Keyward(Code::ConnectionBroken.because("the connection has no complete login"))
}

fn part(permitted: &PermittedLogin, wanted: LoginPart) -> Option<&Secret> {
    let mut writes = permitted.credential().writes.iter().flat_map(|scope| &scope.what);
    writes.find(|write| write.at == Location::Login(wanted)).map(|write| &write.value)
}

/// Why a server opens no session.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It closed the stream.
    #[error("the server closed the stream")]
    Ended(#[from] std::io::Error),
    /// It does not speak the protocol.
    #[error("the server does not answer as {} does", .0.name())]
    Protocol(DatabaseProtocol),
    /// It requests an authentication method that would reveal the password.
    #[error("the server requests {method}, which is answered only over verified TLS")]
    Weak { method: &'static str },
    /// It requests an unsupported authentication method, or speaks an old version.
    #[error("the server requests {method}, which is not supported")]
    Unsupported { method: &'static str },
    /// It refuses. The message is its own.
    #[error("the database server refuses the login: {message}")]
    Refused { message: String, rejects_login: bool },
    /// It does not prove that it knows the password, or the exchange was tampered with.
    #[error("the server does not prove that it knows the password")]
    Unproved,
    /// It ignores settings with which the session must begin.
    #[error("the server does not begin the session as the connection's settings say")]
    ModeMismatch,
    /// It reads strings otherwise than Keyward does.
    #[error(
        "the server's sql_mode has another form of strings, and statements cannot be read for certain"
    )]
    SqlModeMismatch,
    /// It reads texts in a character set in which a byte of a character may look like a quote.
    #[error(
        "the server reads the session in another character set than was agreed on, and statements cannot be read for certain"
    )]
    CharsetMismatch,
    /// It is no primary, and names one that may not be dialled.
    #[error("the server is not the primary of its replica set, which is in another domain")]
    OtherDomain,
    /// DNS lists a server that may not be dialled.
    #[error("DNS lists a server in another domain than the name's")]
    ListedElsewhere,
    /// The servers that answer name a primary that does not answer.
    #[error("no server of the replica set is its primary")]
    NoPrimary,
    /// It takes too long.
    #[error("the server did not finish the login in time")]
    Timeout,
}

impl ServerError {
    /// The code for the audit log.
    fn code(&self) -> Code {
        match self {
            Self::Ended(_) => Code::UpstreamUnreachable,
            Self::Timeout => Code::UpstreamTimeout,
            Self::Refused { rejects_login: true, .. } => Code::ConnectionBroken,
            Self::Refused { .. } => Code::UpstreamUnreachable,
            Self::Unproved => Code::UpstreamTls,
            Self::Protocol(_)
            | Self::Weak { .. }
            | Self::Unsupported { .. }
            | Self::ModeMismatch
            | Self::OtherDomain
            | Self::ListedElsewhere
            | Self::NoPrimary
            | Self::CharsetMismatch
            | Self::SqlModeMismatch => Code::UpstreamProtocol,
        }
    }

    /// What a person can do.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unproved => {
                Some("another program may answer at this address; check it".to_owned())
            }
            Self::OtherDomain => {
                Some("set the host to a server in the domain of the primary".to_owned())
            }
            Self::ModeMismatch => Some(
                "a pooler before the server may drop it: log in at the server itself".to_owned(),
            ),
            Self::SqlModeMismatch => Some(
                "remove ANSI_QUOTES, NO_BACKSLASH_ESCAPES, ORACLE and MSSQL from the server's \
                 sql_mode"
                    .to_owned(),
            ),
            Self::CharsetMismatch => Some(
                "remove SET NAMES from the server's init_connect, and \
                 skip-character-set-client-handshake from its options"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl From<ServerError> for Refused {
    fn from(error: ServerError) -> Self {
        Self::Server(ServerRefusal {
            text: error.code().because(error.to_string()).hint_if(error.hint()),
            state: None,
            rejects_login: matches!(error, ServerError::Refused { rejects_login: true, .. }),
        })
    }
}

/// The result of a login at a server within its limit. A failure is logged.
///
/// # Errors
/// When the server opens no session, or takes too long.
pub async fn in_time<T>(
    exchange: &mut ServiceExchange,
    login: impl Future<Output = Result<T, ServerError>>,
) -> Result<T, Refused> {
    let opened = tokio::time::timeout(exchange.connect_timeout(), login).await;
    opened.unwrap_or(Err(ServerError::Timeout)).map_err(|error| {
        tracing::info!(exchange = exchange.id(), %error, "the login at a database server failed");
        error.into()
    })
}

/// Text of a server for people: without the password, without control characters, and short.
pub fn words_of_server(text: &str, password: &Secret) -> String {
    let password = password.expose_text().unwrap_or_default();
    if text.is_empty() || (!password.is_empty() && text.contains(password)) {
        return "it gives no usable reason".to_owned();
    }
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// What a server says about a login.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DatabaseFacts {
    /// Such as `16.4`.
    pub version: String,
    /// The role.
    pub user: String,
    /// Whether transactions are read-only unless they say otherwise, or the server is a standby.
    pub read_only: bool,
    /// Whether the role is a superuser, which has all rights.
    pub superuser: bool,
    /// What the role may do at the server beyond the mode of the connection's sessions, such as `create roles`; empty where the server
    /// does not say it.
    pub rights: Vec<String>,
    /// What the login did not prove.
    pub weakness: Option<&'static str>,
    /// Where it is, if the connection has several servers: `b.example.com:5433`.
    pub server: Option<String>,
}

impl DatabaseFacts {
    /// Whether the rights to write are beyond the mode of the sessions.
    pub(crate) fn are_writes_beyond(settings: Option<&Settings>) -> bool {
        settings.is_some_and(|it| it.read_only == Some(true) || it.has_statement_rules())
    }
}

/// The rights that are shown at most.
const RIGHTS_MAX: usize = 20;

/// The rights in a list of a server.
pub(crate) fn rights(list: &[u8]) -> Vec<String> {
    let list = String::from_utf8_lossy(list);
    let all = list.split(", ").filter(|right| !right.is_empty());
    all.take(RIGHTS_MAX).map(short).collect()
}

/// Shown if the server does not report its version.
pub(crate) const UNKNOWN_VERSION: &str = "(of unknown version)";

/// A text of the server without control characters, for people.
pub(crate) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::sample;
    use keyward_rules::inject::credential::Credential;

    #[test]
    fn a_permit_makes_no_login_with_the_credential_of_another_connection() {
        let [one, other] =
            [(); 2].map(|()| sample::permitted(DatabaseProtocol::Redis, None, "password"));
        let tied = |credential: &Credential| {
            let (permit, credential) = (one.permit().clone(), Arc::new(credential.clone()));
            PermittedLogin::new(permit, credential, Timestamp::UNIX_EPOCH)
        };
        assert!(tied(other.credential()).is_none());
        assert!(tied(one.credential()).is_some());
    }
}
