//! Writes that were made but reported as failed: the record keeps its name, and its events are delivered.

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures_util::FutureExt;
use tokio::sync::{Notify, Semaphore};

use super::busy_replica::{BusyReplica, Moment};
use super::deliveries::{hook, hooked, named_hook, pending};
use super::*;
use crate::observe::notice::{NoticeDetails, NoticeKind};
use crate::store::memory::MemoryReplica;
use crate::store::{StoreError, StoreWrapper, Version, Write};

/// A store that fails in one table.
#[derive(Debug)]
pub(super) struct FailingStore {
    rows: Arc<dyn Store>,
    table: Table,
    /// The number of next writes that are made, but reported as failed.
    lost: AtomicUsize,
    /// The number of next writes that fail and are not made.
    refused: AtomicUsize,
    /// The number of next writes that do not reach the store.
    unreached: AtomicUsize,
    /// The number of next reads that fail.
    unread: AtomicUsize,
    /// The number of calls that succeed before the failures.
    passed: AtomicUsize,
    /// Each read of a row waits for a permit.
    reads: Semaphore,
    /// Each write of a row waits for a permit.
    writes: Semaphore,
    /// Notified when a write of a row begins.
    writing: Notify,
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
        let writing = Notify::new();
        let store =
            Self { rows, table, lost, refused, unreached, unread, passed, reads, writes, writing };
        let store = Arc::new(store);
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
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        let mut changed = writes.iter().filter_map(Write::changed);
        if changed.all(|(table, _)| table != self.table) {
            return self.rows.commit(writes).await;
        }
        self.writing.notify_one();
        self.writes.acquire().await.expect("it is not closed").forget();
        let reached = self.fail(&self.unreached);
        reached.map_err(|_| StoreError::Unreached { action: "write a row", source: io_error() })?;
        self.fail(&self.refused)?;
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

#[tokio::test]
async fn a_name_whose_reservation_was_reported_as_failed_is_free() {
    let world = World::new().await;
    let (store, directory) = FailingStore::of(&world, Table::Names).await;
    store.lost.store(2, SeqCst);
    agent(&directory, "ci").await.unwrap_err();
    assert_eq!(world.rows(Table::Agents).await, []);
    agent(&directory, "ci").await.unwrap();
    assert_eq!(world.rows(Table::Names).await.len(), 1);
}

/// The name belongs to another record, so its reservation must not be deleted.
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

#[tokio::test]
async fn with_replicas_a_name_stays_taken_while_its_agent_may_have_been_added() {
    let world = World::new().await;
    let rows = MemoryReplica::first();
    let other = rows.another();
    let (store, directory) = FailingStore::open(&world, Arc::new(rows), Table::Agents).await;
    store.lost.store(2, SeqCst);
    agent(&directory, "made").await.unwrap_err();
    store.refused.store(2, SeqCst);
    agent(&directory, "not-made").await.unwrap_err();
    for name in ["made", "not-made"] {
        taken(agent(&directory, name).await);
    }
    let other = world.open(other).await;
    assert!(other.view().find_agent(&world.org, "made").is_some());
}

/// The first delete of the index row was made, and another replica has reserved the name before its repetition.
#[tokio::test]
async fn the_release_of_a_name_that_is_repeated_keeps_the_reservation_of_another_replica() {
    let world = World::new().await;
    let rows = MemoryReplica::first();
    let other = world.open(rows.another()).await;
    let change = async move { drop(agent(&other, "ci").await.unwrap()) };
    let moment = Moment::AfterDelete(Table::Names);
    let directory = world.open(BusyReplica::new(rows.another(), moment, change)).await;
    let first = agent(&directory, "ci").await.unwrap();
    directory.remove::<Agent>(&world.org, &first.id, ManagedBy::Store).await.unwrap();
    taken(agent(&directory, "ci").await);
    assert_eq!(rows.list(Table::Agents, RowRange::first(10)).await.unwrap().len(), 1);
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

/// The change is not made, or the write of its event is reported as failed. The next change of the row gets the version
/// that the event names.
#[tokio::test]
async fn an_event_of_a_change_that_was_not_made_is_withdrawn_before_the_next_one() {
    for table in [Table::Connections, Table::Deliveries] {
        let world = World::new().await;
        hook(&world).await;
        let connection = world.connection("work").await;
        let (org, id) = (&world.org, &connection.id);
        let (store, directory) = FailingStore::of(&world, table).await;
        let fault = if table == Table::Deliveries { &store.lost } else { &store.refused };
        fault.store(2, SeqCst);
        directory.set_connection_paused(org, id, true, ManagedBy::Store).await.unwrap_err();
        let rename = |record: &mut ConnectionRecord| record.spec.name = "other".to_owned();
        directory.change::<Connection>(org, id, rename).await.unwrap();
        assert_eq!(world.rows(Table::Deliveries).await, [], "{table:?}");
    }
}

/// With four refused calls, its first withdrawal fails too.
#[tokio::test]
async fn an_event_is_withdrawn_from_all_webhooks_if_it_cannot_be_stored_for_one() {
    for refused in [2, 4] {
        let world = World::new().await;
        hook(&world).await;
        named_hook(&world, "other").await;
        let connection = world.connection("work").await;
        let (org, id) = (&world.org, &connection.id);
        let rows = world.store.clone();
        let (store, directory) = FailingStore::open(&world, rows, Table::Deliveries).await;
        store.passed.store(1, SeqCst);
        store.refused.store(refused, SeqCst);
        directory.set_connection_paused(org, id, true, ManagedBy::Store).await.unwrap_err();
        let rename = |record: &mut ConnectionRecord| record.spec.name = "other".to_owned();
        directory.change::<Connection>(org, id, rename).await.unwrap();
        assert_eq!(world.rows(Table::Deliveries).await, []);
    }
}

#[tokio::test]
async fn an_announcement_that_fails_leaves_no_event() {
    let world = World::new().await;
    hook(&world).await;
    named_hook(&world, "other").await;
    let (store, directory) = FailingStore::of(&world, Table::Deliveries).await;
    store.passed.store(1, SeqCst);
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
