//! [`Checking`]: the state of a check of a store, and the faults that it has found so far; [`IndexStep`]: one step of
//! the repair of index rows.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::directory::error::DirectoryError;
use crate::directory::index::Claim;
use crate::directory::rows::{DirectoryRows, RowId};
use crate::store::{Expect, Row, Table, Version};
use keyward_base::id::OrgId;
use keyward_base::names::named_enum;

/// What is wrong with one row.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[schemars(rename = "StoreFaultView")]
pub struct StoreFault {
    /// The table's name.
    pub table: String,
    /// The row's key, which begins with the id of its organisation.
    pub key: String,
    /// The kind of fault.
    pub kind: FaultKind,
    /// The problem, for people.
    pub problem: String,
    /// The remedy.
    pub remedy: String,
}

named_enum! {
    /// The kind of a fault of the store.
    #[derive(
        Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
    )]
    #[schemars(rename = "StoreFaultKind")]
    pub enum FaultKind by as_str {
        /// The row cannot be read, opened or decoded.
        Unreadable = "unreadable",
        /// Two records have the same unique value.
        Duplicate = "duplicate",
        /// A row names another one that does not exist.
        Reference = "reference",
        /// An index row differs from the records. It can be rebuilt.
        Index = "index",
        /// A leftover of an interrupted change. It is harmless, and does not count as a fault.
        Leftover = "leftover",
    }
}

/// The remedy for a lost row.
const RESTORE: &str = "restore a backup: `keyward restore FILE`";

/// The state of a check.
pub(super) struct Checking<'a> {
    pub(super) rows: &'a DirectoryRows,
    /// Rows whose key names a place, by table.
    pub(super) read: Vec<(RowId, Row)>,
    /// The keys of all rows, also of those that cannot be read.
    pub(super) present: HashSet<(Table, String)>,
    pub(super) faults: Vec<StoreFault>,
    pub(super) repair: Vec<IndexStep>,
    /// Whether the records of all sources could be read.
    pub(super) knows_sources: bool,
}

impl FaultKind {
    /// The usual remedy.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Unreadable | Self::Duplicate | Self::Reference => RESTORE,
            Self::Index => "rebuild the indexes: `keyward store check --repair`",
            Self::Leftover => "none needed: the row is not used",
        }
    }
}

impl Checking<'_> {
    /// Adds a fault of a row.
    pub(super) fn fault(&mut self, table: Table, key: &str, kind: FaultKind, problem: String) {
        let remedy = kind.remedy().to_owned();
        let (table, key) = (table.name().to_owned(), key.escape_debug().to_string());
        self.faults.push(StoreFault { table, key, kind, problem, remedy });
    }

    /// Adds a fault of a row whose place is known.
    pub(super) fn fault_at(&mut self, at: &RowId, kind: FaultKind, problem: String) {
        self.fault(at.table, &at.key(), kind, problem);
    }

    /// Adds a fault with a remedy of its own.
    pub(super) fn fault_with(
        &mut self,
        at: &RowId,
        kind: FaultKind,
        problem: String,
        remedy: &str,
    ) {
        self.fault_at(at, kind, problem);
        if let Some(fault) = self.faults.last_mut() {
            remedy.clone_into(&mut fault.remedy);
        }
    }

    /// Whether there is a row, readable or not.
    pub(super) fn has(&self, table: Table, org: &OrgId, id: &str) -> bool {
        self.present.contains(&(table, format!("{org}/{id}")))
    }
}

/// One change of an index row.
#[derive(Debug)]
pub(super) enum IndexStep {
    /// Deletes a row that no record needs, or that names the wrong record.
    Delete { table: Table, key: String, version: Version },
    /// Deletes a row that the backend cannot read.
    Discard { table: Table, key: String },
    /// Makes a row that a record needs.
    Write { at: RowId, claim: Claim },
}

impl IndexStep {
    pub(super) async fn apply(&self, rows: &DirectoryRows) -> Result<(), DirectoryError> {
        match self {
            Self::Delete { table, key, version } => {
                Ok(rows.store.delete(*table, key, Expect::Version(*version)).await?)
            }
            Self::Discard { table, key } => {
                rows.store.discard_damaged(*table, key).await?;
                Ok(())
            }
            Self::Write { at, claim } => rows.write(at, claim, None).await.map(drop),
        }
    }
}
