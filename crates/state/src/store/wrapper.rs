//! [`StoreWrapper`]: a store over another one that changes some operations and passes on the others. Tests wrap stores
//! to make them fail, wait or count.

use std::fmt;
use std::time::Duration;

use super::{
    Lease, Row, RowRange, SharedStore, Snapshot, Store, StoreError, Table, Version, Write,
};

/// A store over another one. Each method passes its operation on; an implementation overrides those that it changes.
#[async_trait::async_trait]
pub trait StoreWrapper: fmt::Debug + Send + Sync {
    /// The store that gets the operations.
    fn inner(&self) -> &dyn Store;

    /// [`Store::get`].
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        self.inner().get(table, key).await
    }

    /// [`Store::commit`], by which every write of rows is made.
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        self.inner().commit(writes).await
    }

    /// [`Store::list`].
    async fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError> {
        self.inner().list(table, range).await
    }

    /// [`Store::list_keys`]. Unless overridden, it reads with [`StoreWrapper::list`], so that what that changes holds for
    /// keys too.
    async fn list_keys(
        &self,
        table: Table,
        range: RowRange<'_>,
    ) -> Result<Vec<(String, Version)>, StoreError> {
        let rows = self.list(table, range).await?;
        Ok(rows.into_iter().map(|row| (row.key, row.version)).collect())
    }

    /// [`Store::shared`].
    fn shared(&self) -> Option<&dyn SharedStore> {
        self.inner().shared()
    }
}

#[async_trait::async_trait]
impl<T: StoreWrapper> Store for T {
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        StoreWrapper::get(self, table, key).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        StoreWrapper::commit(self, writes).await
    }

    async fn reseal(&self, table: Table, row: &Row, value: &[u8]) -> Result<(), StoreError> {
        self.inner().reseal(table, row, value).await
    }

    async fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError> {
        StoreWrapper::list(self, table, range).await
    }

    async fn list_keys(
        &self,
        table: Table,
        range: RowRange<'_>,
    ) -> Result<Vec<(String, Version)>, StoreError> {
        StoreWrapper::list_keys(self, table, range).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.inner().snapshot().await
    }

    async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        self.inner().lease(name, ttl).await
    }

    async fn renew_lease(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError> {
        self.inner().renew_lease(lease, ttl).await
    }

    async fn changed(&self, table: Table, seen: Version) -> Result<Version, StoreError> {
        self.inner().changed(table, seen).await
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        StoreWrapper::shared(self)
    }
}
