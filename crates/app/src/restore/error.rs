//! Why a backup is not restored.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::AppError;
use keyward_backup::BackupError;
use keyward_state::store::StoreError;

/// Why nothing was restored. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The configuration has no store in files.
    #[error("the store of this configuration is in memory: it cannot be restored")]
    InMemory,
    /// The store may be elsewhere.
    #[error("{0}")]
    Elsewhere(AppError),
    /// The database has rows.
    #[error("the database is not empty: a backup is restored into an empty one")]
    NotEmpty,
    /// Replicas use the database.
    #[error("a replica uses the database, or used it within the last 20 seconds")]
    ReplicasRun,
    /// The data directory or the master key cannot be used, or the disk is full.
    #[error("{0}")]
    Unprepared(String),
    /// A gateway or another command uses the store.
    #[error("{0}")]
    Locked(StoreError),
    /// The file is refused.
    #[error("{path} cannot be restored: {source}", path = .path.display())]
    Refused { path: PathBuf, source: BackupError },
    /// What is in it does not make a store that this version can open.
    #[error("{path} is complete, but this version cannot use what is in it: {why}", path = .path.display())]
    Unusable { path: PathBuf, why: String },
    /// A store was created meanwhile.
    #[error("a store was created at {path} meanwhile", path = .0.display())]
    StoreAppeared(PathBuf),
    /// The file system cannot exchange the old store and the restored one.
    #[error("cannot put the restored store in the place of {path}: {source}", path = .path.display())]
    NotExchanged {
        /// The store.
        path: PathBuf,
        source: io::Error,
    },
    /// A file or directory cannot be read or written.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// The database failed while the rows were committed, and cannot be read.
    #[error("the database may have the rows of the backup: {0}")]
    Uncertain(String),
    /// The store was replaced, and the rest of the work failed. The next start completes it.
    #[error("the store is restored, but not all other files: {0}")]
    Incomplete(String),
}

#[derive(Debug)]
pub struct Restored {
    /// Where the store of before is now.
    pub kept: Option<PathBuf>,
    /// Whether the CA's files were replaced.
    pub ca_replaced: bool,
}

impl RestoreError {
    /// The remedy, if it is known.
    pub fn hint(&self) -> Option<String> {
        if let Self::Elsewhere(error) = self {
            return error.hint();
        }
        self.own_hint().map(str::to_owned)
    }

    fn own_hint(&self) -> Option<&'static str> {
        match self {
            Self::InMemory => Some("set `store.sled`"),
            Self::NotEmpty => Some("name an empty database, so that this one stays as it is"),
            Self::ReplicasRun => Some("stop all replicas, wait 20 seconds, and restore again"),
            Self::Locked(_) => Some("stop the gateway first"),
            Self::StoreAppeared(_) => Some("stop the gateway, and restore again"),
            Self::NotExchanged { .. } => Some("move the store away, and restore again"),
            Self::Uncertain(_) => {
                Some("check it with `keyward store check`, and restore again if it is empty")
            }
            Self::Incomplete(_) => Some("correct that; the next start of the gateway completes it"),
            Self::Elsewhere(_)
            | Self::Refused { .. }
            | Self::Unusable { .. }
            | Self::Unprepared(_)
            | Self::Io { .. } => None,
        }
    }
}

pub(super) fn refused(path: &Path) -> impl FnOnce(BackupError) -> RestoreError {
    let path = path.to_owned();
    |source| RestoreError::Refused { path, source }
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::Io { action, path, source }
}
