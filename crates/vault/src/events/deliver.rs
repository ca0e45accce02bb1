//! Delivers events to webhooks: a bounded number at once for each webhook, with retries after a pause. Each
//! attempt is stored before it is made.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::attempt::{self, AttemptResult, DeliveryTarget};
use super::{Events, EventsError};
use keyward_base::webhooks::WebhookSettings;
use keyward_model::{DeliveryAttempt, Record, Webhook, WebhookState};
use keyward_net::call::HttpClient;
use keyward_state::directory::StoredDelivery;

/// The pause after a failure of the store.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How often deliveries of stopped replicas are adopted. A delivery that is late by more than this belongs to a stopped
/// replica.
const ADOPT_EVERY: Duration = Duration::from_secs(60);

/// Longest sleep, so that a change of the clock is noticed.
const REST_MAX: Duration = Duration::from_secs(60);

/// Bounds of the interval at which the time of an accepted delivery is stored. By default, webhooks fail after days.
const TAKEN_EVERY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3_600)];

/// Most concurrent deliveries.
const AT_ONCE_MAX: usize = 64;

impl Events {
    /// Queues stored deliveries.
    pub(super) fn enqueue(&self, pending: Vec<StoredDelivery>) {
        let most = self.settings.load().waiting_max;
        let mut queue = self.queue.lock();
        let over: Vec<_> =
            pending.into_iter().filter_map(|one| queue.push(one, most).err()).collect();
        self.metrics.webhooks_waiting(queue.waiting());
        drop(queue);
        self.queue_changed.notify_one();
        for one in over {
            let (webhook, event) = (&one.delivery.webhook, &one.delivery.notice.id);
            tracing::error!(id = "event_dropped", %webhook, %event, "too many events wait for a webhook: an event is dropped");
            let directory = self.directory.clone();
            tokio::spawn(async move { settled(&directory, &one).await });
        }
    }

    /// Runs until `close` turns true. Deliveries in progress are cancelled, and repeated after the next start.
    pub async fn deliver(self: Arc<Self>, mut close: watch::Receiver<bool>) {
        let Some(caller) = self.caller.get().cloned() else { return };
        while let Err(error) = self.resume().await {
            tracing::error!(%error, "pending deliveries of webhooks cannot be read");
            if ends_within(TRY_AGAIN_AFTER, &mut close).await {
                return;
            }
        }
        let mut changes = self.directory.changes();
        let mut in_progress = JoinSet::new();
        let mut adopt = tokio::time::interval(ADOPT_EVERY);
        loop {
            let rest = self.send_due(&caller, &mut in_progress);
            let is_late = tokio::select! {
                _ = adopt.tick(), if self.directory.is_shared() => true,
                () = tokio::time::sleep(rest) => false,
                () = self.queue_changed.notified() => false,
                // A webhook may have been resumed, or have a new URL.
                _ = changes.changed() => false,
                Some(_) = in_progress.join_next() => false,
                _ = close.wait_for(|close| *close) => return,
            };
            if is_late {
                self.adopt().await;
            }
        }
    }

    /// Queues the deliveries that were stored before the start.
    async fn resume(&self) -> Result<(), EventsError> {
        let pending = self.directory.pending_deliveries().await?;
        if !pending.is_empty() {
            tracing::info!(
                events = pending.len(),
                "deliveries of webhooks are pending from before the start"
            );
        }
        self.enqueue(pending);
        Ok(())
    }

    /// Queues deliveries of a replica that has stopped. If that replica still runs, only one of the two makes each
    /// attempt, because an attempt is stored before it is made.
    async fn adopt(&self) {
        let pending = match self.directory.pending_deliveries().await {
            Ok(pending) => pending,
            Err(error) => return tracing::debug!(%error, "events of other replicas cannot be read"),
        };
        let late = self.clock.now() - ADOPT_EVERY;
        let queue = self.queue.lock();
        let pending: Vec<_> =
            pending.into_iter().filter(|one| one.delivery.next < late && !queue.has(one)).collect();
        drop(queue);
        if !pending.is_empty() {
            self.enqueue(pending);
        }
    }

