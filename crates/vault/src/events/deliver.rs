//! Delivers events to webhooks: a bounded number at once for each webhook, with retries after a pause. Each
//! attempt is stored before it is made.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::attempt::{self, Destination, Tried};
use super::queue::LastTry;
use super::{Events, EventsError};
use keyward_base::webhooks::WebhookSettings;
use keyward_model::{Record, Webhook, WebhookState};
use keyward_net::call::Caller;
use keyward_state::directory::Owed;

/// After a failure of the store.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Longer pauses end early: a change of the clock is seen.
const REST_MAX: Duration = Duration::from_secs(60);

/// All that are on their way at the same time.
const AT_ONCE_MAX: usize = 64;

impl Events {
    /// Puts what is owed into the queue.
    pub(super) fn take_up(&self, owed: Vec<Owed>) {
        let most = self.settings.load().waiting_max;
        let mut queue = self.queue.lock();
        let over: Vec<_> = owed.into_iter().filter_map(|one| queue.push(one, most).err()).collect();
        self.metrics.webhooks_waiting(queue.waiting());
        drop(queue);
        self.stirred.notify_one();
        for one in over {
            let (webhook, event) = (&one.delivery.webhook, &one.delivery.notice.id);
            tracing::error!(%webhook, %event, "too many events wait for a webhook: it is not told");
            let directory = self.directory.clone();
            tokio::spawn(async move { settled(&directory, &one).await });
        }
    }

