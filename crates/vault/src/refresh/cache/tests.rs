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
struct Fixture {
    cell: Arc<CredentialCell>,
    clock: Clock,
    ms: Arc<AtomicI64>,
    settings: Arc<TokenSettings>,
}

impl Fixture {
    fn new() -> Self {
        let ms = Arc::new(AtomicI64::new(1_000_000));
        let (clock, settings) = (Clock::Fixed(ms.clone()), Arc::default());
        Self { cell: Arc::new(CredentialCell::new(OrgId::default_org())), clock, ms, settings }
    }

    /// With a credential of generation 1 that is valid for an hour.
    fn hour() -> Self {
        let fixture = Self::new();
        fixture.holds(1, Some(Lifetime::new(seconds(3_600), seconds(3_600), BUFFER)));
        fixture
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
fn renewal_is_due_a_buffer_before_expiry_or_after_half_of_the_lifetime() {
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

/// oauth 7.exchanged: 60 days, with requests in the 40th.
#[test]
fn a_token_that_is_exchanged_is_renewed_once_from_half_of_its_life_on_and_delays_no_request() {
    const DAY: u64 = 86_400;
    let whole = seconds(60 * DAY);
    let usual = Lifetime::new(whole, whole, BUFFER);
    let life = usual.renewed_at_half(whole);
    assert_eq!(life, Lifetime { ages: seconds(30 * DAY), ..usual });
    let short = Lifetime::new(seconds(10), seconds(60), BUFFER);
    assert_eq!(short.renewed_at_half(seconds(60)).ages, Duration::ZERO, "half of it is over");
    let fixture = Fixture::new();
    fixture.holds(1, Some(life));
    fixture.passes(seconds(30 * DAY - 1));
    assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Use(_)), "young");
    fixture.passes(seconds(10 * DAY));
    let Lookup::UseAndBegin(old, ticket) = fixture.lookup(Trigger::Needed, None) else {
        panic!("no flight")
    };
    assert_eq!(old.generation, 1);
    assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Use(_)), "no second flight");
    ticket.land(FlightResult::Failed(FailureDetails::default()));
    assert_eq!(used(&fixture.lookup(Trigger::Needed, None)), Some(1), "a failure ends nothing");
}

/// oauth 5.answer: requests that wait already keep waiting; later requests use a valid credential or are refused at
/// once.
#[test]
fn no_request_begins_to_wait_for_an_answer_that_is_late() {
    let fixture = Fixture::hour();
    fixture.passes(seconds(3_450));
    let ticket = fixture.begin(Trigger::Needed);
    assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Wait(1)));
    ticket.mark_late();
    assert!(fixture.cell.late_since().is_some());
    for waited in [None, Some(1)] {
        assert_eq!(used(&fixture.lookup(Trigger::Needed, waited)), Some(1), "it still lives");
    }
    fixture.passes(seconds(150));
    assert!(
        matches!(fixture.lookup(Trigger::Needed, Some(1)), Lookup::Wait(1)),
        "by its own deadline"
    );
    let Lookup::Pause(pause) = fixture.lookup(Trigger::Needed, None) else { panic!("it waits") };
    assert!(!pause.is_zero());
    assert!(
        matches!(fixture.lookup(Trigger::Requested(1), None), Lookup::Pause(_)),
        "no second flight by hand"
    );
    ticket.publish(fixture.held(2, None));
    ticket.land(FlightResult::Published);
    assert_eq!(used(&fixture.lookup(Trigger::Needed, None)), Some(2));
    assert_eq!(fixture.cell.late_since(), None);
}

/// oauth 5.answer, 8.5: a flight for an older grant does not mark the response to the new one as late.
#[test]
fn a_late_answer_to_an_older_grant_delays_no_request() {
    let fixture = Fixture::new();
    let old = fixture.begin(Trigger::Needed);
    fixture.cell.reset(None);
    old.mark_late();
    assert_eq!(fixture.cell.late_since(), None);
    let new = fixture.begin(Trigger::Needed);
    old.mark_late();
    assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Wait(_)));
    drop(new);
}

