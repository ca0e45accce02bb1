//! [`Backoff`]: the pauses of one connection, or of one client at one server, after failed refreshes. Pure:
//! the caller passes the time and the random number.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use keyward_base::time::Moment;
use keyward_base::tokens::TokenSettings;
use keyward_net::call::CallFailure;

/// Limit of the exponent; `backoff_max` is reached long before.
const DOUBLINGS_MAX: u32 = 20;

/// The remedy of a rejected secret.
const CORRECT_IT: &str =
    "correct the secret in its source, and run `keyward connection refresh NAME`";

/// The remedy of a refusal without a known error code, such as a 403 without a body.
pub(crate) const CHECK_THE_REQUEST: &str = "the server refuses the request: check the client id, the secret, the scopes \
     and the token endpoint that it is sent with";

/// Consecutive failures, and the pause after the last one.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
    first: Option<Moment>,
    pause: Option<(Moment, Duration)>,
    equal: Option<EqualResponses>,
    last: FailureDetails,
    unanswered: bool,
}

/// A stored backoff, with times of day.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StoredBackoff {
    failures: u32,
    since: Timestamp,
    /// Begin of the last pause.
    paused: Timestamp,
    pause_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<CallFailure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    equal: Option<StoredEqualResponses>,
    /// The pause applies to all connections of the client.
    #[serde(default)]
    whole_client: bool,
    /// A request was sent, and its answer is not known: its token may be spent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unanswered: bool,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct StoredEqualResponses {
    code: String,
    first: Timestamp,
    count: u32,
}

/// Equal responses with an unknown error code.
#[derive(Clone, Debug)]
struct EqualResponses {
    code: String,
    first: Moment,
    count: u32,
}

/// One failure, as far as it determines the pause.
#[derive(Clone, Debug, Default)]
pub struct FailureDetails {
    /// The server's `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The server's error code.
    pub code: Option<String>,
    /// Why there was no readable response.
    pub cause: Option<CallFailure>,
    /// A message for people. It names hosts, but no address and no secret.
    pub message: Option<String>,
    /// The server's own message, for people with rights on the connection.
    pub said: Option<String>,
    /// The secret source that gave no value.
    pub source: Option<String>,
    /// Whether the server rejects a secret that a source gave.
    pub rejected: bool,
    /// Whether the code is unknown: several equal responses with it end the grant.
    pub unknown_code: bool,
    /// Whether the failure applies to all connections of the client.
    pub whole_client: bool,
    /// Whether the server may have processed the request, and its answer is not known.
    pub ambiguous: bool,
}

impl Backoff {
    /// Whether there was neither a failure nor a pause since the last success.
    pub fn is_empty(&self) -> bool {
        self.failures == 0 && self.pause.is_none()
    }

    /// Counts a failure at `now`; `random` of 2^32 draws the jitter. Returns the pause: the growing pause
    /// or the server's `Retry-After`, whichever is longer.
    pub fn failed(
        &mut self,
        now: Moment,
        failed: &FailureDetails,
        random: u32,
        settings: &TokenSettings,
    ) -> Duration {
        let (first, max) = (settings.backoff_first, settings.backoff_max);
        let own = growing(self.failures, first, max);
        self.failures = self.failures.saturating_add(1);
        self.first.get_or_insert(now);
        self.last.clone_from(failed);
        self.unanswered |= failed.ambiguous;
        self.counts(now, failed);
        let own = jittered(own, random, settings.backoff_jitter_percent);
        let asked = failed.retry_after.unwrap_or_default().min(settings.retry_after_max);
        let pause = own.max(asked);
        self.pause = Some((now, pause));
        pause
    }

    /// Ends the pause if its only cause is a secret of a source, which may be another one now. Pauses that a server
    /// requested, or that protect it, stay.
    pub fn end_pause_of_secret(&mut self) {
        if self.is_of_secret() {
            self.pause = None;
        }
    }

    /// Sets a pause that is not caused by the connection.
    pub fn pauses(&mut self, now: Moment, pause: Duration) {
        self.pause = Some((now, pause));
    }

    fn counts(&mut self, now: Moment, failed: &FailureDetails) {
        let code = failed.code.as_ref().filter(|_| failed.unknown_code);
        match (code, &mut self.equal) {
            (None, _) => self.equal = None,
            (Some(code), Some(equal)) if equal.code == *code => equal.count += 1,
            (Some(code), equal) => {
                *equal = Some(EqualResponses { code: code.clone(), first: now, count: 1 })
            }
        }
    }

