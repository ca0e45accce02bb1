//! Posts events to the URLs of hooks: one at a time for each hook, so that their order is kept, with retries after a
//! pause. An event whose deliveries all failed is kept, and the next one follows.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::event::SettledEvent;
use super::event::{self, EventRow, EventState, HookEvent};
use super::queue::{QueueEntry, TakenEvent, WaitingEvent};
use super::{BODIES_KIB_MAX, Inbox, InboxError};
use keyward_base::id::{HookId, OrgId};
use keyward_model::{DeliveryAttempt, Hook, Record};
use keyward_net::call::HttpClient;
use keyward_state::store::{StoreError, Version};
use keyward_vault::RowError;
use keyward_vault::events::{AttemptResult, DeliveryTarget, WebhookMessage, pause, post};

/// The pause after a failure of the store.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The longest sleep, so that a change of the clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Hooks that deliver at the same time.
const AT_ONCE_MAX: usize = 64;

/// Rows that are read at once at the start. One may have 25 MiB of a body.
const RESUMED_PAGE: usize = 4;

/// A delivery that failed.
struct FailedTry {
    why: String,
    /// The time until the next try; `None`: there is none.
    pause: Option<Duration>,
}

impl Inbox {
    /// Runs until `close` turns true. Deliveries in progress are cancelled, and repeated after the next start.
    pub async fn deliver(self: Arc<Self>, mut close: watch::Receiver<bool>) {
        while let Err(error) = self.resume().await {
            tracing::error!(%error, "the events of hooks cannot be read");
            let sleep = tokio::time::timeout(TRY_AGAIN_AFTER, close.wait_for(|close| *close));
            if sleep.await.is_ok() {
                return;
            }
        }
        let Some(caller) = self.caller.get().cloned() else { return };
        let mut changes = self.directory.changes();
        let mut in_progress = JoinSet::new();
        loop {
            self.forget_expired().await;
            let sleep = self.send_due(&caller, &mut in_progress);
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.delivery_wake.notified() => {}
                // A hook may have been resumed, or have a new URL.
                _ = changes.changed() => {}
                Some(_) = in_progress.join_next() => {}
                _ = close.wait_for(|close| *close) => return,
            }
        }
    }

    /// Queues the events that were stored before the start.
    async fn resume(&self) -> Result<(), InboxError> {
        let view = self.directory.view();
        for org in view.orgs() {
            let entry = |row: String, entry: EventRow, version: Version| {
                let entry = QueueEntry::of(&org.id, &row, entry, version);
                (row, entry)
            };
            let mut entries = self.events.map_all(&org.id, RESUMED_PAGE, entry).await?;
            entries.sort_by_key(|(_, entry)| entry.time());
            for (row, entry) in entries {
                self.queue_row(&org.id, &row, entry).await?;
            }
        }
        self.signal_change();
        Ok(())
    }

    /// Queues the event of one row; the row of a removed hook is deleted.
    pub(crate) async fn queue_row(
        &self,
        org: &OrgId,
        row: &str,
        entry: QueueEntry,
    ) -> Result<(), InboxError> {
        let exists = |hook: &HookId| self.directory.view().one::<Hook>(org, hook).is_some();
        if !exists(entry.hook()) {
            return match self.directory.is_shared() {
                // This replica may not know a new hook yet.
                true => Ok(()),
                false => Ok(self.events.delete(org, row).await?),
            };
        }
        self.queue.lock().add(org, entry);
        Ok(())
    }

    /// Starts due deliveries. Returns the time until the next one is due.
    fn send_due(
        self: &Arc<Self>,
        caller: &Arc<HttpClient>,
        in_progress: &mut JoinSet<()>,
    ) -> Duration {
        let view = self.directory.view();
        let may = |org: &OrgId, hook: &HookId| {
            let hook = view.one::<Hook>(org, hook);
            hook.is_some_and(|hook| !hook.is_queue() && !hook.facts.paused)
        };
        while in_progress.len() < AT_ONCE_MAX {
            let now = self.clock.now();
            match self.queue.lock().begin(now, may) {
                Ok((hook, waiting)) => {
                    let (inbox, caller) = (self.clone(), caller.clone());
                    in_progress
                        .spawn(async move { inbox.delivered(&caller, &hook, waiting).await });
                }
                Err(None) => return SLEEP_MAX,
                Err(Some(next)) => {
                    let sleep = Duration::try_from(next.duration_since(now)).unwrap_or_default();
                    return (sleep + Duration::from_millis(1)).min(SLEEP_MAX);
                }
            }
        }
        SLEEP_MAX
    }

    /// One delivery, with its consequences.
    async fn delivered(&self, caller: &HttpClient, hook: &HookId, waiting: WaitingEvent) {
        let kib = u32::try_from(waiting.bytes / 1024).unwrap_or(u32::MAX).min(BODIES_KIB_MAX);
        // It is never closed.
        let _memory = self.delivered_kib.acquire_many(kib).await;
        let last = match self.try_one(caller, hook, &waiting).await {
            Ok(last) => last,
            Err(error) => {
                tracing::error!(%error, "the store failed: an event of a hook is delivered later");
                let next = self.clock.now() + TRY_AGAIN_AFTER;
                self.queue.lock().postpone(hook, &waiting.id, next);
                None
            }
        };
        self.queue.lock().end(hook, last);
        self.signal_change();
    }

    async fn try_one(
        &self,
        caller: &HttpClient,
        hook: &HookId,
        waiting: &WaitingEvent,
    ) -> Result<Option<DeliveryAttempt>, InboxError> {
        let (org, view) = (&waiting.org, self.directory.view());
        if !self.holds_lease(hook).await? {
            // Another replica has the lease of the hook, and may stop.
            let next = self.clock.now() + TRY_AGAIN_AFTER;
            self.queue.lock().postpone(hook, &waiting.id, next);
            return Ok(None);
        }
        let row = event::row(hook, &waiting.id);
        let found = self.events.get(org, &row).await?;
        let Some(hook) = view.one::<Hook>(org, hook) else {
            // The hook was removed meanwhile.
            self.queue.lock().remove(hook, &waiting.id);
            return Ok(None);
        };
        let Some((EventRow::Waiting(event), version)) = found else {
            // The event was delivered, or all its deliveries failed.
            self.follow(org, &row).await?;
            return Ok(None);
        };
        let Some(to) = &hook.to else { return Ok(None) };
        let keys = self.keys.get(org, hook.id.as_str()).await?;
        let Some(keys) = keys.as_ref().and_then(|(keys, _)| keys.signing()) else {
            // A hook of the configuration gets its URL before its key.
            self.queue.lock().postpone(&hook.id, &event.id, self.clock.now() + TRY_AGAIN_AFTER);
            return Ok(None);
        };
        let (settings, now) = (self.settings.load_full(), self.clock.now());
        let body = event.body();
        let content_type = event.content_type.as_deref();
        let message = WebhookMessage {
            id: &event.id,
            content_type: content_type.unwrap_or("application/octet-stream"),
            fields: &event.fields,
            body,
        };
        let tried = post(caller, DeliveryTarget { url: to, keys }, message, &settings, now).await;
        let last = tried.shown(self.clock.now());
        self.metrics.hooks.delivered(match tried {
            AttemptResult::Accepted(_) => "taken",
            AttemptResult::Gone | AttemptResult::Failed { .. } => "failed",
        });
        match tried {
            AttemptResult::Accepted(_) => {
                // It stays if it was sent again meanwhile.
                self.replace_by_id(hook, &waiting.id, version, Some(event)).await?;
            }
            AttemptResult::Gone => {
                let failed = FailedTry { why: "answered 410".to_owned(), pause: None };
                self.failed(hook, event, version, failed).await?;
            }
            AttemptResult::Failed { why, retry_after } => {
                let pause = pause(&settings, event.tries);
                let pause = pause.map(|pause| pause.max(retry_after.unwrap_or_default()));
                self.failed(hook, event, version, FailedTry { why, pause }).await?;
            }
        }
        Ok(Some(last))
    }

    /// Postpones the next delivery of an event, or marks the event as dead. The store decides: what was written there meanwhile
    /// stays, and the queue follows it.
    async fn failed(
        &self,
        hook: &Record<Hook>,
        mut event: HookEvent,
        version: Version,
        failed: FailedTry,
    ) -> Result<(), InboxError> {
        let (id, row) = (event.id.clone(), event.row());
        event.tries += 1;
        let entry = match failed.pause {
            Some(pause) => {
                event.next = self.clock.now() + pause;
                EventRow::Waiting(event)
            }
            None => EventRow::Dead { event, why: failed.why.clone() },
        };
        match self.events.put(&hook.org, &row, &entry, Some(version)).await {
            Ok(_) => self.report(hook.name(), &id, &failed),
            // It was taken or sent again meanwhile.
            Err(RowError::Store(StoreError::Conflict { .. })) => {}
            Err(error) => return Err(error.into()),
        }
        self.follow(&hook.org, &row).await?;
        if failed.pause.is_none() {
            self.drop_oldest_dead(hook).await;
        }
        Ok(())
    }

    /// Removes the oldest dead events of a hook that has too many, or too many bytes of them.
    async fn drop_oldest_dead(&self, hook: &Record<Hook>) {
        let most = self.settings.load().dead_max;
        let excess = self.queue.lock().excess_dead(&hook.id, most);
        for event in excess {
            match self.drop_dead(hook, &event).await {
                Ok(true) => {
                    let kept = self.status(&hook.id).dead;
                    tracing::error!(
                        id = "hook_event_dropped",
                        hook = hook.name(),
                        event,
                        kept,
                        "too many events have failed: the oldest one is removed"
                    );
                    self.metrics.hooks.dropped();
                }
                Ok(false) => {}
                Err(error) => {
                    let hook = hook.name();
                    return tracing::warn!(%error, hook, event, "cannot remove an old event: it stays until the next one has failed");
                }
            }
        }
    }

    /// Removes an event if it is still dead: a person may have sent it again, or another replica removed it.
    async fn drop_dead(&self, hook: &Record<Hook>, id: &str) -> Result<bool, InboxError> {
        if let Ok((_, EventState::Dead { .. }, version)) = self.event(hook, id).await
            && self.replace_by_id(hook, id, version, None).await?
        {
            return Ok(true);
        }
        self.follow(&hook.org, &event::row(&hook.id, id)).await?;
        Ok(false)
    }

    /// Logs a failed delivery.
    fn report(&self, hook: &str, event: &str, FailedTry { why, pause }: &FailedTry) {
        match pause {
            Some(pause) => {
                tracing::warn!(
                    hook,
                    event,
                    why,
                    ?pause,
                    "an event was not accepted; its delivery is retried"
                );
            }
            None => {
                tracing::error!(
                    id = "hook_event_dead",
                    hook,
                    event,
                    why,
                    "all deliveries of an event failed: it is kept, and can be sent again"
                );
                self.metrics.hooks.delivered("given_up");
            }
        }
    }

    /// Replaces the event by its id, so that a repeated request is known. A crash before this repeats the delivery, with
    /// the same id. `kept`: the event, if the hook keeps it. False if it was changed meanwhile: it stays then.
    pub(crate) async fn replace_by_id(
        &self,
        hook: &Record<Hook>,
        id: &str,
        version: Version,
        kept: Option<HookEvent>,
    ) -> Result<bool, InboxError> {
        let window = self.scheme(hook).map_or_else(Default::default, |it| it.replay_window());
        let until = self.clock.now().checked_add(window).unwrap_or(Timestamp::MAX);
        let event = kept.filter(|_| hook.kept_events() > 0).map(Box::new);
        let kept = event.as_deref().map(SettledEvent::of);
        let row = EventRow::Taken { hook: hook.id.clone(), until, event };
        let taken = TakenEvent { id: id.to_owned(), until, version, kept };
        if !self.write_taken(hook, taken, &row).await? {
            return Ok(false);
        }
        let excess = self.queue.lock().excess_kept(&hook.id, hook.kept_events());
        for taken in excess {
            let (id, until) = (taken.id.clone(), taken.until);
            let row = EventRow::Taken { hook: hook.id.clone(), until, event: None };
            if !self.write_taken(hook, taken, &row).await? {
                // It was sent again meanwhile.
                self.follow(&hook.org, &event::row(&hook.id, &id)).await?;
            }
        }
        Ok(true)
    }

    /// Writes the row of a delivered event over this version of it, and updates the queue. False if it has another one.
    async fn write_taken(
        &self,
        hook: &Record<Hook>,
        taken: TakenEvent,
        row: &EventRow,
    ) -> Result<bool, InboxError> {
        let (org, id) = (&hook.org, event::row(&hook.id, &taken.id));
        let version = match self.events.put(org, &id, row, Some(taken.version)).await {
            Err(RowError::Store(StoreError::Conflict { .. })) => return Ok(false),
            other => other?,
        };
        let taken = TakenEvent { version, ..taken };
        let forgotten = self.queue.lock().remove_delivered(&hook.id, org, taken);
        for (id, version) in forgotten {
            let row = event::row(&hook.id, &id);
            self.events.delete_version(org, &row, version).await?;
        }
        Ok(true)
    }

    async fn forget_expired(&self) {
        let expired = self.queue.lock().expired(self.clock.now());
        for (org, hook, id, version) in expired {
            let row = event::row(&hook, &id);
            if let Err(error) = self.events.delete_version(&org, &row, version).await {
                tracing::warn!(%error, "cannot delete the expired id of a delivered event: it stays until the next start");
            }
        }
    }
}

#[cfg(test)]
mod tests;
