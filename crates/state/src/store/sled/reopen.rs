//! [`ReopenedFiles`]: the files of the store, which are opened again after a failed write. sled writes nothing more after one,
//! also when the disk has room again. What had not reached the disk is then as after a crash.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::blocking::finished;
use super::files::{SledSettings, StoreFiles};
use super::site::StoreDirectory;
use crate::store::{StoreError, Table};
use keyward_base::threads::Threads;

/// Bytes that the disk must have room for before the files are opened again: a segment of sled's log and some more.
const ROOM_BYTES: usize = 2 * 1024 * 1024;

/// The pause between two attempts.
const EVERY: Duration = Duration::from_secs(1);

/// How long operations under way may take.
const ENDED_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct ReopenedFiles {
    settings: SledSettings,
    site: Arc<StoreDirectory>,
    /// `None` while they are opened again, and after that failed.
    current: RwLock<Option<Arc<StoreFiles>>>,
    /// After a failed write, the rows that it may have changed in memory alone.
    unflushed: Mutex<Option<BTreeSet<(Table, String)>>>,
    /// Held while they are opened again. The last attempt.
    turn: tokio::sync::Mutex<Option<Instant>>,
}

impl ReopenedFiles {
    /// Opens or creates them.
    pub(super) fn open(settings: SledSettings) -> Result<Self, StoreError> {
        let site = Arc::new(StoreDirectory::take(&settings.path)?);
        let files = StoreFiles::open(&settings, site.clone())?;
        let current = RwLock::new(Some(Arc::new(files)));
        let (unflushed, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { settings, site, current, unflushed, turn })
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        self.site.path()
    }

    #[cfg(test)]
    pub(super) fn now(&self) -> Option<Arc<StoreFiles>> {
        self.current.read().clone()
    }

    /// A write of these rows has failed.
    pub(super) fn failed(&self, rows: Vec<(Table, String)>) {
        self.unflushed.lock().get_or_insert_default().extend(rows);
    }

    /// The files, to read this row. After a failed write of it, they are opened again, so that no caller relies on a row
    /// that a crash takes back.
    ///
    /// # Errors
    /// While the row is not on disk.
    pub(super) async fn of_row(
        &self,
        threads: &Threads,
        table: Table,
        key: &str,
    ) -> Result<Arc<StoreFiles>, StoreError> {
        let is_it = |(of, at): &(Table, String)| *of == table && at == key;
        let is_unflushed =
            self.unflushed.lock().as_ref().is_some_and(|rows| rows.iter().any(is_it));
        match is_unflushed {
            true => self.working(threads).await,
            false => self.current(threads).await,
        }
    }

    /// The files, also if a write has failed: other rows can be read.
    pub(super) async fn current(&self, threads: &Threads) -> Result<Arc<StoreFiles>, StoreError> {
        let current = self.current.read().clone();
        match current {
            Some(files) => Ok(files),
            None => self.working(threads).await,
        }
    }

    /// The files, opened again if a write has failed.
    ///
    /// # Errors
    /// While the disk has no room.
    pub(super) async fn working(&self, threads: &Threads) -> Result<Arc<StoreFiles>, StoreError> {
        if self.has_failed() {
            self.reopen(threads).await?;
        }
        let current = self.current.read().clone();
        current.ok_or_else(|| failed(io::ErrorKind::NotConnected.into()))
    }

    fn has_failed(&self) -> bool {
        self.unflushed.lock().is_some()
    }

    async fn reopen(&self, threads: &Threads) -> Result<(), StoreError> {
        let mut last = self.turn.lock().await;
        if !self.has_failed() {
            return Ok(());
        }
        if last.is_some_and(|last| last.elapsed() < EVERY) {
            return Err(failed(io::ErrorKind::StorageFull.into()));
        }
        *last = Some(Instant::now());
        let site = self.site.clone();
        finished(self.path(), threads.run(move || has_room(site.path())).await)?;
        let (settings, site) = (self.settings.clone(), self.site.clone());
        let old = self.current.write().take();
        let opened = threads.run(move || opened_again(old, &settings, site)).await;
        let opened = finished(self.path(), opened.map(Ok))?;
        // Before a write of the new files can fail.
        let mut current = self.current.write();
        match opened {
            Reopened::New(files) => {
                // Memory has what is on disk.
                *self.unflushed.lock() = None;
                *current = Some(files);
                tracing::warn!(id = "store_reopened", "the store can be written again");
                Ok(())
            }
            Reopened::Old(files) => {
                *current = Some(files);
                Err(failed(io::ErrorKind::TimedOut.into()))
            }
            Reopened::Failed(error) => Err(error),
        }
    }
}

enum Reopened {
    New(Arc<StoreFiles>),
    /// An operation was under way.
    Old(Arc<StoreFiles>),
    Failed(StoreError),
}

fn opened_again(
    old: Option<Arc<StoreFiles>>,
    settings: &SledSettings,
    site: Arc<StoreDirectory>,
) -> Reopened {
    if let Some(mut old) = old {
        let until = Instant::now() + ENDED_WITHIN;
        // sled's own lock is released with the last use.
        loop {
            match Arc::try_unwrap(old) {
                Ok(files) => break drop(files),
                Err(used) if Instant::now() > until => return Reopened::Old(used),
                Err(used) => {
                    old = used;
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
    let files = StoreFiles::open(settings, site);
    match files.and_then(|files| files.commits.sync().map(|()| files)) {
        Ok(files) => Reopened::New(Arc::new(files)),
        Err(error) => Reopened::Failed(error),
    }
}

/// Writes and removes a file: sled's files are not touched before the disk has room.
fn has_room(directory: &Path) -> Result<(), StoreError> {
    let path = directory.join("room");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0; ROOM_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed).map_err(failed)
}

fn failed(source: io::Error) -> StoreError {
    StoreError::Io { action: "open its files again", source }
}
