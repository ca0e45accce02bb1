//! Tests with several replicas that exchange rows over a table in memory, in simulated time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const KEY: [u8; 32] = [7; 32];
const MINUTE: Duration = Duration::from_secs(60);

/// The rows of all replicas.
#[derive(Default)]
struct Rows(BTreeMap<String, (Vec<u8>, Instant)>);

struct Replica {
    name: String,
    limits: Arc<SharedLimits>,
    exchange: LimitExchange,
}

impl Replica {
    fn new(name: &str) -> Self {
        let limits = SharedLimits::new(Some(&KEY)).unwrap();
        Self { name: name.to_owned(), exchange: LimitExchange::new(limits.clone()), limits }
    }

    fn takes(&self, of: &str, rate: Rate, now: Instant) -> bool {
        let bucket = self.limits.bucket(LimitSpace::Connections, of.as_bytes(), rate, now);
        self.limits.take_from(&bucket, rate, now).is_ok()
    }

    fn taken(&self, of: &str, rate: Rate, now: Instant) -> usize {
        (0..10_000).take_while(|_| self.takes(of, rate, now)).count()
    }

    fn publish(&mut self, rows: &mut Rows, now: Instant) {
        if let Some(row) = self.exchange.row(now) {
            rows.0.insert(self.name.clone(), (row, now));
            self.exchange.written();
        }
    }

    fn hear(&mut self, rows: &Rows, is_first: bool, now: Instant) -> u64 {
        let others = rows.0.iter().filter(|(name, _)| **name != self.name);
        let others: Vec<_> = others.map(|(name, row)| heard(name, row, now)).collect();
        others.iter().map(|row| self.exchange.add_row(row, is_first, now)).sum()
    }

    fn begin(&mut self, rows: &Rows, now: Instant) {
        let all: Vec<_> = rows.0.iter().map(|(name, row)| heard(name, row, now)).collect();
        self.exchange.begin(&all, now);
    }
}

fn heard<'a>(name: &'a str, row: &'a (Vec<u8>, Instant), now: Instant) -> ReplicaRow<'a> {
    ReplicaRow { replica: name, bytes: &row.0, ago: now - row.1 }
}

fn replicas(count: usize) -> Vec<Replica> {
    (0..count).map(|at| Replica::new(&format!("r{at}"))).collect()
}

fn exchange(all: &mut [Replica], rows: &mut Rows, is_first: bool, now: Instant) {
    for one in &mut *all {
        one.publish(rows, now);
    }
    for one in &mut *all {
        one.hear(rows, is_first, now);
        one.publish(rows, now);
    }
}

#[test]
fn a_limit_that_one_replica_used_up_is_used_up_at_the_others() {
    let (mut all, mut rows, now) = (replicas(3), Rows::default(), Instant::now());
    let rate = Rate::per_minute(30);
    assert_eq!(all[0].taken("a", rate, now), 30);
    exchange(&mut all, &mut rows, false, now);
    assert!(!all[1].takes("a", rate, now), "it saw no request itself");
    assert!(!all[2].takes("a", rate, now));
    assert!(all[2].takes("b", rate, now), "another connection");
    assert_eq!(all[1].hear(&rows, false, now), 0, "a row that is read twice counts once");
    let later = now + MINUTE / 30;
    assert!(all[1].takes("a", rate, later), "one is free");
}

#[test]
fn requests_that_replicas_allow_at_once_exceed_the_limit_once_and_are_paid_back() {
    let (mut all, mut rows, now) = (replicas(3), Rows::default(), Instant::now());
    let rate = Rate::per_minute(30);
    for one in &all {
        assert_eq!(one.taken("a", rate, now), 30);
    }
    exchange(&mut all, &mut rows, false, now);
    let mut total = 90;
    for second in 1..=180 {
        let now = now + Duration::from_secs(second);
        for one in &all {
            total += one.taken("a", rate, now);
        }
        exchange(&mut all, &mut rows, false, now);
        // A request each two seconds, of three replicas that hear of it a moment later.
        assert!(total <= 90.max(30 + second as usize / 2 + 2), "{total} after {second} s");
    }
    assert!(total >= 120, "{total}: what is free again is used");
}

#[test]
fn a_replica_that_starts_again_finds_its_own_limits_and_those_of_others() {
    let (mut all, mut rows, now) = (replicas(2), Rows::default(), Instant::now());
    let rate = Rate::per_hour(10);
    assert_eq!(all[0].taken("own", rate, now), 10);
    assert_eq!(all[1].taken("other", rate, now), 10);
    exchange(&mut all, &mut rows, false, now);
    let half = now + MINUTE * 30;
    let mut again = Replica::new("again");
    again.begin(&rows, half);
    assert_eq!((again.taken("own", rate, half), again.taken("other", rate, half)), (5, 5));
    assert_eq!(again.hear(&rows, false, half), 0, "what it found at the start counts once");
}