/// oauth 7.3 and 8.1
#[test]
fn in_the_first_half_of_the_buffer_the_old_credential_is_used_while_one_flight_runs() {
    let fixture = Fixture::hour();
    fixture.passes(seconds(3_299));
    assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Use(_)), "young");
    fixture.passes(seconds(1));
    let Lookup::UseAndBegin(old, ticket) = fixture.lookup(Trigger::Needed, None) else {
        panic!("no flight")
    };
    assert_eq!(old.generation, 1);
    assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Use(_)), "no second flight");
    fixture.passes(seconds(150));
    assert!(
        matches!(fixture.lookup(Trigger::Needed, None), Lookup::Wait(1)),
        "the second half waits"
    );
    ticket.publish(fixture.held(2, None));
    assert_eq!(ticket.land(FlightResult::Published), None);
    assert_eq!(used(&fixture.lookup(Trigger::Needed, Some(1))), Some(2));
}

/// oauth 7.3: "A token after its expiry is never sent."
#[test]
fn an_expired_credential_is_never_used() {
    let fixture = Fixture::hour();
    fixture.passes(seconds(3_600));
    let ticket = fixture.begin(Trigger::Needed);
    assert!(fixture.cell.usable(Trigger::Needed, fixture.clock.moment()).is_none());
    assert!(matches!(fixture.lookup(Trigger::Needed, Some(1)), Lookup::Wait(1)));
    ticket.land(FlightResult::Failed(FailureDetails::default()));
    assert!(matches!(fixture.lookup(Trigger::Needed, Some(1)), Lookup::Pause(_)));
    assert!(
        matches!(fixture.lookup(Trigger::Needed, None), Lookup::Pause(_)),
        "at once: oauth 10.2"
    );
}

/// oauth 7.4
#[test]
fn a_valid_credential_is_used_while_refreshes_fail() {
    let fixture = Fixture::hour();
    fixture.passes(seconds(3_500));
    let ticket = fixture.begin(Trigger::Needed);
    assert!(ticket.land(FlightResult::Failed(FailureDetails::default())).is_some());
    assert_eq!(used(&fixture.lookup(Trigger::Needed, Some(1))), Some(1));
    assert!(
        matches!(fixture.lookup(Trigger::Needed, None), Lookup::Use(_)),
        "no flight within the pause"
    );
    fixture.passes(seconds(2));
    assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Begin(_)), "after it");
}

/// oauth 7.5
#[test]
fn a_credential_of_unknown_lifetime_is_used_until_it_is_rejected() {
    let fixture = Fixture::new();
    fixture.holds(1, None);
    fixture.passes(seconds(100 * 365 * 86_400));
    assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Use(_)));
    assert!(matches!(fixture.lookup(Trigger::Rejected(1), None), Lookup::Begin(_)));
}

/// oauth 8.3
#[test]
fn the_generation_decides_whether_a_flight_is_needed() {
    let fixture = Fixture::new();
    fixture.holds(5, None);
    assert_eq!(used(&fixture.lookup(Trigger::Rejected(4), None)), Some(5));
    let first = fixture.begin(Trigger::Rejected(5));
    assert!(matches!(fixture.lookup(Trigger::Rejected(5), None), Lookup::Wait(1)));
    first.publish(fixture.held(6, None));
    first.land(FlightResult::Published);
    assert_eq!(used(&fixture.lookup(Trigger::Rejected(5), Some(1))), Some(6));
    assert_eq!(used(&fixture.lookup(Trigger::Rejected(5), None)), Some(6));
}

/// oauth 8.5
#[test]
fn the_result_of_an_older_flight_is_dropped_after_a_change_of_the_grant() {
    let fixture = Fixture::hour();
    fixture.passes(seconds(3_600));
    let late = fixture.begin(Trigger::Needed);
    fixture.holds(7, None);
    late.publish(fixture.held(2, None));
    let reason = BrokenReason::Revoked;
    late.land(FlightResult::Refused(FlightRefusal::Broken {
        reason,
        detail: None,
        rest: None,
        keeps_token: false,
    }));
    assert_eq!(used(&fixture.lookup(Trigger::Needed, Some(1))), Some(7));
    let ticket = fixture.begin(Trigger::Rejected(7));
    ticket.publish(fixture.held(6, None));
    assert_eq!(used(&fixture.lookup(Trigger::Needed, None)), Some(7), "nor anything older");
}

