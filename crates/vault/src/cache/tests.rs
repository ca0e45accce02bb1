//! The result of a lookup, by the age of the credential and the state of the flight.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use keyward_base::id::ConnectionId;
use keyward_rules::inject::credential::Clears;
use keyward_rules::inject::scrub::Needles;
use keyward_state::directory::BrokenReason;

const BUFFER: Option<Duration> = Some(seconds(300));

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A cell, and a clock that the test moves.
struct Desk {
    cell: Arc<CredentialCell>,
    clock: Clock,
    ms: Arc<AtomicI64>,
    settings: Arc<TokenSettings>,
}

impl Desk {
    fn new() -> Self {
        let ms = Arc::new(AtomicI64::new(1_000_000));
        let (clock, settings) = (Clock::Fixed(ms.clone()), Arc::default());
        Self { cell: Arc::new(CredentialCell::new(OrgId::default_org())), clock, ms, settings }
    }

    /// With a credential of generation 1 that is valid for an hour.
    fn hour() -> Self {
        let desk = Self::new();
        desk.holds(1, Some(Lifetime::new(seconds(3_600), seconds(3_600), BUFFER)));
        desk
    }

    fn held(&self, generation: u64, life: Option<Lifetime>) -> CachedCredential {
        let credential = Credential {
            connection: ConnectionId::random(),
            generation,
            expires: None,
            writes: Vec::new(),
            clears: Clears::default(),
            rate_limit: Arc::default(),
            needles: Arc::new(Needles::new(Vec::new(), Vec::new())),
            renews: None,
            signer: None,
            tls: None,
        };
        CachedCredential::new(Arc::new(credential), self.clock.moment(), life)
    }

    fn holds(&self, generation: u64, life: Option<Lifetime>) {
        self.cell.reset(Some(self.held(generation, life)));
    }

    fn passes(&self, time: Duration) {
        self.ms.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    fn lookup(&self, why: Trigger, waited: Option<u64>) -> Lookup {
        self.cell.lookup(why, waited, &self.clock, &self.settings)
    }

    fn begin(&self, why: Trigger) -> Ticket {
        match self.lookup(why, None) {
            Lookup::Begin(ticket) | Lookup::UseAndBegin(_, ticket) => ticket,
            other => panic!("no flight begins: {other:?}"),
        }
    }
}

fn used(look: &Lookup) -> Option<u64> {
    match look {
        Lookup::Use(credential) | Lookup::UseAndBegin(credential, _) => Some(credential.generation),
        _ => None,
    }
}

/// oauth 7.2: buffer, half-life, and neither without a way to renew.
#[test]
fn a_credential_ages_a_buffer_before_its_end_or_half_its_life() {
    let table = [
        (3_600, 3_600, BUFFER, (3_300, 3_450, 3_600)),
        (600, 600, BUFFER, (300, 450, 600)),
        (60, 60, BUFFER, (30, 45, 60)),
        (1_000, 3_600, BUFFER, (700, 850, 1_000)),
        (0, 3_600, BUFFER, (0, 0, 0)),
        (3_600, 3_600, None, (3_600, 3_600, 3_600)),
    ];
    for (left, whole, buffer, (ages, late, ends)) in table {
        let life = Lifetime::new(seconds(left), seconds(whole), buffer);
        let expected = Lifetime { ages: seconds(ages), late: seconds(late), ends: seconds(ends) };
        assert_eq!(life, expected, "{left} of {whole}");
    }
}

/// oauth 5.answer: requests that wait already keep waiting; later requests use a valid credential or are refused at
/// once.
#[test]
fn no_request_begins_to_wait_for_an_answer_that_is_late() {
    let desk = Desk::hour();
    desk.passes(seconds(3_450));
    let ticket = desk.begin(Trigger::Needed);
    assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Wait(1)));
    ticket.is_late();
    assert!(desk.cell.late_since().is_some());
    for waited in [None, Some(1)] {
        assert_eq!(used(&desk.lookup(Trigger::Needed, waited)), Some(1), "it still lives");
    }
    desk.passes(seconds(150));
    assert!(
        matches!(desk.lookup(Trigger::Needed, Some(1)), Lookup::Wait(1)),
        "by its own deadline"
    );
    let Lookup::Pause(pause) = desk.lookup(Trigger::Needed, None) else { panic!("it waits") };
    assert!(!pause.is_zero());
    assert!(
        matches!(desk.lookup(Trigger::Asked(1), None), Lookup::Pause(_)),
        "no second flight by hand"
    );
    ticket.publish(desk.held(2, None));
    ticket.land(FlightResult::Published);
    assert_eq!(used(&desk.lookup(Trigger::Needed, None)), Some(2));
    assert_eq!(desk.cell.late_since(), None);
}

