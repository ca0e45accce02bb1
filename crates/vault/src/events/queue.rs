//! [`Queue`]: deliveries that are due, by time. In memory; the directory stores them (`directory/deliveries.rs`).

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::Serialize;

use keyward_base::id::WebhookId;
use keyward_model::DeliveryAttempt;
use keyward_state::directory::StoredDelivery;

/// The queue of all webhooks.
#[derive(Debug, Default)]
pub(super) struct Queue {
    of: HashMap<WebhookId, WebhookQueue>,
    /// Orders deliveries of the same time.
    count: u64,
}

#[derive(Debug, Default)]
struct WebhookQueue {
    waiting: BTreeMap<(Timestamp, u64), StoredDelivery>,
    in_progress: usize,
    delivered: u64,
    dropped: u64,
    last: Option<DeliveryAttempt>,
    last_accepted: Option<Timestamp>,
}

/// The delivery status of a webhook since the start of this process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WebhookStatus {
    /// Events that are not delivered yet.
    pub waiting: usize,
    /// Delivered events.
    pub delivered: u64,
    /// Dropped events: the queue was full, or all attempts failed.
    pub dropped: u64,
    /// The last attempt.
    pub last: Option<DeliveryAttempt>,
    /// The time of the last successful delivery.
    pub last_accepted: Option<Timestamp>,
}

impl Queue {
    /// Adds a delivery, unless the queue is full.
    pub(super) fn push(
        &mut self,
        pending: StoredDelivery,
        most: usize,
    ) -> Result<(), Box<StoredDelivery>> {
        self.count += 1;
        let line = self.of.entry(pending.delivery.webhook.clone()).or_default();
        if line.waiting.len() >= most {
            line.dropped += 1;
            return Err(Box::new(pending));
        }
        line.waiting.insert((pending.delivery.next, self.count), pending);
        Ok(())
    }

    /// Whether the delivery is in this queue.
    pub(super) fn has(&self, pending: &StoredDelivery) -> bool {
        let line = self.of.get(&pending.delivery.webhook);
        let is_it = |one: &StoredDelivery| one.delivery.notice.id == pending.delivery.notice.id;
        line.is_some_and(|line| line.waiting.values().any(is_it))
    }

    /// Takes a due delivery of an active webhook that is below its limit. The webhook with the fewest deliveries in
    /// progress comes first, so that a webhook that does not answer delays no other; among equals, the delivery that is
    /// overdue longest. If none is due, returns when the next one will be.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        at_once: usize,
        may: impl Fn(&StoredDelivery) -> bool,
    ) -> Result<StoredDelivery, Option<Timestamp>> {
        let mut next: Option<Timestamp> = None;
        let mut best: Option<((usize, Timestamp), &mut WebhookQueue)> = None;
        for line in self.of.values_mut().filter(|line| line.in_progress < at_once) {
            let first = line.waiting.first_key_value().filter(|(_, pending)| may(pending));
            let Some((&(due, _), _)) = first else { continue };
            if due > now {
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            let rank = (line.in_progress, due);
            if best.as_ref().is_none_or(|(other, _)| rank < *other) {
                best = Some((rank, line));
            }
        }
        let taken = best.and_then(|(_, line)| {
            let (_, pending) = line.waiting.pop_first()?;
            line.in_progress += 1;
            Some(pending)
        });
        taken.ok_or(next)
    }

    /// Ends an attempt.
    pub(super) fn tried(&mut self, webhook: &WebhookId, last: Option<DeliveryAttempt>) {
        let Some(line) = self.of.get_mut(webhook) else { return };
        line.in_progress = line.in_progress.saturating_sub(1);
        if let Some(last) = last {
            if last.taken {
                line.delivered += 1;
                line.last_accepted = line.last_accepted.max(Some(last.at));
            }
            line.last = Some(last);
        }
    }

    /// Counts a dropped event.
    pub(super) fn dropped(&mut self, webhook: &WebhookId) {
        if let Some(line) = self.of.get_mut(webhook) {
            line.dropped += 1;
        }
    }

    /// Takes all waiting deliveries of a webhook.
    pub(super) fn drop_all(&mut self, webhook: &WebhookId) -> Vec<StoredDelivery> {
        let line = self.of.get_mut(webhook);
        line.map(|line| std::mem::take(&mut line.waiting).into_values().collect())
            .unwrap_or_default()
    }

    /// Drops the queue of a webhook. Returns the number of waiting deliveries.
    pub(super) fn forget(&mut self, webhook: &WebhookId) -> usize {
        self.of.remove(webhook);
        self.waiting()
    }

    /// The number of waiting deliveries.
    pub(super) fn waiting(&self) -> usize {
        self.of.values().map(|line| line.waiting.len() + line.in_progress).sum()
    }

    pub(super) fn status(&self, webhook: &WebhookId) -> WebhookStatus {
        let Some(line) = self.of.get(webhook) else { return WebhookStatus::default() };
        WebhookStatus {
            waiting: line.waiting.len() + line.in_progress,
            delivered: line.delivered,
            dropped: line.dropped,
            last: line.last.clone(),
            last_accepted: line.last_accepted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::events::tests::World;

    fn queue(pending: &[StoredDelivery]) -> Queue {
        let mut queue = Queue::default();
        for one in pending {
            queue.push(one.clone(), pending.len()).unwrap();
        }
        queue
    }

    fn take(queue: &mut Queue) -> WebhookId {
        queue.take(Timestamp::MAX, 4, |_| true).unwrap().delivery.webhook
    }

    #[tokio::test]
    async fn a_webhook_with_many_running_deliveries_waits_for_those_with_fewer() {
        let mut queue = queue(&World::new(8).await.pending(3).await);
        let first: Vec<_> = (0..8).map(|_| take(&mut queue)).collect();
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 8, "one of each");
        let answers = first.last().expect("eight");
        for _ in 0..2 {
            queue.tried(answers, None);
            assert_eq!(take(&mut queue), *answers);
        }
        queue.tried(answers, None);
        assert_ne!(take(&mut queue), *answers, "it has no more");
    }

    #[tokio::test]
    async fn of_webhooks_with_equally_many_deliveries_the_one_due_longest_is_next() {
        let mut all = World::new(8).await.pending(1).await;
        for (second, one) in (0..).zip(&mut all) {
            one.delivery.next = Timestamp::from_second(second).unwrap();
        }
        let mut queue = queue(&all);
        for one in &all {
            assert_eq!(take(&mut queue), one.delivery.webhook);
        }
        assert_eq!(queue.take(Timestamp::MAX, 4, |_| true).unwrap_err(), None);
    }
}