/// oauth 8.5
#[test]
fn a_change_that_a_later_verdict_has_overwritten_publishes_nothing() {
    let fixture = Fixture::hour();
    fixture.passes(seconds(3_600));
    let flight = fixture.begin(Trigger::Needed);
    flight.note_stored(8);
    let reason = BrokenReason::Revoked;
    flight.land(FlightResult::Refused(FlightRefusal::Broken {
        reason,
        detail: None,
        rest: None,
        keeps_token: false,
    }));
    fixture.cell.reset_with(fixture.held(7, None), fixture.cell.epoch());
    assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Begin(_)));
    fixture.cell.reset_with(fixture.held(9, None), fixture.cell.epoch());
    assert_eq!(used(&fixture.lookup(Trigger::Needed, None)), Some(9), "a later change does");
}

/// oauth 8.5
#[test]
fn a_published_credential_is_dropped_when_an_older_flight_overwrites_its_grant() {
    for by_verdict in [false, true] {
        let fixture = Fixture::hour();
        fixture.passes(seconds(3_600));
        let late = fixture.begin(Trigger::Needed);
        fixture.holds(7, None);
        match by_verdict {
            false => late.publish(fixture.held(8, None)),
            true => late.note_stored(8),
        }
        assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Begin(_)), "{by_verdict}");
    }
}

/// oauth 8.5
#[test]
fn a_flight_that_read_an_outdated_row_publishes_nothing() {
    let fixture = Fixture::hour();
    fixture.passes(seconds(3_600));
    let first = fixture.begin(Trigger::Needed);
    fixture.cell.reset(None);
    let second = fixture.begin(Trigger::Needed);
    first.note_stored(8);
    second.publish(fixture.held(7, None));
    // The next one reads the row. A failover of the database may have taken the later one back.
    let third = fixture.begin(Trigger::Needed);
    third.publish(fixture.held(7, None));
    assert_eq!(used(&fixture.lookup(Trigger::Needed, None)), Some(7));
}

/// oauth 8.5
#[test]
fn a_change_publishes_nothing_if_the_grant_was_changed_again() {
    let fixture = Fixture::hour();
    let epoch = fixture.cell.epoch();
    fixture.cell.reset(None);
    fixture.cell.reset_with(fixture.held(7, None), epoch);
    assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Begin(_)));
}

/// oauth 8.8
#[test]
fn a_flight_that_panics_is_a_temporary_failure_and_clears_itself() {
    let fixture = Fixture::new();
    let ticket = fixture.begin(Trigger::Needed);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _ticket = ticket;
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());
    assert!(matches!(fixture.lookup(Trigger::Needed, Some(1)), Lookup::Pause(_)));
    fixture.passes(seconds(2));
    assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Begin(_)));
}

#[test]
fn all_waiting_requests_get_the_reason_of_a_failed_flight() {
    let fixture = Fixture::new();
    let ticket = fixture.begin(Trigger::Needed);
    let reason = BrokenReason::Revoked;
    ticket.land(FlightResult::Refused(FlightRefusal::Broken {
        reason,
        detail: None,
        rest: None,
        keeps_token: false,
    }));
    for _ in 0..2 {
        assert!(matches!(fixture.lookup(Trigger::Needed, Some(1)), Lookup::Refuse(_)));
    }
    assert!(
        matches!(fixture.lookup(Trigger::Needed, None), Lookup::Begin(_)),
        "others ask the store again"
    );
}

/// A broken connection is not tried again, so it is not reported as failing.
#[test]
fn a_verdict_ends_the_failures_before_it() {
    let fixture = Fixture::new();
    fixture.begin(Trigger::Needed).land(FlightResult::Failed(FailureDetails::default()));
    assert_eq!(fixture.cell.backoff().failures(), 1);
    fixture.passes(seconds(2));
    let reason = BrokenReason::Revoked;
    let refused = FlightRefusal::Broken { reason, detail: None, rest: None, keeps_token: false };
    fixture.begin(Trigger::Needed).land(FlightResult::Refused(refused));
    assert!(fixture.cell.backoff().is_empty());
}

