//! What a check of the store found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_state::directory::{FaultKind, StoreCheck, StoreFault};

/// Faults that an answer lists.
const FAULTS_MAX: usize = 1_000;

/// What a check of all rows and indexes found.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct StoreCheckView {
    /// The number of rows.
    pub rows: usize,
    /// What is wrong, leftovers last.
    pub faults: Vec<StoreFaultView>,
    /// The number of further faults, which are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
}

/// What is wrong with one row.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct StoreFaultView {
    /// The table's name.
    pub table: String,
    /// The row's key, which begins with the id of its organisation.
    pub key: String,
    /// What it means.
    pub kind: StoreFaultKind,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// What a fault of the store means.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreFaultKind {
    /// The row cannot be read, opened or decoded.
    Unreadable,
    /// Two records have what only one may have.
    Duplicate,
    /// A row names another one that does not exist.
    Reference,
    /// An index row differs from the records. It can be rebuilt.
    Index,
    /// The rest of an interrupted change. It does no harm, and is no fault.
    Leftover,
}

impl StoreCheckView {
    /// The number of faults, without leftovers.
    pub fn fault_count(&self) -> usize {
        let faults = self.faults.iter().filter(|it| it.kind != StoreFaultKind::Leftover).count();
        // Leftovers are the last: with one in the list, the rest is of them.
        faults + if faults == self.faults.len() { self.more } else { 0 }
    }

    /// The number of leftovers that are listed.
    pub fn leftover_count(&self) -> usize {
        self.faults.iter().filter(|it| it.kind == StoreFaultKind::Leftover).count()
    }
}

impl From<StoreCheck> for StoreCheckView {
    fn from(check: StoreCheck) -> Self {
        let mut faults: Vec<StoreFaultView> = check.faults.into_iter().map(Into::into).collect();
        faults.sort_by_key(|fault| fault.kind == StoreFaultKind::Leftover);
        let more = faults.len().saturating_sub(FAULTS_MAX);
        faults.truncate(FAULTS_MAX);
        Self { rows: check.rows, faults, more }
    }
}

impl From<StoreFault> for StoreFaultView {
    fn from(fault: StoreFault) -> Self {
        let kind = match fault.kind {
            FaultKind::Unreadable => StoreFaultKind::Unreadable,
            FaultKind::Duplicate => StoreFaultKind::Duplicate,
            FaultKind::Reference => StoreFaultKind::Reference,
            FaultKind::Index => StoreFaultKind::Index,
            FaultKind::Leftover => StoreFaultKind::Leftover,
        };
        let StoreFault { table, key, problem, remedy, .. } = fault;
        Self { table: table.to_owned(), key, kind, problem, remedy }
    }
}

impl StoreFaultKind {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Duplicate => "duplicate",
            Self::Reference => "reference",
            Self::Index => "index",
            Self::Leftover => "leftover",
        }
    }
}

fn is_zero(more: &usize) -> bool {
    *more == 0
}
