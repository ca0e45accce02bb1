//! [`RateBucket`] limits a rate, [`RetryBudget`] limits retries. Pure: the caller passes the time.

use std::time::Duration;

use tokio::time::Instant;

use keyward_base::settings::Rate;

/// The cost of a retry. Each request adds 1, so five requests pay for one retry.
const ATTEMPT_COSTS: u32 = 5;

/// The maximum number of saved retries, and the initial number.
const SAVED_MAX: u32 = 10;

/// One retry is added in each period, so that a rarely used connection can retry too.
const GIVEN_EVERY: Duration = Duration::from_secs(10);

/// Maximum number of periods that requests of other replicas can use in advance. It allows for as many replicas that
/// exceed a rate at the same time, and bounds the effect of a row.
const PERIODS_OWED_MAX: u32 = 16;

/// A rate limit with bursts (the generic cell rate algorithm, ITU-T I.371, with the tolerance of a whole period).
#[derive(Clone, Copy, Debug)]
pub struct RateBucket {
    rate: Rate,
    /// The time when the whole rate is available again.
    free_at: Instant,
}

/// Limits retries to a fifth of the requests, so that an upstream that is down does not get a multiple of the
/// normal load.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    /// In units of one request.
    saved: u32,
    given_at: Instant,
}

impl RateBucket {
    /// A bucket with the whole rate available.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, free_at: now }
    }

    /// Takes one request that counts `weight` times. One is allowed in any case when the whole rate is available. When the rate
    /// has changed, the used fraction stays the same.
    ///
    /// # Errors
    /// The time until the next request is allowed.
    pub fn take(&mut self, rate: Rate, weight: u32, now: Instant) -> Result<(), Duration> {
        if rate != self.rate {
            let used = self.free_at.saturating_duration_since(now).as_secs_f64();
            let part = (used / whole(self.rate).as_secs_f64()).min(1.0);
            *self = Self { rate, free_at: now + whole(rate).mul_f64(part) };
        }
        let cost = interval(rate).saturating_mul(weight);
        let free_at = self.free_at.max(now) + cost;
        let over = free_at.duration_since(now).saturating_sub(whole(rate).max(cost));
        if !over.is_zero() {
            return Err(over);
        }
        self.free_at = free_at;
        Ok(())
    }

    /// Counts requests that were allowed elsewhere at `then`. The rate may be exceeded by them: what is too much is paid
    /// back by later requests.
    pub fn add(&mut self, count: u32, then: Instant, now: Instant) {
        let free_at = self.free_at.max(then) + interval(self.rate).saturating_mul(count);
        self.free_at = free_at.min(now + whole(self.rate) * PERIODS_OWED_MAX);
    }

    /// Makes the bucket at least as empty as one that is free in `used` from now.
    pub fn use_up(&mut self, used: Duration, now: Instant) {
        let used = used.min(whole(self.rate) * PERIODS_OWED_MAX);
        self.free_at = self.free_at.max(now + used);
    }

    /// The time until the whole rate is available.
    pub fn used(&self, now: Instant) -> Duration {
        self.free_at.saturating_duration_since(now)
    }

    /// The rate of the last request.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Whether the whole rate is available.
    pub fn is_free(&self, now: Instant) -> bool {
        self.free_at <= now
    }
}

