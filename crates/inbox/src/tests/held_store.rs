//! [`HeldStore`]: a store in memory that lets a test act between the read and the write of an event.

use parking_lot::Mutex;
use tokio::sync::oneshot;

use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{Expect, Store, StoreError, StoreWrapper, Table, Version};

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
impl StoreWrapper for HeldStore {
    fn inner(&self) -> &dyn Store {
        &self.rows
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
}
