//! A store that is slow, fails on demand, and records which version each write replaces.

use std::io;

use super::*;
use keyward_state::store::{Row, StoreWrapper};

#[async_trait::async_trait]
impl StoreWrapper for Watched {
    fn inner(&self) -> &dyn Store {
        &self.rows
    }

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
}