/// The time between two requests, rounded up so that the rate is never exceeded.
fn interval(rate: Rate) -> Duration {
    let nanos = rate.period().as_nanos().div_ceil(u128::from(rate.count()));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The time from an exhausted to a full bucket.
fn whole(rate: Rate) -> Duration {
    interval(rate) * rate.count()
}

impl RetryBudget {
    pub fn new(now: Instant) -> Self {
        Self { saved: SAVED_MAX * ATTEMPT_COSTS, given_at: now }
    }

    /// Counts the first attempt of a request.
    pub fn request(&mut self) {
        self.save(1);
    }

    /// Takes one retry. Returns whether one was available.
    pub fn attempt(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.given_at);
        let given = since.as_nanos() / GIVEN_EVERY.as_nanos();
        if given > 0 {
            self.given_at = now;
            self.save(u32::try_from(given).unwrap_or(SAVED_MAX).min(SAVED_MAX) * ATTEMPT_COSTS);
        }
        match self.saved.checked_sub(ATTEMPT_COSTS) {
            Some(left) => {
                self.saved = left;
                true
            }
            None => false,
        }
    }

    /// Whether the budget is full, like a new one.
    pub fn is_full(&self, now: Instant) -> bool {
        let missing = (SAVED_MAX * ATTEMPT_COSTS - self.saved).div_ceil(ATTEMPT_COSTS);
        now.saturating_duration_since(self.given_at) >= GIVEN_EVERY * missing
    }

    fn save(&mut self, more: u32) {
        self.saved = (self.saved + more).min(SAVED_MAX * ATTEMPT_COSTS);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn a_request_above_the_rate_gets_the_time_until_one_is_free() {
        let now = Instant::now();
        let mut bucket = RateBucket::new(rate("3/min"), now);
        for _ in 0..3 {
            assert_eq!(bucket.take(rate("3/min"), 1, now), Ok(()));
        }
        for _ in 0..2 {
            let wait = bucket.take(rate("3/min"), 1, now).unwrap_err();
            assert_eq!(wait, Duration::from_secs(20), "asking costs nothing");
        }
        let later = now + Duration::from_secs(20);
        assert_eq!(bucket.take(rate("3/min"), 1, later), Ok(()));
        assert!(bucket.take(rate("3/min"), 1, later).is_err());
    }

    #[test]
    fn a_request_above_the_whole_rate_is_allowed_only_while_the_rate_is_unused() {
        let now = Instant::now();
        let mut bucket = RateBucket::new(rate("2/h"), now);
        assert_eq!(bucket.take(rate("2/h"), 3, now), Ok(()), "it would never be allowed otherwise");
        let wait = bucket.take(rate("2/h"), 3, now).unwrap_err();
        assert_eq!(wait, Duration::from_secs(3 * 1_800), "until the whole rate is available");
        assert!(bucket.take(rate("2/h"), 1, now).is_err());
    }

    #[test]
    fn requests_that_other_replicas_allowed_count_toward_the_rate() {
        let now = Instant::now();
        let mut bucket = RateBucket::new(rate("2/min"), now);
        bucket.add(4, now, now);
        let wait = bucket.take(rate("2/min"), 1, now).unwrap_err();
        assert_eq!(wait, Duration::from_secs(90), "two were too many");
        bucket.add(u32::MAX, now, now);
        assert_eq!(bucket.used(now), Duration::from_secs(60) * PERIODS_OWED_MAX);
        let mut late = RateBucket::new(rate("2/min"), now);
        late.add(1, now, now + Duration::from_secs(20));
        let later = now + Duration::from_secs(30);
        assert!(late.is_free(later), "it counts from when it was allowed");
    }

    #[test]
    fn a_changed_rate_begins_as_full_as_the_one_before_was() {
        let now = Instant::now();
        let mut bucket = RateBucket::new(rate("100/h"), now);
        for _ in 0..50 {
            bucket.take(rate("100/h"), 1, now).unwrap();
        }
        for _ in 0..5 {
            assert_eq!(bucket.take(rate("10/s"), 1, now), Ok(()));
        }
        let wait = bucket.take(rate("10/s"), 1, now).unwrap_err();
        assert!(wait <= Duration::from_millis(100), "an hour's debt is a second's: {wait:?}");
    }

    #[test]
    fn a_dead_upstream_gets_retries_for_about_a_fifth_of_its_requests() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        let mut attempts = 0;
        for _ in 0..1000 {
            budget.request();
            attempts += u32::from(budget.attempt(now)) + u32::from(budget.attempt(now));
        }
        assert!((200..=1000 / ATTEMPT_COSTS + SAVED_MAX).contains(&attempts), "{attempts}");
        assert!(budget.attempt(now + GIVEN_EVERY), "one is given in time");
        assert!(!budget.attempt(now + GIVEN_EVERY));
        let saved = (0..100).filter(|_| budget.attempt(now + GIVEN_EVERY * 1000)).count();
        assert_eq!(saved, 10, "and never more than that is saved");
    }

    proptest! {
        #[test]
        fn requests_in_any_time_window_stay_within_the_burst_and_the_refill(
            count in 1u32..50,
            gaps_ms in prop::collection::vec(0u64..2_000, 1..400),
            window_ms in 1u64..120_000,
        ) {
            let rate = rate(&format!("{count}/min"));
            let start = Instant::now();
            let mut bucket = RateBucket::new(rate, start);
            let (mut now, mut taken) = (start, Vec::new());
            for gap in gaps_ms {
                now += Duration::from_millis(gap);
                match bucket.take(rate, 1, now) {
                    Ok(()) => taken.push(now),
                    // The wait is exact, to the nanosecond.
                    Err(wait) => {
                        let mut early = bucket;
                        prop_assert!(early.take(rate, 1, now + wait - Duration::from_nanos(1)).is_err());
                        prop_assert_eq!(early.take(rate, 1, now + wait), Ok(()));
                    }
                }
            }
            let window = Duration::from_millis(window_ms);
            let free = window.as_nanos() / interval(rate).as_nanos() + 1;
            for (at, first) in taken.iter().enumerate() {
                let within = taken[at..].iter().take_while(|t| **t < *first + window).count();
                prop_assert!(within as u128 <= u128::from(count) + free);
            }
        }

        #[test]
        fn evenly_spaced_requests_are_never_refused(count in 1u32..1000, requests in 1u32..2_000) {
            let rate = rate(&format!("{count}/s"));
            let start = Instant::now();
            let mut bucket = RateBucket::new(rate, start);
            for n in 0..requests {
                prop_assert_eq!(bucket.take(rate, 1, start + interval(rate) * n), Ok(()));
            }
        }

        #[test]
        fn retries_never_exceed_a_fifth_of_the_requests_and_a_few(
            steps in prop::collection::vec((any::<bool>(), 0u64..3_000), 1..500),
        ) {
            let start = Instant::now();
            let mut budget = RetryBudget::new(start);
            let (mut now, mut requests, mut attempts) = (start, 0u64, 0u64);
            for (is_request, gap) in steps {
                now += Duration::from_millis(gap);
                match is_request {
                    true => { budget.request(); requests += 1; }
                    false => attempts += u64::from(budget.attempt(now)),
                }
            }
            let given = (now - start).as_secs() / GIVEN_EVERY.as_secs();
            prop_assert!(attempts <= requests / 5 + u64::from(SAVED_MAX) + given);
        }
    }
}
