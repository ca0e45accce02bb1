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

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use super::blobs::Blobs;
use super::ownership::explained;
use super::store_directory::{StoreDirectory, is_at};
use crate::store::StoreError;
use keyward_base::threads::Threads;

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
