//! [`HeldStore`]: a store in memory that lets a test act between the read and the write of an event.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{Expect, Lease, Row, Snapshot, Store, StoreError, Table, Version};

#[derive(Debug, Default)]
pub(crate) struct HeldStore {
    rows: MemoryStore,
    hold: Mutex<Option<Hold>>,
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
impl Store for HeldStore {
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        self.rows.get(table, key).await
    }

    async fn put(
        &self,
        table: Table,
        key: &str,
        value: &[u8],
        expect: Expect,
    ) -> Result<Version, StoreError> {
        let held = (table == Table::HookEvents).then(|| self.hold.lock().take()).flatten();
        if let Some(Hold { begun, go }) = held {
            begun.send(()).expect("the test waits");
            go.await.expect("the test ends the wait");
        }
        self.rows.put(table, key, value, expect).await
    }

    async fn reseal(&self, table: Table, row: &Row, value: &[u8]) -> Result<(), StoreError> {
        self.rows.reseal(table, row, value).await
    }

    async fn delete(&self, table: Table, key: &str, expect: Expect) -> Result<(), StoreError> {
        self.rows.delete(table, key, expect).await
    }

    async fn list(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.rows.list(table, prefix, after, limit).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.rows.snapshot().await
    }

    async fn load(&self, rows: Vec<(Table, Row)>) -> Result<(), StoreError> {
        self.rows.load(rows).await
    }

    async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        self.rows.lease(name, ttl).await
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError> {
        self.rows.renew_lease(lease, ttl).await
    }

    async fn changed(&self, table: Table, seen: Version) -> Result<Version, StoreError> {
        self.rows.changed(table, seen).await
    }
}