    /// Starts due deliveries. Returns the time until the next one is due.
    fn send_due(
        self: &Arc<Self>,
        caller: &Arc<HttpClient>,
        in_progress: &mut JoinSet<()>,
    ) -> Duration {
        let view = self.directory.view();
        let may = |pending: &StoredDelivery| {
            let hook = view.one::<Webhook>(&pending.delivery.notice.org, &pending.delivery.webhook);
            hook.is_none_or(|hook| hook.facts.state == WebhookState::Active)
        };
        let at_once = self.settings.load().at_once;
        while in_progress.len() < AT_ONCE_MAX {
            let now = self.clock.now();
            match self.queue.lock().take(now, at_once, may) {
                Ok(pending) => {
                    let (events, caller) = (self.clone(), caller.clone());
                    in_progress.spawn(async move { events.deliver_one(&caller, pending).await });
                }
                Err(None) => return REST_MAX,
                Err(Some(next)) => {
                    let rest = Duration::try_from(next.duration_since(now)).unwrap_or_default();
                    return (rest + Duration::from_millis(1)).min(REST_MAX);
                }
            }
        }
        REST_MAX
    }

    /// Makes one attempt and handles its result.
    async fn deliver_one(self: Arc<Self>, caller: &HttpClient, pending: StoredDelivery) {
        let webhook = pending.delivery.webhook.clone();
        let last = match self.try_one(caller, pending).await {
            Ok(last) => last,
            Err((error, pending)) => {
                tracing::error!(%error, "the store failed: an event is delivered later");
                self.again(pending, self.clock.now() + TRY_AGAIN_AFTER);
                None
            }
        };
        let mut queue = self.queue.lock();
        queue.tried(&webhook, last);
        self.metrics.webhooks_waiting(queue.waiting());
        drop(queue);
        self.queue_changed.notify_one();
    }

    async fn try_one(
        &self,
        caller: &HttpClient,
        mut pending: StoredDelivery,
    ) -> Result<Option<DeliveryAttempt>, (EventsError, StoredDelivery)> {
        let (org, id) = (pending.delivery.notice.org.clone(), pending.delivery.webhook.clone());
        let Some(hook) = self.directory.view().one::<Webhook>(&org, &id).cloned() else {
            settled(&self.directory, &pending).await;
            return Ok(None);
        };
        let keys = match self.keys.get(&org, id.as_str()).await {
            Ok(keys) => keys,
            Err(error) => return Err((error.into(), pending)),
        };
        let (settings, now) = (self.settings.load_full(), self.clock.now());
        let Some((keys, _)) = keys else {
            // The webhook is being removed, or lost its key when it was added.
            self.again(pending, now + TRY_AGAIN_AFTER);
            let what = EventsError::NoKey.to_string();
            return Ok(Some(DeliveryAttempt { at: now, taken: false, what }));
        };
        let pause = pause(&settings, pending.delivery.tries);
        pending.delivery.tries += 1;
        pending.delivery.since.get_or_insert(now);
        // Stored before the attempt, so that no other process makes it at the same time.
        pending.delivery.next = now + pause.unwrap_or_default().max(settings.timeout);
        let pending = match self.directory.postpone(pending.clone()).await {
            Ok(Some(pending)) => pending,
            Ok(None) => return Ok(None),
            Err(error) => return Err((error.into(), pending)),
        };
        let destination = DeliveryTarget { url: &hook.spec.url, keys: &keys };
        let notice = &pending.delivery.notice;
        let tried = attempt::post_notice(caller, destination, notice, &settings, now).await;
        Ok(Some(self.outcome(&hook, pending, tried, pause).await))
    }