/// oauth 10.1: reset by a reconnect.
#[test]
fn a_new_grant_ends_the_pause() {
    let fixture = Fixture::new();
    fixture.begin(Trigger::Needed).land(FlightResult::Failed(FailureDetails::default()));
    assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Pause(_)));
    fixture.cell.reset(None);
    assert!(matches!(fixture.lookup(Trigger::Needed, None), Lookup::Begin(_)));
}

/// oauth 11.5
#[test]
fn rejections_are_ignored_until_the_given_time_has_passed() {
    let fixture = Fixture::hour();
    fixture.cell.ignore_rejections_for(fixture.clock.moment(), seconds(30));
    fixture.passes(seconds(29));
    assert!(fixture.cell.ignores_rejections(fixture.clock.moment()));
    fixture.passes(seconds(1));
    assert!(!fixture.cell.ignores_rejections(fixture.clock.moment()));
}

#[test]
fn the_warm_path_returns_only_credentials_that_are_not_due_for_renewal() {
    let (fresh, fixture) = (CredentialCache::default(), Fixture::new());
    let (id, org) = (ConnectionId::random(), OrgId::default_org());
    assert!(fresh.ready(&id, &fixture.clock).is_none());
    let cell = fresh.cell(&org, &id);
    assert!(Arc::ptr_eq(&cell, &fresh.cell(&org, &id)));
    cell.reset(Some(fixture.held(1, Some(Lifetime::new(seconds(60), seconds(60), BUFFER)))));
    assert!(fresh.ready(&id, &fixture.clock).is_some());
    fixture.passes(seconds(30));
    assert!(fresh.ready(&id, &fixture.clock).is_none());
    fresh.remove(&id);
    assert!(fresh.known(&id).is_none());
}

/// `count` connections that were looked up once, in a cache of at most `max`, whose flights have ended.
fn filled(max: usize, count: usize) -> (CredentialCache, Vec<ConnectionId>, Fixture) {
    let (cache, fixture) = (CredentialCache::default(), Fixture::hour());
    cache.keep_at_most(max);
    let ids: Vec<_> = (0..count).map(|_| ConnectionId::random()).collect();
    for id in &ids {
        cache.cell(&fixture.cell.org, id).reset(Some(fixture.held(1, None)));
    }
    (cache, ids, fixture)
}

#[test]
fn the_cells_of_many_connections_are_bounded_and_those_in_use_stay() {
    let max = 640;
    let (cache, used, fixture) = filled(max, 20);
    // Adds three times as many cells as fit, while the first cells stay in use.
    for _ in 0..3 * max {
        cache.cell(&fixture.cell.org, &ConnectionId::random()).reset(Some(fixture.held(1, None)));
        for id in &used {
            assert!(cache.ready(id, &fixture.clock).is_some(), "one in use made room");
        }
    }
    // Ids do not fill all shards alike: each has ten at most.
    assert!((max / 2..=max).contains(&cache.len()), "{}", cache.len());
}

#[test]
fn a_cell_with_a_running_flight_or_a_pause_is_not_evicted() {
    let (cache, ids, fixture) = filled(usize::MAX, 3);
    let cell = |at: usize| cache.known(&ids[at]).expect("it was looked up");
    let begun = |at: usize| match cell(at).lookup(
        Trigger::Requested(1),
        None,
        &fixture.clock,
        &fixture.settings,
    ) {
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
fn no_flight_begins_in_an_evicted_cell() {
    let (cache, ids, fixture) = filled(usize::MAX, 1);
    let cell = cache.known(&ids[0]).expect("it was looked up");
    cache.drop_idle();
    let lookup = || cell.lookup(Trigger::Needed, None, &fixture.clock, &fixture.settings);
    assert!(matches!(lookup(), Lookup::Moved));
    // A late change does not put the evicted cell in use again.
    cell.reset(None);
    cell.reset_with(fixture.held(2, None), cell.epoch());
    assert!(matches!(lookup(), Lookup::Moved));
    let next = cache.cell(&fixture.cell.org, &ids[0]);
    let looked = next.lookup(Trigger::Needed, None, &fixture.clock, &fixture.settings);
    assert!(matches!(looked, Lookup::Begin(_)));
}
