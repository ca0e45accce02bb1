//! Commits that fail before they are made, or are made and reported as failed: a change is made as a whole or not at all,
//! the record keeps its name, and its events are delivered.

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::busy_replica::{BusyReplica, Moment};
use super::deliveries::{hook, hooked, named_hook, pending};
use super::plugins::plugged;
use super::*;
use crate::directory::StoreCheck;
use crate::observe::notice::{NoticeDetails, NoticeKind};
use crate::store::memory::MemoryReplica;
use crate::store::{StoreError, StoreWrapper, Version, Write};
use keyward_model::Plugin;

/// A store that fails at commits that change a table.
#[derive(Debug)]
pub(super) struct FailingStore {
    rows: Arc<dyn Store>,
    table: Table,
    /// The number of next commits that are made, but reported as failed.
    lost: AtomicUsize,
    /// The number of next commits that fail and are not made.
    refused: AtomicUsize,
    /// The number of next commits that do not reach the store.
    unreached: AtomicUsize,
    /// The number of next reads that fail.
    unread: AtomicUsize,
    /// The number of calls that succeed before the failures.
    passed: AtomicUsize,
    /// Each read of a row waits for a permit.
    reads: Semaphore,
    /// Each commit waits for a permit.
    writes: Semaphore,
    /// Notified when a commit begins.
    writing: Notify,
    /// The weakness of the store, which the tests must detect.
    pub(super) weakness: Mutex<Weakness>,
}

/// A weakness of a store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Weakness {
    #[default]
    None,
    /// It makes the writes of a commit one after the other, the record last.
    Torn,
    /// It does not compare versions.
    NoVersions,
}

impl FailingStore {
    async fn of(world: &World, table: Table) -> (Arc<Self>, Directory) {
        Self::open(world, world.store.clone(), table).await
    }

    pub(super) async fn open(
        world: &World,
        rows: Arc<dyn Store>,
        table: Table,
    ) -> (Arc<Self>, Directory) {
        let [lost, refused, unreached, unread, passed] =
            std::array::from_fn(|_| AtomicUsize::new(0));
        let [reads, writes] = std::array::from_fn(|_| Semaphore::new(Semaphore::MAX_PERMITS));
        let store = Arc::new(Self {
            rows,
            table,
            lost,
            refused,
            unreached,
            unread,
            passed,
            reads,
            writes,
            writing: Notify::new(),
            weakness: Mutex::default(),
        });
        let opened: Arc<dyn Store> = store.clone();
        let directory = Directory::open(opened, world.keyring.clone(), world.clock.clone());
        (store, directory.await.unwrap())
    }

    /// Holds up the writes of rows from now on, while `meanwhile` runs after the first one has begun.
    pub(super) async fn hold_first_write(&self, meanwhile: impl Future<Output = ()>) {
        self.writes.forget_permits(Semaphore::MAX_PERMITS);
        // Of an earlier write.
        let _ = self.writing.notified().now_or_never();
        self.writing.notified().await;
        meanwhile.await;
        self.writes.add_permits(Semaphore::MAX_PERMITS);
    }

    /// Makes the writes overwrite rows of any version.
    async fn forget_versions(&self, writes: &mut [Write]) -> Result<(), StoreError> {
        for write in writes {
            match write {
                Write::Put { table, key, expect, .. } => {
                    if let Expect::Version(over) = *expect {
                        self.rows.delete(*table, key, Expect::Any).await?;
                        *expect = Expect::Load(over.next());
                    }
                }
                Write::Delete { expect, .. } => *expect = Expect::Any,
                Write::Exists { .. } | Write::NoneBelow { .. } => {}
            }
        }
        Ok(())
    }

    /// Fails if `count` is not 0, and decrements it.
    fn fail(&self, count: &AtomicUsize) -> Result<(), StoreError> {
        match count.load(SeqCst) > 0 && !counts_down(&self.passed) && counts_down(count) {
            true => Err(StoreError::Io { action: "write a row", source: io_error() }),
            false => Ok(()),
        }
    }
}

