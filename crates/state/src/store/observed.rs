//! [`ObservedStore`]: a store that reports its failures and writes, for the metrics and the status of the gateway.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::shared::{KeptBytes, ReplicaChanges, ReplicaPosition};
use super::{
    AnnouncedReplica, Lease, Row, RowRange, SharedStore, Snapshot, Store, StoreError, StoreScan,
    Table, Version, Write,
};
use keyward_base::names::labelled_enum;

labelled_enum! {
    /// The kind of a failed call.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub enum StoreOperation by as_str, all {
        /// Reading rows, or waiting for changes of them.
        Read = "read",
        /// Writing, sealing again or deleting a row; leases.
        Write = "write",
    }
}

/// The result of a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoreReport {
    /// It failed, with this cause.
    Failed(StoreOperation, String),
    /// Something was written or deleted, so the store can be written.
    Written,
}

/// A store that reports disk failures, damaged rows, and successful writes. A refused call, such as a conflict, is not
/// a failure.
pub struct ObservedStore {
    store: Arc<dyn Store>,
    report: Box<dyn Fn(StoreReport) + Send + Sync>,
}

impl ObservedStore {
    /// Reports the failures and writes of `store`.
    pub fn new(
        store: Arc<dyn Store>,
        report: impl Fn(StoreReport) + Send + Sync + 'static,
    ) -> Self {
        Self { store, report: Box::new(report) }
    }

    fn observed<T>(
        &self,
        operation: StoreOperation,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let is_failure = |error: &&StoreError| match error {
            StoreError::Conflict { .. }
            | StoreError::ValueTooLarge { .. }
            | StoreError::RolledBack { .. }
            | StoreError::KeyRefused { .. } => false,
            StoreError::Locked { .. }
            | StoreError::Exposed { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Damaged { .. }
            | StoreError::Io { .. }
            | StoreError::Unreached { .. } => true,
        };
        if let Some(error) = result.as_ref().err().filter(is_failure) {
            (self.report)(StoreReport::Failed(operation, error.to_string()));
        }
        result
    }

    /// Like [`Self::observed`], for a write.
    fn written<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.succeeded(self.observed(StoreOperation::Write, result))
    }

    /// Reports a write only if it succeeded.
    fn succeeded<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_ok() {
            (self.report)(StoreReport::Written);
        }
        result
    }

    /// Like [`Self::observed`], for a lease. Only where replicas share the store is it written there: elsewhere it is in
    /// memory, so that its success does not show that the store can be written.
    fn leased<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match self.store.shared() {
            Some(_) => self.written(result),
            None => self.observed(StoreOperation::Write, result),
        }
    }

    fn below(&self) -> &dyn SharedStore {
        self.store.shared().expect("it is Some: `shared` gives this one only then")
    }
}

impl fmt::Debug for ObservedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait::async_trait]
impl Store for ObservedStore {
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        self.observed(StoreOperation::Read, self.store.get(table, key).await)
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        self.written(self.store.commit(writes).await)
    }

    async fn reseal(&self, table: Table, row: &Row, value: &[u8]) -> Result<(), StoreError> {
        self.written(self.store.reseal(table, row, value).await)
    }

    async fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError> {
        self.observed(StoreOperation::Read, self.store.list(table, range).await)
    }

    async fn list_keys(
        &self,
        table: Table,
        range: RowRange<'_>,
    ) -> Result<Vec<(String, Version)>, StoreError> {
        let keys = self.store.list_keys(table, range).await;
        self.observed(StoreOperation::Read, keys)
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.observed(StoreOperation::Read, self.store.snapshot().await)
    }

    async fn scan(&self) -> Result<StoreScan, StoreError> {
        self.observed(StoreOperation::Read, self.store.scan().await)
    }

    async fn discard_damaged(&self, table: Table, key: &str) -> Result<bool, StoreError> {
        self.observed(StoreOperation::Write, self.store.discard_damaged(table, key).await)
    }

    async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        self.leased(self.store.lease(name, ttl).await)
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError> {
        self.leased(self.store.renew_lease(lease, ttl).await)
    }

    async fn changed(&self, table: Table, seen: Version) -> Result<Version, StoreError> {
        self.observed(StoreOperation::Read, self.store.changed(table, seen).await)
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        self.store.shared().map(|_| self as _)
    }
}

/// Each replica announces itself every few seconds, so that one that writes nothing else notices that the store can be
/// written again. Failures are not reported: the staleness of the replica shows them.
#[async_trait::async_trait]
impl SharedStore for ObservedStore {
    async fn position(&self) -> Result<ReplicaPosition, StoreError> {
        self.below().position().await
    }

    async fn changes_after(
        &self,
        position: &ReplicaPosition,
    ) -> Result<(ReplicaChanges, ReplicaPosition), StoreError> {
        self.below().changes_after(position).await
    }

    fn is_outdated(&self) -> bool {
        self.below().is_outdated()
    }

