//! Events of connections, bindings, plugins and tokens go to the audit log, the metrics, and the webhooks
//! of the organisation, signed by Standard Webhooks
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>). A
//! delivery is stored together with the change (`directory/deliveries.rs`) and deleted when it was
//! accepted: each event is delivered at least once, with the same id.

mod attempt;
mod deliver;
mod keys;
mod queue;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

pub use attempt::{AttemptResult, DeliveryTarget, WebhookMessage, post};
pub use deliver::pause;
pub use keys::{SigningKeyError, WebhookSigningKey, WebhookSigningKeys};
use queue::Queue;
pub use queue::WebhookStatus;

use crate::{RowError, SealedRows};
use keyward_base::id::{OrgId, WebhookId};
use keyward_base::time::Clock;
use keyward_base::webhooks::WebhookSettings;
use keyward_model::{DeliveryAttempt, ManagedBy, Record, Webhook, WebhookFacts, WebhookSpec};
use keyward_net::call::HttpClient;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::{Directory, DirectoryError, DirectoryEvent, OpenedRow, RowBeside};
use keyward_state::observe::change::TaskActor;
use keyward_state::observe::change_log::ChangeRecorder;
use keyward_state::observe::event::Outcome;
use keyward_state::observe::metrics::Metrics;
use keyward_state::observe::notice::{Notice, NoticeDetails, NoticeKind};
use keyward_state::store::{Store, Table};

/// The services that events need.
#[derive(Debug)]
pub struct EventServices {
    /// The store of signing keys.
    pub store: Arc<dyn Store>,
    /// Seals signing keys.
    pub keyring: Arc<Keyring>,
    /// The source of events.
    pub directory: Arc<Directory>,
    /// Metrics of deliveries.
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    /// Limits of deliveries.
    pub settings: WebhookSettings,
}

/// Publishes events and delivers them to webhooks.
pub struct Events {
    directory: Arc<Directory>,
    keys: SealedRows<WebhookSigningKeys>,
    metrics: Arc<Metrics>,
    clock: Clock,
    settings: ArcSwap<WebhookSettings>,
    queue: Mutex<Queue>,
    /// Wakes the delivery job when the queue changes.
    queue_changed: Notify,
    caller: OnceLock<Arc<HttpClient>>,
}

/// Why something about a webhook failed.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The row of its keys.
    #[error(transparent)]
    Row(#[from] RowError),
    /// Its record.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Its key was not stored when it was added.
    #[error("the webhook has no signing key: `keyward webhook rotate` makes one")]
    NoKey,
    /// This process has no client to send events with.
    #[error("only a running gateway sends events to webhooks: start it first")]
    NoClient,
}

/// Checks an opened row of the signing keys of a webhook, for `keyward store check`. Other rows are not looked at.
///
/// # Errors
/// The problem.
pub fn check_content(row: &OpenedRow) -> Result<(), String> {
    match row.table {
        Table::WebhookKeys => row.decode::<WebhookSigningKeys>().map(drop),
        _ => Ok(()),
    }
}

impl Events {
    pub fn new(parts: EventServices) -> Arc<Self> {
        Arc::new(Self {
            directory: parts.directory,
            keys: SealedRows::new(parts.store, parts.keyring, Table::WebhookKeys, ""),
            metrics: parts.metrics,
            clock: parts.clock,
            settings: ArcSwap::from_pointee(parts.settings),
            queue: Mutex::default(),
            queue_changed: Notify::new(),
            caller: OnceLock::new(),
        })
    }

    pub fn set(&self, settings: WebhookSettings) {
        self.settings.store(Arc::new(settings));
        self.queue_changed.notify_one();
    }

    /// The delivery status of a webhook, as known to this process.
    pub fn status(&self, webhook: &WebhookId) -> WebhookStatus {
        self.queue.lock().status(webhook)
    }

