//! [`Snapshot`]: all rows of a store as of one point in time, still sealed.

use std::fmt;

use super::entry::Row;
use super::table::Table;

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
