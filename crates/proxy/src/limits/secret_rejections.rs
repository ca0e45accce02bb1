//! [`SecretRejections`]: counts answers by which upstreams refuse a secret, and limits how often connections are tested
//! because of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use keyward_base::id::ConnectionId;
use keyward_base::time::{Clock, Moment};

/// Refusals in a row that lead to a test. A single one may be an accident of the provider.
const REFUSALS_MIN: u32 = 2;

/// The pause after a test, doubled after each further test of the same secret: paths that always answer 401 must
/// not cause a test for each request.
const PAUSE_FIRST: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// Without a test request, refusals count as rejection if they are so many and last so long without a success.
const LASTING_MIN: u32 = 10;
const LASTING_FOR: Duration = Duration::from_secs(600);

/// Tests of all connections at the same time.
const TESTS_MAX: usize = 4;

/// Connections that are remembered. More are not tested.
const CONNECTIONS_MAX: usize = 4_096;

/// The refusals of all connections.
#[derive(Debug)]
pub struct SecretRejections {
    /// The number of connections whose last answer was a refusal. Without any, a success costs nothing.
    refused: AtomicUsize,
    connections: Mutex<HashMap<ConnectionId, RejectionCount>>,
    test_slots: Arc<Semaphore>,
}

/// A stored secret of a connection.
#[derive(Clone, Debug)]
pub struct SecretVersion {
    pub connection: ConnectionId,
    /// Increases when another secret is stored.
    pub generation: u64,
}

/// The refusals of one secret.
#[derive(Debug)]
struct RejectionCount {
    generation: u64,
    /// Since the last success.
    count: u32,
    since: Moment,
    is_examined: bool,
    /// The pause since the last examination.
    pause: Option<(Moment, Duration)>,
}

/// The right to examine one secret. Dropping it begins the pause.
#[derive(Debug)]
pub struct ExaminationSlot {
    refusals: Arc<SecretRejections>,
    connection: ConnectionId,
    generation: u64,
    count: u32,
    lasts: Duration,
    clock: Clock,
}

impl Default for SecretRejections {
    fn default() -> Self {
        let (refused, connections) = (AtomicUsize::default(), Mutex::default());
        Self { refused, connections, test_slots: Arc::new(Semaphore::new(TESTS_MAX)) }
    }
}

impl SecretRejections {
    /// Counts a refusal of the secret. Returns the right to examine it, if that is due.
    pub fn record_rejection(
        self: &Arc<Self>,
        of: &SecretVersion,
        clock: &Clock,
    ) -> Option<ExaminationSlot> {
        let now = clock.moment();
        let mut all = self.connections.lock();
        if all.len() >= CONNECTIONS_MAX && !all.contains_key(&of.connection) {
            all.retain(|_, it| it.count > 0 || it.is_examined);
            if all.len() >= CONNECTIONS_MAX {
                return None;
            }
        }
        let new = || RejectionCount {
            generation: of.generation,
            count: 0,
            since: now,
            is_examined: false,
            pause: None,
        };
        let it = all.entry(of.connection.clone()).or_insert_with(new);
        if it.generation > of.generation {
            // A request with an older secret.
            return None;
        }
        if it.generation < of.generation {
            self.forget(it);
            *it = new();
        }
        if it.count == 0 {
            it.since = now;
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        it.count = it.count.saturating_add(1);
        let rests = it.pause.is_some_and(|(since, pause)| now.since(&since) < pause);
        if it.count < REFUSALS_MIN || it.is_examined || rests {
            return None;
        }
        it.is_examined = true;
        Some(ExaminationSlot {
            refusals: self.clone(),
            connection: of.connection.clone(),
            generation: of.generation,
            count: it.count,
            lasts: now.since(&it.since),
            clock: clock.clone(),
        })
    }

    /// The upstream has accepted the secret. The pause between tests stays.
    pub fn record_success(&self, connection: &ConnectionId) {
        if self.refused.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(it) = self.connections.lock().get_mut(connection) {
            self.forget(it);
        }
    }

    /// The right to send one test; `None` while too many are sent.
    pub fn test_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.test_slots.clone().try_acquire_owned().ok()
    }

