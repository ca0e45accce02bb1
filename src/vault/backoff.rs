//! The pauses of one connection, or of one client at one server, after refreshes that failed. Pure: the
//! clock and the randomness are the caller's.

use std::time::Duration;

use jiff::Timestamp;

use crate::base::time::Moment;
use crate::base::tokens::TokenSettings;

/// Doubling stops here, long after `backoff_max`.
const DOUBLINGS_MAX: u32 = 20;

/// Failures in a row, and the pause after the last.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
    first: Option<Moment>,
    pause: Option<(Moment, Duration)>,
    equal: Option<Equal>,
    code: Option<String>,
}

/// Equal answers of a kind that nobody knows.
#[derive(Clone, Debug)]
struct Equal {
    code: String,
    first: Moment,
    count: u32,
}

/// One failure, as far as a pause depends on it.
#[derive(Clone, Debug, Default)]
pub struct Failed {
    /// What the server asked for.
    pub retry_after: Option<Duration>,
    /// Its own code.
    pub code: Option<String>,
    /// Whether nobody knows what the code means, so that it ends by being believed.
    pub limited: bool,
}

impl Backoff {
    /// One more failure at `now`; `random` of 2^32 draws the jitter. Answers the pause: what grows from
    /// failure to failure or what the server asked for, whichever is longer.
    pub fn failed(
        &mut self,
        now: Moment,
        failed: &Failed,
        random: u32,
        settings: &TokenSettings,
    ) -> Duration {
        let doublings = self.failures.min(DOUBLINGS_MAX);
        self.failures = self.failures.saturating_add(1);
        self.first.get_or_insert(now);
        self.code.clone_from(&failed.code);
        self.counts(now, failed);
        let own = settings.backoff_first.saturating_mul(1 << doublings).min(settings.backoff_max);
        let own = jittered(own, random, settings.backoff_jitter_percent);
        let asked = failed.retry_after.unwrap_or_default().min(settings.retry_after_max);
        let pause = own.max(asked);
        self.pause = Some((now, pause));
        pause
    }

    /// A pause that says nothing about the connection itself.
    pub fn pauses(&mut self, now: Moment, pause: Duration) {
        self.pause = Some((now, pause));
    }

    fn counts(&mut self, now: Moment, failed: &Failed) {
        let code = failed.code.as_ref().filter(|_| failed.limited);
        match (code, &mut self.equal) {
            (None, _) => self.equal = None,
            (Some(code), Some(equal)) if equal.code == *code => equal.count += 1,
            (Some(code), equal) => {
                *equal = Some(Equal { code: code.clone(), first: now, count: 1 })
            }
        }
    }

    /// The code that was answered so often and for so long that it is believed.
    pub fn believed(&self, now: Moment, settings: &TokenSettings) -> Option<&str> {
        let equal = self.equal.as_ref()?;
        let enough = equal.count >= settings.unknown_answers_max
            && now.since(&equal.first) >= settings.unknown_answers_for;
        enough.then_some(&*equal.code)
    }

    /// What is left of the pause; `None` when it is over.
    pub fn rest(&self, now: Moment) -> Option<Duration> {
        let (begun, pause) = self.pause.as_ref()?;
        pause.checked_sub(now.since(begun)).filter(|rest| !rest.is_zero())
    }

    /// How many failures in a row there were.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the first of them was.
    pub fn since(&self) -> Option<Timestamp> {
        self.first.as_ref().map(Moment::day)
    }

    /// What the last one said.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

/// Up to so many percent more or less.
fn jittered(pause: Duration, random: u32, percent: u32) -> Duration {
    let part = f64::from(percent.min(90)) / 100.0;
    let drawn = f64::from(random) / f64::from(u32::MAX);
    pause.mul_f64(1.0 - part + 2.0 * part * drawn)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::base::time::Clock;

    const MIDDLE: u32 = u32::MAX / 2;

    fn clock() -> (Clock, Arc<AtomicI64>) {
        let ms = Arc::new(AtomicI64::new(1_000_000));
        (Clock::Fixed(ms.clone()), ms)
    }

    fn asks(retry_after: Duration) -> Failed {
        Failed { retry_after: Some(retry_after), ..Failed::default() }
    }

    fn unknown(code: &str) -> Failed {
        Failed { code: Some(code.to_owned()), limited: true, ..Failed::default() }
    }

    /// oauth 10.1
    #[test]
    fn pauses_double_from_a_second_to_five_minutes_and_are_drawn_within_a_fifth() {
        let (clock, settings) = (clock().0, TokenSettings::default());
        let (mut least, mut most) = (Backoff::default(), Backoff::default());
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let around = Duration::from_secs(seconds).as_secs_f64();
            let low = least.failed(clock.moment(), &Failed::default(), 0, &settings);
            let high = most.failed(clock.moment(), &Failed::default(), u32::MAX, &settings);
            assert!((low.as_secs_f64() - around * 0.8).abs() < 0.001, "{low:?} for {seconds} s");
            assert!((high.as_secs_f64() - around * 1.2).abs() < 0.001, "{high:?} for {seconds} s");
        }
    }

    /// oauth 10.3
    #[test]
    fn what_the_server_asks_for_lengthens_a_pause_up_to_a_quarter_of_an_hour() {
        let (clock, settings) = (clock().0, TokenSettings::default());
        let after = |asked: u64| {
            let asked = asks(Duration::from_secs(asked));
            Backoff::default()
                .failed(clock.moment(), &asked, MIDDLE, &settings)
                .as_secs_f64()
                .round()
        };
        assert_eq!([after(0), after(30), after(31_536_000)], [1.0, 30.0, 900.0]);
        let longest = asks(Duration::MAX);
        let pause = Backoff::default().failed(clock.moment(), &longest, MIDDLE, &settings);
        assert_eq!(pause, Duration::from_secs(900));
    }

    /// oauth 10.2
    #[test]
    fn a_pause_ends_by_itself() {
        let ((clock, ms), settings) = (clock(), TokenSettings::default());
        let mut backoff = Backoff::default();
        assert_eq!(backoff.rest(clock.moment()), None);
        backoff.failed(clock.moment(), &asks(Duration::from_secs(10)), 0, &settings);
        ms.fetch_add(9_999, Ordering::SeqCst);
        assert_eq!(backoff.rest(clock.moment()), Some(Duration::from_millis(1)));
        ms.fetch_add(1, Ordering::SeqCst);
        assert_eq!(backoff.rest(clock.moment()), None);
        assert_eq!(backoff.failures(), 1);
    }

    /// oauth 9.5
    #[test]
    fn an_unknown_code_is_believed_after_five_equal_answers_over_an_hour() {
        let ((clock, ms), settings) = (clock(), TokenSettings::default());
        let mut backoff = Backoff::default();
        let mut answers = |code: &str, after_s: i64| {
            ms.fetch_add(after_s * 1000, Ordering::SeqCst);
            backoff.failed(clock.moment(), &unknown(code), MIDDLE, &settings);
            backoff.believed(clock.moment(), &settings).map(str::to_owned)
        };
        for _ in 0..9 {
            assert_eq!(answers("weird", 60), None, "often, but not for long");
        }
        assert_eq!(answers("other", 3_600), None, "another answer begins anew");
        for _ in 0..3 {
            assert_eq!(answers("other", 3_600), None);
        }
        assert_eq!(answers("other", 1).as_deref(), Some("other"));
        backoff.failed(clock.moment(), &Failed::default(), MIDDLE, &settings);
        assert_eq!(backoff.believed(clock.moment(), &settings), None);
    }
}
