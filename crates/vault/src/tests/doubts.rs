//! Records whose write was made and reported as failed: they keep their secrets.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::simulation::CATALOGUE;
use crate::*;
use keyward_base::secret::Secret;
use keyward_model::{App, AppSpec};
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{Lease, Row, Snapshot, StoreError, Version};

/// Rows in memory. So many next writes of apps are made and reported as failed.
#[derive(Debug, Default)]
struct Lossy {
    rows: MemoryStore,
    lost: AtomicUsize,
}

#[async_trait::async_trait]
impl Store for Lossy {
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
        let written = self.rows.put(table, key, value, expect).await;
        let left = |left: usize| left.checked_sub(1);
        match table == Table::Apps && self.lost.fetch_update(SeqCst, SeqCst, left).is_ok() {
            true => {
                let source = io::ErrorKind::TimedOut.into();
                Err(StoreError::Io { action: "write a row", source })
            }
            false => written,
        }
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

fn new_app(name: &str) -> NewApp {
    let spec = AppSpec {
        name: name.to_owned(),
        provider: "acme".to_owned(),
        client_id: "client".to_owned(),
        ..AppSpec::default()
    };
    let (org, managed_by) = (OrgId::default_org(), ManagedBy::Store);
    NewApp { id: None, org, spec, registered: None, managed_by }
}

#[tokio::test]
async fn an_app_whose_write_was_reported_as_failed_keeps_its_secret() {
    let lossy = Arc::new(Lossy::default());
    let store: Arc<dyn Store> = lossy.clone();
    let (keyring, clock) = (Arc::new(Keyring::ephemeral()), Clock::System);
    let directory = Directory::open(store.clone(), keyring.clone(), clock.clone()).await.unwrap();
    let (directory, catalogue) = (Arc::new(directory), CATALOGUE.clone());
    let vault = Vault::open(store, keyring, directory.clone(), catalogue, clock).await.unwrap();
    let secrets = || BTreeMap::from([("client_secret".to_owned(), Secret::new("of-the-app"))]);
    lossy.lost.store(2, SeqCst);
    vault.add_app_of(new_app("one"), secrets()).await.unwrap_err();
    // The next change finds that the first one was made.
    vault.add_app_of(new_app("two"), secrets()).await.unwrap();
    let view = directory.view();
    let apps: Vec<_> = view.all::<App>(&OrgId::default_org()).collect();
    assert_eq!(apps.len(), 2);
    for app in apps {
        vault.own_secret(app).await.unwrap();
    }
}
