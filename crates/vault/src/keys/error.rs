//! Errors of a master key rotation. They name keys and rows, never content.

use keyward_state::crypto::envelope::EnvelopeError;
use keyward_state::crypto::keyring::{KeyId, KeyOrigin};
use keyward_state::crypto::source::KeyError;
use keyward_state::store::{Row, StoreError, Table};

/// Why a rotation failed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Another rotation is running.
    #[error("a rotation of the master key is already running")]
    Busy,
    /// The configuration names one key, so only its owner can create another.
    #[error("`master_key` names one key, and it wraps every row: there is nothing to rotate")]
    NothingOlder(KeyOrigin),
    /// A row that the available keys cannot open, or that is damaged.
    #[error("{table} row {key} cannot be re-wrapped, so the old key stays: {source}")]
    Sealed { table: &'static str, key: String, source: EnvelopeError },
    /// A row key that cannot be parsed.
    #[error("{table} row {key} has a malformed key, so the old master key stays")]
    Key { table: &'static str, key: String },
    /// A key cannot be removed yet.
    #[error("master key {0} still wraps rows: keep it in the list and run `keyward key rotate`")]
    StillNeeded(KeyId),
    #[error(transparent)]
    File(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process is ending.
    #[error("the rotation was interrupted: it is finished at the next start")]
    Interrupted,
}

impl KeysError {
    pub(super) fn sealed(table: Table, row: &Row, source: EnvelopeError) -> Self {
        Self::Sealed { table: table.name(), key: row.key.clone(), source }
    }

    pub(super) fn key(table: Table, row: &Row) -> Self {
        Self::Key { table: table.name(), key: row.key.clone() }
    }

    /// The remedy, unless the message has it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Busy => Some("`keyward key list` shows how far it is".to_owned()),
            Self::NothingOlder(present) => Some(format!(
                "put a new key before it, `master_key: [{}, {}]`, {}, then rotate",
                present.like(),
                present.yaml(),
                match present {
                    // The environment of a process does not change.
                    KeyOrigin::Env(_) => "restart",
                    _ => "`keyward reload`",
                }
            )),
            Self::Sealed { source: EnvelopeError::UnknownKey(_), .. } => {
                Some("`keyward key list` shows which keys rows need".to_owned())
            }
            _ => None,
        }
    }
}
