//! The store's directory: private, and owned by one process at a time, whose id is in the file `pid`. The lock
//! is on that file and ends with the process, so a stale id blocks no other process.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::disk_space::DiskSpace;
use super::ownership::{chown_tree_to_owner_of, explained};
use crate::store::StoreError;

/// How long to wait for the lock of a process that is exiting. It is short, so that a real conflict is reported soon.
const LOCK_PATIENCE: Duration = Duration::from_millis(400);
/// How long to wait for sled's own lock, which its threads hold until their last flush.
const SLED_PATIENCE: Duration = Duration::from_millis(1_200);
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// An owned directory; released when dropped.
#[derive(Debug)]
pub(super) struct StoreDirectory {
    path: PathBuf,
    disk_space: DiskSpace,
    _lock: File,
}

impl StoreDirectory {
    /// Creates the directory if absent, checks that it is private, and locks it.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let action = "make its directory";
        let is_new = !path.exists();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| StoreError::Io { action, source })?;
        if let (true, Some(folder)) = (is_new, path.parent()) {
            let given = chown_tree_to_owner_of(folder, path);
            given.map_err(|source| StoreError::Io { action, source })?;
        }
        let about = fs::metadata(path).map_err(|source| StoreError::Io { action, source })?;
        let mode = about.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Exposed { path: path.into(), mode });
        }
        let _lock = lock(path)?;
        let directory = Self { path: path.into(), disk_space: DiskSpace::of(path), _lock };
        // A killed command of root may have left files of root.
        directory.give_to_owner();
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the disk has space.
    pub(super) fn disk_space(&self) -> &DiskSpace {
        &self.disk_space
    }

    /// sled's directory inside it.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("sled")
    }

    /// Opens sled; waits for threads of an earlier handle in this process.
    pub(super) fn open(&self, config: &sled::Config) -> Result<sled::Db, StoreError> {
        let deadline = Instant::now() + SLED_PATIENCE;
        loop {
            match config.open() {
                Ok(db) => return Ok(db),
                Err(error) if !is_lock(&error) => return Err(self.refuse("open its files", error)),
                Err(_) if Instant::now() > deadline => {
                    return Err(StoreError::Locked { pid: None });
                }
                Err(_) => std::thread::sleep(RETRY_EVERY),
            }
        }
    }

    /// Converts sled's error.
    pub(super) fn refuse(&self, action: &'static str, error: sled::Error) -> StoreError {
        match error {
            sled::Error::Io(source) => {
                StoreError::Io { action, source: explained(&self.path, source) }
            }
            sled::Error::Corruption { .. } => self.damaged("a checksum does not match"),
            other => StoreError::Damaged { path: self.path.clone(), what: other.to_string() },
        }
    }

    /// Gives the files of root to the owner of the directory, whose gateway could not open it otherwise.
    fn give_to_owner(&self) {
        if let Err(error) = chown_tree_to_owner_of(&self.path, &self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            let store = self.path.display();
            tracing::warn!(%store, %error, "files of root stay in the store: run `chown -R` on it");
        }
    }

    /// An error for damage that this module detected.
    pub(super) fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: what.to_owned() }
    }
}

impl Drop for StoreDirectory {
    fn drop(&mut self) {
        self.give_to_owner();
    }
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("pid");
    let failed = |source| StoreError::Io {
        action: "lock its directory",
        source: explained(directory, source),
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            // A restore replaces the directory while it holds the lock, so this may be the lock of the old directory.
            Ok(()) if is_at(&file, &path).map_err(failed)? => {
                write_pid(&mut file).map_err(failed)?;
                return Ok(file);
            }
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(StoreError::Locked { pid: read_pid(&mut file) });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(RETRY_EVERY),
        }
    }
}

/// Whether this open file is the one with that path.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((own.dev(), own.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The id is only informative, so it need not be durable.
fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// sled has no error kind for this.
fn is_lock(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(source) if source.to_string().contains("acquire lock"))
}
