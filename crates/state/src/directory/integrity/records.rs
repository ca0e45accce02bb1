//! Checks the rows of records: each can be opened and decoded, its key fits its content, and no other record has its unique
//! values. Compares index rows with those that the records need, and plans the repair.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::checking::{Checking, FaultKind, IndexStep};
use crate::crypto::envelope::EnvelopeError;
use crate::crypto::token::TokenHash;
use crate::directory::commit::Viewed;
use crate::directory::error::DirectoryError;
use crate::directory::index::{Claim, Index};
use crate::directory::orgs;
use crate::directory::records::AgentRecord;
use crate::directory::rows::{DirectoryRows, RowId};
use crate::directory::stored::Stored;
use crate::directory::tables::viewed;
use crate::directory::view::View;
use crate::store::{DamagedRow, Row, StoreScan, Table};
use keyward_base::id::Id;
use keyward_model::{Org, Record};

/// The tables of index rows.
const TABLES: [Table; 2] = [Table::Names, Table::Tokens];

/// The valid records, and the index rows that they need.
#[derive(Default)]
pub(super) struct Records {
    pub view: View,
    pub needed: Needed,
}

impl<'a> Checking<'a> {
    /// Separates readable rows from faults.
    pub fn of(rows: &'a DirectoryRows, scan: StoreScan) -> Self {
        let (read, present, faults, repair) = <_>::default();
        let mut this = Self { rows, read, present, faults, repair, knows_sources: false };
        for damaged in scan.damaged {
            this.present.insert((damaged.table, damaged.key.clone()));
            this.damaged(&damaged);
        }
        for (table, row) in scan.rows {
            this.present.insert((table, row.key.clone()));
            match RowId::parse(table, &row.key) {
                Some(at) => this.read.push((at, row)),
                None => this.without_org(table, &row),
            }
        }
        this
    }

    pub fn of_table(&self, table: Table) -> Vec<(RowId, Row)> {
        self.read.iter().filter(|(at, _)| at.table == table).cloned().collect()
    }

    /// Adds the fault of a row that cannot be opened or decoded.
    pub fn unreadable(&mut self, at: &RowId, error: &DirectoryError) {
        let kind = FaultKind::Unreadable;
        match error {
            DirectoryError::Unreadable { source: EnvelopeError::UnknownKey(key), .. } => {
                let problem = format!("is sealed with another master key, {key}");
                let remedy = format!("add the master key {key} to `master_key`");
                self.fault_with(at, kind, problem, &remedy);
            }
            DirectoryError::Unreadable { .. } => {
                self.fault_at(at, kind, "cannot be opened: it was changed or damaged".to_owned());
            }
            DirectoryError::RolledBack { .. } => {
                self.fault_at(at, kind, "has an older version of its content".to_owned());
            }
            _ => self.fault_at(at, kind, "has content that does not belong there".to_owned()),
        }
    }

    /// All records of the directory.
    pub fn records(&mut self, index: Option<&Index>) -> Records {
        let before = self.faults.len();
        let damaged = self.faults.iter().any(|fault| fault.kind == FaultKind::Unreadable);
        let records = Records::default();
        let mut taking = Taking { checking: self, records, index };
        taking.orgs();
        for table in Table::ALL {
            match table {
                Table::Agents => taking.agents(),
                table => viewed!(table, R => taking.all::<R>(), ()),
            }
        }
        let mut records = taking.records;
        records.needed.complete = !damaged && self.faults.len() == before;
        records
    }
}

/// The state while records are checked and added to the view.
struct Taking<'a, 'c> {
    checking: &'a mut Checking<'c>,
    records: Records,
    index: Option<&'a Index>,
}

impl Taking<'_, '_> {
    fn orgs(&mut self) {
        self.records.view.put_org(Arc::new(orgs::default_org()));
        for (at, row) in self.checking.of_table(Table::Orgs) {
            match self.checking.rows.open::<Record<Org>>(&at, &row) {
                Ok(read) if at == orgs::at(&read.record.id) => {
                    self.records.view.put_org(Arc::new(read.record));
                }
                Ok(_) => self.checking.unreadable(&at, &at.malformed()),
                Err(error) => self.checking.unreadable(&at, &error),
            }
        }
    }

    fn agents(&mut self) {
        for (at, row) in self.checking.of_table(Table::Agents) {
            let record = self.record(&at, &row);
            let hashes = |agent: &AgentRecord| {
                agent.facts.tokens.iter().all(|token| TokenHash::from_hex(&token.hash).is_some())
            };
            match record {
                Some(agent) if hashes(&agent) => self.take(&at, agent),
                Some(_) => {
                    let problem = "has a token with an invalid hash".to_owned();
                    self.checking.fault_at(&at, FaultKind::Unreadable, problem);
                }
                None => {}
            }
        }
    }

    fn all<R: Stored>(&mut self) {
        for (at, row) in self.checking.of_table(R::TABLE) {
            if let Some(record) = self.record::<R>(&at, &row) {
                self.take(&at, record);
            }
        }
    }

    fn record<R: Stored>(&mut self, at: &RowId, row: &Row) -> Option<Record<R>> {
        match self.checking.rows.open::<Record<R>>(at, row) {
            Ok(read) => {
                let record = read.record;
                let is_there = *at == RowId::new(R::TABLE, &record.org, Id::as_str(&record.id));
                if !is_there {
                    self.checking.unreadable(at, &at.malformed());
                }
                is_there.then_some(record)
            }
            Err(error) => {
                self.checking.unreadable(at, &error);
                None
            }
        }
    }

    /// Claims the unique values of a record, and puts it into the view.
    fn take<R: Stored>(&mut self, at: &RowId, record: Record<R>) {
        let claim = Claim::of(Id::as_str(&record.id));
        let unique = self.index.map(|index| R::unique(&record, index)).unwrap_or_default();
        for unique in unique {
            let other = self.records.needed.wanted.insert(unique.at.clone(), claim.clone());
            if let Some(other) = other {
                self.records.needed.contested.insert(unique.at);
                let problem = format!("has the same {} as {}", unique.what, other.owner);
                self.checking.fault_at(at, FaultKind::Duplicate, problem);
            }
        }
        Arc::new(record).show(&mut self.records.view);
    }
}

/// The possible owners of a row in another table; `None` for tables without owners. A row without its owner is a
/// leftover of a removal.
pub(super) fn owner_of(table: Table, id: &str) -> Option<HashSet<(Table, String)>> {
    let of = |tables: &[Table], id: &str| tables.iter().map(|it| (*it, id.to_owned())).collect();
    match table {
        Table::Grants => Some(of(&[Table::Connections, Table::Apps], id)),
        Table::Refreshes => Some(of(&[Table::Connections], id)),
        Table::WebhookKeys => Some(of(&[Table::Webhooks], id)),
        Table::HookKeys => Some(of(&[Table::Hooks], id)),
        Table::HookEvents => id.split_once('.').map(|(hook, _)| of(&[Table::Hooks], hook)),
        Table::SourceKeys => Some(of(&[Table::Sources], id)),
        Table::Usage if id != "org" => Some(of(&[Table::Agents, Table::Connections], id)),
        _ => None,
    }
}

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
