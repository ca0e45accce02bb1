//! [`StoreCheck`]: each row of a store is read, opened and decoded, and compared with the rows that belong to it.
//! [`StoreCheck::repair`] rebuilds the index rows (names and tokens) from the records. Nothing else is changed: a
//! record is never guessed.
//!
//! The caller decodes contents whose types belong to crates above this one.

mod checking;
mod contents;
mod records;
mod references;

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::error::DirectoryError;
use super::rows::DirectoryRows;
use super::snapshot::OpenedRow;
use super::view::View;
use super::{Directory, open};
use crate::crypto::keyring::Keyring;
use crate::store::{Store, StoreError, Table};
use checking::{Checking, IndexStep};
use records::Records;

pub use checking::{FaultKind, StoreFault};

/// Decodes the content of a row: `Err` contains the problem.
pub type ContentCheck<'a> = &'a (dyn Fn(&View, &OpenedRow) -> Result<(), String> + Send + Sync);

/// The result of a check of a store.
#[derive(Debug)]
pub struct StoreCheck {
    /// The number of rows.
    pub rows: usize,
    /// The faults, ordered by table and key.
    pub faults: Vec<StoreFault>,
    repair: Vec<IndexStep>,
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
        let rows = DirectoryRows::new(Arc::clone(store), Arc::clone(keyring));
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

    /// The number of index rows that a repair changes; the first fault that prevents it as the error. The index rows of
    /// a record that cannot be read would look unneeded.
    ///
    /// # Errors
    /// With the fault that must be repaired first.
    pub fn repairable(&self) -> Result<usize, &StoreFault> {
        let prevents = |fault: &&StoreFault| {
            matches!(fault.kind, FaultKind::Unreadable | FaultKind::Duplicate)
        };
        match self.faults.iter().find(prevents) {
            Some(fault) => Err(fault),
            None => Ok(self.repair.len()),
        }
    }

    /// Repairs the index rows according to the records, and returns how many were changed. No other process may write
    /// meanwhile.
    ///
    /// # Errors
    /// When the store fails, or a row was changed since the check.
    pub async fn repair(
        &self,
        store: &Arc<dyn Store>,
        keyring: &Arc<Keyring>,
    ) -> Result<usize, DirectoryError> {
        let rows = DirectoryRows::new(Arc::clone(store), Arc::clone(keyring));
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
        // Opening all rows takes seconds in a large store, so it runs on a blocking thread.
        let checked =
            spawn_blocking(move || runtime.block_on(StoreCheck::run(&store, &keyring, &contents)));
        checked.await.unwrap_or(Err(DirectoryError::Interrupted))
    }
}
