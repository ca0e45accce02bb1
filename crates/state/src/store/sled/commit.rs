//! Group commit, and the tip file, which records how far the log was acknowledged.
//!
//! A writer applies its change, takes a ticket, and waits for a flush that began afterwards. If there is none,
//! it flushes for all waiting writers. sled's flush writes pages but does not sync the disk, so a sync of its blobs
//! and an fdatasync of its log follow.
//!
//! sled cuts its log at the first unreadable record and continues without the rest. That is right after a
//! crash, when the rest was never acknowledged, and wrong after a flipped bit. Therefore the number of the last
//! acknowledged change is kept in the file `tip` and in sled: a sled that is behind its tip has lost writes,
//! and is refused.
//!
//! [`Blobs`]: sled's files of large items, single rows or whole leaves of more than 128 KiB. sled never syncs them, and
//! its log contains only their numbers.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io};

use parking_lot::Mutex;
use rustix::fs::{Dir, fsync};
use tokio::time::timeout;

use super::store_directory::{StoreDirectory, explained, is_at};
use crate::store::StoreError;
use keyward_base::threads::{Threads, WorkPanicked};

/// Key of the tip in sled's default tree.
const TIP_KEY: &[u8] = b"tip";

/// Width of the tip file in decimal digits. It is fixed, so that one small write replaces it.
const TIP_DIGITS: usize = 20;

/// Time limit of sled's flush, which waits forever after a failed write of a blob. On a slow disk the files are
/// reopened after this time; the reopening waits for the disk.
const FLUSHED_WITHIN: Duration = Duration::from_secs(10);

/// Numbers changes and makes them durable.
#[derive(Debug)]
pub(super) struct Commits {
    files: Arc<Durable>,
    /// Number of applied changes.
    applied: AtomicU64,
    /// Number of changes on disk. Locked during a flush: other writers wait, and most then find their change
    /// done.
    done: tokio::sync::Mutex<u64>,
    /// Whether a flush failed. The system reports a disk error only once, so a later flush could succeed although
    /// changes of this one are lost.
    failed: AtomicBool,
    /// Number of flushes.
    flushes: AtomicU64,
}

#[derive(Debug)]
struct Durable {
    db: sled::Db,
    blobs: Blobs,
    /// sled's log file, opened again for fdatasync.
    log: File,
    tip: File,
    #[cfg(test)]
    fails: AtomicBool,
}

impl Commits {
    /// Compares sled with its tip.
    pub(super) fn open(directory: &StoreDirectory, db: sled::Db) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io {
            action: "read its tip",
            source: explained(directory.path(), source),
        };
        let (tip, acknowledged) = open_tip(&directory.path().join("tip")).map_err(failed)?;
        let acknowledged =
            acknowledged.ok_or_else(|| directory.damaged("its file `tip` is not Keyward's"))?;
        let stored = db.get(TIP_KEY).map_err(|error| directory.refuse("read its tip", error))?;
        let applied = stored.and_then(|bytes| Some(u64::from_be_bytes((*bytes).try_into().ok()?)));
        let applied = applied.unwrap_or(0);
        if applied < acknowledged {
            return Err(directory.damaged("acknowledged writes are missing from its log"));
        }
        let log = File::open(directory.database().join("db")).map_err(failed)?;
        let blobs = Blobs::open(&directory.database()).map_err(failed)?;
        let files = Durable {
            db,
            blobs,
            log,
            tip,
            #[cfg(test)]
            fails: false.into(),
        };
        Ok(Self {
            files: files.into(),
            applied: applied.into(),
            done: applied.into(),
            failed: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
        })
    }

    /// Called before a write. What is written to replaced files is lost with this process.
    ///
    /// # Errors
    /// When the log is no longer the one in the directory.
    pub(super) fn check_place(&self, directory: &StoreDirectory) -> io::Result<()> {
        match is_at(&self.files.log, &directory.database().join("db"))? {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "the files in {} were replaced or removed while they were open: stop the gateway \
                 before its store is copied over",
                directory.path().display()
            ))),
        }
    }

    /// Counts an applied change and returns its ticket.
    pub(super) fn applied(&self) -> u64 {
        self.applied.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Waits until the change with this ticket is on disk.
    pub(super) async fn wait(
        &self,
        directory: &StoreDirectory,
        threads: &Threads,
        ticket: Option<u64>,
    ) -> Result<(), StoreError> {
        let Some(ticket) = ticket else { return Ok(()) };
        let mut done = self.done.lock().await;
        if *done >= ticket {
            return Ok(());
        }
        if self.failed.load(Ordering::Relaxed) {
            let source = io::Error::other("an earlier flush failed");
            return Err(StoreError::Io { action: "flush", source });
        }
        // All changes up to here were applied before this flush begins.
        let upto = self.applied.load(Ordering::SeqCst);
        let flushed = self.flush(directory, threads, upto).await;
        match flushed {
            Ok(()) => *done = upto,
            Err(_) => self.failed.store(true, Ordering::Relaxed),
        }
        flushed
    }

    async fn flush(
        &self,
        directory: &StoreDirectory,
        threads: &Threads,
        upto: u64,
    ) -> Result<(), StoreError> {
        let refuse = |error| directory.refuse("flush", error);
        self.files.db.insert(TIP_KEY, &upto.to_be_bytes()).map_err(refuse)?;
        let flushed = timeout(FLUSHED_WITHIN, self.files.db.flush_async()).await;
        let late = |_| StoreError::Io { action: "flush", source: io::ErrorKind::TimedOut.into() };
        flushed.map_err(late)?.map_err(refuse)?;
        let files = Arc::clone(&self.files);
        super::finished(directory.path(), threads.run(move || files.sync(upto)).await)?;
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Syncs all data in the files, which an earlier process or an earlier handle may have written.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.files.sync(self.applied.load(Ordering::SeqCst))
    }

    /// Makes the next flush fail, as a full disk does.
    #[cfg(test)]
    pub(super) fn fail(&self) {
        self.files.fails.store(true, Ordering::SeqCst);
    }

    /// The synced blobs with their lengths.
    #[cfg(test)]
    pub(super) fn synced_blobs(&self) -> std::collections::BTreeMap<std::ffi::OsString, u64> {
        self.files.blobs.synced()
    }

    /// Flushes since the store was opened; fewer than writes if writes are concurrent.
    #[cfg(test)]
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }
}