    /// Handles the result of an attempt.
    async fn outcome(
        &self,
        hook: &Record<Webhook>,
        pending: StoredDelivery,
        tried: AttemptResult,
        pause: Option<Duration>,
    ) -> DeliveryAttempt {
        let (at, name) = (self.clock.now(), hook.name());
        let (event, last) = (pending.delivery.notice.id.clone(), tried.shown(at));
        match tried {
            AttemptResult::Accepted(_) => {
                self.metrics.count_webhook_delivery("taken");
                settled(&self.directory, &pending).await;
                self.store_taken(hook, at).await;
            }
            AttemptResult::Gone => {
                self.metrics.count_webhook_delivery("failed");
                tracing::warn!(
                    id = "webhook_gone",
                    webhook = name,
                    "the webhook answered 410: deliveries to it stop"
                );
                self.end(hook, WebhookState::Gone).await;
                settled(&self.directory, &pending).await;
            }
            AttemptResult::Failed { why, retry_after } => {
                self.metrics.count_webhook_delivery("failed");
                match pause {
                    // The webhook was removed meanwhile.
                    _ if self.directory.view().one::<Webhook>(&hook.org, &hook.id).is_none() => {
                        settled(&self.directory, &pending).await;
                    }
                    Some(pause) => {
                        let longer = retry_after.filter(|asked| *asked > pause);
                        let pause = longer.unwrap_or(pause);
                        tracing::warn!(webhook = name, %event, why, ?pause, "an event was not accepted; its delivery is retried");
                        match longer {
                            Some(_) => self.put_off(pending, at + pause).await,
                            None => self.again(pending, at + pause),
                        }
                    }
                    None => self.given_up(hook, &pending, &why).await,
                }
            }
        }
        last
    }

    /// Drops an event whose attempts have all failed. If the webhook accepted no other event meanwhile, it fails.
    async fn given_up(&self, hook: &Record<Webhook>, pending: &StoredDelivery, why: &str) {
        let (name, event) = (hook.name(), &pending.delivery.notice.id);
        tracing::error!(id = "event_dropped", webhook = name, %event, why, "all delivery attempts failed: the event is dropped");
        self.metrics.count_webhook_delivery("given_up");
        self.queue.lock().dropped(&hook.id);
        // The webhook accepts other events, so this event is the problem. They may have been delivered by another replica,
        // or before the start of this process.
        let view = self.directory.view();
        let stored = view.one::<Webhook>(&hook.org, &hook.id).and_then(|hook| hook.facts.taken);
        let last_accepted = self.status(&hook.id).last_accepted.max(stored);
        let accepts_others =
            last_accepted.zip(pending.delivery.since).is_some_and(|(at, since)| at > since);
        if !accepts_others {
            self.end(hook, WebhookState::Failed).await;
        }
        settled(&self.directory, pending).await;
    }

    /// Stores the time of an accepted delivery, so that the webhook does not fail because of another event.
    async fn store_taken(&self, hook: &Record<Webhook>, at: Timestamp) {
        let view = self.directory.view();
        let Some(now) = view.one::<Webhook>(&hook.org, &hook.id) else { return };
        let every = taken_every(&self.settings.load());
        let age = |taken| Duration::try_from(at.duration_since(taken)).unwrap_or_default();
        if now.facts.taken.is_some_and(|taken| age(taken) < every) {
            return;
        }
        let change = |hook: &mut Record<Webhook>| hook.facts.taken = Some(at);
        if let Err(error) = self.directory.change(&hook.org, &hook.id, change).await {
            tracing::warn!(%error, webhook = hook.name(), "the time of an accepted delivery cannot be stored");
        }
    }

    /// Stops deliveries to an active webhook until a person resumes it; the queue of a removed webhook is dropped.
    async fn end(&self, hook: &Record<Webhook>, state: WebhookState) {
        let change = move |hook: &mut Record<Webhook>| {
            if hook.facts.state == WebhookState::Active {
                hook.facts.state = state;
            }
        };
        if let Err(error) = self.directory.change(&hook.org, &hook.id, change).await {
            tracing::error!(%error, webhook = hook.name(), "its state cannot be stored");
        }
        if state == WebhookState::Gone {
            let waiting = self.queue.lock().drop_all(&hook.id);
            for pending in waiting {
                settled(&self.directory, &pending).await;
            }
        }
    }

    /// Stores a pause that the webhook has requested, so that it also applies at other replicas and after a restart.
    async fn put_off(&self, mut pending: StoredDelivery, next: Timestamp) {
        pending.delivery.next = next;
        match self.directory.postpone(pending.clone()).await {
            Ok(Some(pending)) => self.enqueue(vec![pending]),
            // Another replica delivers it.
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the pause that a webhook asked for cannot be stored");
                self.enqueue(vec![pending]);
            }
        }
    }

    /// Queues the delivery again at `next`.
    fn again(&self, mut pending: StoredDelivery, next: Timestamp) {
        pending.delivery.next = next;
        self.enqueue(vec![pending]);
    }
}

