//! Keys are rotated under 500 requests a second, sent when they are due whether or not those before
//! were answered in time: none fails, and each carries the secret that is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval_at;

use crate::connections_rotation::{ME, ends, lab, rotate, taken};
use test_support::canary::Canary;
use test_support::process::soak;
use test_support::*;

/// Streams, each with a schedule of its own.
const STREAMS: usize = 8;

/// What is to be sent, and what of it has to have been sent in the end.
struct Pace {
    /// Requests a second that are due.
    rate: usize,
    /// For how many seconds.
    seconds: usize,
    /// What the whole must have come to, a second.
    at_least: f64,
    rotations: usize,
}

impl Pace {
    /// In earnest only in an optimised build that has the machine for itself: elsewhere the machine is
    /// other tests' too, and the rate says nothing.
    fn here() -> Self {
        match soak() {
            true => Self { rate: 520, seconds: 60, at_least: 500.0, rotations: 30 },
            false => Self { rate: 104, seconds: 3, at_least: 20.0, rotations: 4 },
        }
    }

    /// Of one stream.
    fn requests(&self) -> usize {
        self.rate * self.seconds / STREAMS
    }

    fn all(&self) -> usize {
        self.requests() * STREAMS
    }
}

/// How many requests of each stream were answered.
type Answered = watch::Sender<[usize; STREAMS]>;

/// Rotations that have begun, and those that were answered: the secret of a request is one between.
#[derive(Default)]
struct Swaps {
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// There is none to come.
    over: AtomicBool,
}

/// A request: its number, the first and the last secret that it may carry, and how late its answer was.
struct Asked {
    number: usize,
    from: usize,
    to: usize,
    late: Duration,
}

/// Sends each request when it is due, those that could not be sent in time at once; goes on for as long as
/// secrets are rotated.
async fn sends(
    lab: Arc<Lab>,
    (stream, pace): (usize, Arc<Pace>),
    (swaps, answered): (Arc<Swaps>, Arc<Answered>),
) -> Vec<Asked> {
    let mut wire = lab.tunnel(HOST).await;
    let period = Duration::from_secs(1) * STREAMS as u32 / pace.rate as u32;
    let first = tokio::time::Instant::now() + period * stream as u32 / STREAMS as u32;
    let mut due = interval_at(first, period);
    let mut all = Vec::with_capacity(pace.requests());
    for turn in 0.. {
        if turn >= pace.requests() && swaps.over.load(SeqCst) {
            break;
        }
        let when = due.tick().await;
        let (number, from) = (turn * STREAMS + stream, swaps.ended.load(SeqCst));
        wire.send(request_text(&format!("GET /load/{number}"), HOST)).await;
        let answer = wire.try_answer("GET").await.expect("an answer");
        assert_eq!(answer.head.status(), 200, "{number}: {answer:?} {}", answer.text());
        let (to, late) = (swaps.begun.load(SeqCst), when.elapsed());
        all.push(Asked { number, from, to, late });
        answered.send_modify(|counts| counts[stream] += 1);
    }
    all
}

/// Resolves when that is so of what was answered: no waiting that takes time from those who are measured.
async fn reached(answered: &Answered, is_so: impl FnMut(&[usize; STREAMS]) -> bool) {
    let mut seen = answered.subscribe();
    let found = patiently("answers", seen.wait_for(is_so)).await;
    found.expect("the senders are there");
}

