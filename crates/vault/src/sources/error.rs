//! [`SourceError`]: why a source gives no value. Messages name hosts, paths and remedies, never a value or a credential.

use http::StatusCode;

use super::sealed::DecryptionError;
use keyward_net::call::{CallError, CallFailure};
use keyward_state::crypto::command::CommandError;
use keyward_state::crypto::private_file::FileError;

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The reference has another form than the source's references.
    #[error("the reference must be {0}")]
    Reference(&'static str),
    /// The source has no such value.
    #[error("it has no value of that reference")]
    NotFound,
    /// The value is no JSON object, or has no such member.
    #[error("the value is no JSON object with a text at `{0}`")]
    Member(String),
    /// Several values, and the reference names none.
    #[error("the reference names several values: add `#FIELD`")]
    Several,
    /// The value is empty.
    #[error("the value is empty")]
    Empty,
    /// The request to the server failed.
    #[error("{}", text_of(.0))]
    Call(CallError),
    /// The server refuses.
    #[error("it answered {status}{}", detail.as_deref().map(|it| format!(" ({it})")).unwrap_or_default())]
    Status {
        status: StatusCode,
        /// The server's error code, if its form is known.
        detail: Option<String>,
    },
    /// The answer has another form than the service's documents say.
    #[error("its answer has an unknown form: check the address")]
    Malformed,
    /// The source has no such credential.
    #[error("its credential `{0}` is missing: give it again")]
    Credential(&'static str),
    /// The connection whose token the source uses gives no token.
    #[error("connection `{0}` gives no token for it")]
    Connection(String),
    /// The signature failed.
    #[error("the request cannot be signed: check the access key")]
    Sign,
    /// The access token of a service whose values are encrypted has another form.
    #[error("its credential `token` is no access token of {0}: they have the form 0.ID.SECRET:KEY")]
    AccessToken(&'static str),
    /// The answer of such a service cannot be decrypted.
    #[error("the {what} cannot be decrypted: {error}")]
    Decryption {
        /// The part of the answer.
        what: &'static str,
        error: DecryptionError,
    },
    /// The keyring of a desktop session.
    #[error(transparent)]
    Keychain(#[from] KeychainError),
    /// A file of the gateway's machine.
    #[error(transparent)]
    File(#[from] FileError),
    /// A program of the gateway's machine.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file that the login needs.
    #[error("file {0} cannot be read")]
    TokenFile(String),
    /// The network is not configured yet.
    #[error("the network is not configured")]
    NoNetwork,
    /// There is no such source.
    #[error("there is no source `{0}`")]
    Unknown(String),
    /// The source has no kind, or its credentials cannot be opened.
    #[error("the source cannot be used: give its credentials again")]
    Kind,
}

/// Why the keyring of a desktop session gives no value.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    /// The session's bus cannot be reached.
    #[error("the bus {address} cannot be reached: {reason}")]
    Bus {
        address: String,
        /// The message of the system.
        reason: String,
    },
    /// The bus knows no Secret Service.
    #[error("no keyring is on the bus of the session (org.freedesktop.secrets)")]
    NoKeyring,
    /// The item is in a locked keyring.
    #[error("the keyring is locked")]
    Locked,
    /// Several items have the attributes.
    #[error("the reference names several items of the keyring")]
    Several,
    /// No answer in time.
    #[error("the keyring does not answer within {0} s")]
    Timeout(u64),
    /// The item's secret is binary.
    #[error("the item's secret is no text")]
    Binary,
    /// Another answer than the specification's.
    #[error("the keyring refused: {0}")]
    Refused(String),
}

impl KeychainError {
    /// The remedy.
    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Bus { .. } => {
                "run the gateway as the user of the desktop session, or set `keychain.address` to \
                 DBUS_SESSION_BUS_ADDRESS of that session"
            }
            Self::NoKeyring => "start GNOME Keyring, KWallet or KeePassXC in that session",
            Self::Locked => "unlock it: log in at the desktop, or open the program of the keyring",
            Self::Several => "name more attributes: ATTRIBUTE=VALUE,ATTRIBUTE=VALUE",
            Self::Timeout(_) => "check whether the keyring shows a prompt on the desktop",
            Self::Binary | Self::Refused(_) => return None,
        })
    }
}

impl SourceError {
    /// The remedy.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Call(error) => remedy(error.cause()),
            Self::Status { status, .. } if matches!(status.as_u16(), 401 | 403) => {
                "check the source's credentials and what they may read"
            }
            Self::Status { detail: Some(code), .. } if code == "invalid_client" => {
                "check the source's credentials: the server does not know them, or they expired"
            }
            Self::AccessToken(_) | Self::Decryption { .. } => {
                "give the whole access token of the machine account again: its end is a key"
            }
            Self::Keychain(error) => return error.hint(),
            Self::NotFound => {
                "check the reference of the field, and that the credentials may read it"
            }
            _ => return None,
        })
    }

    /// Whether a new login may help: the login was refused, or its key is outdated.
    pub(super) fn needs_login(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status.as_u16(), 401 | 403),
            Self::Decryption { error, .. } => *error == DecryptionError::Mac,
            _ => false,
        }
    }
}

fn text_of(error: &CallError) -> String {
    match error {
        CallError::Address => "its address is no https URL".to_owned(),
        error => error.to_string(),
    }
}

/// The remedy of an operator for a failed request.
fn remedy(cause: CallFailure) -> &'static str {
    match cause {
        CallFailure::BadAddress | CallFailure::UnusableAnswer => "check the address of the source",
        CallFailure::Unresolved => "check the address of the source, and DNS on this machine",
        CallFailure::AddressRefused => {
            "if the server is yours, open its network and port in `upstream.allow_private`"
        }
        CallFailure::TlsUnknownIssuer => {
            "if the server has a CA of its own, name its root certificate in `upstream.trust`"
        }
        CallFailure::TlsCertificate => "check this machine's clock and the address of the source",
        CallFailure::ProxyFailed => "check the corporate proxy, and `upstream.proxy`",
        _ => "check that the server runs, and the network between this machine and it",
    }
}

impl From<CallError> for SourceError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}
