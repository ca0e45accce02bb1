//! After a crash, every event of a change that was made is delivered, and no event of a change that was not, also of an
//! earlier version.

use std::collections::BTreeSet;

use super::*;
use crate::directory::directory_event::DeliveryCause;
use crate::directory::rows::RowId;
use crate::observe::change::Actor;
use crate::observe::notice::{Notice, NoticeDetails, NoticeKind};
use crate::store::memory::MemoryReplica;
use crate::store::{StoreError, StoreWrapper, Version, Write};
use keyward_model::{Record, Webhook, WebhookFacts, WebhookSpec};

/// A store in memory that refuses writes to one table.
#[derive(Debug)]
pub(super) struct Full(pub(super) Arc<MemoryStore>, pub(super) Table);

#[async_trait::async_trait]
impl StoreWrapper for Full {
    fn inner(&self) -> &dyn Store {
        &*self.0
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        match writes.iter().any(|write| write.table() == self.1) {
            true => Err(StoreError::KeyRefused { table: self.1.name() }),
            false => self.0.commit(writes).await,
        }
    }
}

pub(super) async fn hook(world: &World) -> Arc<Record<Webhook>> {
    named_hook(world, "ops").await
}

pub(super) async fn named_hook(world: &World, name: &str) -> Arc<Record<Webhook>> {
    let spec = WebhookSpec {
        name: name.to_owned(),
        url: "https://ops.example.com/".to_owned(),
        events: BTreeSet::from([NoticeKind::ConnectionPaused, NoticeKind::ConnectionRemoved]),
    };
    let facts = WebhookFacts::active();
    world.add::<Webhook>(spec, facts).await.unwrap()
}

/// A world with a webhook, and a connection.
pub(super) async fn hooked() -> (World, Arc<ConnectionRecord>) {
    let world = World::new().await;
    hook(&world).await;
    let connection = world.connection("work").await;
    (world, connection)
}

/// The change of a row to this version, as an earlier version stored it in the events of the change.
fn cause(at: &RowId, version: Option<u64>) -> DeliveryCause {
    DeliveryCause { table: at.table.name().to_owned(), id: at.id.clone(), version }
}

/// Stores an event as a process of an earlier version does that crashes before the change of `cause`.
async fn dies_before(world: &World, kind: NoticeKind, cause: DeliveryCause) {
    let view = world.directory.view();
    let notice =
        Notice::new(kind, &world.org, &Actor::Gateway, world.now(), NoticeDetails::default());
    let mut events = Shared::events_with_deliveries(vec![notice], None, &view);
    let mut delivery = events.remove(0).deliveries.remove(0).delivery;
    delivery.cause = Some(cause);
    world.directory.shared.rows.write(&delivery.at(), &delivery, None).await.unwrap();
}

pub(super) async fn pending(world: &World) -> Vec<NoticeKind> {
    let pending = world.reopen().await.unwrap().pending_deliveries().await.unwrap();
    pending.into_iter().map(|pending| pending.delivery.notice.kind).collect()
}

#[tokio::test]
async fn an_event_of_a_change_that_was_never_made_is_not_delivered() {
    let (world, connection) = hooked().await;
    let at = RowId::new(Table::Connections, &world.org, &connection.id);
    dies_before(&world, NoticeKind::ConnectionPaused, cause(&at, Some(2))).await;
    dies_before(&world, NoticeKind::ConnectionRemoved, cause(&at, None)).await;
    let unborn = RowId::new(Table::Connections, &world.org, ConnectionId::random());
    dies_before(&world, NoticeKind::ConnectionPaused, cause(&unborn, Some(1))).await;
    assert_eq!(pending(&world).await, []);
    assert_eq!(world.store.list(Table::Deliveries, RowRange::first(10)).await.unwrap().len(), 0);
}

