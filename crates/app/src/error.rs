//! [`AppError`]: failures of a start that a person can correct, with a hint. Other errors are passed on
//! unchanged.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::ListenAt;
use keyward_base::system_error;
use keyward_rules::provider::document::Problem;
use keyward_state::crypto::command::CommandError;
use keyward_state::store::postgres::PostgresError;
use keyward_state::store::{StoreError, is_no_answer};

/// What a person does without the master key of a store.
pub const KEY_LOST_HINT: &str =
    "put the key back, or give it in `master_key`; or restore a backup: `keyward restore FILE`";

/// The key that names the addresses of the admin listener beside the one of `listen.admin`.
pub const LOCALHOST_KEY: &str = "public_url";

const OTHER_DIRECTORY: &str = "choose another data directory with --data or KEYWARD_DATA";

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
        source: io::Error,
    },
    /// The data directory cannot be created.
    #[error("cannot create the directory {path}: {source}")]
    Directory { path: PathBuf, source: io::Error },
    /// The directory of a file that the configuration names cannot be created.
    #[error("cannot create the directory {path}: {source}")]
    FileDirectory {
        /// The configuration's key.
        key: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A file of the data directory cannot be made.
    #[error("{source}")]
    DataFile { directory: PathBuf, source: Box<dyn Error + Send + Sync> },
    /// The data directory belongs to another user.
    #[error("{0} belongs to another user")]
    OtherOwner(PathBuf),
    /// A directory that others can enter cannot be closed.
    #[error("cannot make {path} private: {source}")]
    NotClosed { path: PathBuf, source: io::Error },
    /// The default key file is missing, but the store exists.
    #[error("there is a store, but no master key at {key}")]
    KeyLost {
        key: PathBuf,
        /// The configuration file of the last start, which may name another key.
        config: Option<PathBuf>,
    },
    /// A start without a configuration file would make a store.
    #[error(
        "there is no store at {store}, and the last start had the configuration file {before}, which may name another store"
    )]
    FileForgotten {
        store: PathBuf,
        before: PathBuf,
        /// The default place of the file.
        default: PathBuf,
    },
    /// A command without a configuration file would read an audit log that is not there.
    #[error(
        "there is no audit log at {log}, and the last start had the configuration file {before}, which may name another one"
    )]
    AuditLogForgotten {
        log: PathBuf,
        before: PathBuf,
        /// The default place of the file.
        default: PathBuf,
    },
    /// Invalid entries of the configuration, each with its place.
    #[error("{}", .0.join("\n"))]
    Declared(Vec<String>),
}

impl AppError {
    /// A file of the data directory that cannot be made.
    pub(super) fn data_file(
        directory: &Path,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::DataFile { directory: directory.to_owned(), source: source.into() }
    }

    /// The remedy, if it is known.
    pub fn hint(&self) -> Option<String> {
        if let Some(remedy) = system_error::cause(self).and_then(system_error::remedy) {
            return Some(remedy.to_owned());
        }
        match self {
            Self::Listen { key: LOCALHOST_KEY, .. } => Some(
                "links name `localhost`, which is this address too: stop the program that listens there, choose another port \
                 in `listen.admin`, or another name in `public_url`"
                    .to_owned(),
            ),
            Self::Listen { key, source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some(format!(
                    "another program listens there, perhaps a gateway of another data directory (`keyward doctor` names it): \
                     stop it, or choose another place in `{key}`"
                ))
            }
            Self::Listen { key, .. } | Self::FileDirectory { key, .. } => {
                Some(format!("choose another place in `{key}`"))
            }
            Self::Directory { .. } | Self::NotClosed { .. } => Some(OTHER_DIRECTORY.to_owned()),
            Self::DataFile { directory, source } => {
                let cause = system_error::cause(source.as_ref());
                cause.map(|cause| data_directory_remedy(directory, cause))
            }
            Self::OtherOwner(_) => Some(format!("run this as its user, or {OTHER_DIRECTORY}")),
            Self::KeyLost { config: Some(config), .. } => {
                let config = config.display();
                Some(format!("add `--config {config}`, as at the last start; or {KEY_LOST_HINT}"))
            }
            Self::KeyLost { config: None, .. } => Some(KEY_LOST_HINT.to_owned()),
            // That file itself is gone.
            Self::FileForgotten { before, default, .. } if before == default => Some(format!(
                "put it back; or make an empty file {}, to begin with a new store",
                default.display()
            )),
            Self::FileForgotten { before, default, .. } => Some(format!(
                "add `--config {}`; or make an empty file {}, to begin with a new store",
                before.display(),
                default.display()
            )),
            Self::AuditLogForgotten { before, default, .. } if before == default => {
                Some(format!("put it back; or make an empty file {}", default.display()))
            }
            Self::AuditLogForgotten { before, .. } => {
                Some(format!("add `--config {}`", before.display()))
            }
            Self::Declared(_) => None,
        }
    }
}

