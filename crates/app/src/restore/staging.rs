//! [`Staging`]: the directory beside the store that a backup is written into. Removed, unless it takes the place of
//! the store.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::completion::{MARKER, PENDING, staging_path};
use super::error::{RestoreError, failed, refused};
use crate::backups::{CA_CERT_PART, CA_KEY_PART};
use crate::config::Config;
use crate::keys;
use keyward_backup::{BackupEntry, BackupError, BackupKey, BackupPart, BackupReader};
use keyward_base::time::Clock;
use keyward_proxy::ca::authority::{Authority, CaFiles};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::{Directory, OpenedRow};
use keyward_state::store::sled::{SledStore, chown_tree_to_owner_of};
use keyward_state::store::{Row, Store, Table};

/// Rows are written together up to this size.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// And up to this number, which share a flush of the disk.
const BATCH_ROWS: usize = 1_000;

/// A directory that becomes a store.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    /// Its lock keeps other restores away.
    store: Option<Arc<SledStore>>,
    is_given_away: bool,
}

/// Why it was not filled.
pub(super) enum FillError {
    Backup(BackupError),
    /// The content is valid, but this version cannot use it.
    Unusable(String),
    Restore(RestoreError),
}

impl FillError {
    /// The error for the backup at `path`.
    pub(super) fn of(self, path: &Path) -> RestoreError {
        match self {
            Self::Backup(error) => refused(path)(error),
            Self::Unusable(why) => RestoreError::Unusable { path: path.to_owned(), why },
            Self::Restore(error) => error,
        }
    }
}

impl Staging {
    /// Makes an empty one. [`super::complete`] has removed the one of a crash.
    pub(super) async fn create(store: &Path) -> Result<Self, RestoreError> {
        let path = staging_path(store);
        let store = SledStore::open(&path).await.map_err(RestoreError::Locked)?;
        let pending = path.join(PENDING);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&pending);
        made.map_err(failed("create", &pending))?;
        Ok(Self { path, store: Some(Arc::new(store)), is_given_away: false })
    }

    /// Writes rows and CA, and opens the result as a gateway would.
    pub(super) async fn fill(
        &self,
        config: &Config,
        file: &File,
        opening: &BackupKey,
        keeps_ca: bool,
    ) -> Result<(), FillError> {
        let keyring = Arc::new(keys::for_restore(config).map_err(unprepared)?);
        let Some(store) = &self.store else { return Ok(()) };
        let mut reader = BackupReader::open(file, opening).map_err(FillError::Backup)?;
        let mut batch = Batch::new(&**store, &keyring);
        while let Some(entry) = reader.next_entry().map_err(FillError::Backup)? {
            match entry {
                BackupEntry::Row(row) => batch.add(row).await?,
                BackupEntry::Part(part) if !keeps_ca => {
                    self.stage(&part).map_err(FillError::Restore)?;
                }
                BackupEntry::Part(_) => {}
            }
        }
        batch.write().await?;
        Directory::open(store.clone(), keyring, Clock::System).await.map_err(unusable)?;
        if let Some(ca) = self.ca() {
            Authority::read(&ca.cert, &ca.key, &Clock::System).map_err(unusable)?;
        }
        Ok(())
    }

    /// The CA of the backup, if it has one.
    fn ca(&self) -> Option<CaFiles> {
        let at = |name| self.path.join(PENDING).join(name);
        let ca = CaFiles { cert: at(CA_CERT_PART), key: at(CA_KEY_PART) };
        ca.cert.exists().then_some(ca)
    }

    fn stage(&self, part: &BackupPart) -> Result<(), RestoreError> {
        // A file of another name is of a later version that still has this format: it is not needed here.
        if [CA_CERT_PART, CA_KEY_PART].contains(&&*part.name) {
            self.write(&part.name, &part.content)?;
        }
        Ok(())
    }

    /// Writes the instructions for the completion, durably. `kept`: the new name of the old store.
    pub(super) fn write_marker(&self, kept: &str) -> Result<(), RestoreError> {
        self.write(MARKER, kept.as_bytes())?;
        // Root restores for the gateway's user.
        let given =
            chown_tree_to_owner_of(self.path.parent().unwrap_or(Path::new("/")), &self.path);
        given.map_err(failed("write", &self.path))?;
        for folder in [self.path.join(PENDING), self.path.join("sled"), self.path.clone()] {
            let synced = File::open(&folder).and_then(|folder| folder.sync_all());
            synced.map_err(failed("write", &folder))?;
        }
        Ok(())
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), RestoreError> {
        let path = self.path.join(PENDING).join(name);
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(failed("write", &path))
    }

    /// The directory, closed. It is not removed then.
    pub(super) fn into_path(mut self) -> PathBuf {
        self.is_given_away = true;
        self.store = None;
        self.path.clone()
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.store = None;
        if !self.is_given_away
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the directory of the interrupted restore stays");
        }
    }
}

/// Rows on their way into the new store.
pub(super) struct Batch<'a> {
    store: &'a dyn Store,
    keyring: &'a Keyring,
    rows: Vec<(Table, Row)>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    pub(super) fn new(store: &'a dyn Store, keyring: &'a Keyring) -> Self {
        Self { store, keyring, rows: Vec::new(), bytes: 0 }
    }

    pub(super) async fn add(&mut self, row: OpenedRow) -> Result<(), FillError> {
        self.bytes += row.content.len();
        self.rows.push(row.seal(&self.keyring.sealing().await).map_err(unusable)?);
        if self.bytes >= BATCH_BYTES || self.rows.len() >= BATCH_ROWS {
            self.write().await?;
        }
        Ok(())
    }

    pub(super) async fn write(&mut self) -> Result<(), FillError> {
        self.bytes = 0;
        let loaded = self.store.load(std::mem::take(&mut self.rows)).await;
        loaded.map_err(|error| unprepared(error.into()))
    }
}

pub(super) fn unusable(error: impl ToString) -> FillError {
    FillError::Unusable(error.to_string())
}

pub(super) fn unprepared(error: anyhow::Error) -> FillError {
    FillError::Restore(RestoreError::Unprepared(format!("{error:#}")))
}