impl Durable {
    /// Syncs the log after the blobs that it names, and updates the tip after the log, never before. The tip
    /// itself is not synced: an old tip may miss a loss, but never reports a false one.
    fn sync(&self, upto: u64) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.fails.swap(false, Ordering::SeqCst) {
            let source = io::ErrorKind::StorageFull.into();
            return Err(StoreError::Io { action: "flush", source });
        }
        let synced = self.blobs.sync().and_then(|()| self.log.sync_data());
        let synced = synced.and_then(|()| self.tip.write_all_at(&tip_line(upto), 0));
        synced.map_err(|source| StoreError::Io { action: "flush", source })
    }
}

fn tip_line(tip: u64) -> Vec<u8> {
    format!("{tip:0TIP_DIGITS$}\n").into_bytes()
}

/// The tip file and its number; `None` if its content is invalid.
fn open_tip(path: &Path) -> io::Result<(File, Option<u64>)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    if file.metadata()?.len() == 0 {
        file.write_all_at(&tip_line(0), 0)?;
        file.sync_all()?;
    }
    let mut line = [0; TIP_DIGITS];
    let read = file.read_exact_at(&mut line, 0);
    let number = std::str::from_utf8(&line).ok().and_then(|digits| digits.parse().ok());
    Ok((file, read.ok().and(number)))
}

/// The folder of the blobs.
#[derive(Debug)]
pub(super) struct Blobs {
    path: PathBuf,
    listed: Mutex<ListedBlobs>,
}

#[derive(Debug)]
struct ListedBlobs {
    /// Kept open, so that a flush needs no new descriptor.
    folder: Dir,
    /// The blobs that were synced, with their lengths. sled writes each once.
    synced: BTreeMap<OsString, u64>,
}

impl Blobs {
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        let path = database.join("blobs");
        let folder = Dir::new(File::open(&path)?)?;
        Ok(Self { path, listed: Mutex::new(ListedBlobs { folder, synced: BTreeMap::new() }) })
    }

    /// Makes all blobs durable that were written before.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut listed = self.listed.lock();
        let ListedBlobs { folder, synced } = &mut *listed;
        let (mut found, mut has_new) = (BTreeMap::new(), false);
        folder.rewind();
        for entry in folder.by_ref() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let path = self.path.join(name);
            // The length is read before the sync, so that a blob that is still being written is synced again.
            let about = present(fs::symlink_metadata(&path))?;
            let Some(about) = about.filter(fs::Metadata::is_file) else { continue };
            if synced.get(name) != Some(&about.len()) {
                let Some(file) = present(File::open(&path))? else { continue };
                file.sync_all()?;
                has_new = true;
            }
            found.insert(name.to_owned(), about.len());
        }
        if has_new {
            fsync(folder.fd()?)?;
        }
        *synced = found;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn synced(&self) -> BTreeMap<OsString, u64> {
        self.listed.lock().synced.clone()
    }
}

/// `None`: sled has removed the blob, which no page needs any more.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// sled panics on some damage; the panic fails this call only.
pub(super) fn finished<T>(
    path: &Path,
    done: Result<Result<T, StoreError>, WorkPanicked>,
) -> Result<T, StoreError> {
    done.unwrap_or_else(|WorkPanicked| {
        let what = "the database library gave up".to_owned();
        Err(StoreError::Damaged { path: path.into(), what })
    })
}
