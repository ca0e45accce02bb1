//! What the tests of events share: webhooks in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{EventServices, Events};
use keyward_base::id::OrgId;
use keyward_base::time::Clock;
use keyward_base::webhooks::WebhookSettings;
use keyward_model::{ManagedBy, Record, Webhook, WebhookFacts, WebhookSpec};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::{Directory, Owed};
use keyward_state::observe::notice::{NoticeDetails, NoticeKind};
use keyward_state::store::Store;
use keyward_state::store::memory::MemoryStore;

/// Webhooks that want all events.
pub(super) struct World {
    pub(super) events: Arc<Events>,
    directory: Arc<Directory>,
    org: OrgId,
}

impl World {
    pub(super) async fn new(webhooks: usize) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (keyring, clock) = (Arc::new(Keyring::ephemeral()), Clock::System);
        let directory = Directory::open(store.clone(), keyring.clone(), clock.clone()).await;
        let (directory, org) = (Arc::new(directory.unwrap()), OrgId::default_org());
        for n in 0..webhooks {
            let (name, url) = (format!("hook-{n}"), "https://ops.example.com/".to_owned());
            let spec = WebhookSpec { name, url, events: BTreeSet::new() };
            let facts = WebhookFacts::active();
            directory.add::<Webhook>(&org, ManagedBy::Store, spec, facts).await.unwrap();
        }
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

    /// The stored deliveries, after so many events more.
    pub(super) async fn owed(&self, events: usize) -> Vec<Owed> {
        for _ in 0..events {
            let (kind, about) = (NoticeKind::ConnectionPaused, NoticeDetails::default());
            self.directory.announce(&self.org, kind, about).await.unwrap();
        }
        self.directory.owed().await.unwrap()
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
