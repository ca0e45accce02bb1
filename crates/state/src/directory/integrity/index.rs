//! Compares the index rows of a store with those that its records need, and plans the repair.

use std::collections::{HashMap, HashSet};

use super::checking::{Checking, FaultKind};
use super::index_step::IndexStep;
use crate::directory::index::Claim;
use crate::directory::rows::RowId;
use crate::store::{DamagedRow, Row, Table};

/// The tables of index rows.
const TABLES: [Table; 2] = [Table::Names, Table::Tokens];

/// The index rows that the records need.
#[derive(Default)]
pub(super) struct Needed {
    pub wanted: HashMap<RowId, Claim>,
    /// Index rows that several records claim.
    pub contested: HashSet<RowId>,
    /// Whether all records could be read.
    pub complete: bool,
}

impl Checking<'_> {
    /// Adds the fault of a row that the backend cannot read.
    pub(super) fn damaged(&mut self, damaged: &DamagedRow) {
        let DamagedRow { table, key, .. } = damaged;
        let problem = "is damaged: its checksum does not fit".to_owned();
        if TABLES.contains(table) && !key.is_empty() {
            self.fault(*table, key, FaultKind::Index, problem);
            self.repair.push(IndexStep::Discard { table: *table, key: key.clone() });
        } else {
            self.fault(*table, key, FaultKind::Unreadable, problem);
        }
    }

    /// Adds the fault of a row whose key does not begin with an organisation.
    pub(super) fn without_org(&mut self, table: Table, row: &Row) {
        let problem = "has a key without an organisation".to_owned();
        if TABLES.contains(&table) {
            self.fault(table, &row.key, FaultKind::Index, problem);
            self.delete(table, row);
        } else {
            self.fault(table, &row.key, FaultKind::Unreadable, problem);
        }
    }

    /// Compares the index rows with those that the records need. If some records could not be read, a row that seems
    /// unneeded may belong to them.
    pub(super) fn index(&mut self, records: Needed) {
        let Needed { mut wanted, contested, complete } = records;
        wanted.retain(|at, _| !contested.contains(at));
        let present = TABLES.map(|table| self.of_table(table));
        for (at, row) in present.into_iter().flatten() {
            let problem = match (self.rows.open::<Claim>(&at, &row), wanted.get(&at)) {
                (Ok(read), Some(claim)) if read.record == *claim => {
                    wanted.remove(&at);
                    continue;
                }
                (Ok(read), Some(claim)) => {
                    format!("belongs to {}, and names {}", claim.owner, read.record.owner)
                }
                (Ok(_), None) if !complete || contested.contains(&at) => continue,
                (Ok(read), None) => {
                    let owner = read.record.owner;
                    format!("names {owner}, which has no such name or token")
                }
                (Err(_), _) => "cannot be opened: it was changed or damaged".to_owned(),
            };
            self.fault_at(&at, FaultKind::Index, problem);
            self.delete(at.table, &row);
        }
        let mut missing: Vec<_> = wanted.into_iter().collect();
        missing.sort_by_key(|(at, _)| (at.table, at.key()));
        for (at, claim) in missing {
            // If the row exists and cannot be read, its fault was reported already.
            if !self.has(at.table, &at.org, &at.id) {
                let what = if at.table == Table::Tokens { "a token" } else { "a name" };
                let problem = format!("is missing: {what} of {} is not reserved", claim.owner);
                self.fault_at(&at, FaultKind::Index, problem);
            }
            self.repair.push(IndexStep::Write { at, claim });
        }
    }

    fn delete(&mut self, table: Table, row: &Row) {
        let (key, version) = (row.key.clone(), row.version);
        self.repair.push(IndexStep::Delete { table, key, version });
    }
}
