//! The revocation of a removal is stored before the connection is removed.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::SeqCst;

use super::*;

impl World {
    async fn pending(&self) -> Option<PendingRevocation> {
        let row = self.flows.outbox.get(&self.org, self.connection.id.as_str()).await.unwrap();
        row.map(|(pending, _)| pending)
    }

    fn exists(&self) -> bool {
        self.flows.directory().view().connection(&self.org, &self.connection.id).is_some()
    }

    /// Stores the plan of a removal.
    async fn plans(&self) {
        let plan = PendingRevocation {
            connection: ConnectionRecord::clone(&self.connection),
            grant: sealed(&grant("in use")),
            app: None,
            until: Timestamp::MAX,
            planned: Some(self.flows.clock.now()),
            answer_lost: false,
        };
        let id = self.connection.id.as_str();
        self.flows.outbox.put(&self.org, id, &plan, None).await.unwrap();
    }

    async fn disconnects(&self, revoke: bool) -> bool {
        self.flows.disconnect(&self.org, &self.connection.id, revoke).await.is_ok()
    }
}

/// oauth 13.planned: what follows the removal fails, as in a crash.
#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_halfway_leaves_its_revocation_pending() {
    let time = Arc::new(AtomicI64::new(0));
    let world = World::with_clock(Clock::Fixed(time.clone())).await;
    world.connects("in use").await;
    world.store.fail(Table::Grants, Fault::Undeleted);
    assert!(!world.disconnects(true).await && !world.exists());
    let pending = world.pending().await.expect("a pending revocation");
    assert_eq!(pending.grant.text(), sealed(&grant("in use")).text());
    world.store.repair();
    world.runs();
    passes(LOOK_EVERY * 3).await;
    assert!(world.pending().await.is_some(), "the removal may be in progress");
    time.store(61_000, SeqCst);
    passes(LOOK_EVERY * 2).await;
    assert!(world.pending().await.is_none(), "it was attempted, and refused: there is no app");
}

/// oauth 13.planned
#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_leaves_no_revocation_of_the_connection() {
    let world = World::with_clock(Clock::Fixed(Arc::default())).await;
    world.connects("in use").await;
    world.store.fail(Table::Connections, Fault::Undeleted);
    assert!(!world.disconnects(true).await && world.exists());
    assert!(world.pending().await.is_none());
}

/// oauth 13.planned: the process that planned it has crashed.
#[tokio::test(start_paused = true)]
async fn the_plan_of_a_removal_that_did_not_happen_is_deleted_and_not_carried_out() {
    let time = Arc::new(AtomicI64::new(0));
    let world = World::with_clock(Clock::Fixed(time.clone())).await;
    world.plans().await;
    world.runs();
    passes(LOOK_EVERY * 3).await;
    assert!(world.pending().await.is_some(), "the removal may be in progress");
    time.store(61_000, SeqCst);
    // An attempt would begin 5 s after the plan is found.
    passes(LOOK_EVERY + Duration::from_secs(1)).await;
    assert!(world.pending().await.is_none());
}

/// oauth 13.planned
#[tokio::test(start_paused = true)]
async fn a_removal_without_revocation_deletes_the_plan_of_an_earlier_one() {
    let world = World::with_clock(Clock::Fixed(Arc::default())).await;
    world.plans().await;
    assert!(world.disconnects(false).await && !world.exists());
    assert!(world.pending().await.is_none());
}

/// oauth 13.outbox: it was pending for ever, and its grant stayed valid.
#[tokio::test(start_paused = true)]
async fn a_pending_revocation_of_a_removed_organisation_is_carried_out() {
    let world = World::new().await;
    let gone = OrgId::named("gone").unwrap();
    assert!(world.flows.directory().view().org(&gone).is_none());
    let pending = PendingRevocation {
        connection: ConnectionRecord {
            org: gone.clone(),
            ..ConnectionRecord::clone(&world.connection)
        },
        grant: sealed(&grant("pending")),
        app: None,
        until: Timestamp::MAX,
        planned: None,
        answer_lost: false,
    };
    world.flows.outbox.put(&gone, "pending", &pending, None).await.unwrap();
    world.runs();
    passes(LOOK_EVERY).await;
    let row = world.flows.outbox.get(&gone, "pending").await.unwrap();
    assert!(row.is_none(), "it was attempted, and refused: there is no app");
}
