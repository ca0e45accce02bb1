//! The embedded store: sled, owned by one process. A write is acknowledged after it is on disk; concurrent
//! writes share one flush (`commit.rs`). `site.rs` handles directory and lock.
//!
//! sled blocks, so it runs on a small thread pool of the store.

mod blocking;
mod commit;
mod site;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::blocking::finished;
use super::error::{check, conflict};
use super::lease::{Lease, Leases};
use super::watch::ChangeCounters;
use super::{DamagedRow, Expect, Row, Snapshot, Store, StoreError, StoreScan, Table, Version, row};
use commit::Commits;
use keyward_base::threads::Threads;
use parking_lot::RwLock;
use site::StoreDirectory;

/// Threads that call sled. Most calls take microseconds; longer ones wait for the disk, where more threads
/// would only queue.
const THREADS_MAX: usize = 4;

/// Settings for opening the files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SledSettings {
    /// The store's directory, 0700; created if absent.
    pub path: PathBuf,
    /// Size of sled's page cache.
    pub cache_bytes: u64,
    /// How often sled flushes internal maintenance writes, which no caller waits for.
    pub flush_every_ms: u64,
}

/// A store in files.
#[derive(Debug)]
pub struct SledStore {
    files: Arc<StoreFiles>,
    threads: Threads,
    leases: Leases,
    changes: ChangeCounters,
}

/// The lock of a store that is not opened, so that no process opens it meanwhile. It ends when dropped.
#[derive(Debug)]
pub struct StoreLock(#[allow(dead_code, reason = "held until dropped")] StoreDirectory);

impl StoreLock {
    /// Locks the directory of a store.
    ///
    /// # Errors
    /// As [`SledStore::open`], but for damage, which is not looked for.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        StoreDirectory::take(path).map(Self)
    }
}

/// Dropped in this order: the lock is released last.
#[derive(Debug)]
struct StoreFiles {
    tables: Vec<(Table, sled::Tree)>,
    /// Shared by writers; a snapshot excludes them. Held for one change, never until it is durable.
    writing: RwLock<()>,
    commits: Commits,
    site: StoreDirectory,
}

impl SledSettings {
    /// The defaults for a directory. The cache holds about ten thousand connections; the data path reads from
    /// the directory's view instead.
    pub fn at(path: &Path) -> Self {
        Self { path: path.into(), cache_bytes: 64 * 1024 * 1024, flush_every_ms: 500 }
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
        let files = finished(&path, threads.run(move || StoreFiles::open(&settings)).await)?.into();
        Ok(Self { files, threads, leases: Leases::default(), changes: ChangeCounters::new() })
    }

    /// Runs `work` on a blocking thread.
    async fn on_files<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&StoreFiles) -> Result<T, StoreError> + Send + 'static,
    {
        let files = Arc::clone(&self.files);
        finished(self.files.site.path(), self.threads.run(move || work(&files)).await)
    }

    /// Waits until the write with this ticket is on disk.
    async fn synced(&self, swapped: &Swapped) -> Result<(), StoreError> {
        let StoreFiles { commits, site, .. } = &*self.files;
        commits.wait(site, &self.threads, swapped.ticket).await
    }
}

impl StoreFiles {
    fn open(settings: &SledSettings) -> Result<Self, StoreError> {
        let site = StoreDirectory::take(&settings.path)?;
        let config = sled::Config::new()
            .path(site.database())
            .cache_capacity(settings.cache_bytes)
            .flush_every_ms(Some(settings.flush_every_ms));
        let db = site.open(&config)?;
        let open_tree = |table: Table| match db.open_tree(table.name()) {
            Ok(tree) => Ok((table, tree)),
            Err(error) => Err(site.refuse("open a table", error)),
        };
        let tables = Table::ALL.into_iter().map(open_tree).collect::<Result<_, _>>()?;
        let commits = Commits::open(&site, db)?;
        Ok(Self { tables, writing: RwLock::new(()), commits, site })
    }

    fn tree(&self, table: Table) -> &sled::Tree {
        let entry = self.tables.iter().find(|(of, _)| *of == table);
        &entry.expect("open() opened every table").1
    }