    /// Runs until `close` turns true. Deliveries under way are cancelled, and repeated after the next start.
    pub async fn deliver(self: Arc<Self>, mut close: watch::Receiver<bool>) {
        let Some(caller) = self.caller.get().cloned() else { return };
        while let Err(error) = self.resume().await {
            tracing::error!(%error, "what webhooks are owed cannot be read");
            if ends_within(TRY_AGAIN_AFTER, &mut close).await {
                return;
            }
        }
        let mut changes = self.directory.changes();
        let mut under_way = JoinSet::new();
        loop {
            let rest = self.send_due(&caller, &mut under_way);
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.stirred.notified() => {}
                // A webhook may have been resumed, or given another URL.
                _ = changes.changed() => {}
                Some(_) = under_way.join_next() => {}
                _ = close.wait_for(|close| *close) => return,
            }
        }
    }

    /// What was owed when this process began.
    async fn resume(&self) -> Result<(), EventsError> {
        let owed = self.directory.owed().await?;
        if !owed.is_empty() {
            tracing::info!(events = owed.len(), "webhooks are still owed events");
        }
        self.take_up(owed);
        Ok(())
    }

    /// Begins what is due; answers how long nothing more will be.
    fn send_due(self: &Arc<Self>, caller: &Arc<Caller>, under_way: &mut JoinSet<()>) -> Duration {
        let view = self.directory.view();
        let may = |owed: &Owed| {
            let hook = view.one::<Webhook>(&owed.delivery.notice.org, &owed.delivery.webhook);
            hook.is_none_or(|hook| hook.facts.state == WebhookState::Active)
        };
        let at_once = self.settings.load().at_once;
        while under_way.len() < AT_ONCE_MAX {
            let now = self.clock.now();
            match self.queue.lock().take(now, at_once, may) {
                Ok(owed) => {
                    let (events, caller) = (self.clone(), caller.clone());
                    under_way.spawn(async move { events.told(&caller, owed).await });
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

    /// One try, with all that follows.
    async fn told(self: Arc<Self>, caller: &Caller, owed: Owed) {
        let webhook = owed.delivery.webhook.clone();
        let last = match self.try_one(caller, owed).await {
            Ok(last) => last,
            Err((error, owed)) => {
                tracing::error!(%error, "an event is told later: the store failed");
                self.again(owed, self.clock.now() + TRY_AGAIN_AFTER);
                None
            }
        };
        let mut queue = self.queue.lock();
        queue.tried(&webhook, last);
        self.metrics.webhooks_waiting(queue.waiting());
        drop(queue);
        self.stirred.notify_one();
    }

    async fn try_one(
        &self,
        caller: &Caller,
        mut owed: Owed,
    ) -> Result<Option<LastTry>, (EventsError, Owed)> {
        let (org, id) = (owed.delivery.notice.org.clone(), owed.delivery.webhook.clone());
        let Some(hook) = self.directory.view().one::<Webhook>(&org, &id).cloned() else {
            settled(&self.directory, &owed).await;
            return Ok(None);
        };
        let keys = match self.keys.get(&org, id.as_str()).await {
            Ok(keys) => keys,
            Err(error) => return Err((error.into(), owed)),
        };
        let Some((keys, _)) = keys else {
            // It is being made, or removed.
            self.again(owed, self.clock.now() + TRY_AGAIN_AFTER);
            return Ok(None);
        };
        let (settings, now) = (self.settings.load_full(), self.clock.now());
        let pause = pause(&settings, owed.delivery.tries);
        owed.delivery.tries += 1;
        owed.delivery.since.get_or_insert(now);
        // Whoever starts meanwhile does not try it at the same time.
        owed.delivery.next = now + pause.unwrap_or_default().max(settings.timeout);
        let owed = match self.directory.postpone(owed.clone()).await {
            Ok(Some(owed)) => owed,
            Ok(None) => return Ok(None),
            Err(error) => return Err((error.into(), owed)),
        };
        let destination = Destination { url: &hook.spec.url, keys: &keys };
        let notice = &owed.delivery.notice;
        let tried = attempt::post(caller, destination, notice, &settings, now).await;
        Ok(Some(self.outcome(&hook, owed, tried, pause).await))
    }

    /// What follows from a try.
    async fn outcome(
        &self,
        hook: &Record<Webhook>,
        owed: Owed,
        tried: Tried,
        pause: Option<Duration>,
    ) -> LastTry {
        let (at, name) = (self.clock.now(), hook.name());
        let (event, last) = (owed.delivery.notice.id.clone(), LastTry::of(&tried, at));
        match tried {
            Tried::Taken(_) => {
                self.metrics.told("taken");
                settled(&self.directory, &owed).await;
            }
            Tried::Gone => {
                self.metrics.told("failed");
                tracing::warn!(webhook = name, "it answered 410: it is told nothing any more");
                self.end(hook, WebhookState::Gone).await;
                settled(&self.directory, &owed).await;
            }
            Tried::Failed { why, retry_after } => {
                self.metrics.told("failed");
                match pause {
                    // It was removed meanwhile: nobody will take it.
                    _ if self.directory.view().one::<Webhook>(&hook.org, &hook.id).is_none() => {
                        settled(&self.directory, &owed).await;
                    }
                    Some(pause) => {
                        let pause = pause.max(retry_after.unwrap_or_default());
                        tracing::warn!(webhook = name, %event, why, ?pause, "an event was not taken; it is told again");
                        self.again(owed, at + pause);
                    }
                    None => self.given_up(hook, &owed, &why).await,
                }
            }
        }
        last
    }

    /// All tries have failed.
    async fn given_up(&self, hook: &Record<Webhook>, owed: &Owed, why: &str) {
        let (name, event) = (hook.name(), &owed.delivery.notice.id);
        tracing::error!(webhook = name, %event, why, "all tries failed: the event is not told");
        self.metrics.told("given_up");
        self.queue.lock().dropped(&hook.id);
        // It takes others: what is wrong is with this one.
        let taken = self.standing(&hook.id).taken;
        let takes_others = taken.zip(owed.delivery.since).is_some_and(|(at, since)| at > since);
        if !takes_others {
            self.end(hook, WebhookState::Failed).await;
        }
        settled(&self.directory, owed).await;
    }

    /// Stops deliveries to a webhook until a person resumes it; the queue of a removed webhook is dropped.
    async fn end(&self, hook: &Record<Webhook>, state: WebhookState) {
        let change = move |hook: &mut Record<Webhook>| hook.facts.state = state;
        if let Err(error) = self.directory.change(&hook.org, &hook.id, change).await {
            tracing::error!(%error, webhook = hook.name(), "its state cannot be stored");
        }
        if state == WebhookState::Gone {
            let waiting = self.queue.lock().drop_all(&hook.id);
            for owed in waiting {
                settled(&self.directory, &owed).await;
            }
        }
    }

    /// Not before `next`.
    fn again(&self, mut owed: Owed, next: Timestamp) {
        owed.delivery.next = next;
        self.take_up(vec![owed]);
    }
}

/// The pause after a try that fails, longer by up to a fifth; `None` when it is the last.
fn pause(settings: &WebhookSettings, tries: u32) -> Option<Duration> {
    let pause = settings.retries.get(usize::try_from(tries).ok()?)?;
    let mut random = [0; 2];
    getrandom::fill(&mut random).expect("the operating system has randomness");
    Some(pause.mul_f64(1.0 + f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX) / 5.0))
}

/// A row that stays is delivered again after the next start, with the same id.
async fn settled(directory: &keyward_state::directory::Directory, owed: &Owed) {
    if let Err(error) = directory.settle(owed).await {
        tracing::error!(%error, "an event that was told stays stored");
    }
}

async fn ends_within(time: Duration, close: &mut watch::Receiver<bool>) -> bool {
    tokio::time::timeout(time, close.wait_for(|close| *close)).await.is_ok()
}
