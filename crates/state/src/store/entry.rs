//! [`Row`]: a stored row with its version; which rows of a table are listed ([`RowRange`]); and all rows of a store: as
//! of one point in time ([`Snapshot`]), and for its check, with those that cannot be read ([`StoreScan`]).

use std::fmt;

use super::error::StoreError;
use super::table::{Table, Version};

#[derive(Clone, Eq, PartialEq)]
pub struct Row {
    pub key: String,
    /// The sealed bytes.
    pub value: Vec<u8>,
    pub version: Version,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} v{})", self.key, self.version.0)
    }
}

/// Up to `limit` rows whose keys begin with `prefix` and come after `after`.
#[derive(Clone, Copy, Debug)]
pub struct RowRange<'a> {
    pub prefix: &'a str,
    pub after: Option<&'a str>,
    pub limit: usize,
}

impl<'a> RowRange<'a> {
    /// The first rows of a table.
    pub fn first(limit: usize) -> Self {
        Self::after(None, limit)
    }

    /// The rows after this key, or the first ones.
    pub fn after(after: Option<&'a str>, limit: usize) -> Self {
        Self { prefix: "", after, limit }
    }
}

/// All rows, ordered by table and key. Backups and copies of a store are written from it.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Snapshot(Vec<(Table, Row)>);

impl Snapshot {
    pub(super) fn new(rows: Vec<(Table, Row)>) -> Self {
        Self(rows)
    }

    pub fn rows(&self) -> &[(Table, Row)] {
        &self.0
    }

    pub(super) fn into_rows(self) -> Vec<(Table, Row)> {
        self.0
    }

    /// The number of rows of a table.
    pub fn count(&self, table: Table) -> usize {
        self.0.iter().filter(|(of, _)| *of == table).count()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} rows)", self.0.len())
    }
}

/// All rows of a store as of one point in time. A damaged row does not end the reading.
#[derive(Debug, Default)]
pub struct StoreScan {
    /// The rows that were read, ordered by table and key.
    pub rows: Vec<(Table, Row)>,
    /// The rows that cannot be read.
    pub damaged: Vec<DamagedRow>,
}

/// A row that the backend cannot read.
#[derive(Debug)]
pub struct DamagedRow {
    pub table: Table,
    /// Its key, escaped if it is not text.
    pub key: String,
    pub error: StoreError,
}

impl From<Snapshot> for StoreScan {
    fn from(snapshot: Snapshot) -> Self {
        Self { rows: snapshot.into_rows(), damaged: Vec::new() }
    }
}