/// Decrements a counter. Returns whether it was above 0.
fn counts_down(count: &AtomicUsize) -> bool {
    count.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn io_error() -> std::io::Error {
    std::io::ErrorKind::TimedOut.into()
}

#[async_trait::async_trait]
impl StoreWrapper for FailingStore {
    fn inner(&self) -> &dyn Store {
        &*self.rows
    }

    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        if table == self.table {
            self.reads.acquire().await.expect("it is not closed").forget();
            self.fail(&self.unread)?;
        }
        self.rows.get(table, key).await
    }

    /// One act: it fails before it is made, or after that without an answer.
    async fn commit(&self, mut writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        let is_its = |write: &Write| write.changed().is_some_and(|(table, _)| table == self.table);
        if !writes.iter().any(is_its) {
            return self.rows.commit(writes).await;
        }
        if *self.weakness.lock() == Weakness::Torn {
            for other in writes.extract_if(.., |write| !is_its(write)) {
                self.rows.commit(vec![other]).await?;
            }
        }
        self.writing.notify_one();
        self.writes.acquire().await.expect("it is not closed").forget();
        let reached = self.fail(&self.unreached);
        reached.map_err(|_| StoreError::Unreached { action: "write a row", source: io_error() })?;
        self.fail(&self.refused)?;
        if *self.weakness.lock() == Weakness::NoVersions {
            self.forget_versions(&mut writes).await?;
        }
        let written = self.rows.commit(writes).await;
        self.fail(&self.lost)?;
        written
    }
}

async fn agent(directory: &Directory, name: &str) -> Result<Arc<AgentRecord>, DirectoryError> {
    add_agent(directory, &OrgId::default_org(), name).await
}

/// Fails unless the name was taken.
#[track_caller]
fn taken<T: Debug>(added: Result<T, DirectoryError>) {
    assert!(matches!(added, Err(DirectoryError::NameTaken { .. })), "{added:?}");
}

fn renamed_to_two(record: &mut Record<Honeytoken>) {
    record.spec.name = "two".to_owned();
}

/// One write that is made and reported as failed is detected by its repetition, two before the next change.
#[tokio::test]
async fn no_second_agent_gets_the_name_of_one_whose_write_was_reported_as_failed() {
    for lost in [1, 2] {
        let world = World::new().await;
        let (store, directory) = FailingStore::of(&world, Table::Agents).await;
        store.lost.store(lost, SeqCst);
        assert_eq!(agent(&directory, "ci").await.is_ok(), lost == 1);
        taken(agent(&directory, "ci").await);
        assert!(directory.view().find_agent(&world.org, "ci").is_some());
        world.reopen().await.unwrap();
    }
}

#[tokio::test]
async fn the_name_of_an_agent_that_was_not_added_is_free() {
    let world = World::new().await;
    let (store, directory) = FailingStore::of(&world, Table::Agents).await;
    store.refused.store(2, SeqCst);
    agent(&directory, "ci").await.unwrap_err();
    agent(&directory, "ci").await.unwrap();
    assert_eq!(world.rows(Table::Names).await.len(), 1);
}

/// The name belongs to another record.
#[tokio::test]
async fn a_taken_name_stays_taken_after_its_refusal_was_lost() {
    let world = World::new().await;
    world.agent("ci").await;
    let (store, directory) = FailingStore::of(&world, Table::Names).await;
    store.lost.store(2, SeqCst);
    agent(&directory, "ci").await.unwrap_err();
    taken(agent(&directory, "ci").await);
}

#[tokio::test]
async fn a_rename_that_was_made_and_reported_as_failed_reserves_only_the_new_name() {
    let world = World::new().await;
    let (store, directory) = FailingStore::of(&world, Table::Honeytokens).await;
    let one = add_honeytoken(&directory, "one").await.unwrap();
    store.lost.store(2, SeqCst);
    directory.change(&world.org, &one.id, renamed_to_two).await.unwrap_err();
    taken(add_honeytoken(&directory, "two").await);
    add_honeytoken(&directory, "one").await.unwrap();
    world.reopen().await.unwrap();
}

