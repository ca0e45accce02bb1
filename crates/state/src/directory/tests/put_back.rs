//! The owner of a shared database puts back rows, or deletes them, while replicas run.

use std::pin::pin;

use futures_util::FutureExt;

use super::*;
use crate::observe::metrics::Metrics;
use crate::store::memory::MemoryReplica;
use crate::store::{StoreError, Version};
use keyward_model::{Rule, RuleFacts, RuleSpec};
use keyward_rules::policy::explain::ActionKind;

/// Two replicas, as a gateway opens its store, and the database itself.
struct Replicas {
    world: World,
    rows: MemoryReplica,
    metrics: Arc<Metrics>,
    one: Directory,
    other: Directory,
}

impl Replicas {
    async fn new() -> Self {
        let (world, rows, metrics) = (World::new().await, MemoryReplica::first(), Arc::default());
        let one = start(&world, &rows, &metrics).await;
        let other = start(&world, &rows, &metrics).await;
        Self { world, rows, metrics, one, other }
    }

    /// The row as the database has it.
    async fn row(&self, table: Table, id: &str) -> Row {
        let key = format!("{}/{id}", self.world.org);
        self.rows.get(table, &key).await.unwrap().expect("a row")
    }

    async fn puts_back(&self, table: Table, row: &Row) {
        self.rows.delete(table, &row.key, Expect::Any).await.unwrap();
        self.rows.load(vec![(table, row.clone())]).await.unwrap();
    }

    async fn follow(&self, table: Table, row: &Row) {
        for replica in [&self.one, &self.other] {
            let writer = replica.turn().await.unwrap();
            writer.follow_row(table, &row.key).await.unwrap();
        }
    }

    fn refused(&self) -> u64 {
        self.metrics.health.rows_refused.get()
    }

    fn have_rule(&self) -> [bool; 2] {
        [&self.one, &self.other].map(|it| it.view().find::<Rule>(&self.world.org, "no").is_some())
    }
}

async fn start(world: &World, rows: &MemoryReplica, metrics: &Arc<Metrics>) -> Directory {
    let (rows, keyring) = (Arc::new(rows.another()), world.keyring.clone());
    let rows = SeenRows::over(rows, keyring.clone(), metrics.clone());
    Directory::open(rows, keyring, world.clock.clone()).await.unwrap()
}

#[tokio::test]
async fn a_revoked_token_that_is_put_back_stays_revoked_at_replicas_that_run() {
    let replicas = Replicas::new().await;
    let Replicas { world, one, .. } = &replicas;
    let agent = add_agent(one, &world.org, "ci").await.unwrap();
    let (text, by) = ("Chosen-put-back-0123456789", ManagedBy::File);
    let hash = crate::crypto::token::TokenHash::of(text);
    one.set_chosen_token(&world.org, &agent.id, Some("a".into()), hash).await.unwrap();
    let before = replicas.row(Table::Agents, agent.id.as_str()).await;
    replicas.follow(Table::Agents, &before).await;
    let token = one.view().find_agent(&world.org, "ci").unwrap().facts.tokens[0].id.clone();
    one.revoke_token_by(&world.org, &agent.id, &token, by).await.unwrap();
    replicas.follow(Table::Agents, &before).await;
    assert_eq!(replicas.refused(), 0);
    replicas.puts_back(Table::Agents, &before).await;
    replicas.follow(Table::Agents, &before).await;
    for replica in [one, &replicas.other] {
        assert!(replica.view().authenticate(text, world.now()).is_none());
    }
    assert_eq!(replicas.refused(), 2, "each replica says so");
    let change = |agent: &mut Record<Agent>| agent.facts.paused = true;
    let changed = one.change::<Agent>(&world.org, &agent.id, change).await;
    let found = Some(before.version);
    assert!(
        matches!(&changed, Err(DirectoryError::Store(StoreError::RolledBack { found: it, .. })) if *it == found),
        "{changed:?}"
    );
    // It has seen nothing.
    let new = start(world, &replicas.rows, &replicas.metrics).await;
    assert!(new.view().authenticate(text, world.now()).is_some());
}

#[tokio::test]
async fn a_deny_rule_goes_only_with_the_mark_of_its_deletion_and_does_not_come_back() {
    let replicas = Replicas::new().await;
    let Replicas { world, rows, one, .. } = &replicas;
    let spec = RuleSpec {
        name: Some("no".to_owned()),
        action: Some(ActionKind::Deny),
        ..RuleSpec::default()
    };
    let position = one.room_for_rule(&world.org, &[], 0).await.unwrap();
    let rule = one.add(&world.org, ManagedBy::Store, spec, RuleFacts::at(position)).await;
    let rule: Arc<Record<Rule>> = rule.unwrap();
    let row = replicas.row(Table::Rules, rule.id.as_str()).await;
    replicas.follow(Table::Rules, &row).await;
    assert_eq!((replicas.have_rule(), row.version), ([true, true], Version(1)));
    rows.delete(Table::Rules, &row.key, Expect::Any).await.unwrap();
    replicas.follow(Table::Rules, &row).await;
    assert_eq!((replicas.have_rule(), replicas.refused()), ([true, true], 2));
    rows.load(vec![(Table::Rules, row.clone())]).await.unwrap();
    replicas.follow(Table::Rules, &row).await;
    one.remove::<Rule>(&world.org, &rule.id, ManagedBy::Store).await.unwrap();
    replicas.follow(Table::Rules, &row).await;
    assert_eq!(replicas.have_rule(), [false, false], "the mark is known at the other replica");
    replicas.puts_back(Table::Rules, &row).await;
    replicas.follow(Table::Rules, &row).await;
    assert_eq!((replicas.have_rule(), replicas.refused()), ([false, false], 2));
}

/// The commit of a change holds a guard for sealing, for which a new master key waits. A mark that waits for the key then
/// blocks both, and every later write.
#[tokio::test]
async fn a_deletion_is_marked_and_made_while_a_new_master_key_waits_for_it() {
    let (rows, keyring) = (Arc::new(MemoryReplica::first()), Arc::new(Keyring::ephemeral()));
    let store = SeenRows::over(rows, keyring.clone(), Arc::default());
    store.put(Table::Rules, "o/a", b"x", Expect::Absent).await.unwrap();
    let guard = keyring.sealing().await;
    let mut rotation = pin!(keyring.make_current(keyring.next(None).unwrap()));
    assert!(rotation.as_mut().now_or_never().is_none());
    let deleted = store.delete(Table::Rules, "o/a", Expect::Any).now_or_never();
    deleted.expect("it does not wait for the key").unwrap();
    drop(guard);
    rotation.await;
    assert!(store.get(Table::Rules, "o/a").await.unwrap().is_none());
}
