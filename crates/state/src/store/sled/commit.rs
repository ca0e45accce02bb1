//! Group commit, and the tip: how far the log was acknowledged.
//!
//! A writer applies its change, takes a ticket, and waits until a flush that began afterwards has
//! ended; whoever finds no such flush makes one for all who wait. sled's flush asks Linux to write
//! the pages out but not the disk to keep them, so an fdatasync of its file follows.
//!
//! sled cuts its log at the first record it cannot read and goes on without the rest. That is
//! right after a crash, when the rest was never acknowledged, and wrong for a flipped bit. So the
//! number of the last acknowledged change stands in the file `tip` and in sled: a sled behind its
//! tip has lost something, and is refused.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::site::Site;
use crate::store::StoreError;
use keyward_base::threads::Threads;

/// The tip in sled's default tree.
const TIP_KEY: &[u8] = b"tip";

/// Decimal digits of the tip file. A fixed width, so that one small write replaces it.
const TIP_DIGITS: usize = 20;

/// Numbers the changes and makes them durable.
#[derive(Debug)]
pub(super) struct Commits {
    files: Arc<Durable>,
    /// Changes that are applied.
    applied: AtomicU64,
    /// Changes that are on the disk. Held while a flush runs: the others queue up behind it, and
    /// most of them find their change done.
    done: tokio::sync::Mutex<u64>,
    /// How often the disk was waited for.
    flushes: AtomicU64,
}

#[derive(Debug)]
struct Durable {
    db: sled::Db,
    /// sled's log, opened a second time for its fdatasync.
    log: File,
    tip: File,
}

impl Commits {
    /// Compares sled with its tip.
    pub(super) fn open(site: &Site, db: sled::Db) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io { action: "read its tip", source };
        let (tip, acknowledged) = open_tip(&site.path().join("tip")).map_err(failed)?;
        let acknowledged =
            acknowledged.ok_or_else(|| site.damaged("its file `tip` is not ours"))?;
        let stored = db.get(TIP_KEY).map_err(|error| site.refuse("read its tip", error))?;
        let applied = stored.and_then(|bytes| Some(u64::from_be_bytes((*bytes).try_into().ok()?)));
        let applied = applied.unwrap_or(0);
        if applied < acknowledged {
            return Err(site.damaged("acknowledged writes are missing from its log"));
        }
        let log = File::open(site.database().join("db")).map_err(failed)?;
        let files = Durable { db, log, tip };
        Ok(Self {
            files: files.into(),
            applied: applied.into(),
            done: applied.into(),
            flushes: AtomicU64::new(0),
        })
    }

    /// Counts a change that is applied; answers its ticket.
    pub(super) fn applied(&self) -> u64 {
        self.applied.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Waits until the change of the ticket is on the disk.
    pub(super) async fn wait(
        &self,
        site: &Site,
        threads: &Threads,
        ticket: Option<u64>,
    ) -> Result<(), StoreError> {
        let Some(ticket) = ticket else { return Ok(()) };
        let mut done = self.done.lock().await;
        if *done >= ticket {
            return Ok(());
        }
        // Everything up to here was applied before this flush begins.
        let upto = self.applied.load(Ordering::SeqCst);
        let refuse = |error| site.refuse("flush", error);
        self.files.db.insert(TIP_KEY, &upto.to_be_bytes()).map_err(refuse)?;
        self.files.db.flush_async().await.map_err(refuse)?;
        let files = Arc::clone(&self.files);
        let synced = threads.run(move || files.sync(upto)).await;
        super::finished(site.path(), synced)?;
        *done = upto;
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Flushes since the store was opened: far fewer than writes, when writes come together.
    #[cfg(test)]
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }
}

impl Durable {
    /// The tip follows the log, never the other way round. It is not synced itself: a tip that is
    /// too old misses a loss, but accuses nobody.
    fn sync(&self, upto: u64) -> Result<(), StoreError> {
        let synced = self.log.sync_data();
        let synced = synced.and_then(|()| self.tip.write_all_at(&tip_line(upto), 0));
        synced.map_err(|source| StoreError::Io { action: "flush", source })
    }
}

fn tip_line(tip: u64) -> Vec<u8> {
    format!("{tip:0TIP_DIGITS$}\n").into_bytes()
}

/// The tip file and its number; none when it holds something else.
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