/// Half of the time for which an event is retried, within bounds: a webhook that accepts other events in the second half has
/// not failed, also if the gateway was restarted or another replica delivered them.
fn taken_every(settings: &WebhookSettings) -> Duration {
    let retried = settings.retries.iter().fold(Duration::ZERO, |sum, it| sum.saturating_add(*it));
    let [least, most] = TAKEN_EVERY;
    (retried / 2).clamp(least, most)
}

/// The pause after a failed attempt, with up to a fifth of jitter; `None` after the last.
pub fn pause(settings: &WebhookSettings, tries: u32) -> Option<Duration> {
    let pause = settings.retries.get(usize::try_from(tries).ok()?)?;
    let mut random = [0; 2];
    getrandom::fill(&mut random).expect("the operating system has randomness");
    Some(pause.mul_f64(1.0 + f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX) / 5.0))
}

/// Deletes the row. If that fails, the event is delivered again after the next start, with the same id.
async fn settled(directory: &keyward_state::directory::Directory, pending: &StoredDelivery) {
    if let Err(error) = directory.delete_delivery(pending).await {
        tracing::error!(%error, "a delivered event stays stored");
    }
}

async fn ends_within(time: Duration, close: &mut watch::Receiver<bool>) -> bool {
    tokio::time::timeout(time, close.wait_for(|close| *close)).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::tests::World;

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).unwrap())
    }

    /// The state of the webhook when all attempts of an event have failed, since this second.
    async fn state_after(world: &World, since: i64) -> WebhookState {
        let mut pending = world.pending(1).await.pop().expect("it is active");
        pending.delivery.since = at(since);
        world.events.given_up(&world.hook(), &pending, "answered 500").await;
        world.hook().facts.state
    }

    #[tokio::test]
    async fn a_webhook_that_accepted_another_event_before_a_restart_has_not_failed() {
        let world = World::new(1).await;
        world.change(|hook| hook.facts.taken = at(100)).await;
        assert_eq!(state_after(&world, 99).await, WebhookState::Active);
        assert_eq!(state_after(&world, 100).await, WebhookState::Failed);
    }

    #[tokio::test]
    async fn a_retry_after_that_is_longer_than_the_pause_is_stored() {
        let world = World::new(1).await;
        let pending = world.pending(1).await.pop().expect("it is active");
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(3_600));
        let begun = world.events.clock.now();
        let failed = AttemptResult::Failed { why: "503".to_owned(), retry_after: Some(long) };
        world.events.outcome(&world.hook(), pending, failed, Some(short)).await;
        let stored = world.pending(0).await.pop().expect("it is not delivered").delivery.next;
        assert!(stored >= begun + long, "{stored}");
    }

    #[tokio::test]
    async fn the_time_of_accepted_deliveries_is_stored_again_before_short_retries_end() {
        let world = World::new(1).await;
        let retries = vec![Duration::from_secs(60), Duration::from_secs(240)];
        let settings = WebhookSettings { retries, ..WebhookSettings::default() };
        world.events.set(settings);
        for (second, stored) in [(100, 100), (249, 100), (250, 250)] {
            let second = at(second).expect("a time");
            world.events.store_taken(&world.hook(), second).await;
            assert_eq!(world.hook().facts.taken, at(stored));
        }
        // The stored time is later than the first attempt of this event, which fails after a restart.
        assert_eq!(state_after(&world, 200).await, WebhookState::Active);
    }

    #[tokio::test]
    async fn the_time_of_accepted_deliveries_is_stored_once_an_hour() {
        let world = World::new(1).await;
        for (second, stored) in [(100, 100), (3_699, 100), (3_700, 3_700)] {
            let second = at(second).expect("a time");
            world.events.store_taken(&world.hook(), second).await;
            assert_eq!(world.hook().facts.taken, at(stored));
        }
    }

    #[tokio::test]
    async fn a_webhook_that_was_paused_during_its_last_attempt_stays_paused() {
        let world = World::new(1).await;
        let before = world.hook();
        world.change(|hook| hook.facts.state = WebhookState::Paused).await;
        world.events.end(&before, WebhookState::Failed).await;
        assert_eq!(world.hook().facts.state, WebhookState::Paused);
    }
}
