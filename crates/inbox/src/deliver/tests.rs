//! Tests of events whose state in the store differs from that in the queue.

use std::future;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::tests::held_store::HeldStore;
use crate::tests::{inbox_in, inbox_of};
use crate::{Accepted, EventState, HookKeyRequest, InboxRefusal, NewKeys};
use keyward_base::secret::Secret;
use keyward_hooks::Incoming;
use keyward_state::store::VALUE_BYTES_MAX;

/// What the service sends beside each event.
const SECRET: &str = "the-secret-of-the-service";

/// An inbox with one hook, whose events wait for a reader.
struct World {
    inbox: Arc<Inbox>,
    hook: Arc<Record<Hook>>,
}

impl World {
    async fn new() -> Self {
        Self::of(inbox_of("gitlab").await).await
    }

    async fn of((inbox, hook): (Arc<Inbox>, Arc<Record<Hook>>)) -> Self {
        let keys = NewKeys { secret: Some(Secret::new(SECRET)), signing_key: None };
        inbox.set_keys(&hook, keys).await.unwrap();
        Self { inbox, hook }
    }

    /// The same request each time.
    async fn send(&self) -> Result<Accepted, InboxRefusal> {
        let field = HeaderName::from_static("x-gitlab-token");
        let headers = HeaderMap::from_iter([(field, HeaderValue::from_static(SECRET))]);
        let url = "https://gateway.example.com/hooks/ci";
        let incoming = Incoming { method: &Method::POST, url, headers: &headers, body: b"{}" };
        let ask = |_: HookKeyRequest| future::ready(Err::<Bytes, _>("no key is needed".to_owned()));
        self.inbox.accept(&self.hook, &incoming, ask).await
    }

    /// A stored event that waits, and its version.
    async fn event(&self) -> (HookEvent, Version) {
        let Ok(Accepted::Stored { id }) = self.send().await else { panic!("it is new") };
        let (event, _, version) = self.inbox.event(&self.hook, &id).await.unwrap();
        (event, version)
    }

    /// The last delivery of this event fails.
    async fn fails(&self, event: HookEvent, version: Version) -> Result<(), InboxError> {
        let failed = FailedTry { why: "answered 500".to_owned(), pause: None };
        self.inbox.failed(&self.hook, event, version, failed).await
    }

    /// How many events wait, and how many are dead.
    fn counts(&self) -> (usize, usize) {
        let status = self.inbox.status(&self.hook.id);
        (status.waiting, status.dead)
    }
}

/// The write of the first request was made and reported as failed, so the service repeats the request.
#[tokio::test]
async fn a_repeated_request_queues_an_event_that_is_only_stored() {
    let world = World::new().await;
    world.event().await;
    world.inbox.queue.lock().forget(&world.hook.id);
    let repeated = world.send().await.unwrap();
    assert!(matches!(repeated, Accepted::Repeated { .. }), "{repeated:?}");
    assert_eq!(world.counts(), (1, 0));
}

/// The write that took it was made and reported as failed.
#[tokio::test]
async fn taking_an_already_taken_event_removes_it_from_the_queue() {
    let world = World::new().await;
    let (event, version) = world.event().await;
    let (org, row) = (&world.hook.org, event.row());
    let taken = EventRow::Taken { hook: world.hook.id.clone(), until: Timestamp::MAX };
    world.inbox.events.put(org, &row, &taken, Some(version)).await.unwrap();
    assert_eq!(world.counts(), (1, 0));
    let missing = world.inbox.take(&world.hook, &event.id).await;
    assert!(matches!(missing, Err(InboxError::NoEvent(_))), "{missing:?}");
    assert_eq!(world.counts(), (0, 0));
}

/// The last delivery fails between the read and the write of the removal.
#[tokio::test]
async fn an_event_that_is_taken_while_its_delivery_fails_is_gone() {
    let store = Arc::new(HeldStore::default());
    let world = World::of(inbox_in(store.clone(), "gitlab").await).await;
    let (event, version) = world.event().await;
    let id = event.id.clone();
    let fails = async {
        world.fails(event, version).await.unwrap();
        assert_eq!(world.counts(), (0, 1));
    };
    let held = store.hold_next_write();
    let (taken, ()) = tokio::join!(world.inbox.take(&world.hook, &id), held.before(fails));
    taken.unwrap();
    assert_eq!(world.counts(), (0, 0));
    let missing = world.inbox.event(&world.hook, &id).await;
    assert!(matches!(missing, Err(InboxError::NoEvent(_))), "{missing:?}");
}

#[tokio::test]
async fn an_event_that_is_sent_again_during_its_last_delivery_waits() {
    let world = World::new().await;
    let (event, version) = world.event().await;
    let id = event.id.clone();
    world.inbox.send_again(&world.hook, &id).await.unwrap();
    world.fails(event, version).await.unwrap();
    assert_eq!(world.counts(), (1, 0));
    let (again, state, _) = world.inbox.event(&world.hook, &id).await.unwrap();
    assert_eq!((again.tries, state), (0, EventState::Waiting));
}

#[tokio::test]
async fn an_event_whose_last_failure_cannot_be_stored_waits() {
    let world = World::new().await;
    let (mut event, version) = world.event().await;
    event.fields.push(("x-long".to_owned(), "x".repeat(VALUE_BYTES_MAX)));
    world.fails(event, version).await.unwrap_err();
    assert_eq!(world.counts(), (1, 0));
}
