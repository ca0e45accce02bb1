//! Hooks that are added with keys that cannot be stored, and test data: an inbox in memory with one hook.

pub(crate) mod held_store;

use std::sync::Arc;

use super::{Inbox, InboxError, InboxServices, NewKeys};
use keyward_base::id::OrgId;
use keyward_base::secret::Secret;
use keyward_base::time::Clock;
use keyward_base::webhooks::WebhookSettings;
use keyward_model::{Hook, HookFacts, HookSpec, ManagedBy, Record};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::Directory;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{RowRange, Store, Table, VALUE_BYTES_MAX};
use keyward_vault::Vault;

/// An inbox with a hook of this scheme.
pub(crate) async fn inbox_of(scheme: &str) -> (Arc<Inbox>, Arc<Record<Hook>>) {
    inbox_in(Arc::new(MemoryStore::new()), scheme).await
}

/// The same in this store.
pub(crate) async fn inbox_in(
    store: Arc<dyn Store>,
    scheme: &str,
) -> (Arc<Inbox>, Arc<Record<Hook>>) {
    let inbox = empty(store).await;
    let (org, facts) = (OrgId::default_org(), HookFacts::default());
    let hook = inbox.directory.add::<Hook>(&org, ManagedBy::Store, spec(scheme), facts);
    let hook = hook.await.unwrap();
    (inbox, hook)
}

fn spec(scheme: &str) -> HookSpec {
    HookSpec { name: "ci".to_owned(), scheme: Some(scheme.to_owned()), ..HookSpec::default() }
}

async fn empty(store: Arc<dyn Store>) -> Arc<Inbox> {
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
    Inbox::new(InboxServices { store, keyring, directory, vault, metrics, clock, settings })
}

/// Without its keys, it would refuse all requests of its service.
#[tokio::test]
async fn a_hook_whose_keys_cannot_be_stored_is_not_added() {
    let (inbox, org) = (empty(Arc::new(MemoryStore::new())).await, OrgId::default_org());
    let add = async |secret: String| {
        let hook = inbox.new_hook(&org, ManagedBy::Store, spec("gitlab"));
        let keys = NewKeys { secret: Some(Secret::new(secret)), ..NewKeys::default() };
        inbox.add(hook, keys).await
    };
    let failed = add("x".repeat(VALUE_BYTES_MAX)).await.unwrap_err();
    assert!(matches!(failed, InboxError::Directory(_)), "{failed:?}");
    assert_eq!(inbox.directory.view().all::<Hook>(&org).count(), 0);
    let hook = add("a-token".to_owned()).await.unwrap();
    assert!(inbox.secret_status(&hook).await.unwrap().is_known);
    let taken = add("another-token".to_owned()).await.unwrap_err();
    assert!(matches!(taken, InboxError::Directory(_)), "{taken:?}");
    let keys = inbox.store.list(Table::HookKeys, RowRange::first(10)).await.unwrap();
    assert_eq!(keys.len(), 1, "the keys of a refused hook are deleted");
}