/// oauth 5.answer, 8.5: a flight for an older grant does not mark the response to the new one as late.
#[test]
fn a_late_answer_of_an_older_grant_holds_nobody_up() {
    let desk = Desk::new();
    let old = desk.begin(Trigger::Needed);
    desk.cell.reset(None);
    old.is_late();
    assert_eq!(desk.cell.late_since(), None);
    let new = desk.begin(Trigger::Needed);
    old.is_late();
    assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Wait(_)));
    drop(new);
}

/// oauth 7.3 and 8.1
#[test]
fn in_the_first_half_of_the_buffer_the_old_one_is_used_while_one_flight_is_under_way() {
    let desk = Desk::hour();
    desk.passes(seconds(3_299));
    assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Use(_)), "young");
    desk.passes(seconds(1));
    let Lookup::UseAndBegin(old, ticket) = desk.lookup(Trigger::Needed, None) else {
        panic!("no flight")
    };
    assert_eq!(old.generation, 1);
    assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Use(_)), "no second flight");
    desk.passes(seconds(150));
    assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Wait(1)), "the second half waits");
    ticket.publish(desk.held(2, None));
    assert_eq!(ticket.land(FlightResult::Published), None);
    assert_eq!(used(&desk.lookup(Trigger::Needed, Some(1))), Some(2));
}

/// oauth 7.3: "A token after its expiry is never sent."
#[test]
fn a_dead_one_is_never_used_whatever_fails() {
    let desk = Desk::hour();
    desk.passes(seconds(3_600));
    let ticket = desk.begin(Trigger::Needed);
    assert!(desk.cell.usable(Trigger::Needed, desk.clock.moment()).is_none());
    assert!(matches!(desk.lookup(Trigger::Needed, Some(1)), Lookup::Wait(1)));
    ticket.land(FlightResult::Failed(FailureDetails::default()));
    assert!(matches!(desk.lookup(Trigger::Needed, Some(1)), Lookup::Pause(_)));
    assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Pause(_)), "at once: oauth 10.2");
}

/// oauth 7.4
#[test]
fn while_refreshes_fail_a_living_one_is_used() {
    let desk = Desk::hour();
    desk.passes(seconds(3_500));
    let ticket = desk.begin(Trigger::Needed);
    assert!(ticket.land(FlightResult::Failed(FailureDetails::default())).is_some());
    assert_eq!(used(&desk.lookup(Trigger::Needed, Some(1))), Some(1));
    assert!(
        matches!(desk.lookup(Trigger::Needed, None), Lookup::Use(_)),
        "no flight within the pause"
    );
    desk.passes(seconds(2));
    assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Begin(_)), "after it");
}

/// oauth 7.5
#[test]
fn one_of_unknown_life_is_used_until_it_is_refused() {
    let desk = Desk::new();
    desk.holds(1, None);
    desk.passes(seconds(100 * 365 * 86_400));
    assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Use(_)));
    assert!(matches!(desk.lookup(Trigger::Beyond(1), None), Lookup::Begin(_)));
}

/// oauth 8.3
#[test]
fn the_generation_decides_who_needs_a_flight() {
    let desk = Desk::new();
    desk.holds(5, None);
    assert_eq!(used(&desk.lookup(Trigger::Beyond(4), None)), Some(5));
    let first = desk.begin(Trigger::Beyond(5));
    assert!(matches!(desk.lookup(Trigger::Beyond(5), None), Lookup::Wait(1)));
    first.publish(desk.held(6, None));
    first.land(FlightResult::Published);
    assert_eq!(used(&desk.lookup(Trigger::Beyond(5), Some(1))), Some(6));
    assert_eq!(used(&desk.lookup(Trigger::Beyond(5), None)), Some(6));
}

