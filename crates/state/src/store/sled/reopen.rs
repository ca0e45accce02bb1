//! [`ReopenedFiles`]: the files of the store, which are reopened after a failed write. After one, sled stops writing,
//! even when the disk has space again. Changes that had not reached the disk are lost as after a crash.
//!
//! After the failed write of a blob, sled never closes its files: it waits for a page that no thread writes. Then the
//! process must end, and a restart recovers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{io, thread};

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::commit::finished;
use super::disk_space::DiskSpace;
use super::files::{SledSettings, StoreFiles};
use super::store_directory::StoreDirectory;
use crate::store::{StoreError, Table};
use keyward_base::threads::WorkPanicked;

/// The pause between two attempts.
const EVERY: Duration = Duration::from_secs(1);

/// Time limit of operations in progress.
const ENDED_WITHIN: Duration = Duration::from_secs(2);

/// How long a caller waits. The attempt continues without it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// How long sled may take to close the files, once the disk has accepted a test file of some megabytes.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

/// A disk that needs longer than this for a test file of some megabytes counts as slow.
const SLOW: Duration = Duration::from_secs(2);

/// If this number of consecutive attempts find the old files in use, an operation on them never ends.
const IN_USE_MAX: u32 = 10;

#[derive(Debug)]
pub(super) struct ReopenedFiles {
    settings: SledSettings,
    directory: Arc<StoreDirectory>,
    /// `None` while the files are being reopened, and after a failed attempt.
    current: RwLock<Option<Arc<StoreFiles>>>,
    /// After a failed write, the rows that it may have changed only in memory.
    unflushed: Mutex<Option<BTreeSet<(Table, String)>>>,
    /// Held while the files are reopened.
    turn: Arc<tokio::sync::Mutex<Attempts>>,
}

/// The attempts to reopen the files.
#[derive(Debug, Default)]
struct Attempts {
    last: Option<Instant>,
    /// The number of consecutive attempts that found the old files in use.
    in_use: u32,
}

impl ReopenedFiles {
    /// Opens or creates the files.
    pub(super) fn open(settings: SledSettings) -> Result<Self, StoreError> {
        let directory = Arc::new(StoreDirectory::take(&settings.path)?);
        let files = StoreFiles::open(&settings, directory.clone())?;
        let current = RwLock::new(Some(Arc::new(files)));
        let (unflushed, turn) = (Mutex::default(), Arc::default());
        Ok(Self { settings, directory, current, unflushed, turn })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    #[cfg(test)]
    pub(super) fn now(&self) -> Option<Arc<StoreFiles>> {
        self.current.read().clone()
    }

    /// Records that a write of these rows has failed.
    pub(super) fn failed(&self, rows: Vec<(Table, String)>) {
        self.unflushed.lock().get_or_insert_default().extend(rows);
    }

    /// The files, to read this row. After a failed write of the row, the files are reopened first, so that no caller
    /// relies on a change that a crash would lose.
    ///
    /// # Errors
    /// While the row is not on disk.
    pub(super) async fn of_row(
        self: &Arc<Self>,
        table: Table,
        key: &str,
    ) -> Result<Arc<StoreFiles>, StoreError> {
        let is_it = |(of, at): &(Table, String)| *of == table && at == key;
        let is_unflushed =
            self.unflushed.lock().as_ref().is_some_and(|rows| rows.iter().any(is_it));
        match is_unflushed {
            true => self.working().await,
            false => self.current().await,
        }
    }

    /// The files, also after a failed write, because other rows can be read.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<StoreFiles>, StoreError> {
        let current = self.current.read().clone();
        match current {
            Some(files) => Ok(files),
            None => self.working().await,
        }
    }

    /// The files, reopened if a write has failed.
    ///
    /// # Errors
    /// While the disk has no space, and while the old files are not closed.
    pub(super) async fn working(self: &Arc<Self>) -> Result<Arc<StoreFiles>, StoreError> {
        if self.has_failed() {
            self.reopen().await?;
        }
        let current = self.current.read().clone();
        current.ok_or_else(|| failed(io::ErrorKind::NotConnected.into()))
    }

    fn has_failed(&self) -> bool {
        self.unflushed.lock().is_some()
    }