#[tokio::test]
async fn an_event_whose_change_may_follow_is_not_deleted() {
    let (world, connection) = hooked().await;
    let at = RowId::new(Table::Connections, &world.org, &connection.id);
    world.pass(1);
    dies_before(&world, NoticeKind::ConnectionPaused, cause(&at, Some(2))).await;
    assert!(world.directory.pending_deliveries().await.unwrap().is_empty());
    assert_eq!(world.rows(Table::Deliveries).await.len(), 1);
    world.pass(600);
    assert!(world.directory.pending_deliveries().await.unwrap().is_empty());
    assert_eq!(world.rows(Table::Deliveries).await, []);
}

#[tokio::test]
async fn a_change_whose_event_cannot_be_stored_is_not_made() {
    let (world, connection) = hooked().await;
    let (org, id) = (&world.org, &connection.id);
    let before = world.rows(Table::Connections).await;
    let directory = world.open(Full(world.store.clone(), Table::Deliveries)).await;
    directory.set_connection_paused(org, id, true, ManagedBy::Store).await.unwrap_err();
    directory.remove::<Connection>(org, id, ManagedBy::Store).await.unwrap_err();
    assert_eq!(world.rows(Table::Connections).await, before, "neither paused nor removed");
    assert_eq!(directory.view().connection(org, id).unwrap().facts.state, ConnectionState::Active);
}

#[tokio::test]
async fn an_event_whose_change_cannot_be_stored_is_not_stored() {
    let (world, connection) = hooked().await;
    let (org, id) = (&world.org, &connection.id);
    let directory = world.open(Full(world.store.clone(), Table::Connections)).await;
    directory.set_connection_paused(org, id, true, ManagedBy::Store).await.unwrap_err();
    directory.remove::<Connection>(org, id, ManagedBy::Store).await.unwrap_err();
    assert_eq!(world.rows(Table::Deliveries).await, []);
}

#[tokio::test]
async fn the_event_of_a_change_that_was_made_is_pending_after_a_crash() {
    let (world, connection) = hooked().await;
    world.set_paused(&connection.id, true).await.unwrap();
    assert_eq!(pending(&world).await, [NoticeKind::ConnectionPaused]);
    world.remove::<Connection>(&connection.id).await.unwrap();
    let mut both = pending(&world).await;
    both.sort();
    assert_eq!(both, [NoticeKind::ConnectionPaused, NoticeKind::ConnectionRemoved]);
}

#[tokio::test]
async fn deliveries_of_a_removed_webhook_are_deleted() {
    let world = World::new().await;
    let hook = hook(&world).await;
    let stays = named_hook(&world, "stays").await;
    let connection = world.connection("work").await;
    world.set_paused(&connection.id, true).await.unwrap();
    world.remove::<Webhook>(&hook.id).await.unwrap();
    // The deliveries are deleted at once, without a restart.
    let rows = world.store.list(Table::Deliveries, RowRange::first(10)).await.unwrap();
    let of_stays = format!(".{}", stays.id);
    assert!(rows.len() == 1 && rows[0].key.ends_with(&of_stays), "{rows:?}");
    // A new webhook of the same name gets no old events either.
    self::hook(&world).await;
    let pending = world.reopen().await.unwrap().pending_deliveries().await.unwrap();
    let to: Vec<_> = pending.into_iter().map(|pending| pending.delivery.webhook).collect();
    assert_eq!(to, std::slice::from_ref(&stays.id));
}

#[tokio::test]
async fn only_one_of_two_replicas_delivers_an_event() {
    let (world, connection) = hooked().await;
    world.set_paused(&connection.id, true).await.unwrap();
    let rows = MemoryReplica::first();
    rows.load(world.all_rows().await).await.unwrap();
    let (one, other) = (world.open(rows.another()).await, world.open(rows.another()).await);
    let (mine, theirs) = (
        one.pending_deliveries().await.unwrap().remove(0),
        other.pending_deliveries().await.unwrap().remove(0),
    );
    assert!(one.postpone(mine).await.unwrap().is_some());
    assert!(other.postpone(theirs).await.unwrap().is_none());
}
