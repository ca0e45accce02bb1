//! Collects the counts of the shards for the stored histories and for the last hour by minute.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard};

use super::Usage;
use super::history::{UsageHistory, UsageKey, UsageOf, UsagePeriod, UsageStep, UsageSum, add};
use keyward_base::id::OrgId;

impl Usage {
    /// Collects the counts of the shards since the last call, as requests of the minute that begins at `minute`.
    pub fn collect(&self, minute: Timestamp) {
        // Locked before the shards are emptied, so that a reader always sees a sum in one of the two places.
        let mut unsaved = self.unsaved.lock();
        let mut orgs: HashMap<OrgId, UsageSum> = HashMap::new();
        for part in &self.parts {
            let taken = part.lock().recent.take();
            for recent in taken {
                if let UsageOf::Agent(_) = recent.key.of {
                    orgs.entry(recent.key.org.clone()).or_default().add(&recent.sum);
                }
                add(&mut unsaved, recent.key, minute, &recent.sum);
            }
        }
        let mut minutes = self.minutes.lock();
        for (org, sum) in orgs {
            let of_org = minutes.entry(org.clone()).or_default();
            UsageStep::Minute.record(of_org, minute, &sum);
            add(&mut unsaved, UsageKey { org, of: UsageOf::Org }, minute, &sum);
        }
        minutes.retain(|_, of_org| {
            UsageStep::Minute.trim(of_org, minute);
            !of_org.is_empty()
        });
    }

    /// The keys of up to `max` histories with unsaved counts, the longest waiting first.
    pub fn due(&self, max: usize) -> Vec<UsageKey> {
        let unsaved = self.unsaved.lock();
        let mut all: Vec<_> = unsaved.iter().map(|(key, it)| (it.since, key)).collect();
        all.sort_unstable();
        all.into_iter().take(max).map(|(_, key)| key.clone()).collect()
    }

    /// The collected counts of a history. The caller stores them and then calls [`Usage::saved`].
    pub fn unsaved(&self, key: &UsageKey) -> UsageHistory {
        self.unsaved.lock().get(key).map(|it| it.history.clone()).unwrap_or_default()
    }

    /// Drops the collected counts of a history, because they are stored.
    pub fn saved(&self, key: &UsageKey) {
        self.unsaved.lock().remove(key);
    }

    /// The counts that the stored history lacks: collected ones, and those since the last collection.
    pub fn unstored(&self, key: &UsageKey, now: Timestamp) -> UsageHistory {
        let unsaved = self.unsaved.lock();
        let mut history = unsaved.get(key).map(|it| it.history.clone()).unwrap_or_default();
        let sum = self.uncollected(key);
        if sum.requests > 0 {
            history.record(now, &sum);
        }
        history
    }

    /// The last hour of an organisation by minute.
    pub fn minutes(&self, org: &OrgId, now: Timestamp) -> Vec<UsagePeriod> {
        let _collecting = self.unsaved.lock();
        let mut periods = self.minutes.lock().get(org).cloned().unwrap_or_default();
        let sum = self.uncollected(&UsageKey { org: org.clone(), of: UsageOf::Org });
        if sum.requests > 0 {
            UsageStep::Minute.record(&mut periods, now, &sum);
        }
        UsageStep::Minute.trim(&mut periods, now);
        periods
    }

