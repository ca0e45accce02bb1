//! Tests of webhooks that are added while the store fails, and the fixture of all tests of events.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{EventServices, Events, EventsError, WebhookSigningKey};
use crate::tests::faulty_store::{Fault, FaultyStore};
use keyward_base::id::OrgId;
use keyward_base::time::Clock;
use keyward_base::webhooks::WebhookSettings;
use keyward_model::{ManagedBy, Record, Webhook, WebhookFacts, WebhookSpec};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::{Directory, StoredDelivery};
use keyward_state::observe::notice::{NoticeDetails, NoticeKind};
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{RowRange, Store, Table};

/// A store with webhooks that subscribe to all events.
pub(super) struct World {
    pub(super) events: Arc<Events>,
    directory: Arc<Directory>,
    org: OrgId,
}

impl World {
    pub(super) async fn new(webhooks: usize) -> Self {
        let world = Self::over(Arc::new(MemoryStore::new())).await;
        for n in 0..webhooks {
            let (spec, facts) = (spec(&format!("hook-{n}")), WebhookFacts::active());
            let added = world.directory.add::<Webhook>(&world.org, ManagedBy::Store, spec, facts);
            added.await.unwrap();
        }
        world
    }

    async fn over(store: Arc<dyn Store>) -> Self {
        let (keyring, clock) = (Arc::new(Keyring::ephemeral()), Clock::System);
        let directory = Directory::open(store.clone(), keyring.clone(), clock.clone()).await;
        let (directory, org) = (Arc::new(directory.unwrap()), OrgId::default_org());
        let (metrics, settings) = (Arc::default(), WebhookSettings::default());
        let services = EventServices {
            store,
            keyring,
            directory: directory.clone(),
            metrics,
            clock,
            settings,
        };
        Self { events: Events::new(services), directory, org }
    }

    async fn add(&self, name: &str) -> Result<Arc<Record<Webhook>>, EventsError> {
        let key = WebhookSigningKey::random();
        self.events.add(&self.org, ManagedBy::Store, spec(name), key).await
    }

    async fn has_key(&self, hook: &Record<Webhook>) -> bool {
        self.events.keys.get(&self.org, hook.id.as_str()).await.unwrap().is_some()
    }

    /// The stored deliveries, after this number of further events.
    pub(super) async fn pending(&self, events: usize) -> Vec<StoredDelivery> {
        for _ in 0..events {
            let (kind, about) = (NoticeKind::ConnectionPaused, NoticeDetails::default());
            self.directory.announce(&self.org, kind, about).await.unwrap();
        }
        self.directory.pending_deliveries().await.unwrap()
    }

    /// The only webhook.
    pub(super) fn hook(&self) -> Arc<Record<Webhook>> {
        let view = self.directory.view();
        view.all::<Webhook>(&self.org).next().expect("there is one").clone()
    }

    pub(super) async fn change(&self, change: impl Fn(&mut Record<Webhook>) + Sync) {
        self.directory.change::<Webhook>(&self.org, &self.hook().id, change).await.unwrap();
    }
}

fn spec(name: &str) -> WebhookSpec {
    let (name, url) = (name.to_owned(), "https://ops.example.com/".to_owned());
    WebhookSpec { name, url, events: BTreeSet::new() }
}

#[tokio::test]
async fn a_webhook_whose_key_cannot_be_stored_is_not_added() {
    let store = Arc::new(FaultyStore::default());
    let world = World::over(store.clone()).await;
    store.fail(Table::WebhookKeys, Fault::Refused);
    world.add("ops").await.unwrap_err();
    assert_eq!(world.directory.view().all::<Webhook>(&world.org).count(), 0);
    store.repair();
    let hook = world.add("ops").await.unwrap();
    assert!(world.has_key(&hook).await);
    world.add("ops").await.unwrap_err();
    let keys = store.list(Table::WebhookKeys, RowRange::first(10)).await.unwrap();
    assert_eq!(keys.len(), 1, "the key of a refused webhook is deleted");
}

#[tokio::test]
async fn a_webhook_whose_write_was_reported_as_failed_keeps_its_key() {
    let store = Arc::new(FaultyStore::default());
    let world = World::over(store.clone()).await;
    // The write and its repetition.
    store.fail(Table::Webhooks, Fault::Lost(2));
    world.add("ops").await.unwrap_err();
    // The next change finds that the first one was made.
    world.add("other").await.unwrap();
    let view = world.directory.view();
    let hooks: Vec<_> = view.all::<Webhook>(&world.org).collect();
    assert_eq!(hooks.len(), 2);
    for hook in hooks {
        assert!(world.has_key(hook).await, "{}", hook.name());
    }
}

#[tokio::test]
async fn a_test_of_a_webhook_without_a_key_names_the_remedy() {
    let world = World::new(1).await;
    let refused = world.events.test(&world.hook()).await.unwrap_err();
    assert!(refused.to_string().contains("keyward webhook rotate"), "{refused}");
}
