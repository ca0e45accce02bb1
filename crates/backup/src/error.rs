//! Why a backup was not written or cannot be read. No message quotes the content of a backup.

use std::io;

use age::DecryptError;
use keyward_state::directory::DirectoryError;

use super::frame::FORMAT;

/// Why a backup file is refused. Nothing is changed before this error.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Not in the age format, or its first bytes are damaged.
    #[error("it is not a backup: it is not an age file, or its beginning is damaged")]
    NotAge,
    /// Opened with a passphrase.
    #[error("it is encrypted with a passphrase: give that instead of an identity")]
    NeedsPassphrase,
    /// Opened with an identity.
    #[error("it is encrypted for recipients: give the identity of one with --identity")]
    NeedsIdentity,
    #[error("the passphrase does not open it, or its beginning is damaged")]
    WrongPassphrase,
    /// None of the identities fits.
    #[error("it is encrypted for other recipients than those of the identity")]
    WrongIdentity,
    /// The scrypt cost of the passphrase exceeds the limit.
    #[error("its passphrase needs more memory than Keyward allows")]
    TooCostly,
    /// The file was changed or is truncated.
    #[error("it is damaged or truncated: use another copy of it")]
    Damaged,
    /// An age file that contains no backup.
    #[error("it is an age file, but not a backup of Keyward")]
    NotOurs,
    /// Of a format that this version does not know.
    #[error(
        "it has format {format}, written by keyward {keyward}; this version reads format {FORMAT}: use that version"
    )]
    OtherFormat {
        format: u32,
        /// The version that wrote it.
        keyward: String,
    },
    /// A row of a table of a later version.
    #[error(
        "it has rows of table `{table}`, written by keyward {keyward}: use that version or a later one"
    )]
    UnknownTable {
        table: String,
        /// The version that wrote it.
        keyward: String,
    },
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
}

/// Why a text is not a recipient.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecipientError {
    /// Something else.
    #[error("it is not an age recipient: write `age1…`, as `age-keygen -y` prints it")]
    Malformed,
    /// An SSH key.
    #[error("SSH keys cannot be recipients: write `age1…`, as `age-keygen -y` prints it")]
    Ssh,
    /// The secret half.
    #[error(
        "it is an identity, which is secret: write its recipient, as `age-keygen -y` prints it"
    )]
    Identity,
}

/// Why a file has no identities.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdentityError {
    /// A line is something else.
    #[error("line {0} is not an age identity: use a file of `age-keygen`")]
    Line(usize),
    #[error("it has no age identity: use a file of `age-keygen`")]
    None,
}

/// Why writing a backup failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A row does not open.
    #[error(transparent)]
    Row(#[from] DirectoryError),
    /// The CA cannot be read.
    #[error("the CA cannot be read: {0}")]
    Part(String),
    /// The process is shutting down.
    #[error("the backup was interrupted")]
    Interrupted,
    /// It cannot be written.
    #[error("the backup cannot be written: {0}")]
    Io(#[from] io::Error),
}

impl BackupError {
    /// Converts an error in the header of the age file.
    pub(super) fn of_head(error: DecryptError) -> Self {
        match error {
            DecryptError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                Self::Io(error)
            }
            DecryptError::InvalidMac => Self::Damaged,
            _ => Self::NotAge,
        }
    }

    /// Converts an error while reading the encrypted stream.
    pub(super) fn of_read(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Self::Damaged,
            _ => Self::Io(error),
        }
    }
}