    fn refuse(&self, table: Table, key: &[u8], error: sled::Error) -> StoreError {
        match error {
            sled::Error::Corruption { .. } => row::corrupt(table, key),
            other => self.site.refuse("reach a row", other),
        }
    }

    fn read(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        let bytes = self.tree(table).get(key);
        let bytes = bytes.map_err(|error| self.refuse(table, key.as_bytes(), error))?;
        bytes.map(|bytes| decode(table, key.as_bytes(), &bytes)).transpose()
    }

    /// Swaps the row for `value` (`None` deletes it), if the precondition is met. Not durable yet.
    fn swap(
        &self,
        table: Table,
        key: &str,
        value: Option<&[u8]>,
        expect: Expect,
    ) -> Result<Swapped, StoreError> {
        let at = key.as_bytes();
        let _writing = self.writing.read();
        loop {
            let old = self.tree(table).get(at).map_err(|error| self.refuse(table, at, error))?;
            // A damaged row is not overwritten: it may be the only copy.
            let found = old.as_ref().map(|old| row::decode(table, at, old)).transpose()?;
            let version = expect.admits(table, key, found.map(|(version, _)| version))?;
            if old.is_none() && value.is_none() {
                return Ok(Swapped { version, ticket: None });
            }
            let new = value.map(|value| row::encode(table, at, version, value));
            let swapped = self.tree(table).compare_and_swap(at, old, new);
            if swapped.map_err(|error| self.refuse(table, at, error))?.is_ok() {
                return Ok(Swapped { version, ticket: Some(self.commits.applied()) });
            }
            // Another writer was faster: check the precondition again.
        }
    }

    /// Replaces the bytes of exactly this row. Not durable yet.
    fn reseal(&self, table: Table, row: &Row, value: &[u8]) -> Result<Swapped, StoreError> {
        let (at, version) = (row.key.as_bytes(), row.version);
        let old = row::encode(table, at, version, &row.value);
        let new = row::encode(table, at, version, value);
        let _writing = self.writing.read();
        let swapped = self.tree(table).compare_and_swap(at, Some(old), Some(new));
        match swapped.map_err(|error| self.refuse(table, at, error))? {
            Ok(()) => Ok(Swapped { version, ticket: Some(self.commits.applied()) }),
            Err(_) => Err(conflict(table, &row.key)),
        }
    }

    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let _all_writers = self.writing.write();
        let mut rows = Vec::new();
        for (table, tree) in &self.tables {
            for entry in tree.iter() {
                let (key, bytes) = entry.map_err(|error| self.refuse(*table, b"", error))?;
                rows.push((*table, decode(*table, &key, &bytes)?));
            }
        }
        Ok(Snapshot::new(rows))
    }

    /// As [`Self::snapshot`], with the damaged rows beside the others.
    fn scan(&self) -> StoreScan {
        let _all_writers = self.writing.write();
        let mut scan = StoreScan::default();
        for (table, tree) in &self.tables {
            for entry in tree.iter() {
                let (key, bytes) = match entry {
                    Ok(entry) => entry,
                    // sled names no row, and its iterator ends here.
                    Err(error) => {
                        let error = self.refuse(*table, b"", error);
                        scan.damaged.push(DamagedRow { table: *table, key: String::new(), error });
                        break;
                    }
                };
                match decode(*table, &key, &bytes) {
                    Ok(row) => scan.rows.push((*table, row)),
                    Err(error) => {
                        let key = key.escape_ascii().to_string();
                        scan.damaged.push(DamagedRow { table: *table, key, error });
                    }
                }
            }
        }
        scan
    }

    /// Deletes a row that does not decode. Not durable yet.
    fn discard_damaged(&self, table: Table, key: &str) -> Result<Swapped, StoreError> {
        let at = key.as_bytes();
        let kept = Swapped { version: Version::default(), ticket: None };
        let _writing = self.writing.read();
        let old = self.tree(table).get(at).map_err(|error| self.refuse(table, at, error))?;
        match old {
            Some(bytes) if decode(table, at, &bytes).is_err() => {
                let removed = self.tree(table).remove(at);
                removed.map_err(|error| self.refuse(table, at, error))?;
                Ok(Swapped { ticket: Some(self.commits.applied()), ..kept })
            }
            _ => Ok(kept),
        }
    }

    /// Adds rows. Not durable yet.
    fn load(&self, rows: &[(Table, Row)]) -> Result<Swapped, StoreError> {
        let mut last = Swapped { version: Version::default(), ticket: None };
        for (table, Row { key, value, version }) in rows {
            let at = key.as_bytes();
            let new = row::encode(*table, at, *version, value);
            let _writing = self.writing.read();
            let swapped = self.tree(*table).compare_and_swap(at, None::<&[u8]>, Some(new));
            if swapped.map_err(|error| self.refuse(*table, at, error))?.is_err() {
                return Err(conflict(*table, key));
            }
            last = Swapped { version: *version, ticket: Some(self.commits.applied()) };
        }
        Ok(last)
    }

    fn list(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.as_bytes()),
            _ => Bound::Included(prefix.as_bytes()),
        };
        self.tree(table)
            .range::<&[u8], _>((from, Bound::Unbounded))
            .map(|entry| entry.map_err(|error| self.refuse(table, prefix.as_bytes(), error)))
            .take_while(|entry| match entry {
                Ok((key, _)) => key.starts_with(prefix.as_bytes()),
                Err(_) => true,
            })
            .take(limit)
            .map(|entry| entry.and_then(|(key, bytes)| decode(table, &key, &bytes)))
            .collect()
    }
}