    fn wait_out(&self, time: Duration) {
        self.below().wait_out(time);
    }

    async fn is_alone(&self) -> Result<bool, StoreError> {
        self.below().is_alone().await
    }

    fn own_name(&self) -> String {
        self.below().own_name()
    }

    async fn end_replica(&self, name: &str) -> Result<(), StoreError> {
        self.below().end_replica(name).await
    }

    async fn claim_once(&self, name: &str, life: Duration) -> Result<bool, StoreError> {
        self.written(self.below().claim_once(name, life).await)
    }

    async fn leave(&self) -> Result<(), StoreError> {
        self.below().leave().await
    }

    async fn announce(&self, about: &str) -> Result<(), StoreError> {
        self.succeeded(self.below().announce(about).await)
    }

    async fn replicas(&self) -> Result<Vec<AnnouncedReplica>, StoreError> {
        self.below().replicas().await
    }

    async fn keep(&self, name: &str, sealed: &[u8], life: Duration) -> Result<(), StoreError> {
        self.succeeded(self.below().keep(name, sealed, life).await)
    }

    async fn kept(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.below().kept(name).await
    }

    async fn kept_names(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.below().kept_names(prefix).await
    }

    async fn kept_within(
        &self,
        prefix: &str,
        life: Duration,
        within: Duration,
    ) -> Result<Vec<KeptBytes>, StoreError> {
        self.below().kept_within(prefix, life, within).await
    }

    async fn forget_old(&self) -> Result<(), StoreError> {
        self.below().forget_old().await
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::store::Expect;
    use crate::store::memory::{MemoryReplica, MemoryStore};

    const MINUTE: Duration = Duration::from_secs(60);

    /// What a store reports of a lease.
    async fn reported_of_lease(store: impl Store + 'static) -> Vec<StoreReport> {
        let reported = Arc::new(Mutex::new(Vec::new()));
        let reports = reported.clone();
        let store = ObservedStore::new(Arc::new(store), move |report| reports.lock().push(report));
        let lease = store.lease("a", MINUTE).await.unwrap().unwrap();
        assert!(store.renew_lease(&lease, MINUTE).await.unwrap());
        let reported = reported.lock();
        reported.clone()
    }

    #[tokio::test]
    async fn a_lease_shows_that_a_store_can_be_written_only_where_replicas_share_the_store() {
        assert_eq!(
            reported_of_lease(MemoryReplica::first()).await,
            [const { StoreReport::Written }; 2]
        );
        assert_eq!(reported_of_lease(MemoryStore::new()).await, []);
    }

    #[tokio::test]
    async fn what_a_replica_announces_and_keeps_shows_that_the_store_can_be_written() {
        let reported = Arc::new(Mutex::new(Vec::new()));
        let reports = reported.clone();
        let store = Arc::new(MemoryReplica::first());
        let store = ObservedStore::new(store, move |report| reports.lock().push(report));
        let shared = store.shared().expect("replicas share it");
        shared.announce("one").await.unwrap();
        assert_eq!(std::mem::take(&mut *reported.lock()), [StoreReport::Written]);
        shared.keep("a", b"bytes", MINUTE).await.unwrap();
        assert_eq!(std::mem::take(&mut *reported.lock()), [StoreReport::Written]);
        assert_eq!(shared.replicas().await.unwrap()[0].about, "one");
        assert_eq!(shared.kept("a").await.unwrap().unwrap(), b"bytes");
        assert_eq!(*reported.lock(), []);
    }

    #[tokio::test]
    async fn a_failure_and_a_write_are_reported_and_a_refused_call_is_not() {
        let reported = Arc::new(Mutex::new(Vec::new()));
        let reports = reported.clone();
        let store = Arc::new(MemoryStore::new());
        let store = ObservedStore::new(store, move |report| reports.lock().push(report));
        store.put(Table::Meta, "a", b"", Expect::Absent).await.unwrap();
        store.put(Table::Meta, "a", b"", Expect::Absent).await.unwrap_err();
        store.put(Table::Meta, "", b"", Expect::Any).await.unwrap_err();
        assert_eq!(std::mem::take(&mut *reported.lock()), [StoreReport::Written]);
        let full = || {
            Err::<(), _>(StoreError::Io {
                action: "write a row",
                source: std::io::ErrorKind::StorageFull.into(),
            })
        };
        store.observed(StoreOperation::Write, full()).unwrap_err();
        let corrupt = StoreError::Corrupt { table: "meta", key: "a".to_owned() };
        store.observed::<()>(StoreOperation::Read, Err(corrupt)).unwrap_err();
        let failed = [
            (StoreOperation::Write, "store could not write a row: no storage space"),
            (StoreOperation::Read, "meta row a is damaged: restore the store from a backup"),
        ];
        let failed =
            failed.map(|(operation, cause)| StoreReport::Failed(operation, cause.to_owned()));
        assert_eq!(*reported.lock(), failed);
    }
}