/// oauth 8.5
#[test]
fn what_an_older_flight_brings_after_a_change_of_the_grant_is_dropped() {
    let desk = Desk::hour();
    desk.passes(seconds(3_600));
    let late = desk.begin(Trigger::Needed);
    desk.holds(7, None);
    late.publish(desk.held(2, None));
    let reason = BrokenReason::Revoked;
    late.land(FlightResult::Refused(FlightRefusal::Broken { reason, detail: None, rest: None }));
    assert_eq!(used(&desk.lookup(Trigger::Needed, Some(1))), Some(7));
    let ticket = desk.begin(Trigger::Beyond(7));
    ticket.publish(desk.held(6, None));
    assert_eq!(used(&desk.lookup(Trigger::Needed, None)), Some(7), "nor anything older");
}

/// oauth 8.5
#[test]
fn a_change_that_a_verdict_was_stored_over_publishes_nothing() {
    let desk = Desk::hour();
    desk.passes(seconds(3_600));
    let flight = desk.begin(Trigger::Needed);
    flight.has_stored(8);
    let reason = BrokenReason::Revoked;
    flight.land(FlightResult::Refused(FlightRefusal::Broken { reason, detail: None, rest: None }));
    desk.cell.takes(desk.held(7, None), desk.cell.epoch());
    assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Begin(_)));
    desk.cell.takes(desk.held(9, None), desk.cell.epoch());
    assert_eq!(used(&desk.lookup(Trigger::Needed, None)), Some(9), "a later change does");
}

/// oauth 8.5
#[test]
fn what_a_change_of_the_grant_published_ends_with_what_an_older_flight_stored_over_it() {
    for by_verdict in [false, true] {
        let desk = Desk::hour();
        desk.passes(seconds(3_600));
        let late = desk.begin(Trigger::Needed);
        desk.holds(7, None);
        match by_verdict {
            false => late.publish(desk.held(8, None)),
            true => late.has_stored(8),
        }
        assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Begin(_)), "{by_verdict}");
    }
}

/// oauth 8.5
#[test]
fn a_flight_that_has_read_an_older_row_than_was_stored_since_publishes_nothing() {
    let desk = Desk::hour();
    desk.passes(seconds(3_600));
    let first = desk.begin(Trigger::Needed);
    desk.cell.reset(None);
    let second = desk.begin(Trigger::Needed);
    first.has_stored(8);
    second.publish(desk.held(7, None));
    // The next one reads the row. A failover of the database may have taken the later one back.
    let third = desk.begin(Trigger::Needed);
    third.publish(desk.held(7, None));
    assert_eq!(used(&desk.lookup(Trigger::Needed, None)), Some(7));
}

/// oauth 8.5
#[test]
fn a_change_publishes_nothing_if_the_grant_was_changed_again() {
    let desk = Desk::hour();
    let epoch = desk.cell.epoch();
    desk.cell.reset(None);
    desk.cell.takes(desk.held(7, None), epoch);
    assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Begin(_)));
}

/// oauth 8.8
#[test]
fn a_flight_that_panics_is_a_temporary_failure_and_clears_itself() {
    let desk = Desk::new();
    let ticket = desk.begin(Trigger::Needed);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _ticket = ticket;
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());
    assert!(matches!(desk.lookup(Trigger::Needed, Some(1)), Lookup::Pause(_)));
    desk.passes(seconds(2));
    assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Begin(_)));
}

#[test]
fn all_who_waited_are_told_why_there_is_nothing() {
    let desk = Desk::new();
    let ticket = desk.begin(Trigger::Needed);
    let reason = BrokenReason::Revoked;
    ticket.land(FlightResult::Refused(FlightRefusal::Broken { reason, detail: None, rest: None }));
    for _ in 0..2 {
        assert!(matches!(desk.lookup(Trigger::Needed, Some(1)), Lookup::Refuse(_)));
    }
    assert!(
        matches!(desk.lookup(Trigger::Needed, None), Lookup::Begin(_)),
        "others ask the store again"
    );
}

/// oauth 10.1: reset by a reconnect.
#[test]
fn a_new_grant_ends_the_pause() {
    let desk = Desk::new();
    desk.begin(Trigger::Needed).land(FlightResult::Failed(FailureDetails::default()));
    assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Pause(_)));
    desk.cell.reset(None);
    assert!(matches!(desk.lookup(Trigger::Needed, None), Lookup::Begin(_)));
}