    /// Waits for the lock for storing histories.
    pub async fn saving(&self) -> RwLockWriteGuard<'_, ()> {
        self.saving.write().await
    }

    /// While this guard is held, no counts move from memory to the store.
    pub async fn reading(&self) -> RwLockReadGuard<'_, ()> {
        self.saving.read().await
    }

    /// The counts of the shards since the last collection.
    fn uncollected(&self, key: &UsageKey) -> UsageSum {
        let mut sum = UsageSum::default();
        let is_meant = |of: &UsageKey| match key.of {
            UsageOf::Org => of.org == key.org && matches!(of.of, UsageOf::Agent(_)),
            _ => of == key,
        };
        for part in &self.parts {
            let part = part.lock();
            let meant = part.recent.sums().iter().filter(|recent| is_meant(&recent.key));
            meant.for_each(|recent| sum.add(&recent.sum));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::ExchangeUse;
    use super::*;
    use keyward_base::id::{AgentId, ConnectionId, TokenId};

    struct World {
        usage: Usage,
        org: OrgId,
        agent: AgentId,
        connection: ConnectionId,
        token: TokenId,
    }

    impl World {
        fn new() -> Self {
            Self {
                usage: Usage::default(),
                org: OrgId::default_org(),
                agent: AgentId::random(),
                connection: ConnectionId::random(),
                token: TokenId::random(),
            }
        }

        fn used(&self) -> ExchangeUse<'_> {
            ExchangeUse {
                org: Some(&self.org),
                agent: Some(&self.agent),
                ..ExchangeUse::begun(Timestamp::UNIX_EPOCH)
            }
        }

        fn key(&self, of: UsageOf) -> UsageKey {
            UsageKey { org: self.org.clone(), of }
        }

        fn keys(&self) -> [UsageKey; 3] {
            let of_agent = UsageOf::Agent(self.agent.clone());
            let of_connection = UsageOf::Connection(self.connection.clone());
            [UsageOf::Org, of_agent, of_connection].map(|of| self.key(of))
        }

        /// The requests of the last hour that the store lacks.
        fn unstored(&self, now: Timestamp) -> [u64; 3] {
            self.keys().map(|key| {
                let hours = self.usage.unstored(&key, now).periods(UsageStep::Hour);
                hours.last().map_or(0, |hour| hour.sum.requests)
            })
        }
    }

    fn minute(n: i64) -> Timestamp {
        Timestamp::from_second(n * 60).unwrap()
    }

    #[test]
    fn requests_are_seen_before_and_after_they_are_collected_and_not_twice() {
        let world = World::new();
        let with_token = ExchangeUse { token: Some(&world.token), ..world.used() };
        world.usage.count(&ExchangeUse { connection: Some(&world.connection), ..with_token });
        // One request in a session, and one without a connection.
        world.usage.count(&world.used());
        for round in 0..3 {
            assert_eq!(world.unstored(minute(round)), [2, 2, 1], "{round}");
            world.usage.collect(minute(round));
        }
        world.usage.count(&world.used());
        assert_eq!(world.unstored(minute(3)), [3, 3, 1]);
        assert_eq!(world.usage.due(9).len(), 3);
        for key in world.usage.due(9) {
            world.usage.saved(&key);
        }
        assert_eq!(world.unstored(minute(3)), [1, 1, 0], "the last request is not collected yet");
    }

    #[test]
    fn requests_without_an_agent_count_for_the_connection_only() {
        let world = World::new();
        let connection = Some(&world.connection);
        world.usage.count(&ExchangeUse { agent: None, connection, ..world.used() });
        world.usage.count(&ExchangeUse { agent: None, org: None, ..world.used() });
        assert_eq!(world.unstored(minute(0)), [0, 0, 1]);
    }

    #[test]
    fn the_longest_waiting_history_is_stored_first() {
        let (world, other) = (World::new(), AgentId::random());
        world.usage.count(&world.used());
        world.usage.collect(minute(0));
        let [org, agent, _] = world.keys();
        world.usage.saved(&org);
        world.usage.count(&ExchangeUse { agent: Some(&other), ..world.used() });
        world.usage.count(&world.used());
        world.usage.collect(minute(1));
        assert_eq!(world.usage.due(1), [agent]);
    }

    #[test]
    fn minutes_with_requests_are_kept_for_one_hour() {
        let world = World::new();
        for n in 0..100 {
            world.usage.count(&world.used());
            world.usage.collect(minute(n));
        }
        world.usage.count(&world.used());
        let minutes = world.usage.minutes(&world.org, minute(100));
        let ends = [&minutes[0], &minutes[minutes.len() - 1]].map(|it| it.at);
        assert_eq!((minutes.len(), ends), (60, [minute(41), minute(100)]));
        world.usage.collect(minute(100));
        world.usage.collect(minute(300));
        assert!(world.usage.minutes.lock().is_empty(), "what is old is forgotten");
    }
}