    /// The unknown code, if it was received often and long enough to be accepted as final.
    pub fn believed(&self, now: Moment, settings: &TokenSettings) -> Option<&str> {
        let equal = self.equal.as_ref()?;
        let enough = equal.count >= settings.unknown_answers_max
            && now.since(&equal.first) >= settings.unknown_answers_for;
        enough.then_some(&*equal.code)
    }

    /// The stored form while a request is sent whose answer may get lost with this process.
    pub fn while_sent(&self, now: Moment) -> StoredBackoff {
        let nothing = (now, Duration::ZERO);
        let (first, pause) = (self.first.unwrap_or(now), self.pause.unwrap_or(nothing));
        let sent =
            Self { first: Some(first), pause: Some(pause), unanswered: true, ..self.clone() };
        sent.written().expect("it has a first failure and a pause")
    }

    /// Keeps what `other` knows of lost answers.
    pub fn adopt_unanswered(&mut self, other: &Self) {
        self.unanswered |= other.unanswered;
    }

    /// Whether a request with the same token was sent, and its answer is not known.
    pub fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    /// The rest of the pause; `None` after its end.
    pub fn rest(&self, now: Moment) -> Option<Duration> {
        let (begun, pause) = self.pause.as_ref()?;
        pause.checked_sub(now.since(begun)).filter(|rest| !rest.is_zero())
    }

    /// The stored form; `None` without a failure.
    pub fn written(&self) -> Option<StoredBackoff> {
        let (paused, pause) = self.pause.as_ref()?;
        let equal = self.equal.as_ref().map(|equal| StoredEqualResponses {
            code: equal.code.clone(),
            first: equal.first.wall_time(),
            count: equal.count,
        });
        Some(StoredBackoff {
            failures: self.failures,
            since: self.first.as_ref()?.wall_time(),
            paused: paused.wall_time(),
            pause_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            code: self.last.code.clone(),
            cause: self.last.cause,
            message: self.last.message.clone(),
            said: self.last.said.clone(),
            equal,
            whole_client: self.last.whole_client,
            unanswered: self.unanswered,
        })
    }

    /// Reads the stored form. If the clock was set back meanwhile, the pause is not longer than the
    /// original one.
    pub fn read(written: StoredBackoff) -> Self {
        let StoredBackoff { failures, since, paused, pause_ms, equal, .. } = written;
        let StoredBackoff { code, cause, message, said, whole_client, unanswered, .. } = written;
        let last =
            FailureDetails { code, cause, message, said, whole_client, ..Default::default() };
        Self {
            failures,
            first: (failures > 0).then(|| Moment::of_wall_time(since)),
            pause: Some((Moment::of_wall_time(paused), Duration::from_millis(pause_ms))),
            equal: equal.map(|StoredEqualResponses { code, first, count }| EqualResponses {
                code,
                first: Moment::of_wall_time(first),
                count,
            }),
            last,
            unanswered,
        }
    }

    /// The last failure. Its source is not stored, because the gateway tries again at its start.
    pub fn last(&self) -> &FailureDetails {
        &self.last
    }

    /// What an operator does about the last failure, if that is needed.
    pub fn remedy(&self) -> Option<&'static str> {
        match (self.last.rejected, self.last.cause) {
            (true, _) => Some(CORRECT_IT),
            (false, Some(cause)) => Some(cause.remedy()),
            (false, None) => self.equal.as_ref().map(|_| CHECK_THE_REQUEST),
        }
    }

    /// Whether the last failure is about a secret of a source, not about the server. It is not stored either.
    pub fn is_of_secret(&self) -> bool {
        self.last.rejected || self.last.source.is_some()
    }

    /// The number of consecutive failures.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The time of the first failure.
    pub fn since(&self) -> Option<Timestamp> {
        self.first.as_ref().map(Moment::wall_time)
    }
}

/// The pause after `failures` failures; it doubles up to `max`.
fn growing(failures: u32, first: Duration, max: Duration) -> Duration {
    first.saturating_mul(1 << failures.min(DOUBLINGS_MAX)).min(max)
}