    async fn reopen(self: &Arc<Self>) -> Result<(), StoreError> {
        let turn = timeout(ANSWERED_WITHIN, self.turn.clone().lock_owned()).await;
        let mut turn = turn.map_err(|_| not_closed())?;
        if !self.has_failed() {
            return Ok(());
        }
        if turn.last.is_some_and(|last| last.elapsed() < EVERY) {
            return Err(failed(io::ErrorKind::StorageFull.into()));
        }
        turn.last = Some(Instant::now());
        let (files, (answer, answered)) = (self.clone(), oneshot::channel());
        let attempt = move || {
            let reopened = files.reopened(&mut turn);
            drop((files, turn));
            // An error means that the caller has stopped waiting.
            let _ = answer.send(reopened);
        };
        // Runs on its own thread, because the threads of the store may wait for sled.
        let begun = thread::Builder::new().name("keyward-reopen".to_owned()).spawn(attempt);
        begun.map_err(failed)?;
        match timeout(ANSWERED_WITHIN, answered).await {
            // Without an answer, the thread has panicked.
            Ok(answered) => finished(self.path(), answered.map_err(|_| WorkPanicked)),
            Err(_) => Err(not_closed()),
        }
    }

    /// One attempt. Blocks.
    fn reopened(&self, attempts: &mut Attempts) -> Result<(), StoreError> {
        // sled's files are not touched before the disk has space.
        self.directory.disk_space().before_opening().map_err(failed)?;
        let closing = watched(self.path()).map_err(failed)?;
        let old = self.current.write().take();
        match old.map(unused) {
            Some(Err(used)) => {
                *self.current.write() = Some(used);
                return Err(self.found_in_use(attempts));
            }
            // Closing the files waits for sled.
            Some(Ok(files)) => drop(files),
            None => {}
        }
        drop(closing);
        let files = match StoreFiles::open(&self.settings, self.directory.clone()) {
            // A flush of the old files is in progress.
            Err(StoreError::Locked { .. }) => return Err(self.found_in_use(attempts)),
            opened => opened?,
        };
        files.commits.sync()?;
        attempts.in_use = 0;
        // Locked first, so that no write of the new files can fail before `unflushed` is reset.
        let mut current = self.current.write();
        // The reopened files contain only data that is on disk.
        *self.unflushed.lock() = None;
        *current = Some(Arc::new(files));
        tracing::warn!(id = "store_reopened", "the store can be written again");
        Ok(())
    }

    fn found_in_use(&self, attempts: &mut Attempts) -> StoreError {
        attempts.in_use += 1;
        if attempts.in_use >= IN_USE_MAX {
            end_process(self.path());
        }
        not_closed()
    }
}

/// Dropping a store after a failed write waits for sled, so the wait is limited here too.
impl Drop for ReopenedFiles {
    fn drop(&mut self) {
        if self.has_failed()
            && let Ok(_closing) = watched(self.directory.path())
        {
            *self.current.get_mut() = None;
        }
    }
}

/// The files, once no operation uses them: sled's own lock is released with the last use.
fn unused(mut files: Arc<StoreFiles>) -> Result<StoreFiles, Arc<StoreFiles>> {
    let until = Instant::now() + ENDED_WITHIN;
    loop {
        match Arc::try_unwrap(files) {
            Err(used) if Instant::now() <= until => files = used,
            ended => return ended,
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Ends the process if the returned value is not dropped in time. Only time in which the disk responds counts: sled may
/// be waiting for the disk, and unsaved tokens exist only in memory.
fn watched(store: &Path) -> io::Result<mpsc::Sender<()>> {
    let (closing, closed) = mpsc::channel::<()>();
    let store = PathBuf::from(store);
    let watch = move || {
        let is_late = |within| closed.recv_timeout(within) == Err(RecvTimeoutError::Timeout);
        while is_late(CLOSED_WITHIN) {
            let asked = Instant::now();
            // The result is ignored, because sled does not wait for space.
            let _ = DiskSpace::of(&store).before_opening();
            let is_slow = asked.elapsed() > SLOW;
            // A slow disk gets more time, also after this process was stopped.
            if is_late(ANSWERED_WITHIN) && !is_slow {
                end_process(&store);
            }
        }
    };
    thread::Builder::new().name("keyward-closing".to_owned()).spawn(watch)?;
    Ok(closing)
}

/// Ends the process, because its files cannot be closed: it could neither read nor write, and would not end at a
/// signal.
fn end_process(store: &Path) -> ! {
    tracing::error!(
        id = "store_stuck",
        store = %store.display(),
        hint = "start it again: that recovers the store; make sure that its disk has room",
        "the store cannot be closed after a failed write: the process ends"
    );
    std::process::exit(1)
}

fn not_closed() -> StoreError {
    failed(io::Error::new(io::ErrorKind::TimedOut, "they are not closed yet"))
}

fn failed(source: io::Error) -> StoreError {
    StoreError::Io { action: "open its files again", source }
}