/// Rotates the connection's secret and the master key, as often, while requests are sent. The provider
/// forgets a secret when what was under way with it has been answered.
async fn rotates(
    lab: &Lab,
    (pace, keys, provider): (&Pace, &[Canary], &Mutex<BTreeSet<String>>),
    (swaps, answered): (&Swaps, &Answered),
) {
    let mut old = lab.canary.clone();
    for (number, new) in keys.iter().enumerate() {
        let share = (number + 1) * pace.all() / (pace.rotations + 2);
        reached(answered, |counts| counts.iter().sum::<usize>() >= share).await;
        provider.lock().expect("not poisoned").insert(new.text.clone());
        swaps.begun.fetch_add(1, SeqCst);
        rotate(lab, new, json!({})).await.is(200);
        swaps.ended.fetch_add(1, SeqCst);
        // Each stream has one under way at most.
        let then = *answered.borrow();
        let has_more =
            |counts: &[usize; STREAMS]| counts.iter().zip(then).all(|(now, it)| *now > it);
        reached(answered, has_more).await;
        provider.lock().expect("not poisoned").remove(&old.text);
        assert_eq!(ends(lab, "confirm").await.head.status(), 200);
        lab.gateway.api("POST", "/keys/rotate", "{}").await.is(200);
        old = new.clone();
    }
    swaps.over.store(true, SeqCst);
}

fn report(pace: &Pace, took: Duration, all: &[Asked]) -> f64 {
    let rate = all.len() as f64 / took.as_secs_f64();
    let mut late: Vec<_> = all.iter().map(|asked| asked.late).collect();
    late.sort();
    let part = |of: usize| late[(late.len() - 1) * of / 1000];
    println!(
        "{} requests in {took:.1?}, {rate:.0} a second of {} due; {} rotations of the secret and of \
         the master key; answered after {:.2?} (median), {:.2?} (99 %), {:.2?} (99.9 %), {:.2?} (all)",
        all.len(),
        pace.rate,
        pace.rotations,
        part(500),
        part(990),
        part(999),
        part(1000)
    );
    rate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_of_500_a_second_fails_while_keys_are_rotated() {
    let pace = Arc::new(Pace::here());
    let keys: Vec<Canary> = (0..pace.rotations).map(|_| Canary::new("newk")).collect();
    let mut plan = Plan::api_key().test(ME);
    for (number, key) in keys.iter().enumerate() {
        plan = plan.secret(&format!("KEY_{number}"), key);
    }
    let provider = taken(&[plan.canary()]);
    let lab = Arc::new(lab(&provider, plan).await);
    let (swaps, answered) = (Arc::new(Swaps::default()), Arc::new(Answered::new([0; STREAMS])));
    let began = Instant::now();
    let mut senders = JoinSet::new();
    for stream in 0..STREAMS {
        let told = (swaps.clone(), answered.clone());
        senders.spawn(sends(lab.clone(), (stream, pace.clone()), told));
    }
    rotates(&lab, (&pace, &keys, &provider), (&swaps, &answered)).await;
    let all: Vec<Asked> = senders.join_all().await.into_iter().flatten().collect();
    let rate = report(&pace, began.elapsed(), &all);
    assert!(all.len() >= pace.all(), "all that was due was sent and answered with 200");
    assert!(rate >= pace.at_least, "{rate} requests a second");

    let secrets: Vec<&str> = [&lab.canary].into_iter().chain(&keys).map(|it| &*it.text).collect();
    let mut received = BTreeMap::new();
    for request in lab.origin.received() {
        let Some(number) = request.head.target().strip_prefix("/load/") else { continue };
        let number: usize = number.parse().expect("a number");
        let sent = request.head.all("x-api-key");
        assert_eq!(sent.len(), 1, "{number} carries {} keys", sent.len());
        let which = secrets.iter().position(|secret| *secret == sent[0]).expect("one of ours");
        assert_eq!(received.insert(number, which), None, "{number} came twice");
    }
    for Asked { number, from, to, .. } in &all {
        let sent = received.get(number).expect("it came");
        assert!((*from..=*to).contains(sent), "{number} carried {sent} of {from} to {to}");
    }
    let used: BTreeSet<_> = received.into_values().collect();
    assert_eq!(used.len(), secrets.len(), "each was in force under load");
    let lab = Arc::into_inner(lab).expect("the senders have ended");
    let records = lab.finish().await;
    let failed = records.iter().filter(|it| {
        it["path"].as_str().is_some_and(|path| path.starts_with("/load")) && it["status"] != 200
    });
    assert_eq!(failed.count(), 0);
}