/// An applied write.
struct Swapped {
    version: Version,
    /// The ticket to wait for durability; `None` if nothing was written.
    ticket: Option<u64>,
}

fn decode(table: Table, key: &[u8], bytes: &[u8]) -> Result<Row, StoreError> {
    let (version, value) = row::decode(table, key, bytes)?;
    match std::str::from_utf8(key) {
        Ok(key) => Ok(Row { key: key.to_owned(), value: value.to_vec(), version }),
        Err(_) => Err(row::corrupt(table, key)),
    }
}

#[async_trait::async_trait]
impl Store for SledStore {
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        let key = key.to_owned();
        self.on_files(move |files| files.read(table, &key)).await
    }

    async fn put(
        &self,
        table: Table,
        key: &str,
        value: &[u8],
        expect: Expect,
    ) -> Result<Version, StoreError> {
        check(table, key, value)?;
        let (key, value) = (key.to_owned(), value.to_vec());
        let write = move |files: &StoreFiles| files.swap(table, &key, Some(&value), expect);
        let swapped = self.on_files(write).await?;
        self.synced(&swapped).await?;
        self.changes.count(table);
        Ok(swapped.version)
    }

    async fn reseal(&self, table: Table, row: &Row, value: &[u8]) -> Result<(), StoreError> {
        check(table, &row.key, value)?;
        let (row, value) = (row.clone(), value.to_vec());
        let swapped = self.on_files(move |files| files.reseal(table, &row, &value)).await?;
        self.synced(&swapped).await
    }

    async fn delete(&self, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        let key = key.to_owned();
        let write = move |files: &StoreFiles| files.swap(table, &key, None, expect);
        let swapped = self.on_files(write).await?;
        self.synced(&swapped).await?;
        if swapped.ticket.is_some() {
            self.changes.count(table);
        }
        Ok(())
    }

    async fn list(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.on_files(move |files| files.list(table, &prefix, after.as_deref(), limit)).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.on_files(StoreFiles::snapshot).await
    }

    async fn scan(&self) -> Result<StoreScan, StoreError> {
        self.on_files(|files| Ok(files.scan())).await
    }

    async fn discard_damaged(&self, table: Table, key: &str) -> Result<bool, StoreError> {
        let key = key.to_owned();
        let discarded = self.on_files(move |files| files.discard_damaged(table, &key)).await?;
        self.synced(&discarded).await?;
        Ok(discarded.ticket.is_some())
    }

    async fn load(&self, rows: Vec<(Table, Row)>) -> Result<(), StoreError> {
        for (table, row) in &rows {
            check(*table, &row.key, &row.value)?;
        }
        let tables: BTreeSet<_> = rows.iter().map(|(table, _)| *table).collect();
        let loaded = self.on_files(move |files| files.load(&rows)).await?;
        self.synced(&loaded).await?;
        tables.into_iter().for_each(|table| self.changes.count(table));
        Ok(())
    }

    async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        // One process owns the files, so its memory knows every holder.
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
