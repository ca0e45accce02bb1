//! Events: what happens to connections, bindings, plugins and tokens goes to the audit log, to the
//! metrics, and to the webhooks of its organisation, signed as Standard Webhooks says
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! What a webhook is owed is stored before the change that it tells of (`directory/deliveries.rs`) and
//! deleted once it was taken: each event is told at least once, with the same id.

mod attempt;
mod deliver;
mod intake;
mod keys;
mod queue;

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use attempt::Destination;
pub use keys::{KeyError, SigningKey, SigningKeys};
use queue::Queue;
pub use queue::{LastTry, Standing};

use crate::{RowError, Rows};
use keyward_base::id::{OrgId, WebhookId};
use keyward_base::time::Clock;
use keyward_base::webhooks::WebhookSettings;
use keyward_model::{Record, Webhook};
use keyward_net::call::Caller;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::{Directory, DirectoryError};
use keyward_state::observe::change::Acting;
use keyward_state::observe::metrics::Metrics;
use keyward_state::observe::notice::{About, Notice, NoticeKind};
use keyward_state::store::{Store, Table};

/// What events are told with.
#[derive(Debug)]
pub struct Parts {
    /// Sealed rows.
    pub store: Arc<dyn Store>,
    /// What seals them.
    pub keyring: Arc<Keyring>,
    /// Whose changes are told.
    pub directory: Arc<Directory>,
    /// Counts them.
    pub metrics: Arc<Metrics>,
    /// The time of day.
    pub clock: Clock,
    /// How webhooks are told.
    pub settings: WebhookSettings,
}

/// Who tells.
pub struct Events {
    directory: Arc<Directory>,
    keys: Rows<SigningKeys>,
    metrics: Arc<Metrics>,
    clock: Clock,
    settings: ArcSwap<WebhookSettings>,
    queue: Mutex<Queue>,
    /// Something came into the queue, or may go out of it.
    stirred: Notify,
    caller: OnceLock<Arc<Caller>>,
}

/// Why something about a webhook failed.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// A row of its keys.
    #[error(transparent)]
    Row(#[from] RowError),
    /// Its record.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Nothing can be posted: only a gateway, or a command with a way out, tells.
    #[error("webhooks are told by a running gateway: start it first")]
    NoWayOut,
}

impl Events {
    /// Over the store of everybody else.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            directory: parts.directory,
            keys: Rows::new(parts.store, parts.keyring, Table::WebhookKeys, ""),
            metrics: parts.metrics,
            clock: parts.clock,
            settings: ArcSwap::from_pointee(parts.settings),
            queue: Mutex::default(),
            stirred: Notify::new(),
            caller: OnceLock::new(),
        })
    }

    /// Goes by these numbers from now on.
    pub fn set(&self, settings: WebhookSettings) {
        self.settings.store(Arc::new(settings));
        self.stirred.notify_one();
    }

    /// How a webhook stands, as far as this process knows.
    pub fn standing(&self, webhook: &WebhookId) -> Standing {
        self.queue.lock().standing(webhook)
    }

    /// Signs deliveries with this key from now on, and for a day with the previous one as well.
    /// The key that it has already changes nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sign_with(
        &self,
        org: &OrgId,
        webhook: &WebhookId,
        key: SigningKey,
    ) -> Result<(), EventsError> {
        let stored = self.keys.get(org, webhook.as_str()).await?;
        let (known, over) =
            stored.map_or((None, None), |(keys, version)| (Some(keys), Some(version)));
        let keys = match known {
            Some(keys) if keys.is_now(&key) => return Ok(()),
            Some(keys) => keys.followed_by(key, self.clock.now()),
            None => SigningKeys::of(key),
        };
        self.keys.put(org, webhook.as_str(), &keys, over).await?;
        Ok(())
    }

    /// Drops the key and the queue of a webhook that is gone. What is stored for it went with its record.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget(&self, org: &OrgId, webhook: &WebhookId) -> Result<(), EventsError> {
        let waiting = self.queue.lock().forget(webhook);
        self.metrics.webhooks_waiting(waiting);
        Ok(self.keys.delete(org, webhook.as_str()).await?)
    }

    /// Posts from now on by this way.
    pub fn go_out_by(&self, caller: Arc<Caller>) {
        // The first stays: it follows changes of the configuration by itself.
        let _ = self.caller.set(caller);
    }

    /// Posts one event to a webhook now, whatever it wants to be told.
    ///
    /// # Errors
    /// When the store fails, or nothing can be posted.
    pub async fn test(&self, hook: &Record<Webhook>) -> Result<LastTry, EventsError> {
        let caller = self.caller.get().ok_or(EventsError::NoWayOut)?;
        let keys = self.keys.get(&hook.org, hook.id.as_str()).await?;
        let (keys, _) = keys.ok_or(EventsError::NoWayOut)?;
        let (settings, now) = (self.settings.load_full(), self.clock.now());
        let by = Acting::current().by;
        let notice = Notice::new(NoticeKind::WebhookTest, &hook.org, &by, now, About::default());
        let destination = Destination { url: &hook.spec.url, keys: &keys };
        let tried = attempt::post(caller, destination, &notice, &settings, now).await;
        Ok(LastTry::of(&tried, self.clock.now()))
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("queue", &self.queue).finish_non_exhaustive()
    }
}
