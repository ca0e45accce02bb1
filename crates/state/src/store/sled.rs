//! The embedded store: sled, owned by one process. A write is acknowledged after it is on disk; concurrent writes share
//! one flush (`commit.rs`). `files.rs` reads and changes rows, `store_directory.rs` owns the directory and its lock,
//! `commit.rs` syncs also sled's files of large items, `reopen.rs` reopens the files after a disk failure, `disk_space.rs`
//! checks the disk before a write.
//!
//! sled blocks, so it runs on a small thread pool of the store.

mod commit;
mod disk_space;
mod files;
mod reopen;
mod store_directory;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use self::files::SledSettings;
use self::files::{Applied, StoreFiles};
use self::reopen::ReopenedFiles;
use self::store_directory::StoreDirectory;
use super::error::check;
use super::lease::{Lease, Leases};
use super::watch::ChangeCounters;
use super::{Row, RowRange, Snapshot, Store, StoreError, StoreScan, Table, Version, Write};
use commit::finished;
use keyward_base::threads::Threads;
pub use store_directory::{chown_to_owner_of, chown_tree_to_owner_of};

/// Threads that call sled. Most calls take microseconds; longer ones wait for the disk, where more threads
/// would only queue.
const THREADS_MAX: usize = 4;

/// A store in files.
#[derive(Debug)]
pub struct SledStore {
    files: Arc<ReopenedFiles>,
    threads: Threads,
    leases: Leases,
    changes: ChangeCounters,
}

/// The lock of a store without opening it, so that no process opens it meanwhile. Dropping it releases the lock.
#[derive(Debug)]
pub struct StoreLock(#[allow(dead_code, reason = "held until dropped")] StoreDirectory);

impl StoreLock {
    /// Locks the directory of a store.
    ///
    /// # Errors
    /// As [`SledStore::open`], except for damage, which is not checked.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        StoreDirectory::take(path).map(Self)
    }
}

impl SledStore {
    /// Opens or creates the store in a directory.
    ///
    /// # Errors
    /// `Locked` when another process owns it for longer than two seconds, `Exposed` when other users can access
    /// the directory, `Damaged` when acknowledged writes are missing, `Io`.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(SledSettings::at(path)).await
    }

    /// [`SledStore::open`] with other settings.
    ///
    /// # Errors
    /// Those of `open`.
    pub async fn open_with(settings: SledSettings) -> Result<Self, StoreError> {
        let (path, threads) = (settings.path.clone(), Threads::new("keyward-store", THREADS_MAX));
        let files = threads.run(move || ReopenedFiles::open(settings)).await;
        let files = Arc::new(finished(&path, files)?);
        Ok(Self { files, threads, leases: Leases::default(), changes: ChangeCounters::new() })
    }

    /// Runs `work` on a blocking thread.
    async fn on_files<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&StoreFiles) -> Result<T, StoreError> + Send + 'static,
    {
        self.run(self.files.current().await?, work).await
    }

    /// Runs `list` on a blocking thread, with the same range.
    async fn listed<T: Send + 'static>(
        &self,
        range: RowRange<'_>,
        list: impl FnOnce(&StoreFiles, RowRange<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let RowRange { prefix, after, limit } = range;
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let work = move |files: &StoreFiles| {
            list(files, RowRange { prefix: &prefix, after: after.as_deref(), limit })
        };
        self.on_files(work).await
    }

    async fn run<T, F>(&self, files: Arc<StoreFiles>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&StoreFiles) -> Result<T, StoreError> + Send + 'static,
    {
        finished(self.files.path(), self.threads.run(move || work(&files)).await)
    }

    /// Writes these rows, and waits until they are on disk. `bytes`: the length of their values.
    async fn written(
        &self,
        rows: Vec<(Table, String)>,
        bytes: usize,
        work: impl FnOnce(&StoreFiles) -> Result<Applied, StoreError> + Send + 'static,
    ) -> Result<Applied, StoreError> {
        let files = self.files.working().await;
        let files = files.map_err(StoreError::before_writing)?;
        let is_answer = rows.iter().all(|(table, _)| *table == Table::Grants);
        let written = async {
            let write = move |files: &StoreFiles| {
                let is_possible = files.commits.check_place(&files.directory);
                let space = files.directory.disk_space();
                let is_possible = is_possible.and_then(|()| space.before_write(bytes, is_answer));
                is_possible.map_err(refused)?;
                work(files)
            };
            let applied = self.run(files.clone(), write).await?;
            files.commits.wait(&files.directory, &self.threads, applied.ticket).await?;
            Ok(applied)
        };
        let written = written.await;
        match &written {
            Ok(applied) => applied.tables.iter().for_each(|table| self.changes.count(*table)),
            Err(error) if is_of_disk(error) => self.files.failed(rows),
            Err(_) => {}
        }
        written
    }
}

/// The error without disk space, and of replaced files: nothing was written.
fn refused(source: io::Error) -> StoreError {
    StoreError::Unreached { action: "write a row", source }
}

/// Whether sled or the disk failed.
fn is_of_disk(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { .. } | StoreError::Damaged { .. })
}

#[async_trait::async_trait]
impl Store for SledStore {
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        let files = self.files.of_row(table, key).await?;
        let key = key.to_owned();
        self.run(files, move |files| files.read(table, &key)).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        writes.iter().try_for_each(Write::check)?;
        let rows = writes.iter().filter_map(Write::changed);
        let rows = rows.map(|(table, key)| (table, key.to_owned())).collect();
        let bytes = writes.iter().map(Write::bytes).sum();
        let applied = self.written(rows, bytes, move |files| files.commit(&writes)).await?;
        Ok(applied.versions)
    }

    async fn reseal(&self, table: Table, row: &Row, value: &[u8]) -> Result<(), StoreError> {
        check(table, &row.key, value)?;
        let (row, value) = (row.clone(), value.to_vec());
        let (rows, bytes) = (vec![(table, row.key.clone())], value.len());
        self.written(rows, bytes, move |files| files.reseal(table, &row, &value)).await.map(drop)
    }

    async fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError> {
        self.listed(range, move |files, range| files.list(table, range)).await
    }

    async fn list_keys(
        &self,
        table: Table,
        range: RowRange<'_>,
    ) -> Result<Vec<(String, Version)>, StoreError> {
        self.listed(range, move |files, range| files.list_keys(table, range)).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.on_files(StoreFiles::snapshot).await
    }

    async fn scan(&self) -> Result<StoreScan, StoreError> {
        self.on_files(|files| Ok(files.scan())).await
    }

    async fn discard_damaged(&self, table: Table, key: &str) -> Result<bool, StoreError> {
        let (rows, at) = (vec![(table, key.to_owned())], key.to_owned());
        let discard = move |files: &StoreFiles| files.discard_damaged(table, &at);
        let discarded = self.written(rows, 0, discard).await?;
        Ok(discarded.ticket.is_some())
    }

    async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        // One process owns the files, so all holders are in its memory.
        Ok(self.leases.claim(name, ttl))
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError> {
        Ok(self.leases.renew(lease, ttl))
    }

    async fn changed(&self, table: Table, seen: Version) -> Result<Version, StoreError> {
        Ok(self.changes.after(table, seen).await)
    }
}

#[cfg(test)]
mod tests;
