//! Tests of the crate as a whole, and what tests of its modules share.

mod app_sources;
mod doubts;
pub(crate) mod faulty_store;
pub(crate) mod golden;
mod rejected;
mod rotation;
pub(crate) mod scripted_server;
pub(crate) mod simulation;

use std::sync::Arc;

use crate::Vault;
use keyward_base::time::Clock;
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

/// A vault with the providers that are built in, and its rows in memory.
async fn in_memory() -> (Arc<dyn Store>, Vault) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (keyring, catalogue) = (Arc::new(Keyring::ephemeral()), Arc::new(Catalogue::built_in()));
    let vault = vault_over(store.clone(), &keyring, catalogue).await;
    (store, vault)
}
