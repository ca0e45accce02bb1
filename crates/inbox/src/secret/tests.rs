//! Secrets that services hand over.

use std::sync::Arc;

use super::*;
use crate::{InboxServices, NewKeys};
use keyward_base::id::OrgId;
use keyward_base::time::Clock;
use keyward_base::webhooks::WebhookSettings;
use keyward_model::{HookFacts, HookSpec, ManagedBy};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::Directory;
use keyward_state::store::Store;
use keyward_state::store::memory::MemoryStore;
use keyward_vault::Vault;

/// An inbox with a hook of the scheme `notion`.
async fn world() -> (Arc<Inbox>, Arc<Record<Hook>>) {
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
    let scheme = Some("notion".to_owned());
    let spec = HookSpec { name: "pages".to_owned(), scheme, ..HookSpec::default() };
    let (org, by) = (OrgId::default_org(), ManagedBy::Store);
    let hook = inbox.directory.add::<Hook>(&org, by, spec, HookFacts::default()).await.unwrap();
    (inbox, hook)
}

/// Both requests were read before either secret was stored: the second one meets the first one's secret here.
#[tokio::test]
async fn the_second_of_two_senders_does_not_replace_the_secret_of_the_first() {
    let (inbox, hook) = world().await;
    let scheme = inbox.scheme(&hook).unwrap();
    let (first, second) = (Secret::new("first-token"), Secret::new("second-token"));
    inbox.learn(&hook, scheme, &first).await.unwrap();
    let refused = inbox.learn(&hook, scheme, &second).await.unwrap_err();
    assert_eq!(refused.code(), "secret_known");
    inbox.learn(&hook, scheme, &first).await.unwrap();
    assert_eq!(inbox.reveal(&hook).await.unwrap(), "first-token");
}

#[tokio::test]
async fn a_secret_that_a_person_gave_is_not_shown() {
    let (inbox, hook) = world().await;
    assert!(matches!(inbox.reveal(&hook).await, Err(InboxError::SecretNotShown)));
    let new = NewKeys { secret: Some(Secret::new("a-token")), signing_key: None };
    inbox.set_keys(&hook, new).await.unwrap();
    assert!(matches!(inbox.reveal(&hook).await, Err(InboxError::SecretNotShown)));
    assert!(!inbox.secret_status(&hook).await.unwrap().can_reveal);
    inbox.learn(&hook, inbox.scheme(&hook).unwrap(), &Secret::new("a-token")).await.unwrap();
    assert!(matches!(inbox.reveal(&hook).await, Err(InboxError::SecretNotShown)));
}
