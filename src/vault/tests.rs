//! A grant that is read while the master key is rotated.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::keys::{Home, Keys};
use crate::store::memory::MemoryStore;
use crate::store::{Lease, Row, StoreError, Version};

/// Rows in memory; a whole rotation passes between the next read of a grant and its answer.
#[derive(Debug, Default)]
struct Slow {
    rows: MemoryStore,
    rotates: Mutex<Option<Arc<Keys>>>,
}

#[async_trait::async_trait]
impl Store for Slow {
    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        let row = self.rows.get(table, key).await;
        if table == Table::Grants {
            let keys = self.rotates.lock().take();
            if let Some(keys) = keys {
                keys.rotate().await.expect("rotated");
            }
        }
        row
    }

    async fn put(
        &self,
        table: Table,
        key: &str,
        value: &[u8],
        expect: Expect,
    ) -> Result<Version, StoreError> {
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

    async fn lease(&self, name: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        self.rows.lease(name, ttl).await
    }

    async fn changed(&self, table: Table, seen: Version) -> Result<Version, StoreError> {
        self.rows.changed(table, seen).await
    }
}

fn fields() -> BTreeMap<String, Secret> {
    BTreeMap::from([("token".to_owned(), Secret::new("ghp_0123456789abcdefghij0123456789abcdef"))])
}

#[tokio::test]
async fn a_grant_that_was_read_under_a_key_that_has_gone_is_read_again() {
    let slow = Arc::new(Slow::default());
    let store: Arc<dyn Store> = slow.clone();
    let (keyring, clock) = (Arc::new(Keyring::ephemeral()), Clock::System);
    let directory = Directory::open(store.clone(), keyring.clone(), clock.clone()).await.unwrap();
    let (directory, catalogue) = (Arc::new(directory), Arc::new(Catalogue::built_in()));
    let keys = Keys::new(store.clone(), keyring.clone(), Home::Memory).unwrap();
    let vault = Vault::open(store, keyring.clone(), directory, catalogue, clock).await.unwrap();
    let org = OrgId::default_org();
    let new = NewConnection {
        org: org.clone(),
        name: "work".to_owned(),
        provider: "github".to_owned(),
        auth: None,
        variables: BTreeMap::new(),
        app: None,
        scopes: Vec::new(),
        environment: None,
        settings: Settings::default(),
        owner: None,
        visibility: Visibility::Shared,
        about: About::default(),
        secret: SecretFacts::default(),
        managed_by: ManagedBy::Store,
    };
    let connection = vault.add(new, fields()).await.unwrap();
    let before = keyring.current();
    *slow.rotates.lock() = Some(keys);
    let changed = vault.replace(&org, &connection.id, fields()).await;
    assert!(matches!(changed, Ok(false)), "{changed:?}");
    assert_ne!(keyring.current(), before, "it was rotated meanwhile");
}
