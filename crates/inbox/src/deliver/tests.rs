//! Tests of events whose state in the store differs from that in the queue, and of the bounds of what is kept and read.

use std::future;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::event::{EVENTS_BYTES_MAX, EventList, SettledEvent};
use crate::tests::held_store::HeldStore;
use crate::tests::{inbox_in, inbox_of};
use crate::{Accepted, HookKeyRequest, InboxRefusal, NewKeys};
use keyward_base::secret::Secret;
use keyward_base::webhooks::WebhookSettings;
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
        let keys = NewKeys { secret: Some(Secret::new(SECRET)), ..NewKeys::default() };
        inbox.set_keys(&hook, keys).await.unwrap();
        Self { inbox, hook }
    }

    /// The same request each time.
    async fn send(&self) -> Result<Accepted, InboxRefusal> {
        self.send_body("{}").await
    }

    async fn send_body(&self, body: &str) -> Result<Accepted, InboxRefusal> {
        let field = HeaderName::from_static("x-gitlab-token");
        let headers = HeaderMap::from_iter([(field, HeaderValue::from_static(SECRET))]);
        let url = "https://gateway.example.com/hooks/ci";
        let incoming =
            Incoming { method: &Method::POST, url, headers: &headers, body: body.as_bytes() };
        let ask = |_: HookKeyRequest| future::ready(Err::<Bytes, _>("no key is needed".to_owned()));
        self.inbox.accept(&self.hook, &incoming, ask).await
    }

    /// A stored event that waits, and its version.
    async fn event(&self) -> (HookEvent, Version) {
        self.event_with("{}").await
    }

    /// The same with this body.
    async fn event_with(&self, body: &str) -> (HookEvent, Version) {
        let sent = self.send_body(body).await;
        let Ok(Accepted::Stored { id, is_again: false }) = sent else {
            panic!("it is new: {sent:?}")
        };
        let (event, _, version) = self.inbox.event(&self.hook, &id).await.unwrap();
        (event, version)
    }

    /// The last delivery of this event fails.
    async fn fails(&self, event: HookEvent, version: Version) -> Result<(), InboxError> {
        let failed = FailedTry { why: "answered 500".to_owned(), pause: None };
        self.inbox.failed(&self.hook, event, version, failed).await
    }

    /// A dead event with this body that was accepted at this second.
    async fn dead(&self, body: &str, second: i64) -> HookEvent {
        let (mut event, version) = self.event_with(body).await;
        event.received = Timestamp::from_second(second).unwrap();
        self.fails(event.clone(), version).await.unwrap();
        event
    }

    /// Keeps at most so many dead events.
    fn keep_dead(&self, dead_max: usize) {
        self.inbox.set(WebhookSettings { dead_max, ..WebhookSettings::default() });
    }

    fn is_dead(&self, event: &HookEvent) -> bool {
        let dead = self.inbox.queue.lock().ids(&self.hook.id, EventList::Dead, None, 100);
        dead.unwrap().contains(&event.id)
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
    let taken = EventRow::Taken { hook: world.hook.id.clone(), until: Timestamp::MAX, event: None };
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

#[tokio::test]
async fn the_oldest_dead_event_beyond_the_limit_is_removed_and_its_request_stays_known() {
    let world = World::new().await;
    world.keep_dead(2);
    let oldest = world.dead("1", 1).await;
    let newest = world.dead("3", 3).await;
    assert_eq!(world.counts(), (0, 2));
    let middle = world.dead("2", 2).await;
    assert_eq!(world.counts(), (0, 2));
    assert!(world.is_dead(&newest) && world.is_dead(&middle));
    let missing = world.inbox.event(&world.hook, &oldest.id).await;
    assert!(matches!(missing, Err(InboxError::NoEvent(_))), "{missing:?}");
    let repeated = world.send_body("1").await.unwrap();
    assert!(matches!(repeated, Accepted::Repeated { .. }), "{repeated:?}");
    assert_eq!(world.counts(), (0, 2));
}

#[tokio::test]
async fn the_oldest_dead_event_is_removed_if_their_bytes_are_too_many() {
    let world = World::new().await;
    let oldest = world.dead("1", 1).await;
    let (id, received) = (oldest.id.clone(), oldest.received);
    let large = SettledEvent { id, received, bytes: EVENTS_BYTES_MAX };
    world.inbox.queue.lock().dead(&world.hook.id, large);
    let next = world.dead("2", 2).await;
    assert_eq!(world.counts(), (0, 1));
    assert!(world.is_dead(&next));
}

/// What the hook has of delivered events, in pages of this length.
async fn delivered(world: &World, most: usize) -> Vec<Vec<String>> {
    let (mut pages, mut after) = (Vec::new(), None::<String>);
    loop {
        let found = world.inbox.events(&world.hook, EventList::Delivered, after.as_deref(), most);
        let (events, has_more) = found.await.unwrap();
        assert!(events.iter().all(|(_, state)| *state == EventState::Delivered));
        pages.push(events.iter().map(|(event, _)| event.id.clone()).collect());
        if !has_more {
            return pages;
        }
        after = events.last().map(|(event, _)| event.id.clone());
    }
}

/// An event with this body, delivered.
async fn taken(world: &World, hook: &Record<Hook>, body: &str) -> HookEvent {
    let (event, _) = world.event_with(body).await;
    world.inbox.take(hook, &event.id).await.unwrap();
    event
}

#[tokio::test]
async fn delivered_events_are_kept_in_pages_and_beyond_their_number_only_their_ids_are() {
    let store = Arc::new(HeldStore::default());
    let world = World::of(inbox_in(store.clone(), "gitlab").await).await;
    let mut hook = Record::clone(&world.hook);
    hook.spec.keep_events = Some(3);
    let mut ids = Vec::new();
    for body in ["1", "2", "3", "4", "5"] {
        ids.push(taken(&world, &hook, body).await.id);
    }
    let kept = [ids[4].clone(), ids[3].clone(), ids[2].clone()];
    assert_eq!(delivered(&world, 2).await, [&kept[..2], &kept[2..]]);
    assert_eq!(world.inbox.status(&hook.id).delivered, 3);
    let missing = world.inbox.event(&hook, &ids[0]).await;
    assert!(matches!(missing, Err(InboxError::NoEvent(_))), "{missing:?}");
    let repeated = world.send_body("1").await.unwrap();
    assert!(matches!(repeated, Accepted::Repeated { .. }), "{repeated:?}");
    // The same after a restart.
    world.inbox.queue.lock().forget(&hook.id);
    world.inbox.resume().await.unwrap();
    assert_eq!(delivered(&world, 9).await, [kept]);
    let unknown = world.inbox.events(&hook, EventList::Delivered, Some(&ids[0]), 9).await;
    assert!(matches!(unknown, Err(InboxError::NoEvent(_))), "{unknown:?}");
}

#[tokio::test]
async fn a_hook_that_keeps_no_events_keeps_ids_alone() {
    let world = World::new().await;
    let mut hook = Record::clone(&world.hook);
    hook.spec.keep_events = Some(0);
    let event = taken(&world, &hook, "1").await;
    assert_eq!(delivered(&world, 9).await, [Vec::<String>::new()]);
    let row = world.inbox.events.get(&hook.org, &event.row()).await.unwrap();
    assert!(matches!(row, Some((EventRow::Taken { event: None, .. }, _))), "{row:?}");
}

/// Its id is no longer remembered, so the same bytes are another event; its request is still there to be sent again.
#[tokio::test]
async fn a_kept_event_outlives_the_time_in_which_a_repeated_request_is_known() {
    let world = World::new().await;
    let event = taken(&world, &world.hook, "1").await;
    let (org, row) = (&world.hook.org, event.row());
    let (known, version) = world.inbox.events.get(org, &row).await.unwrap().unwrap();
    let EventRow::Taken { hook, event: kept, .. } = known else { panic!("{known:?}") };
    let over = EventRow::Taken { hook, until: Timestamp::UNIX_EPOCH, event: kept };
    world.inbox.events.put(org, &row, &over, Some(version)).await.unwrap();
    world.inbox.queue.lock().forget(&world.hook.id);
    world.inbox.resume().await.unwrap();
    world.inbox.forget_expired().await;
    assert_eq!(delivered(&world, 9).await, [vec![event.id.clone()]]);
    world.inbox.send_again(&world.hook, &event.id).await.unwrap();
    assert_eq!(world.counts(), (1, 0));
    world.inbox.take(&world.hook, &event.id).await.unwrap();
    assert_eq!(world.inbox.status(&world.hook.id).delivered, 1);
    let (known, version) = world.inbox.events.get(org, &row).await.unwrap().unwrap();
    assert!(matches!(known, EventRow::Taken { .. }), "{known:?}");
    world.inbox.events.put(org, &row, &over, Some(version)).await.unwrap();
    let again = world.send_body("1").await.unwrap();
    assert_eq!(again, Accepted::Stored { id: event.id.clone(), is_again: true });
    assert_eq!((world.counts(), world.inbox.status(&world.hook.id).delivered), ((1, 0), 0));
}

/// An id expires while its service is asked to send the event again.
#[tokio::test]
async fn an_expired_id_does_not_remove_an_event_that_was_accepted_again() {
    let world = World::new().await;
    let mut hook = Record::clone(&world.hook);
    hook.spec.keep_events = Some(0);
    let event = taken(&world, &hook, "1").await;
    let expired = world.inbox.queue.lock().expired(Timestamp::MAX);
    let [(org, _, _, version)] = &expired[..] else { panic!("{expired:?}") };
    let row = event.row();
    world.inbox.events.put(org, &row, &EventRow::Waiting(event), Some(*version)).await.unwrap();
    world.inbox.events.delete_version(org, &row, *version).await.unwrap();
    let kept = world.inbox.events.get(org, &row).await.unwrap();
    assert!(matches!(kept, Some((EventRow::Waiting(_), _))), "{kept:?}");
}

/// Another replica has sent it again, which this one does not know yet.
#[tokio::test]
async fn a_dead_event_that_was_sent_again_elsewhere_is_not_removed() {
    let world = World::new().await;
    world.keep_dead(1);
    let event = world.dead("1", 1).await;
    let (id, row) = (event.id.clone(), event.row());
    let (.., version) = world.inbox.event(&world.hook, &id).await.unwrap();
    let again = EventRow::Waiting(event);
    world.inbox.events.put(&world.hook.org, &row, &again, Some(version)).await.unwrap();
    world.dead("2", 2).await;
    assert_eq!(world.counts(), (1, 1));
    let (_, state, _) = world.inbox.event(&world.hook, &id).await.unwrap();
    assert_eq!(state, EventState::Waiting);
}

#[tokio::test]
async fn no_event_is_accepted_while_events_of_too_many_bytes_wait() {
    let world = World::new().await;
    let (event, _) = world.event_with("1").await;
    let waiting = WaitingEvent::of(&world.hook.org, &event);
    let large = WaitingEvent { bytes: EVENTS_BYTES_MAX, id: "large".to_owned(), ..waiting };
    world.inbox.queue.lock().push(&world.hook.id, large);
    let full = world.send_body("2").await;
    assert!(matches!(full, Err(InboxRefusal::Full)), "{full:?}");
    world.inbox.queue.lock().remove(&world.hook.id, "large");
    world.event_with("2").await;
    assert_eq!(world.counts(), (2, 0));
}

#[tokio::test]
async fn a_start_queues_all_events_and_reads_few_at_once() {
    let store = Arc::new(HeldStore::default());
    let world = World::of(inbox_in(store.clone(), "gitlab").await).await;
    for n in 0..RESUMED_PAGE {
        world.event_with(&n.to_string()).await;
    }
    world.dead("dead", 1).await;
    world.inbox.queue.lock().forget(&world.hook.id);
    world.inbox.resume().await.unwrap();
    assert_eq!(world.counts(), (RESUMED_PAGE, 1));
    assert_eq!(store.largest_page(), RESUMED_PAGE);
}

#[tokio::test]
async fn the_events_of_a_removed_hook_are_deleted_without_reading_any() {
    let store = Arc::new(HeldStore::default());
    let world = World::of(inbox_in(store.clone(), "gitlab").await).await;
    let (event, _) = world.event().await;
    let (org, other) = (&world.hook.org, HookId::random());
    let row_of_other = event::row(&other, "1");
    let taken = EventRow::Taken { hook: other, until: Timestamp::MAX, event: None };
    world.inbox.events.put(org, &row_of_other, &taken, None).await.unwrap();
    let before = store.read();
    world.inbox.forget(org, &world.hook.id).await.unwrap();
    assert_eq!(store.read(), before);
    assert!(world.inbox.events.get(org, &event.row()).await.unwrap().is_none());
    assert!(world.inbox.events.get(org, &row_of_other).await.unwrap().is_some());
}
