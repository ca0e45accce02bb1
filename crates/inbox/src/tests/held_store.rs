//! [`HeldStore`]: a store in memory that lets a test act between the read and the write of an event, and counts the
//! events that are read.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{Row, RowRange, Store, StoreError, StoreWrapper, Table, Version, Write};

#[derive(Debug, Default)]
pub(crate) struct HeldStore {
    rows: MemoryStore,
    hold: Mutex<Option<Hold>>,
    /// Rows of events that were read with their values.
    read: AtomicUsize,
    /// The most of them that were read at once.
    largest_page: AtomicUsize,
}

/// What the next write of an event does first.
#[derive(Debug)]
struct Hold {
    begun: oneshot::Sender<()>,
    go: oneshot::Receiver<()>,
}

/// The next write of an event, which waits.
#[derive(Debug)]
pub(crate) struct HeldWrite {
    begun: oneshot::Receiver<()>,
    go: oneshot::Sender<()>,
}

impl HeldStore {
    pub(crate) fn hold_next_write(&self) -> HeldWrite {
        let (begin, begun) = oneshot::channel();
        let (go, gone) = oneshot::channel();
        *self.hold.lock() = Some(Hold { begun: begin, go: gone });
        HeldWrite { begun, go }
    }

    /// Rows of events that were read with their values so far.
    pub(crate) fn read(&self) -> usize {
        self.read.load(SeqCst)
    }

    /// The most of them that were read at once.
    pub(crate) fn largest_page(&self) -> usize {
        self.largest_page.load(SeqCst)
    }

    fn count(&self, table: Table, rows: usize) {
        if table == Table::HookEvents {
            self.read.fetch_add(rows, SeqCst);
            self.largest_page.fetch_max(rows, SeqCst);
        }
    }
}

impl HeldWrite {
    /// Acts after the write has begun and before it reaches the store.
    pub(crate) async fn before(self, act: impl Future<Output = ()>) {
        self.begun.await.expect("the write begins");
        act.await;
        self.go.send(()).expect("the write waits");
    }
}

#[async_trait::async_trait]
impl StoreWrapper for HeldStore {
    fn inner(&self) -> &dyn Store {
        &self.rows
    }

    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        let row = self.rows.get(table, key).await?;
        self.count(table, usize::from(row.is_some()));
        Ok(row)
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        let is_event = |write: &Write| matches!(write, Write::Put { table: Table::HookEvents, .. });
        let held = writes.iter().any(is_event).then(|| self.hold.lock().take()).flatten();
        if let Some(Hold { begun, go }) = held {
            begun.send(()).expect("the test waits");
            go.await.expect("the test ends the wait");
        }
        self.rows.commit(writes).await
    }

    async fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError> {
        let rows = self.rows.list(table, range).await?;
        self.count(table, rows.len());
        Ok(rows)
    }

    async fn list_keys(
        &self,
        table: Table,
        range: RowRange<'_>,
    ) -> Result<Vec<(String, Version)>, StoreError> {
        self.rows.list_keys(table, range).await
    }
}