    /// Adds a webhook with its key.
    ///
    /// # Errors
    /// When the spec is refused, the name is taken, there are too many, or the store fails.
    pub async fn add(
        &self,
        org: &OrgId,
        by: ManagedBy,
        spec: WebhookSpec,
        key: WebhookSigningKey,
    ) -> Result<Arc<Record<Webhook>>, EventsError> {
        let (facts, now) = (WebhookFacts::active(), self.clock.now());
        let record = Record::<Webhook>::new(org, by, spec, facts, now);
        let row = RowBeside::json(Table::WebhookKeys, &WebhookSigningKeys::of(key))?;
        Ok(self.directory.add_with(record, Some(row)).await?)
    }

    /// Signs deliveries with this key, and for a day with the previous one too. No effect if it is the
    /// current key.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sign_with(
        &self,
        org: &OrgId,
        webhook: &WebhookId,
        key: WebhookSigningKey,
    ) -> Result<(), EventsError> {
        let stored = self.keys.get(org, webhook.as_str()).await?;
        let (known, over) =
            stored.map_or((None, None), |(keys, version)| (Some(keys), Some(version)));
        let keys = match known {
            Some(keys) if keys.is_now(&key) => return Ok(()),
            Some(keys) => keys.followed_by(key, self.clock.now()),
            None => WebhookSigningKeys::of(key),
        };
        self.keys.put(org, webhook.as_str(), &keys, over).await?;
        Ok(())
    }

    /// Deletes the key and the queue of a removed webhook. Its deliveries were deleted with its record.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget(&self, org: &OrgId, webhook: &WebhookId) -> Result<(), EventsError> {
        let waiting = self.queue.lock().forget(webhook);
        self.metrics.webhooks_waiting(waiting);
        Ok(self.keys.delete(org, webhook.as_str()).await?)
    }

    /// Delivers events with `caller` from now on.
    pub fn use_client(&self, caller: Arc<HttpClient>) {
        // Only the first call has an effect: the client follows changes of the configuration by itself.
        let _ = self.caller.set(caller);
    }

    /// Sends one test event to a webhook now, regardless of its subscriptions.
    ///
    /// # Errors
    /// When the store fails, the webhook has no key, or there is no client to send with.
    pub async fn test(&self, hook: &Record<Webhook>) -> Result<DeliveryAttempt, EventsError> {
        let keys = self.keys.get(&hook.org, hook.id.as_str()).await?;
        let (keys, _) = keys.ok_or(EventsError::NoKey)?;
        let caller = self.caller.get().ok_or(EventsError::NoClient)?;
        let (settings, now) = (self.settings.load_full(), self.clock.now());
        let by = TaskActor::current().by;
        let notice =
            Notice::new(NoticeKind::WebhookTest, &hook.org, &by, now, NoticeDetails::default());
        let destination = DeliveryTarget { url: &hook.spec.url, keys: &keys };
        let tried = attempt::post_notice(caller, destination, &notice, &settings, now).await;
        Ok(tried.shown(self.clock.now()))
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Events {
    /// Runs until `close` is true and all earlier events are handled.
    pub async fn handle_events(
        self: Arc<Self>,
        mut events: mpsc::Receiver<DirectoryEvent>,
        changes: ChangeRecorder,
        mut close: watch::Receiver<bool>,
    ) {
        loop {
            tokio::select! {
                Some(one) = events.recv() => self.take_note(one, &changes).await,
                () = closed(&mut close) => break,
            }
        }
        while let Ok(one) = events.try_recv() {
            self.take_note(one, &changes).await;
        }
    }

    async fn take_note(&self, event: DirectoryEvent, changes: &ChangeRecorder) {
        if let Some(change) = event.change {
            changes.record(change.event(event.at, &event.org, Outcome::Completed)).await;
        }
        if let Some(notice) = &event.notice {
            tracing::debug!(event = notice.kind.code(), notice = %notice.id, "an event");
            self.metrics.count_event(notice.kind.code());
        }
        self.enqueue(event.deliveries);
    }
}

async fn closed(close: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone.
    let _ = close.wait_for(|close| *close).await;
}