/// The name is free at once, also with replicas.
#[tokio::test]
async fn a_write_that_did_not_reach_the_store_is_not_repeated_and_not_in_doubt() {
    let world = World::new().await;
    let shared: Arc<dyn Store> = Arc::new(MemoryReplica::first());
    let own: Arc<dyn Store> = world.store.clone();
    for rows in [shared, own] {
        let (store, directory) = FailingStore::open(&world, rows, Table::Agents).await;
        store.unreached.store(1, SeqCst);
        assert!(!agent(&directory, "ci").await.unwrap_err().is_outcome_unknown());
        assert!(directory.shared.uncertain_changes.lock().is_empty());
        agent(&directory, "ci").await.unwrap();
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_yet_stays_in_doubt() {
    let world = World::new().await;
    let (store, directory) = FailingStore::of(&world, Table::Agents).await;
    store.lost.store(2, SeqCst);
    agent(&directory, "ci").await.unwrap_err();
    store.unread.store(1, SeqCst);
    agent(&directory, "other").await.unwrap();
    assert!(directory.view().find_agent(&world.org, "ci").is_none());
    taken(agent(&directory, "ci").await);
    assert!(directory.view().find_agent(&world.org, "ci").is_some());
}

/// Another change would have the version of the first one, which was not made.
#[tokio::test]
async fn a_row_in_doubt_that_cannot_be_read_is_not_changed() {
    let world = World::new().await;
    let (store, directory) = FailingStore::of(&world, Table::Honeytokens).await;
    let one = add_honeytoken(&directory, "one").await.unwrap();
    store.refused.store(2, SeqCst);
    directory.change(&world.org, &one.id, renamed_to_two).await.unwrap_err();
    let revoke = |record: &mut Record<Honeytoken>| record.spec.revokes = true;
    store.unread.store(1, SeqCst);
    directory.change(&world.org, &one.id, revoke).await.unwrap_err();
    directory.change(&world.org, &one.id, revoke).await.unwrap();
    taken(add_honeytoken(&directory, "one").await);
    add_honeytoken(&directory, "two").await.unwrap();
    world.reopen().await.unwrap();
}

/// A honeytoken whose new name `two` is in the store, although the write was reported as failed.
async fn renamed_in_doubt(store: &FailingStore, directory: &Directory) -> Arc<Record<Honeytoken>> {
    let one = add_honeytoken(directory, "one").await.unwrap();
    store.lost.store(2, SeqCst);
    directory.change(&one.org, &one.id, renamed_to_two).await.unwrap_err();
    one
}

fn name_now(directory: &Directory, of: &Record<Honeytoken>) -> String {
    directory.view().one::<Honeytoken>(&of.org, &of.id).expect("it is there").spec.name.clone()
}

/// The caller is dropped, like the handler of a request whose client disconnects.
#[tokio::test]
async fn a_change_in_doubt_enters_the_view_although_the_settling_caller_is_dropped() {
    let world = World::new().await;
    let (store, directory) = FailingStore::of(&world, Table::Honeytokens).await;
    let one = renamed_in_doubt(&store, &directory).await;
    store.reads.forget_permits(Semaphore::MAX_PERMITS);
    // The first read shows that the change was made; the second one waits.
    store.reads.add_permits(1);
    assert!(agent(&directory, "dropped").now_or_never().is_none());
    store.reads.add_permits(10);
    agent(&directory, "next").await.unwrap();
    assert_eq!(name_now(&directory, &one), "two");
}

#[tokio::test]
async fn a_change_that_was_made_stays_in_doubt_until_its_row_can_be_read() {
    let world = World::new().await;
    let (store, directory) = FailingStore::of(&world, Table::Honeytokens).await;
    let one = renamed_in_doubt(&store, &directory).await;
    store.passed.store(1, SeqCst);
    store.unread.store(1, SeqCst);
    agent(&directory, "other").await.unwrap();
    assert_eq!(name_now(&directory, &one), "one");
    agent(&directory, "next").await.unwrap();
    assert_eq!(name_now(&directory, &one), "two");
    add_honeytoken(&directory, "one").await.unwrap();
}

/// With replicas, no process can wait for the end of doubts: a name is free at once if its agent was not added, and taken
/// if it was. A store that makes the rows one after the other leaves a name taken that no agent has.
#[tokio::test]
async fn with_replicas_a_name_is_taken_after_a_lost_answer_only_if_its_agent_was_added() {
    for (weakness, is_lost) in
        [(Weakness::Torn, false), (Weakness::None, false), (Weakness::None, true)]
    {
        let (world, rows) = (World::new().await, MemoryReplica::first());
        let other = world.open(rows.another()).await;
        let opened = FailingStore::open(&world, Arc::new(rows.another()), Table::Agents).await;
        let (store, directory) = opened;
        *store.weakness.lock() = weakness;
        let fault = if is_lost { &store.lost } else { &store.refused };
        fault.store(2, SeqCst);
        let first = agent(&directory, "ci").await;
        let is_unknown = first.as_ref().is_err_and(DirectoryError::is_outcome_unknown);
        assert_eq!(is_unknown, weakness == Weakness::None, "{first:?}");
        *store.weakness.lock() = Weakness::None;
        let is_stored =
            !Store::list(&rows, Table::Agents, RowRange::first(1)).await.unwrap().is_empty();
        assert_eq!(is_stored, is_lost);
        let is_taken = is_lost || weakness == Weakness::Torn;
        for replica in [&directory, &other] {
            let again = agent(replica, "ci").await;
            let is_refused = matches!(again, Err(DirectoryError::NameTaken { .. }));
            assert_eq!(is_refused, is_taken, "{weakness:?}, {is_lost}: {again:?}");
            let Ok(added) = again else { continue };
            let removed = replica.remove::<Agent>(&world.org, &added.id, ManagedBy::Store);
            removed.await.unwrap();
        }
        let late = world.open(rows.another()).await;
        assert_eq!(late.view().find_agent(&world.org, "ci").is_some(), is_lost);
    }
}

/// Each change of several rows, at each of its commits: the commit does not reach the store, fails, or is made without an
/// answer, once or also when it is repeated. The store has no half of a change afterwards.
#[tokio::test]
async fn no_failed_commit_leaves_a_half_of_a_change() {
    let check = async |rows: &MemoryReplica, keyring: &Arc<Keyring>| {
        let store: Arc<dyn Store> = Arc::new(rows.another());
        let mut faults = StoreCheck::run(&store, keyring, &|_, _| Ok(())).await.unwrap().faults;
        // The connections of these tests have none.
        faults.retain(|it| !it.problem.contains("has no stored secret"));
        faults
    };
    for act in 0..6 {
        for (fault, count) in (0..3).flat_map(|fault| [(fault, 1), (fault, 2)]) {
            let (world, rows) = (World::new().await, MemoryReplica::first());
            let world = World { directory: world.open(rows.another()).await, ..world };
            let ci = world.agent("ci").await;
            let (a, b) = (world.connection("a").await, world.connection("b").await);
            let new = plugged(&world, &ci, &[("slot", &a.id)]);
            let plugin = world.directory.add_plugin(&world.org, new).await.unwrap();
            let (org, by) = (&world.org, ManagedBy::Store);
            let changed = if matches!(act, 0 | 1) { Table::Names } else { Table::Agents };
            let (store, directory) =
                FailingStore::open(&world, Arc::new(rows.another()), changed).await;
            [&store.unreached, &store.refused, &store.lost][fault].store(count, SeqCst);
            let mut two = plugged(&world, &ci, &[("slot", &b.id)]);
            two.spec.manifest.plugin = "two".into();
            let done = match act {
                0 => agent(&directory, "new").await.map(drop),
                1 => {
                    let rename = |it: &mut ConnectionRecord| it.spec.name = "new".to_owned();
                    directory.change::<Connection>(org, &a.id, rename).await.map(drop)
                }
                2 => directory.add_plugin(org, two).await.map(drop),
                3 => directory.remove::<Plugin>(org, &plugin.id, by).await,
                4 => directory.remove::<Connection>(org, &a.id, by).await,
                _ => directory.remove::<Agent>(org, &ci.id, by).await,
            };
            let is_unreached = fault == 0;
            assert_eq!(
                done.is_ok(),
                !is_unreached && count == 1,
                "{act} {fault} {count}: {done:?}"
            );
            assert_eq!(check(&rows, &world.keyring).await, [], "{act} {fault} {count}");
            let view = world.open(rows.another()).await.view();
            for plugin in view.plugins() {
                let agent = view.agent_of(plugin).expect("it was removed with its agent");
                let mut slots =
                    plugin.connections().filter(|id| view.connection(org, id).is_some());
                assert!(slots.all(|id| agent.facts.binding(id).is_some()), "{act} {fault} {count}");
            }
        }
    }
}

/// The first delete of the index row was made, and another replica has reserved the name before its repetition.
#[tokio::test]
async fn a_removal_that_is_repeated_keeps_the_name_that_another_replica_has_reserved_since() {
    let world = World::new().await;
    let rows = MemoryReplica::first();
    let other = world.open(rows.another()).await;
    let change = async move { drop(agent(&other, "ci").await.unwrap()) };
    let moment = Moment::AfterDelete(Table::Names);
    let directory = world.open(BusyReplica::new(rows.another(), moment, change)).await;
    let first = agent(&directory, "ci").await.unwrap();
    directory.remove::<Agent>(&world.org, &first.id, ManagedBy::Store).await.unwrap();
    taken(agent(&directory, "ci").await);
    let agents = Store::list(&rows, Table::Agents, RowRange::first(10)).await.unwrap();
    assert_eq!(agents.len(), 1);
}

#[tokio::test]
async fn events_of_changes_that_were_reported_as_failed_are_delivered() {
    let (world, connection) = hooked().await;
    let (org, id) = (&world.org, &connection.id);
    let (store, directory) = FailingStore::of(&world, Table::Connections).await;
    let mut events = directory.take_event_receiver().expect("no other listener");
    store.lost.store(2, SeqCst);
    directory.set_connection_paused(org, id, true, ManagedBy::Store).await.unwrap_err();
    assert_eq!(pending(&world).await, [NoticeKind::ConnectionPaused], "after a crash");
    store.lost.store(2, SeqCst);
    directory.remove::<Connection>(org, id, ManagedBy::Store).await.unwrap_err();
    let both = [NoticeKind::ConnectionPaused, NoticeKind::ConnectionRemoved];
    let mut pending = pending(&world).await;
    pending.sort();
    assert_eq!(pending, both);
    agent(&directory, "next").await.unwrap();
    assert!(directory.view().connection(org, id).is_none());
    let told = std::iter::from_fn(|| events.try_recv().ok()).filter_map(|one| one.notice);
    assert_eq!(told.map(|notice| notice.kind).collect::<Vec<_>>(), both);
}

#[tokio::test]
async fn an_event_of_a_change_that_was_not_made_is_not_stored() {
    for table in [Table::Connections, Table::Deliveries] {
        let world = World::new().await;
        hook(&world).await;
        named_hook(&world, "other").await;
        let connection = world.connection("work").await;
        let (org, id) = (&world.org, &connection.id);
        let (store, directory) = FailingStore::of(&world, table).await;
        store.refused.store(2, SeqCst);
        directory.set_connection_paused(org, id, true, ManagedBy::Store).await.unwrap_err();
        let rename = |record: &mut ConnectionRecord| record.spec.name = "other".to_owned();
        directory.change::<Connection>(org, id, rename).await.unwrap();
        assert_eq!(world.rows(Table::Deliveries).await, [], "{table:?}");
    }
}

#[tokio::test]
async fn an_announcement_that_fails_leaves_no_event() {
    let world = World::new().await;
    hook(&world).await;
    named_hook(&world, "other").await;
    let (store, directory) = FailingStore::of(&world, Table::Deliveries).await;
    store.refused.store(2, SeqCst);
    let (kind, about) = (NoticeKind::ConnectionPaused, NoticeDetails::default());
    directory.announce(&world.org, kind, about).await.unwrap_err();
    assert_eq!(world.rows(Table::Deliveries).await, []);
}

#[tokio::test]
async fn a_delivery_whose_progress_was_reported_as_failed_goes_on() {
    let (world, connection) = hooked().await;
    world.set_paused(&connection.id, true).await.unwrap();
    let (store, directory) = FailingStore::of(&world, Table::Deliveries).await;
    let one = directory.pending_deliveries().await.unwrap().remove(0);
    store.lost.store(2, SeqCst);
    directory.postpone(one.clone()).await.unwrap_err();
    let stored = directory.postpone(one).await.unwrap().expect("it is stored");
    directory.delete_delivery(&stored).await.unwrap();
    assert!(directory.postpone(stored).await.unwrap().is_none(), "it was deleted");
}
