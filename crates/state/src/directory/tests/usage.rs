//! Stored usage: additions are not lost, and histories of removed resources are deleted.

use super::deliveries::Full;
use super::*;
use crate::observe::usage::{
    ExchangeUse, Usage, UsageHistory, UsageKey, UsageOf, UsageStep, UsageSum,
};

impl World {
    fn key(&self, of: UsageOf) -> UsageKey {
        UsageKey { org: self.org.clone(), of }
    }

    async fn add_requests(&self, key: &UsageKey, requests: u64) {
        let mut more = UsageHistory::default();
        more.record(self.now(), &UsageSum { requests, ..UsageSum::default() });
        self.directory.add_usage(key, &more).await.unwrap();
    }

    async fn requests(&self, key: &UsageKey) -> Vec<u64> {
        let history = self.directory.usage_history(key).await.unwrap();
        history.periods(UsageStep::Hour).iter().map(|hour| hour.sum.requests).collect()
    }
}

#[tokio::test]
async fn additions_of_several_writers_are_all_kept() {
    let world = World::new().await;
    let key = world.key(UsageOf::Org);
    assert_eq!(world.requests(&key).await, Vec::<u64>::new());
    let additions = (0..8).map(|_| world.add_requests(&key, 1));
    futures_util::future::join_all(additions).await;
    world.pass(3_600);
    world.add_requests(&key, 5).await;
    assert_eq!(world.requests(&key).await, [8, 5]);
    assert_eq!(world.rows(Table::Usage).await.len(), 1);
}

#[tokio::test]
async fn the_history_of_a_removed_resource_is_deleted_and_not_written_again() {
    let world = World::new().await;
    let (agent, connection) = (world.agent("a").await, world.connection("work").await);
    let of_agent = world.key(UsageOf::Agent(agent.id.clone()));
    let of_connection = world.key(UsageOf::Connection(connection.id.clone()));
    for key in [&of_agent, &of_connection] {
        world.add_requests(key, 1).await;
    }
    assert_eq!(world.directory.remove_orphaned_usage().await.unwrap(), 0);
    world.remove::<Connection>(&connection.id).await.unwrap();
    world.add_requests(&of_connection, 1).await;
    assert_eq!(world.directory.remove_orphaned_usage().await.unwrap(), 1);
    world.add_requests(&of_connection, 1).await;
    assert_eq!(world.requests(&of_connection).await, Vec::<u64>::new());
    assert_eq!(world.requests(&of_agent).await, [1]);
}

#[tokio::test]
async fn the_history_of_an_organisation_is_not_that_of_the_next_one_of_its_name() {
    let world = World::new().await;
    let other = world.other_org().await;
    let key = UsageKey { org: other.clone(), of: UsageOf::Org };
    world.add_requests(&key, 3).await;
    world.directory.remove_org(&other).await.unwrap();
    assert_eq!(world.requests(&key).await, [3], "the sweep has not removed it");
    world.other_org().await;
    assert_eq!(world.requests(&key).await, Vec::<u64>::new());
    world.add_requests(&key, 1).await;
    assert_eq!(world.requests(&key).await, [1]);
}

#[tokio::test]
async fn an_unreadable_history_is_an_error_and_the_next_write_replaces_it() {
    let world = World::new().await;
    let key = world.key(UsageOf::Org);
    world.add_requests(&key, 1).await;
    let row = world.rows(Table::Usage).await.remove(0);
    world.replant(Table::Usage, &row.key, b"not sealed").await;
    assert!(world.directory.usage_history(&key).await.is_err(), "it is not read as empty");
    world.add_requests(&key, 2).await;
    assert_eq!(world.requests(&key).await, [2]);
}

#[tokio::test]
async fn usage_that_a_failing_store_refused_is_stored_later_and_once() {
    let world = World::new().await;
    let usage = Usage::default();
    let agents = [world.agent("a").await, world.agent("b").await];
    for agent in &agents {
        let used = ExchangeUse::begun(world.now());
        usage.count(&ExchangeUse { org: Some(&world.org), agent: Some(&agent.id), ..used });
    }
    usage.collect(world.now());
    let of_agent = world.key(UsageOf::Agent(agents[0].id.clone()));
    let directory = world.open(Full(world.store.clone(), Table::Usage)).await;
    assert!(directory.save_usage(&usage, 100).await.is_err());
    assert_eq!(usage.due(100).len(), 3);
    for _ in 0..2 {
        world.directory.save_usage(&usage, 100).await.unwrap();
        assert_eq!(usage.due(100), []);
    }
    assert_eq!(world.requests(&of_agent).await, [1]);
    assert_eq!(world.requests(&world.key(UsageOf::Org)).await, [2]);
}
