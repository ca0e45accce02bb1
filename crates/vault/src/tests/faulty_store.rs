//! A store in memory that fails in one table and counts the reads.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use parking_lot::Mutex;

use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{Row, RowRange, Store, StoreError, StoreWrapper, Table, Version, Write};

/// How a table fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Writes fail and are not made.
    Refused,
    /// Writes do not reach the store.
    Unreached,
    /// This number of writes are made, but reported as failed.
    Lost(u32),
    /// The next write is made, but reported as failed; then the table is `Down`.
    LostThenDown,
    /// The next write is made, but reported as failed; then the table is `Away`.
    LostThenAway,
    /// Deletions fail and are not made.
    Undeleted,
    /// Reads and writes fail.
    Down,
    /// Reads and writes fail, because the store cannot be reached.
    Away,
}

#[derive(Debug, Default)]
pub(crate) struct FaultyStore {
    rows: MemoryStore,
    fault: Mutex<Option<(Table, Fault)>>,
    /// Reads of one row.
    gets: AtomicUsize,
    /// Reads of pages of rows.
    lists: AtomicUsize,
}

impl FaultyStore {
    pub(crate) fn fail(&self, table: Table, fault: Fault) {
        *self.fault.lock() = Some((table, fault));
    }

    pub(crate) fn repair(&self) {
        *self.fault.lock() = None;
    }

    /// The reads of rows since the last call. Keys do not count.
    pub(crate) fn reads(&self) -> usize {
        self.gets.swap(0, SeqCst) + self.lists.swap(0, SeqCst)
    }

    fn fault(&self, table: Table) -> Option<Fault> {
        self.fault.lock().filter(|(failing, _)| *failing == table).map(|(_, fault)| fault)
    }

    fn check_read(&self, table: Table) -> Result<(), StoreError> {
        match self.fault(table) {
            Some(Fault::Down) => Err(failure()),
            Some(Fault::Away) => Err(unreached()),
            _ => Ok(()),
        }
    }
}

fn failure() -> StoreError {
    StoreError::Io { action: "reach the database", source: io::ErrorKind::TimedOut.into() }
}

fn unreached() -> StoreError {
    let source = io::ErrorKind::ConnectionRefused.into();
    StoreError::Unreached { action: "reach the database", source }
}

#[async_trait::async_trait]
impl StoreWrapper for FaultyStore {
    fn inner(&self) -> &dyn Store {
        &self.rows
    }

    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        self.gets.fetch_add(1, SeqCst);
        self.check_read(table)?;
        self.rows.get(table, key).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        let fault = *self.fault.lock();
        let meets = |(table, fault): &(Table, Fault)| {
            let is_of_fault = |write: &Write| match fault {
                Fault::Undeleted => matches!(write, Write::Delete { .. }),
                _ => matches!(write, Write::Put { .. }),
            };
            writes.iter().any(|write| write.table() == *table && is_of_fault(write))
        };
        let Some((table, fault)) = fault.filter(meets) else {
            return self.rows.commit(writes).await;
        };
        match fault {
            Fault::Refused | Fault::Down | Fault::Undeleted => return Err(failure()),
            Fault::Unreached | Fault::Away => return Err(unreached()),
            Fault::Lost(_) | Fault::LostThenDown | Fault::LostThenAway => {}
        }
        // Its result is lost, also if it is a refusal.
        drop(self.rows.commit(writes).await);
        match fault {
            Fault::Lost(left @ 2..) => self.fail(table, Fault::Lost(left - 1)),
            Fault::LostThenDown => self.fail(table, Fault::Down),
            Fault::LostThenAway => self.fail(table, Fault::Away),
            _ => self.repair(),
        }
        Err(failure())
    }

    async fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError> {
        self.lists.fetch_add(1, SeqCst);
        self.check_read(table)?;
        self.rows.list(table, range).await
    }

    async fn list_keys(
        &self,
        table: Table,
        range: RowRange<'_>,
    ) -> Result<Vec<(String, Version)>, StoreError> {
        self.check_read(table)?;
        self.rows.list_keys(table, range).await
    }
}
