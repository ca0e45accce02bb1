//! [`StoreFiles`]: sled's tables, and the changes of rows in them. A change is durable after its ticket (`commit.rs`).

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use sled::transaction::{TransactionError, TransactionResult, Transactional};

use super::commit::Commits;
use super::store_directory::StoreDirectory;
use crate::store::error::conflict;
use crate::store::{
    DamagedRow, Expect, Row, RowRange, Snapshot, StoreError, StoreScan, Table, Version, Write, row,
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
    /// Held for one commit, not until it is durable, and for a snapshot.
    writing: Mutex<()>,
    pub(super) commits: Commits,
    pub(super) directory: Arc<StoreDirectory>,
}

/// What was applied.
#[derive(Default)]
pub(super) struct Applied {
    /// The versions of the rows that were put.
    pub(super) versions: Vec<Version>,
    /// The tables of the rows that were put or deleted.
    pub(super) tables: BTreeSet<Table>,
    /// The ticket to wait for durability; `None` if nothing was written.
    pub(super) ticket: Option<u64>,
}

/// A row whose precondition is met: its new bytes, `None` to delete it.
struct AdmittedRow<'a> {
    table: Table,
    key: &'a [u8],
    bytes: Option<Vec<u8>>,
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
        Ok(Self { tables, writing: Mutex::new(()), commits, directory })
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

    /// Makes these writes, all or none. Not durable yet.
    pub(super) fn commit(&self, writes: &[Write]) -> Result<Applied, StoreError> {
        let _writing = self.writing.lock();
        let (mut applied, mut rows) = (Applied::default(), Vec::with_capacity(writes.len()));
        for write in writes {
            let found = self.version_for(write)?;
            let version = write.admits(found)?;
            let (table, key) = (write.table(), write.key().as_bytes());
            let bytes = match write {
                Write::Put { value, .. } => {
                    applied.versions.push(version);
                    Some(row::encode(table, key, version, value))
                }
                Write::Delete { .. } if found.is_some() => None,
                Write::Delete { .. } | Write::Exists { .. } | Write::NoneBelow { .. } => continue,
            };
            applied.tables.insert(table);
            rows.push(AdmittedRow { table, key, bytes });
        }
        let is_load = |write: &Write| matches!(write, Write::Put { expect: Expect::Load(_), .. });
        if rows.len() > 1 && !writes.iter().all(is_load) {
            self.apply_together(&rows, &applied.tables)?;
        } else {
            // The rows of a restore may be too many for one batch.
            rows.iter().try_for_each(|row| self.apply(row))?;
        }
        if !rows.is_empty() {
            applied.ticket = Some(self.commits.applied());
        }
        Ok(applied)
    }

    /// The version of the row that a write names, or of one below its key. A damaged row is not overwritten: it may be the
    /// only copy.
    fn version_for(&self, write: &Write) -> Result<Option<Version>, StoreError> {
        let (table, at) = (write.table(), write.key().as_bytes());
        let found = match write {
            Write::NoneBelow { .. } => self.tree(table).scan_prefix(at).next().transpose(),
            _ => self.tree(table).get(at).map(|bytes| bytes.map(|bytes| (at.into(), bytes))),
        };
        let found = found.map_err(|error| self.refuse(table, at, error))?;
        let version = found.map(|(key, bytes)| row::decode(table, &key, &bytes).map(|it| it.0));
        version.transpose()
    }

    fn apply(&self, AdmittedRow { table, key, bytes }: &AdmittedRow<'_>) -> Result<(), StoreError> {
        let done = match bytes {
            Some(bytes) => self.tree(*table).insert(key, bytes.as_slice()),
            None => self.tree(*table).remove(key),
        };
        done.map(drop).map_err(|error| self.refuse(*table, key, error))
    }

    /// Several rows are one batch in sled's log, of which a restart after a crash finds all or nothing.
    fn apply_together(
        &self,
        rows: &[AdmittedRow<'_>],
        tables: &BTreeSet<Table>,
    ) -> Result<(), StoreError> {
        let tables: Vec<Table> = tables.iter().copied().collect();
        let trees: Vec<&sled::Tree> = tables.iter().map(|table| self.tree(*table)).collect();
        let applied: TransactionResult<(), Infallible> = trees.as_slice().transaction(|trees| {
            for AdmittedRow { table, key, bytes } in rows {
                // The tables are those of the rows.
                let Some(at) = tables.iter().position(|of| of == table) else { continue };
                match bytes {
                    Some(bytes) => trees[at].insert(*key, bytes.as_slice())?,
                    None => trees[at].remove(*key)?,
                };
            }
            Ok(())
        });
        if let Err(TransactionError::Storage(error)) = applied {
            return Err(self.directory.refuse("write rows", error));
        }
        Ok(())
    }

    /// Replaces the bytes of exactly this row. Not durable yet.
    pub(super) fn reseal(
        &self,
        table: Table,
        row: &Row,
        value: &[u8],
    ) -> Result<Applied, StoreError> {
        let (at, version) = (row.key.as_bytes(), row.version);
        let old = row::encode(table, at, version, &row.value);
        let new = row::encode(table, at, version, value);
        let _writing = self.writing.lock();
        let swapped = self.tree(table).compare_and_swap(at, Some(old), Some(new));
        match swapped.map_err(|error| self.refuse(table, at, error))? {
            Ok(()) => Ok(self.applied()),
            Err(_) => Err(conflict(table, &row.key)),
        }
    }

    /// Takes a ticket for a change that wakes no watcher.
    fn applied(&self) -> Applied {
        Applied { ticket: Some(self.commits.applied()), ..Applied::default() }
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let _writing = self.writing.lock();
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
        let _writing = self.writing.lock();
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
    pub(super) fn discard_damaged(&self, table: Table, key: &str) -> Result<Applied, StoreError> {
        let at = key.as_bytes();
        let _writing = self.writing.lock();
        let old = self.tree(table).get(at).map_err(|error| self.refuse(table, at, error))?;
        match old {
            Some(bytes) if decode(table, at, &bytes).is_err() => {
                let removed = self.tree(table).remove(at);
                removed.map_err(|error| self.refuse(table, at, error))?;
                Ok(self.applied())
            }
            _ => Ok(Applied::default()),
        }
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
