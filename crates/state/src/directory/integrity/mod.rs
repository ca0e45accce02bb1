//! [`StoreCheck`]: each row of a store is read, opened and decoded, and compared with the rows that belong to it. The
//! index rows (names and tokens) can be rebuilt of the records, which [`StoreCheck::repair`] does. Nothing else is changed:
//! a record is never guessed.
//!
//! Contents whose types are of crates above this one are decoded by the caller.

mod contents;
mod index;
mod records;
mod references;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use keyward_base::id::OrgId;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::Directory;
use super::error::DirectoryError;
use super::open;
use super::rows::{At, Rows};
use super::snapshot::OpenedRow;
use super::view::View;
use crate::crypto::keyring::Keyring;
use crate::store::{Row, Store, StoreError, Table};
use index::IndexStep;
use records::Records;

/// Decodes the content of a row: `Err` says what is wrong with it.
pub type ContentCheck<'a> = &'a (dyn Fn(&View, &OpenedRow) -> Result<(), String> + Send + Sync);

/// What a check of a store found.
#[derive(Debug)]
pub struct StoreCheck {
    /// The number of rows.
    pub rows: usize,
    /// What is wrong, in the order of tables and keys.
    pub faults: Vec<StoreFault>,
    repair: Vec<IndexStep>,
}

/// What is wrong with one row.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct StoreFault {
    /// The table's name.
    pub table: &'static str,
    /// The row's key.
    pub key: String,
    /// What it means.
    pub kind: FaultKind,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// What a fault means.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The row cannot be read, opened or decoded.
    Unreadable,
    /// Two records have what only one may have.
    Duplicate,
    /// A row names another one that does not exist.
    Reference,
    /// An index row differs from the records. It can be rebuilt.
    Index,
    /// The rest of an interrupted change. It does no harm.
    Leftover,
}

/// What to do about a row that is lost.
const RESTORE: &str = "restore a backup: `keyward restore FILE`";

/// A change of several rows that others make is complete after less.
const ANOTHER_LOOK_AFTER: Duration = Duration::from_secs(2);

/// What is being checked.
struct Checking<'a> {
    rows: &'a Rows,
    /// Rows whose key names a place, by table.
    read: Vec<(At, Row)>,
    /// The keys of all rows, also of those that cannot be read.
    present: HashSet<(Table, String)>,
    faults: Vec<StoreFault>,
    repair: Vec<IndexStep>,
    /// Whether the records of all sources could be read.
    knows_sources: bool,
}

impl StoreCheck {
    /// Checks the rows as of one point in time, and changes nothing.
    ///
    /// # Errors
    /// `WrongKey` if the master key is not the store's, and errors of the store as a whole.
    pub async fn run(
        store: &Arc<dyn Store>,
        keyring: &Arc<Keyring>,
        contents: ContentCheck<'_>,
    ) -> Result<Self, DirectoryError> {
        let rows = Rows::new(Arc::clone(store), Arc::clone(keyring));
        let scan = store.scan().await?;
        let count = scan.rows.len() + scan.damaged.len();
        let mut checking = Checking::of(&rows, scan);
        let index = open::existing_index(&rows).await;
        let Records { view, needed } = checking.records(index.as_ref().ok());
        match index {
            Ok(_) => checking.index(needed),
            // A damaged sentinel is among the faults already.
            Err(error) if error.is_unreadable() => {}
            Err(DirectoryError::Store(StoreError::Corrupt { .. })) => {}
            Err(DirectoryError::SentinelMissing) if count == 0 => {}
            Err(DirectoryError::SentinelMissing) => {
                let problem = "is missing, and with it the key of the indexes".to_owned();
                checking.fault(Table::Meta, "org_0/sentinel", FaultKind::Unreadable, problem);
            }
            Err(error) => return Err(error),
        }
        checking.references(&view);
        checking.contents(&view, contents);
        let Checking { mut faults, repair, .. } = checking;
        faults.sort();
        Ok(Self { rows: count, faults, repair })
    }