/// What a person does if a file in the data directory cannot be made or written.
pub fn data_directory_remedy(directory: &Path, error: &io::Error) -> String {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let directory = directory.display();
    match (system_error::remedy(error), error.kind()) {
        (Some(remedy), _) => remedy.to_owned(),
        (None, PermissionDenied | ReadOnlyFilesystem) => {
            format!("make {directory} writable for this user, or {OTHER_DIRECTORY}")
        }
        (None, StorageFull | QuotaExceeded) => {
            format!("make room on the disk of {directory}, or {OTHER_DIRECTORY}")
        }
        (None, _) => OTHER_DIRECTORY.to_owned(),
    }
}

/// Whether another process has locked the store.
pub fn is_locked(error: &anyhow::Error) -> bool {
    let mut causes = error.chain();
    causes.any(|cause| matches!(cause.downcast_ref(), Some(StoreError::Locked { .. })))
}

/// Whether the database of the store did not answer, and may answer later.
pub(super) fn is_unanswered(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        cause.downcast_ref().is_some_and(PostgresError::is_transient)
            || cause.downcast_ref().is_some_and(is_no_answer)
    })
}

/// Whether a database or a command gave nothing, and may give something later.
pub(super) fn is_away(error: &(dyn Error + 'static)) -> bool {
    let is_of_command =
        |cause: &(dyn Error + 'static)| cause.downcast_ref().is_some_and(CommandError::is_away);
    is_unanswered(error) || causes(error).any(is_of_command)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

pub(super) fn refused(problems: Vec<Problem>) -> AppError {
    AppError::Declared(problems.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyward_state::crypto::source::KeyError;
    use keyward_state::directory::DirectoryError;
    use keyward_vault::{RowError, VaultError};

    use super::*;

    #[test]
    fn a_store_that_did_not_answer_is_known_below_every_wrapper_and_a_refusal_is_not() {
        let wrapped = |kind: io::ErrorKind| -> Vec<anyhow::Error> {
            let store = || StoreError::Unreached { action: "read a row", source: kind.into() };
            vec![
                store().into(),
                PostgresError::Store(store()).into(),
                DirectoryError::Store(store()).into(),
                RowError::Store(store()).into(),
                VaultError::Store(store()).into(),
                VaultError::Directory(store().into()).into(),
                VaultError::Shared(Arc::new(VaultError::Directory(store().into()))).into(),
            ]
        };
        for error in wrapped(io::ErrorKind::NotConnected) {
            assert!(is_unanswered(error.context("a step").as_ref()));
        }
        for error in wrapped(io::ErrorKind::Other) {
            assert!(!is_unanswered(error.as_ref()), "{error}");
        }
    }

    fn hint_of(kind: io::ErrorKind) -> String {
        let path = PathBuf::from("/data/master.key");
        let error = KeyError::Unwritable { path, source: kind.into() };
        AppError::data_file(Path::new("/data"), error).hint().unwrap_or_default()
    }

    #[test]
    fn the_hint_about_a_file_of_the_data_directory_names_the_directory_and_the_remedy() {
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            let wanted = format!("make /data writable for this user, or {OTHER_DIRECTORY}");
            assert_eq!(hint_of(kind), wanted, "{kind}");
        }
        let full = hint_of(io::ErrorKind::StorageFull);
        assert_eq!(full, format!("make room on the disk of /data, or {OTHER_DIRECTORY}"));
        assert_eq!(hint_of(io::ErrorKind::IsADirectory), OTHER_DIRECTORY);
    }

    #[test]
    fn a_listener_without_a_free_descriptor_gets_no_hint_to_choose_another_address() {
        let at = || ListenAt::Tcp(([127, 0, 0, 1], 8081).into());
        let hint = |source| AppError::Listen { key: "listen.admin", at: at(), source }.hint();
        let none_left = hint(rustix::io::Errno::MFILE.into()).unwrap_or_default();
        assert!(
            none_left.contains("ulimit -n") && !none_left.contains("listen.admin"),
            "{none_left}"
        );
        let refused = hint(io::ErrorKind::PermissionDenied.into()).unwrap_or_default();
        assert_eq!(refused, "choose another place in `listen.admin`");
    }
}
