//! [`StoreError`]: why a store operation failed, and the checks of keys and values that every backend makes.

use std::io;
use std::path::PathBuf;

use super::table::{Table, Version};
use keyward_base::system_error;

/// Maximum length of a key.
pub const KEY_BYTES_MAX: usize = 512;

/// Maximum length of a value: enough for an agent with 10,000 bindings, and for a webhook of 25 MiB in base64. Others stay
/// far below, and readers of webhooks read few at once.
pub const VALUE_BYTES_MAX: usize = 36 * 1024 * 1024;

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The precondition of the write is not met.
    #[error("{table} row {key} was changed by another writer")]
    Conflict { table: &'static str, key: String },
    /// The value exceeds [`VALUE_BYTES_MAX`].
    #[error("{table} row {key} would have {bytes} bytes; the limit is {VALUE_BYTES_MAX}")]
    ValueTooLarge {
        table: &'static str,
        key: String,
        /// The length of the value.
        bytes: usize,
    },
    /// The key is empty, exceeds [`KEY_BYTES_MAX`], or has characters other than visible ASCII.
    #[error("a key of table {table} must be 1 to {KEY_BYTES_MAX} visible ASCII characters")]
    KeyRefused { table: &'static str },
    /// Another process has locked the files.
    #[error("store is locked by {}", owner(*.pid))]
    Locked {
        /// The id of that process, if it has written it already.
        pid: Option<u32>,
    },
    /// Other users can access the directory.
    #[error(
        "store directory {path} has mode {mode:04o}, so others can reach it: run `chmod 700` on it"
    )]
    Exposed { path: PathBuf, mode: u32 },
    /// A row's bytes differ from the written ones.
    #[error("{table} row {key} is damaged: restore the store from a backup")]
    Corrupt {
        table: &'static str,
        /// The row's key, escaped.
        key: String,
    },
    /// A shared store has an older version than this process has seen, or none and no mark of a deletion.
    #[error(
        "{table} row {key} is older than this gateway has seen, or was deleted without its mark: it is not used"
    )]
    RolledBack {
        table: &'static str,
        key: String,
        /// The version of the row that was found.
        found: Option<Version>,
    },
    /// The files are damaged as a whole. Nothing was repaired.
    #[error("store {path} is damaged ({what}): keep the files and restore a backup")]
    Damaged {
        path: PathBuf,
        /// What is damaged.
        what: String,
    },
    /// The operating system reported an error. After a failed write, the row may or may not exist.
    #[error("store could not {action}: {source}")]
    Io {
        /// The attempted operation.
        action: &'static str,
        source: io::Error,
    },
    /// The store was not reached, or refused before it wrote: nothing has changed.
    #[error("store could not {action}: {source}")]
    Unreached {
        /// The attempted operation.
        action: &'static str,
        source: io::Error,
    },
}

impl StoreError {
    /// What the operator can do, if the message does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Locked { .. } => Some("stop the gateway first"),
            Self::Conflict { .. } => Some("read it again and repeat the change"),
            Self::RolledBack { .. } => Some(
                "find out who changed the database; after a failover that lost changes, restart the gateways",
            ),
            Self::Io { source, .. } | Self::Unreached { source, .. } if is_of_disk(source) => {
                Some("make sure that its disk has room and is writable for this user")
            }
            Self::Io { source, .. } | Self::Unreached { source, .. } => {
                system_error::remedy(source)
            }
            _ => None,
        }
    }

    /// Whether a write that failed with this error may have been made.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Damaged { .. } => true,
            Self::Conflict { .. }
            | Self::ValueTooLarge { .. }
            | Self::KeyRefused { .. }
            | Self::Locked { .. }
            | Self::Exposed { .. }
            | Self::Corrupt { .. }
            | Self::RolledBack { .. }
            | Self::Unreached { .. } => false,
        }
    }

    /// Whether the precondition of a write of this row was not met.
    pub(crate) fn is_conflict_of(&self, of: Table, row: &str) -> bool {
        matches!(self, Self::Conflict { table, key } if *table == of.name() && key == row)
    }

    /// Whether the operating system or the database failed.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Unreached { .. })
    }

    /// Whether the store did not answer, or is starting or stopping: another attempt may succeed without a change.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::Unreached { source, .. } => is_no_answer(source),
            _ => false,
        }
    }

    /// The error as one of a step before the write: nothing has changed.
    pub(super) fn before_writing(self) -> Self {
        match self {
            Self::Io { action, source } => Self::Unreached { action, source },
            other => other,
        }
    }
}

/// [`StoreError::is_away`], for the source of an error whose wrappers hide the [`StoreError`].
pub fn is_no_answer(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::TimedOut | NO_ANSWER)
}

/// The kind of errors of a database that did not answer, or is starting or stopping.
pub(super) const NO_ANSWER: io::ErrorKind = io::ErrorKind::NotConnected;

/// Whether the disk of this machine caused the error. A database reports its own causes.
fn is_of_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

pub(super) fn conflict(table: Table, key: &str) -> StoreError {
    StoreError::Conflict { table: table.name(), key: key.to_owned() }
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Checks that every backend makes before a write.
pub(super) fn check(table: Table, key: &str, value: &[u8]) -> Result<(), StoreError> {
    let table = table.name();
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(StoreError::KeyRefused { table });
    }
    if value.len() > VALUE_BYTES_MAX {
        let bytes = value.len();
        return Err(StoreError::ValueTooLarge { table, key: key.to_owned(), bytes });
    }
    Ok(())
}