#[test]
fn replicas_that_do_not_hear_of_each_other_stay_within_the_limit_together() {
    let (mut all, mut rows, now) = (replicas(3), Rows::default(), Instant::now());
    let (rate, rare) = (Rate::per_minute(30), Rate::per_hour(1));
    for one in &all {
        one.limits.count_for(3);
        assert_eq!(one.taken("a", rate, now), 10, "a third");
        assert_eq!(one.taken("rare", rare, now), 1, "less than one is one");
    }
    for one in &all {
        one.limits.count_for(1);
    }
    exchange(&mut all, &mut rows, true, now);
    for one in &all {
        assert_eq!(one.taken("a", rate, now), 0, "used up");
        let later = now + MINUTE / 2;
        assert_eq!(
            one.limits.bucket(LimitSpace::Connections, b"a", rate, later).used(later),
            MINUTE / 2,
            "and once only"
        );
    }
}

#[test]
fn a_row_has_a_bounded_number_of_buckets_and_none_that_is_full_again() {
    let (mut all, mut rows, now) = (replicas(2), Rows::default(), Instant::now());
    let rate = Rate::per_minute(2);
    for of in 0..3_000 {
        assert!(all[0].takes(&of.to_string(), rate, now));
    }
    all[0].publish(&mut rows, now);
    assert_eq!(Published::read(&rows.0["r0"].0).unwrap().len(), 1_024);
    assert!(rows.0["r0"].0.len() < 200_000);
    assert_eq!(all[1].hear(&rows, false, now), 1_024);
    // The oldest is listed again, with what it allows from now on.
    assert!(all[0].takes("0", rate, now));
    all[0].publish(&mut rows, now);
    assert_eq!(all[1].hear(&rows, false, now), 1);
    let later = now + MINUTE * 2;
    assert!(all[0].takes("new", rate, later));
    all[0].publish(&mut rows, later);
    assert_eq!(Published::read(&rows.0["r0"].0).unwrap().len(), 1);
    assert!(all[0].exchange.row(later).is_none(), "without requests, nothing is written");
}

#[test]
fn a_row_that_was_not_written_is_made_again() {
    let (mut all, now) = (replicas(1), Instant::now());
    assert!(all[0].takes("a", Rate::per_minute(2), now));
    assert!(all[0].exchange.row(now).is_some());
    assert!(all[0].exchange.row(now).is_some(), "the store did not take it");
    all[0].exchange.written();
    assert!(all[0].exchange.row(now).is_none());
}

#[test]
fn unknown_members_in_a_row_of_another_version_are_ignored() {
    let (mut all, mut rows, now) = (replicas(2), Rows::default(), Instant::now());
    assert!(all[0].takes("a", Rate::per_minute(2), now));
    all[0].publish(&mut rows, now);
    let text = String::from_utf8(rows.0["r0"].0.clone()).unwrap();
    let newer = text.replace("\"buckets\":[", "\"more\":1,\"buckets\":[{\"space\":\"later\"},");
    rows.0.insert("r0".to_owned(), (newer.into_bytes(), now));
    assert_eq!(all[1].hear(&rows, false, now), 1);
    rows.0.insert("r0".to_owned(), (b"{}".to_vec(), now));
    assert_eq!(all[1].hear(&rows, false, now), 0);
}

impl SharedBucket {
    fn used(&self, now: Instant) -> Duration {
        self.state.lock().bucket.used(now)
    }
}

proptest! {
    #[test]
    fn replicas_that_hear_of_each_request_allow_what_one_gateway_allows(
        count in 1u32..20,
        steps in prop::collection::vec((0usize..3, 0u64..5_000), 1..200),
    ) {
        let rate = Rate::per_minute(count);
        let (mut all, mut rows, mut now) = (replicas(3), Rows::default(), Instant::now());
        let mut alone = RateBucket::new(rate, now);
        for (at, gap) in steps {
            now += Duration::from_millis(gap);
            prop_assert_eq!(all[at].takes("a", rate, now), alone.take(rate, 1, now).is_ok());
            exchange(&mut all, &mut rows, false, now);
        }
    }

    #[test]
    fn a_limit_is_exceeded_at_most_by_requests_that_were_not_exchanged_yet(
        count in 1u32..20,
        steps in prop::collection::vec((0usize..3, 0u64..3_000, 0u8..10), 1..300),
    ) {
        let rate = Rate::per_minute(count);
        let (mut all, mut rows, begun) = (replicas(3), Rows::default(), Instant::now());
        let (mut now, mut total, mut unheard, mut unheard_max) = (begun, 0u128, 0u128, 0u128);
        for (at, gap, then) in steps {
            now += Duration::from_millis(gap);
            if all[at].takes("a", rate, now) {
                (total, unheard) = (total + 1, unheard + 1);
            }
            match then {
                0 => {
                    exchange(&mut all, &mut rows, false, now);
                    unheard = 0;
                }
                // A part of the exchange: nothing is heard twice.
                1 => all[at].publish(&mut rows, now),
                2 => drop(all[at].hear(&rows, false, now)),
                3 => {
                    // A restart, after its last row.
                    all[at].publish(&mut rows, now);
                    exchange(&mut all, &mut rows, false, now);
                    unheard = 0;
                    all[at] = Replica::new(&format!("{}+", all[at].name));
                    all[at].begin(&rows, now);
                }
                _ => {}
            }
            unheard_max = unheard_max.max(unheard);
            let free = (now - begun).as_millis() * u128::from(count) / 60_000;
            prop_assert!(total <= u128::from(count) + free + 1 + unheard_max, "{} {} {}", total, free, unheard_max);
        }
    }
}
