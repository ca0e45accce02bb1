//! [`StoreScan`]: all rows of a store, and those that cannot be read. The check of the store reads it.

use super::entry::Row;
use super::error::StoreError;
use super::snapshot::Snapshot;
use super::table::Table;

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
