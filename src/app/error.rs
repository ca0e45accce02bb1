//! [`AppError`]: failures of a start that a person can mend, with how. Others pass through as they
//! come.

use std::io;
use std::path::PathBuf;

use crate::config::ListenAt;

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A listener cannot be bound.
    #[error("cannot listen on {at}: {source}")]
    Listen {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        at: ListenAt,
        /// Why.
        source: io::Error,
    },
    /// A directory cannot be made.
    #[error("cannot make the directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The default key file is gone, the store is not.
    #[error("there is a store, but no master key at {0}")]
    KeyLost(PathBuf),
    /// Several entries of the configuration, each with its place.
    #[error("{}", .0.join("\n"))]
    Declared(Vec<String>),
}

impl AppError {
    /// What to do about it, when that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { key, source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some(format!(
                    "another program listens there, perhaps a gateway (`keyward health` tells): \
                     stop it, or choose another place in `{key}`"
                ))
            }
            Self::Listen { key, .. } => Some(format!("choose another place in `{key}`")),
            Self::Directory { .. } => {
                Some("name another data directory with --data or KEYWARD_DATA".to_owned())
            }
            Self::KeyLost(_) => Some(
                "put the key back, or give it in `master_key`; nothing else opens the store"
                    .to_owned(),
            ),
            Self::Declared(_) => None,
        }
    }
}
