//! Tests of the whole crate, and fixtures that the tests of its modules share.

mod app_sources;
mod doubts;
pub(crate) mod faulty_store;
pub(crate) mod golden;
mod rejected;
mod rotation;
pub(crate) mod scripted_server;
pub(crate) mod simulation;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Vault, VaultError};
use keyward_base::id::OrgId;
use keyward_base::secret::Secret;
use keyward_base::time::Clock;
use keyward_model::{Connection, ManagedBy};
use keyward_rules::inject::credential::RequiredConnection;
use keyward_rules::provider::Catalogue;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::Directory;
use keyward_state::store::Store;
use keyward_state::store::memory::MemoryStore;

/// A vault over a store, with the time of the system.
pub(crate) async fn vault_over(
    store: Arc<dyn Store>,
    keyring: &Arc<Keyring>,
    catalogue: Arc<Catalogue>,
) -> Vault {
    let (keyring, clock) = (keyring.clone(), Clock::System);
    let directory = Directory::open(store.clone(), keyring.clone(), clock.clone()).await.unwrap();
    Vault::open(store, keyring, Arc::new(directory), catalogue, clock).await.unwrap()
}

/// A vault with the built-in providers, and its rows in memory.
async fn in_memory() -> (Arc<dyn Store>, Vault) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (keyring, catalogue) = (Arc::new(Keyring::ephemeral()), Arc::new(Catalogue::built_in()));
    let vault = vault_over(store.clone(), &keyring, catalogue).await;
    (store, vault)
}

#[tokio::test]
async fn a_cached_credential_is_refused_to_another_organisation_and_after_removal() {
    let (_, vault) = in_memory().await;
    let token = Secret::new("ghp_0123456789abcdefghij0123456789abcdef");
    let fields = BTreeMap::from([("token".to_owned(), token)]);
    let made = vault.lifecycle().add(rotation::new("github", None), fields).await.unwrap();
    let (connection, name) = (made.id.clone(), "work".into());
    let wanted = RequiredConnection { connection, name, settings: None };
    let found = vault.refresh().credential_in(&made.org, Some(&wanted)).await.unwrap();
    assert!(found.is_some());
    let of_another = vault.refresh().credential_in(&OrgId::random(), Some(&wanted)).await;
    assert!(matches!(of_another, Err(VaultError::ConnectionMissing)), "{of_another:?}");
    // The cache does not learn of it.
    let by = ManagedBy::Store;
    vault.directory().remove::<Connection>(&made.org, &made.id, by).await.unwrap();
    let removed = vault.refresh().credential_in(&made.org, Some(&wanted)).await;
    assert!(matches!(removed, Err(VaultError::ConnectionMissing)), "{removed:?}");
}