    /// As [`StoreCheck::run`], beside others who write: what looks like a fault is looked at again after their changes.
    ///
    /// # Errors
    /// As [`StoreCheck::run`].
    pub async fn run_beside_writers(
        store: &Arc<dyn Store>,
        keyring: &Arc<Keyring>,
        contents: ContentCheck<'_>,
    ) -> Result<Self, DirectoryError> {
        let check = Self::run(store, keyring, contents).await?;
        if check.faults.is_empty() {
            return Ok(check);
        }
        tokio::time::sleep(ANOTHER_LOOK_AFTER).await;
        let later = Self::run(store, keyring, contents).await?;
        Ok(check.confirmed_by(&later))
    }

    /// Only the faults that `later` found too. A change that others make in several rows looks like a fault while it is
    /// half done.
    #[must_use]
    pub(super) fn confirmed_by(mut self, later: &Self) -> Self {
        self.faults.retain(|fault| later.faults.contains(fault));
        self
    }

    /// Whether the store has faults that matter.
    pub fn has_faults(&self) -> bool {
        self.faults.iter().any(|fault| fault.kind != FaultKind::Leftover)
    }

    /// The number of index rows that a repair changes; the first fault that prevents it as the error. As long as a
    /// record cannot be read, its index rows look like those of none.
    ///
    /// # Errors
    /// With the fault that must be mended first.
    pub fn repairable(&self) -> Result<usize, &StoreFault> {
        let prevents = |fault: &&StoreFault| {
            matches!(fault.kind, FaultKind::Unreadable | FaultKind::Duplicate)
        };
        match self.faults.iter().find(prevents) {
            Some(fault) => Err(fault),
            None => Ok(self.repair.len()),
        }
    }

    /// Makes the index rows what the records say, and returns how many were changed. No other process may write.
    ///
    /// # Errors
    /// When the store fails, or a row was changed since the check.
    pub async fn repair(
        &self,
        store: &Arc<dyn Store>,
        keyring: &Arc<Keyring>,
    ) -> Result<usize, DirectoryError> {
        let rows = Rows::new(Arc::clone(store), Arc::clone(keyring));
        for step in &self.repair {
            step.apply(&rows).await?;
        }
        Ok(self.repair.len())
    }
}

impl Directory {
    /// Checks all rows of the store while it is used, and changes nothing.
    ///
    /// # Errors
    /// As [`StoreCheck::run`].
    pub async fn check_store(
        &self,
        contents: fn(&View, &OpenedRow) -> Result<(), String>,
    ) -> Result<StoreCheck, DirectoryError> {
        let rows = &self.shared.rows;
        let (store, keyring) = (Arc::clone(&rows.store), Arc::clone(&rows.keyring));
        let runtime = Handle::current();
        // All rows are opened at once, which takes seconds in a big store: not on a thread that serves.
        let checked = spawn_blocking(move || {
            runtime.block_on(StoreCheck::run_beside_writers(&store, &keyring, &contents))
        });
        checked.await.unwrap_or(Err(DirectoryError::Interrupted))
    }
}

impl FaultKind {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Duplicate => "duplicate",
            Self::Reference => "reference",
            Self::Index => "index",
            Self::Leftover => "leftover",
        }
    }

    /// What usually mends it.
    fn remedy(self) -> &'static str {
        match self {
            Self::Unreadable | Self::Duplicate | Self::Reference => RESTORE,
            Self::Index => "rebuild the indexes: `keyward store check --repair`",
            Self::Leftover => "none needed: the row is not used",
        }
    }
}

impl Checking<'_> {
    fn fault(&mut self, table: Table, key: &str, kind: FaultKind, problem: String) {
        let remedy = kind.remedy().to_owned();
        let (table, key) = (table.name(), key.escape_debug().to_string());
        self.faults.push(StoreFault { table, key, kind, problem, remedy });
    }

    fn fault_at(&mut self, at: &At, kind: FaultKind, problem: String) {
        self.fault(at.table, &at.key(), kind, problem);
    }

    /// A fault with a remedy of its own.
    fn fault_with(&mut self, at: &At, (kind, problem): (FaultKind, String), remedy: &str) {
        self.fault_at(at, kind, problem);
        if let Some(fault) = self.faults.last_mut() {
            remedy.clone_into(&mut fault.remedy);
        }
    }

    /// Whether there is a row, readable or not.
    fn has(&self, table: Table, org: &OrgId, id: &str) -> bool {
        self.present.contains(&(table, format!("{org}/{id}")))
    }
}
