//! Test data: an inbox in memory with one hook.

use std::sync::Arc;

use super::{Inbox, InboxServices};
use keyward_base::id::OrgId;
use keyward_base::time::Clock;
use keyward_base::webhooks::WebhookSettings;
use keyward_model::{Hook, HookFacts, HookSpec, ManagedBy, Record};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::Directory;
use keyward_state::store::Store;
use keyward_state::store::memory::MemoryStore;
use keyward_vault::Vault;

/// An inbox with a hook of this scheme.
pub(crate) async fn inbox_of(scheme: &str) -> (Arc<Inbox>, Arc<Record<Hook>>) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (keyring, clock) = (Arc::new(Keyring::ephemeral()), Clock::System);
    let directory = Directory::open(store.clone(), keyring.clone(), clock.clone());
    let directory = Arc::new(directory.await.unwrap());
    let vault = Vault::open(
        store.clone(),
        keyring.clone(),
        directory.clone(),
        Arc::default(),
        clock.clone(),
    );
    let vault = Arc::new(vault.await.unwrap());
    let (metrics, settings) = (Arc::default(), WebhookSettings::default());
    let inbox =
        Inbox::new(InboxServices { store, keyring, directory, vault, metrics, clock, settings });
    let scheme = Some(scheme.to_owned());
    let spec = HookSpec { name: "ci".to_owned(), scheme, ..HookSpec::default() };
    let (org, by) = (OrgId::default_org(), ManagedBy::Store);
    let hook = inbox.directory.add::<Hook>(&org, by, spec, HookFacts::default()).await.unwrap();
    (inbox, hook)
}
