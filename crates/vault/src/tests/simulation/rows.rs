//! A store that is slow, fails on demand, and records which version each write replaces.

use std::io;

use super::*;
use keyward_state::store::{Row, StoreWrapper, Write};

#[async_trait::async_trait]
impl StoreWrapper for Watched {
    fn inner(&self) -> &dyn Store {
        &self.rows
    }

    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        passes(1).await;
        self.rows.get(table, key).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        let grant = writes.iter().find_map(|write| match write {
            Write::Put { table: Table::Grants, key, expect, .. } => Some((key.clone(), *expect)),
            _ => None,
        });
        let Some((key, expect)) = grant else { return self.rows.commit(writes).await };
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
        let versions = self.rows.commit(writes).await?;
        let version = versions[0];
        let newest = self.newest.lock().insert(key, version).unwrap_or_default();
        if newest >= version {
            self.world.is_wrong(format!("{version:?} was written after {newest:?}"));
        }
        if fails > 0 { Err(failed()) } else { Ok(versions) }
    }
}
