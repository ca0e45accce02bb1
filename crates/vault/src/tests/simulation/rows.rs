//! A store that is slow, fails on demand, and records which version each write replaces.

use std::io;

use super::*;
use keyward_state::store::{Lease, Row, Snapshot};

#[async_trait::async_trait]
impl Store for Watched {
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        passes(1).await;
        self.rows.get(table, key).await
    }

    async fn put(
        &self,
        table: Table,
        key: &str,
        value: &[u8],
        expect: Expect,
    ) -> Result<Version, StoreError> {
        if table != Table::Grants {
            return self.rows.put(table, key, value, expect).await;
        }
        passes(3).await;
        if expect == Expect::Any {
            self.world.is_wrong("a grant was written over whatever there was");
        }
        let (fails, after) = {
            let mut fails = self.fails.lock();
            let now = *fails;
            fails.0 = fails.0.saturating_sub(1);
            now
        };
        let failed = || StoreError::Io { action: "write", source: io::Error::other("full") };
        if fails > 0 && !after {
            return Err(failed());
        }
        let version = self.rows.put(table, key, value, expect).await?;
        let newest = self.newest.lock().insert(key.to_owned(), version).unwrap_or_default();
        if newest >= version {
            self.world.is_wrong(format!("{version:?} was written after {newest:?}"));
        }
        if fails > 0 { Err(failed()) } else { Ok(version) }
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