/// The pause before a rejected client is tried again, after `tries` unsuccessful tries.
pub fn rejected_for(tries: u32, random: u32, settings: &TokenSettings) -> Duration {
    let pause = growing(tries, settings.rejected_backoff_first, settings.rejected_backoff_max);
    jittered(pause, random, settings.backoff_jitter_percent)
}

/// Changes the pause by up to `percent` in either direction.
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
    use keyward_base::time::Clock;

    const MIDDLE: u32 = u32::MAX / 2;

    fn clock() -> (Clock, Arc<AtomicI64>) {
        let ms = Arc::new(AtomicI64::new(1_000_000));
        (Clock::Fixed(ms.clone()), ms)
    }

    fn asks(retry_after: Duration) -> FailureDetails {
        FailureDetails { retry_after: Some(retry_after), ..FailureDetails::default() }
    }

    fn unknown(code: &str) -> FailureDetails {
        FailureDetails {
            code: Some(code.to_owned()),
            unknown_code: true,
            ..FailureDetails::default()
        }
    }

    /// oauth 10.1
    #[test]
    fn pauses_double_from_one_second_to_five_minutes_with_20_percent_jitter() {
        let (clock, settings) = (clock().0, TokenSettings::default());
        let (mut least, mut most) = (Backoff::default(), Backoff::default());
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let around = Duration::from_secs(seconds).as_secs_f64();
            let low = least.failed(clock.moment(), &FailureDetails::default(), 0, &settings);
            let high = most.failed(clock.moment(), &FailureDetails::default(), u32::MAX, &settings);
            assert!((low.as_secs_f64() - around * 0.8).abs() < 0.001, "{low:?} for {seconds} s");
            assert!((high.as_secs_f64() - around * 1.2).abs() < 0.001, "{high:?} for {seconds} s");
        }
    }

    /// oauth 9.again
    #[test]
    fn a_rejected_client_is_paused_for_a_minute_and_then_for_longer_up_to_an_hour() {
        let settings = TokenSettings::default();
        for (tries, minutes) in [(0, 1), (1, 2), (5, 32), (6, 60), (7, 60), (u32::MAX, 60)] {
            let pause = rejected_for(tries, MIDDLE, &settings).as_secs_f64().round();
            assert_eq!(pause, f64::from(minutes * 60), "{tries}");
        }
    }

    /// oauth 10.3
    #[test]
    fn a_retry_after_of_the_server_lengthens_a_pause_up_to_a_quarter_of_an_hour() {
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

    /// oauth 9.5, 10.durable: written and read
    #[test]
    fn a_stored_pause_continues_where_it_was() {
        let ((clock, ms), settings) = (clock(), TokenSettings::default());
        assert_eq!(Backoff::default().written(), None);
        let mut backoff = Backoff::default();
        for _ in 0..4 {
            backoff.failed(clock.moment(), &unknown("weird"), MIDDLE, &settings);
            ms.fetch_add(1_200_000, Ordering::SeqCst);
        }
        let stored = serde_json::to_string(&backoff.written()).unwrap();
        let mut read = Backoff::read(serde_json::from_str(&stored).unwrap());
        assert_eq!(
            (read.failures(), read.since(), read.last().code.as_deref()),
            (4, backoff.since(), Some("weird"))
        );
        assert_eq!(read.believed(clock.moment(), &settings), None);
        let pause = read.failed(clock.moment(), &unknown("weird"), MIDDLE, &settings);
        assert_eq!(pause.as_secs_f64().round(), 16.0, "the fifth of them");
        assert_eq!(read.believed(clock.moment(), &settings), Some("weird"));
        ms.fetch_add(10_000, Ordering::SeqCst);
        let rest = read.rest(clock.moment()).unwrap().as_secs_f64().round();
        assert_eq!(rest, 6.0);
        ms.fetch_sub(3_600_000, Ordering::SeqCst);
        let set_back = Backoff::read(read.written().unwrap()).rest(clock.moment()).unwrap();
        assert_eq!(set_back.as_secs_f64().round(), 16.0, "and not an hour more");
    }

    /// oauth 9.5
    #[test]
    fn an_unknown_code_is_final_after_five_equal_answers_over_an_hour() {
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
        backoff.failed(clock.moment(), &FailureDetails::default(), MIDDLE, &settings);
        assert_eq!(backoff.believed(clock.moment(), &settings), None);
    }
}