/// oauth 11.5
#[test]
fn after_a_second_refusal_the_cell_is_deaf_for_a_while() {
    let desk = Desk::hour();
    desk.cell.ignore_rejections_for(desk.clock.moment(), seconds(30));
    desk.passes(seconds(29));
    assert!(desk.cell.ignores_rejections(desk.clock.moment()));
    desk.passes(seconds(1));
    assert!(!desk.cell.ignores_rejections(desk.clock.moment()));
}

#[test]
fn the_warm_path_answers_the_young_alone() {
    let (fresh, desk) = (CredentialCache::default(), Desk::new());
    let (id, org) = (ConnectionId::random(), OrgId::default_org());
    assert!(fresh.ready(&id, &desk.clock).is_none());
    let cell = fresh.cell(&org, &id);
    assert!(Arc::ptr_eq(&cell, &fresh.cell(&org, &id)));
    cell.reset(Some(desk.held(1, Some(Lifetime::new(seconds(60), seconds(60), BUFFER)))));
    assert!(fresh.ready(&id, &desk.clock).is_some());
    desk.passes(seconds(30));
    assert!(fresh.ready(&id, &desk.clock).is_none());
    fresh.remove(&id);
    assert!(fresh.known(&id).is_none());
}

/// `count` connections that were looked up once, in a cache of at most `max`, whose flights have ended.
fn filled(max: usize, count: usize) -> (CredentialCache, Vec<ConnectionId>, Desk) {
    let (cache, desk) = (CredentialCache::default(), Desk::hour());
    cache.keep_at_most(max);
    let ids: Vec<_> = (0..count).map(|_| ConnectionId::random()).collect();
    for id in &ids {
        cache.cell(&desk.cell.org, id).reset(Some(desk.held(1, None)));
    }
    (cache, ids, desk)
}

#[test]
fn the_cells_of_many_connections_are_bounded_and_those_in_use_stay() {
    let max = 640;
    let (cache, used, desk) = filled(max, 20);
    // Adds three times as many cells as fit, while the first cells stay in use.
    for _ in 0..3 * max {
        cache.cell(&desk.cell.org, &ConnectionId::random()).reset(Some(desk.held(1, None)));
        for id in &used {
            assert!(cache.ready(id, &desk.clock).is_some(), "one in use made room");
        }
    }
    // Ids do not fill all shards alike: each has ten at most.
    assert!((max / 2..=max).contains(&cache.len()), "{}", cache.len());
}

#[test]
fn what_the_store_has_not_makes_no_room() {
    let (cache, ids, desk) = filled(usize::MAX, 3);
    let cell = |at: usize| cache.known(&ids[at]).expect("it was looked up");
    let begun =
        |at: usize| match cell(at).lookup(Trigger::Asked(1), None, &desk.clock, &desk.settings) {
            Lookup::Begin(ticket) => ticket,
            other => panic!("no flight begins: {other:?}"),
        };
    let flying = begun(0);
    begun(1).land(FlightResult::Failed(FailureDetails::default()));
    cache.drop_idle();
    assert!(cache.known(&ids[0]).is_some(), "a flight runs");
    assert!(cache.known(&ids[1]).is_some(), "it failed, and pauses");
    assert!(cache.known(&ids[2]).is_none());
    flying.land(FlightResult::Published);
    cache.drop_idle();
    assert!(cache.known(&ids[0]).is_none());
}

#[test]
fn no_flight_begins_in_a_cell_that_made_room() {
    let (cache, ids, desk) = filled(usize::MAX, 1);
    let cell = cache.known(&ids[0]).expect("it was looked up");
    cache.drop_idle();
    let lookup = || cell.lookup(Trigger::Needed, None, &desk.clock, &desk.settings);
    assert!(matches!(lookup(), Lookup::Moved));
    // A late change does not put the evicted cell in use again.
    cell.reset(None);
    cell.takes(desk.held(2, None), cell.epoch());
    assert!(matches!(lookup(), Lookup::Moved));
    let next = cache.cell(&desk.cell.org, &ids[0]);
    let looked = next.lookup(Trigger::Needed, None, &desk.clock, &desk.settings);
    assert!(matches!(looked, Lookup::Begin(_)));
}