    fn forget(&self, it: &mut RejectionCount) {
        if it.count > 0 {
            it.count = 0;
            self.refused.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl ExaminationSlot {
    /// Whether the refusals are enough where no test decides.
    pub fn is_conclusive(&self) -> bool {
        self.count >= LASTING_MIN && self.lasts >= LASTING_FOR
    }
}

impl Drop for ExaminationSlot {
    fn drop(&mut self) {
        let mut all = self.refusals.connections.lock();
        let it = all.get_mut(&self.connection).filter(|it| it.generation == self.generation);
        if let Some(it) = it {
            let pause = it.pause.map_or(PAUSE_FIRST, |(_, pause)| (pause * 2).min(PAUSE_MAX));
            it.pause = Some((self.clock.moment(), pause));
            it.is_examined = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;

    /// A clock that the test sets, in seconds.
    fn clock() -> (Clock, impl Fn(i64)) {
        let ms = Arc::new(AtomicI64::new(0));
        let set = ms.clone();
        (Clock::Fixed(ms), move |s| set.store(s * 1_000, Ordering::SeqCst))
    }

    fn version(connection: &str, generation: u64) -> SecretVersion {
        SecretVersion { connection: ConnectionId::parse(connection).unwrap(), generation }
    }

    #[test]
    fn a_secret_is_examined_only_after_two_rejections_without_a_success_between() {
        let (refusals, (clock, _)) = (Arc::new(SecretRejections::default()), clock());
        let work = version("con_1", 1);
        for _ in 0..5 {
            assert!(refusals.record_rejection(&work, &clock).is_none());
            refusals.record_success(&work.connection);
        }
        assert_eq!(refusals.refused.load(Ordering::Relaxed), 0);
        assert!(refusals.record_rejection(&work, &clock).is_none());
        assert!(
            refusals.record_rejection(&version("con_2", 1), &clock).is_none(),
            "another connection"
        );
        assert!(refusals.record_rejection(&work, &clock).is_some());
    }

    #[test]
    fn a_secret_has_one_examination_at_a_time_and_growing_pauses_up_to_an_hour() {
        let (refusals, (clock, set)) = (Arc::new(SecretRejections::default()), clock());
        let work = version("con_1", 1);
        assert!(refusals.record_rejection(&work, &clock).is_none());
        let first = refusals.record_rejection(&work, &clock).expect("due");
        assert!(refusals.record_rejection(&work, &clock).is_none(), "one is running");
        drop(first);
        let due = |at: i64| {
            set(at);
            // A success in between does not make the pause shorter.
            refusals.record_success(&work.connection);
            let _ = refusals.record_rejection(&work, &clock);
            refusals.record_rejection(&work, &clock).is_some()
        };
        assert!(!due(59));
        assert!(due(61));
        assert!(!due(61 + 119));
        assert!(due(61 + 121));
        // The longest pause is an hour.
        let mut at = 61 + 121;
        for _ in 0..10 {
            at += 3_601;
            assert!(due(at));
        }
    }

    #[test]
    fn a_new_secret_begins_without_the_rejections_and_the_pause_of_the_old_one() {
        let (refusals, (clock, _)) = (Arc::new(SecretRejections::default()), clock());
        let (old, new) = (version("con_1", 1), version("con_1", 2));
        let _ = refusals.record_rejection(&old, &clock);
        drop(refusals.record_rejection(&old, &clock).expect("due"));
        assert!(refusals.record_rejection(&new, &clock).is_none(), "the first of the new one");
        assert!(refusals.record_rejection(&old, &clock).is_none(), "a late answer to the old one");
        assert!(refusals.record_rejection(&new, &clock).is_some());
        assert_eq!(refusals.refused.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn without_a_test_many_rejections_over_a_long_time_are_conclusive() {
        let (refusals, (clock, set)) = (Arc::new(SecretRejections::default()), clock());
        let work = version("con_1", 1);
        let mut judged = Vec::new();
        for minute in 0..20 {
            set(minute * 60);
            for _ in 0..2 {
                if let Some(suspicion) = refusals.record_rejection(&work, &clock) {
                    judged.push((minute, suspicion.is_conclusive()));
                }
            }
        }
        assert_eq!(judged, [(0, false), (1, false), (3, false), (7, false), (15, true)]);
    }

    #[test]
    fn the_number_of_remembered_connections_and_of_tests_is_bounded() {
        let (refusals, (clock, _)) = (Arc::new(SecretRejections::default()), clock());
        for number in 0..CONNECTIONS_MAX + 10 {
            let _ = refusals.record_rejection(&version(&format!("con_{number}"), 1), &clock);
        }
        assert_eq!(refusals.connections.lock().len(), CONNECTIONS_MAX);
        let test_slots: Vec<_> = (0..=TESTS_MAX).map(|_| refusals.test_slot()).collect();
        assert_eq!(test_slots.iter().flatten().count(), TESTS_MAX);
    }
}
