//! Restores a backup. If the store is in files, its rows are written into a new directory beside the store, which is
//! exchanged with the store in one step (`renameat2` with `RENAME_EXCHANGE`). What remains after that step, such as the
//! CA's files, is in the new directory, and is completed by this process or by the next that opens the store: see
//! `completion.rs`. So a crash leaves the old state or the new one. `database.rs` restores into a database.

mod completion;
mod database;
pub(super) mod error;
mod staging;

use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};

pub(super) use completion::complete;
pub use error::{RestoreError, Restored};
use error::{failed, refused};

use super::folders::kept_name;
use super::last_config::check_store;
use super::services::{Services, leave_store};
use crate::config::{Config, StoreChoice};
use completion::Completed;
use keyward_backup::{BackupHeader, BackupKey, verify};
use keyward_state::store::sled::StoreLock;
use staging::Staging;

/// A backup that was read to its end, and the store that it would replace.
#[derive(Debug)]
pub struct Restore<'a> {
    config: &'a Config,
    /// `None`: in a database.
    store: Option<&'a Path>,
    path: PathBuf,
    file: File,
    opening: BackupKey,
    header: BackupHeader,
}

impl<'a> Restore<'a> {
    /// Reads the whole file. Changes nothing.
    ///
    /// # Errors
    /// When there is no store to restore to, or the file is refused.
    pub fn verified(
        config: &'a Config,
        path: &Path,
        opening: BackupKey,
    ) -> Result<Self, RestoreError> {
        let store = match &config.store {
            StoreChoice::Sled { path } => Some(&**path),
            StoreChoice::Postgres(_) => None,
            StoreChoice::Memory => return Err(RestoreError::InMemory),
        };
        check_store(config).map_err(RestoreError::Elsewhere)?;
        let file = open(path)?;
        let header = verify(&file, &opening).map_err(refused(path))?;
        Ok(Self { config, store, path: path.to_owned(), file, opening, header })
    }

    /// What the backup says of itself.
    pub fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// The store that would be replaced.
    pub fn replaces(&self) -> Option<&Path> {
        self.store.filter(|_| Services::are_stored(self.config))
    }

    /// Whether a database can be restored into; files always can.
    ///
    /// # Errors
    /// When the database is not empty, replicas use it, or it cannot be reached.
    pub async fn check_target(&self) -> Result<(), RestoreError> {
        match self.store {
            Some(_) => Ok(()),
            None => {
                let store = database::target(self.config).await?;
                leave_store(&*store).await;
                Ok(())
            }
        }
    }

    /// Whether a gateway or a command has the store that would be replaced. [`Self::run`] takes its lock.
    ///
    /// # Errors
    /// When the store is in use.
    pub fn check_unused(&self) -> Result<(), RestoreError> {
        match &self.store {
            Some(store) if Services::are_stored(self.config) => {
                StoreLock::take(store).map(drop).map_err(RestoreError::Locked)
            }
            _ => Ok(()),
        }
    }

    /// Restores it. With `keeps_ca`, the CA's files stay as they are.
    ///
    /// # Errors
    /// When the store is in use, the directory cannot be written, or what is in the file makes no store.
    pub async fn run(mut self, keeps_ca: bool) -> Result<Restored, RestoreError> {
        let config = self.config;
        super::folders::private_dir(&config.data_dir)
            .map_err(|error| RestoreError::Unprepared(format!("{error:#}")))?;
        let Some(store) = self.store else {
            self.file.rewind().map_err(failed("read", &self.path))?;
            let done = database::restore(config, &self.file, &self.opening, keeps_ca).await;
            return done.map_err(|error| error.of(&self.path));
        };
        let old = match Services::are_stored(config) {
            true => Some(StoreLock::take(store).map_err(RestoreError::Locked)?),
            false => None,
        };
        // Completes an interrupted restore first: its store counts as the old one.
        complete(config, store).map_err(incomplete)?;
        self.file.rewind().map_err(failed("read", &self.path))?;
        let kept = kept_name(store, "restore", Timestamp::now());
        let staging = Staging::create(store).await?;
        let filled = staging.fill(config, &self.file, &self.opening, keeps_ca).await;
        filled.map_err(|error| error.of(&self.path))?;
        staging.write_marker(&kept)?;
        exchange(staging, store, old.is_some())?;
        drop(old);
        // A gateway that starts now completes it instead.
        let completed = match StoreLock::take(store) {
            Ok(_lock) => complete(config, store).map_err(incomplete)?,
            Err(_) => None,
        };
        let Completed { kept, ca_replaced } = completed.unwrap_or_default();
        Ok(Restored { kept, ca_replaced })
    }
}

/// The commit: after it, the restored store is in its place, and the one of before, if there was one, where the
/// restored one was.
fn exchange(staging: Staging, store: &Path, has_old: bool) -> Result<(), RestoreError> {
    let path = staging.into_path();
    let renamed = match has_old {
        true => {
            renameat_with(CWD, &path, CWD, store, RenameFlags::EXCHANGE).map_err(io::Error::from)
        }
        // Replaces nothing but an empty directory, which is no store. NFS refuses the flags of `renameat2`.
        false => std::fs::rename(&path, store),
    };
    let Err(source) = renamed else { return sync_folder_of(store) };
    // It has the CA's key.
    let _ = std::fs::remove_dir_all(&path);
    Err(match source.kind() {
        _ if has_old => RestoreError::NotExchanged { path: store.to_owned(), source },
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
            RestoreError::StoreAppeared(store.to_owned())
        }
        _ => failed("create", store)(source),
    })
}

fn open(path: &Path) -> Result<File, RestoreError> {
    File::open(path).map_err(failed("read", path))
}

fn incomplete(error: anyhow::Error) -> RestoreError {
    RestoreError::Incomplete(format!("{error:#}"))
}

/// Makes a new name in the folder of `path` durable.
fn sync_folder_of(path: &Path) -> Result<(), RestoreError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("write", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_created_during_a_restore_is_kept_and_the_restored_one_is_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("store");
        let staging = Staging::create(&store).await.expect("made");
        std::fs::create_dir(&store).expect("a directory");
        std::fs::write(store.join("pid"), "1").expect("a file");
        let refused = exchange(staging, &store, false).expect_err("it appeared");
        assert!(matches!(refused, RestoreError::StoreAppeared(_)), "{refused}");
        assert_eq!(std::fs::read(store.join("pid")).expect("it stays"), b"1");
        let left = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 1, "the restored store has the key of the CA");
    }

    #[tokio::test]
    async fn a_restore_over_a_file_has_no_hint_and_over_an_empty_directory_succeeds() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("store");
        let staging = Staging::create(&store).await.expect("made");
        std::fs::write(&store, "a file").expect("a file");
        let refused = exchange(staging, &store, false).expect_err("a file is there");
        assert!(matches!(refused, RestoreError::Io { action: "create", .. }), "{refused}");
        assert_eq!(refused.hint(), None);
        std::fs::remove_file(&store).expect("removed");
        std::fs::create_dir(&store).expect("an empty directory");
        let staging = Staging::create(&store).await.expect("made");
        exchange(staging, &store, false).expect("an empty directory is no store");
        assert!(store.join("sled").is_dir());
    }
}
