//! [`StoreFiles`]: sled's tables, and the changes of rows in them. A change is durable after its ticket (`commit.rs`).

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use super::commit::Commits;
use super::store_directory::StoreDirectory;
use crate::store::error::conflict;
use crate::store::{
    DamagedRow, Expect, Row, RowRange, Snapshot, StoreError, StoreScan, Table, Version, row,
};

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

/// The open files. Fields are dropped in this order, so that the lock is released last.
#[derive(Debug)]
pub(super) struct StoreFiles {
    tables: Vec<(Table, sled::Tree)>,
    /// Writers hold it shared for one change, not until the change is durable; a snapshot holds it exclusively.
    writing: RwLock<()>,
    pub(super) commits: Commits,
    pub(super) directory: Arc<StoreDirectory>,
}

/// An applied write.
pub(super) struct Swapped {
    pub(super) version: Version,
    /// The ticket to wait for durability; `None` if nothing was written.
    pub(super) ticket: Option<u64>,
}

impl SledSettings {
    /// The defaults for a directory. The cache holds about ten thousand connections; the data path reads from
    /// the directory's view instead.
    pub fn at(path: &Path) -> Self {
        Self { path: path.into(), cache_bytes: 64 * 1024 * 1024, flush_every_ms: 500 }
    }
}

impl StoreFiles {
    pub(super) fn open(
        settings: &SledSettings,
        directory: Arc<StoreDirectory>,
    ) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(directory.database())
            .cache_capacity(settings.cache_bytes)
            .flush_every_ms(Some(settings.flush_every_ms));
        let db = directory.open(&config)?;
        let open_tree = |table: Table| match db.open_tree(table.name()) {
            Ok(tree) => Ok((table, tree)),
            Err(error) => Err(directory.refuse("open a table", error)),
        };
        let tables = Table::ALL.into_iter().map(open_tree).collect::<Result<_, _>>()?;
        let commits = Commits::open(&directory, db)?;
        Ok(Self { tables, writing: RwLock::new(()), commits, directory })
    }

    pub(super) fn tree(&self, table: Table) -> &sled::Tree {
        let entry = self.tables.iter().find(|(of, _)| *of == table);
        &entry.expect("open() opened every table").1
    }

    fn refuse(&self, table: Table, key: &[u8], error: sled::Error) -> StoreError {
        match error {
            sled::Error::Corruption { .. } => row::corrupt(table, key),
            other => self.directory.refuse("reach a row", other),
        }
    }

    pub(super) fn read(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        let bytes = self.tree(table).get(key);
        let bytes = bytes.map_err(|error| self.refuse(table, key.as_bytes(), error))?;
        bytes.map(|bytes| decode(table, key.as_bytes(), &bytes)).transpose()
    }

    /// Swaps the row for `value` (`None` deletes it), if the precondition is met. Not durable yet.
    pub(super) fn swap(
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
            // Another writer has changed the row: check the precondition again.
        }
    }

    /// Replaces the bytes of exactly this row. Not durable yet.
    pub(super) fn reseal(
        &self,
        table: Table,
        row: &Row,
        value: &[u8],
    ) -> Result<Swapped, StoreError> {
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

    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
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

    /// As [`Self::snapshot`], also with damaged rows.
    pub(super) fn scan(&self) -> StoreScan {
        let _all_writers = self.writing.write();
        let mut scan = StoreScan::default();
        for (table, tree) in &self.tables {
            for entry in tree.iter() {
                let (key, bytes) = match entry {
                    Ok(entry) => entry,
                    // sled does not name the row, and its iterator ends here.
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
    pub(super) fn discard_damaged(&self, table: Table, key: &str) -> Result<Swapped, StoreError> {
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
    pub(super) fn load(&self, rows: &[(Table, Row)]) -> Result<Swapped, StoreError> {
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

    pub(super) fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError> {
        self.entries(table, range)
            .map(|entry| entry.and_then(|(key, bytes)| decode(table, &key, &bytes)))
            .collect()
    }

    /// One value at a time is in memory.
    pub(super) fn list_keys(
        &self,
        table: Table,
        range: RowRange<'_>,
    ) -> Result<Vec<(String, Version)>, StoreError> {
        self.entries(table, range)
            .map(|entry| {
                let (key, bytes) = entry?;
                let (version, _) = row::decode(table, &key, &bytes)?;
                Ok((text(table, &key)?, version))
            })
            .collect()
    }

    /// The stored bytes of the rows.
    fn entries<'a>(
        &'a self,
        table: Table,
        range: RowRange<'a>,
    ) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), StoreError>> + 'a {
        let RowRange { prefix, after, limit } = range;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.as_bytes()),
            _ => Bound::Included(prefix.as_bytes()),
        };
        self.tree(table)
            .range::<&[u8], _>((from, Bound::Unbounded))
            .map(move |entry| entry.map_err(|error| self.refuse(table, prefix.as_bytes(), error)))
            .take_while(move |entry| match entry {
                Ok((key, _)) => key.starts_with(prefix.as_bytes()),
                Err(_) => true,
            })
            .take(limit)
    }
}

fn decode(table: Table, key: &[u8], bytes: &[u8]) -> Result<Row, StoreError> {
    let (version, value) = row::decode(table, key, bytes)?;
    Ok(Row { key: text(table, key)?, value: value.to_vec(), version })
}

fn text(table: Table, key: &[u8]) -> Result<String, StoreError> {
    let text = std::str::from_utf8(key).map_err(|_| row::corrupt(table, key))?;
    Ok(text.to_owned())
}
