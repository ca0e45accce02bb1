//! [`Clock`], the only source of the time of day; parsing and formatting of durations and times.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

/// The source of the time of day.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The operating system's clock.
    #[default]
    System,
    /// A clock that tests set: milliseconds since the epoch.
    Fixed(Arc<AtomicI64>),
    /// A clock that follows the runtime's, for simulations with paused time.
    Simulated(tokio::time::Instant),
}

/// A time by two clocks: the time of day, and a monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    day: Timestamp,
    /// `None` where tests set the clock.
    steady: Option<Instant>,
}

impl Clock {
    /// The present time, to measure elapsed time later.
    pub fn moment(&self) -> Moment {
        let steady = match self {
            Self::System => Some(Instant::now()),
            Self::Fixed(_) => None,
            Self::Simulated(_) => None,
        };
        Moment { day: self.now(), steady }
    }

    /// A clock that starts at the epoch and follows the runtime's.
    pub fn simulated() -> Self {
        Self::Simulated(tokio::time::Instant::now())
    }

    /// The present time of day.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Fixed(ms) => {
                Timestamp::from_millisecond(ms.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
            }
            Self::Simulated(begun) => Timestamp::UNIX_EPOCH + begun.elapsed(),
        }
    }
}

impl Moment {
    /// A moment without a monotonic time.
    pub fn of_wall_time(day: Timestamp) -> Self {
        Self { day, steady: None }
    }

    /// The time of day.
    pub fn wall_time(&self) -> Timestamp {
        self.day
    }

    /// The time since `earlier`: the longer of the two clocks' answers. Neither setting the clock back nor a
    /// monotonic clock that stops during sleep hides elapsed time.
    pub fn since(&self, earlier: &Self) -> Duration {
        let by_day = Duration::try_from(self.day.duration_since(earlier.day)).unwrap_or_default();
        let steadily = match (self.steady, earlier.steady) {
            (Some(now), Some(then)) => now.saturating_duration_since(then),
            _ => Duration::ZERO,
        };
        by_day.max(steadily)
    }
}

/// Text that is not a valid duration.
#[derive(Debug, thiserror::Error, Eq, PartialEq)]
#[error("`{0}` is not a duration: write a number and a unit, such as 500ms, 0.5s, 2m, 8h or 30d")]
pub struct DurationError(String);

/// Reads `500ms`, `0.5s`, `2m`, `8h`, `30d`, or a sum such as `1h30m`. Fractions are allowed.
///
/// # Errors
/// When a number or a unit is missing, or the sum exceeds a hundred years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError(text.to_owned());
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(error());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let factor = match unit.trim() {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(error()),
        };
        seconds += number.parse::<f64>().map_err(|_| error())? * factor;
        rest = tail;
    }
    const HUNDRED_YEARS: f64 = 100.0 * 365.25 * 86_400.0;
    if seconds > HUNDRED_YEARS {
        return Err(error());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| error())
}

/// Formats a duration so that [`parse_duration`] reads it: whole milliseconds, in the largest unit without a
/// fraction, such as `90s` or `2h`.
pub fn format_duration(time: Duration) -> String {
    let units: [(u128, &str); 3] = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let ms = time.as_millis();
    match units.iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}

/// Text that is not a valid time.
#[derive(Debug, thiserror::Error, Eq, PartialEq)]
#[error(
    "is not a time: write how long ago, such as 30m or 2h, or a time such as \
     2026-01-31T08:00:00Z or 2026-01-31"
)]
pub struct MomentError;

/// Parses a time in the past: an age (`2h`), an RFC 3339 time, or a day, which begins at midnight UTC.
///
/// # Errors
/// When the text is none of these.
pub fn parse_moment(text: &str, now: Timestamp) -> Result<Timestamp, MomentError> {
    let text = text.trim();
    if let Ok(ago) = parse_duration(text) {
        let ago = SignedDuration::try_from(ago).map_err(|_| MomentError)?;
        return now.checked_sub(ago).map_err(|_| MomentError);
    }
    let day = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok();
    match text.parse::<Timestamp>() {
        Ok(moment) => Ok(moment),
        // A time of day without an offset is ambiguous.
        Err(_) if text.len() > "2026-01-31".len() => Err(MomentError),
        Err(_) => day().map(|day| day.timestamp()).ok_or(MomentError),
    }
}

/// Parses a time in the future: a duration from now (`90d`), an RFC 3339 time, or a day, which begins at
/// midnight UTC.
///
/// # Errors
/// When the text is none of these.
pub fn parse_deadline(text: &str, now: Timestamp) -> Result<Timestamp, MomentError> {
    match parse_duration(text.trim()) {
        Ok(later) => now.checked_add(later).map_err(|_| MomentError),
        Err(_) => parse_moment(text, now),
    }
}

/// Parses `Retry-After` (RFC 9110 §10.2.3): seconds or a date. Anything else is `None`.
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    Some(Duration::try_from(http_date(text)?.duration_since(now)).unwrap_or_default())
}

/// For `Retry-After`: rounded up and at least one, so that a client that waits so long succeeds.
pub fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).max(1)
}

/// Parses a date of HTTP (RFC 9110 §5.6.7). Anything else is `None`.
pub fn http_date(text: &str) -> Option<Timestamp> {
    let date = httpdate::parse_http_date(text).ok().and_then(|date| Timestamp::try_from(date).ok());
    // Libraries for mail write `+0000` where HTTP has `GMT`.
    date.or_else(|| Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp()))
}

/// Text that is to be a duration. Deserializing it refuses other types, such as a number without a unit.
#[derive(Debug)]
pub struct DurationText(pub String);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(DurationTextVisitor)
    }
}

struct DurationTextVisitor;

impl Visitor<'_> for DurationTextVisitor {
    type Value = DurationText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time with its unit, such as 30s")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<DurationText, E> {
        Ok(DurationText(text.to_owned()))
    }
}

/// Serde adapter: a list of [`duration`]s.
pub mod durations {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Formats each as [`super::format_duration`] does.
    ///
    /// # Errors
    /// Only the serializer's own.
    pub fn serialize<S: Serializer>(values: &[Duration], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(values.iter().map(|value| super::format_duration(*value)))
    }

    /// Parses a list of durations with [`super::parse_duration`].
    ///
    /// # Errors
    /// When one of them is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Duration>, D::Error> {
        let texts = Vec::<super::DurationText>::deserialize(d)?;
        let parsed = texts.iter().map(|text| super::parse_duration(&text.0));
        parsed.collect::<Result<_, _>>().map_err(serde::de::Error::custom)
    }
}

/// Serde adapter: a [`Duration`] in the format of [`parse_duration`].
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Formats milliseconds, `1500ms`.
    ///
    /// # Errors
    /// Only the serializer's own.
    pub fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("{}ms", value.as_millis()))
    }

    /// Parses with [`super::parse_duration`].
    ///
    /// # Errors
    /// When the text is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        let super::DurationText(text) = super::DurationText::deserialize(d)?;
        super::parse_duration(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// oauth 7.1: a wrong clock does no harm.
    #[test]
    fn elapsed_time_is_correct_after_the_clock_is_set_back_and_after_a_suspend() {
        let then = Clock::System.moment();
        let steady = then.steady.unwrap();
        let hour = Duration::from_secs(3_600);
        let day = |ago: SignedDuration| then.day.checked_add(ago).unwrap();
        let set_back =
            Moment { day: day(SignedDuration::from_hours(-24)), steady: Some(steady + hour) };
        assert_eq!(set_back.since(&then), hour);
        let slept = Moment { day: day(SignedDuration::from_hours(1)), steady: Some(steady) };
        assert_eq!(slept.since(&then), hour);
        assert_eq!(then.since(&slept), Duration::ZERO);
    }

    #[test]
    fn invalid_durations_are_refused() {
        for bad in ["", "5", "s", "5 parsecs", "-1s", "1.2.3s", "1s-", "999999999d", "NaNs"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn invalid_moments_are_refused() {
        for bad in ["", "yesterday", "2026-13-01", "2026-01-31T08:00:00", "1", "-1h", "20260131 x"]
        {
            assert_eq!(parse_moment(bad, Timestamp::UNIX_EPOCH), Err(MomentError), "{bad}");
        }
    }

    #[test]
    fn moments_are_parsed_from_ages_dates_and_timestamps() {
        let now: Timestamp = "2026-02-01T00:30:00Z".parse().unwrap();
        for (text, moment) in [
            ("30m", "2026-02-01T00:00:00Z"),
            ("1d", "2026-01-31T00:30:00Z"),
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("2026-01-31T10:00:00+02:00", "2026-01-31T08:00:00Z"),
            ("2026-01-31T08:00:00.5Z", "2026-01-31T08:00:00.5Z"),
        ] {
            assert_eq!(parse_moment(text, now).unwrap().to_string(), moment, "{text}");
        }
    }

    #[test]
    fn durations_are_parsed_from_numbers_with_units() {
        for (text, ms) in [("500ms", 500), ("0.5s", 500), ("2m", 120_000), ("1h30m", 5_400_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn durations_are_written_without_fractions() {
        for (ms, text) in [(0, "0ms"), (1500, "1500ms"), (90_000, "90s"), (7_200_000, "2h")] {
            assert_eq!(format_duration(Duration::from_millis(ms)), text);
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn a_wait_is_rounded_up_to_at_least_one_whole_second() {
        for (ms, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (90_000, 90)] {
            assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds, "{ms} ms");
        }
    }

    #[test]
    fn retry_after_accepts_only_seconds_and_http_dates() {
        let now: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        for none in ["", "soon", "-1", "1.5", "+1", "1994-11-06", "Sun, 06 Nov", "1 s"] {
            assert_eq!(retry_after(none, now), None, "{none}");
        }
        for (text, seconds) in [
            ("0", 0),
            (" 120 ", 120),
            ("Sun, 06 Nov 1994 08:50:07 GMT", 30),
            ("Sun, 06 Nov 1994 08:49:07 GMT", 0),
        ] {
            assert_eq!(retry_after(text, now), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(retry_after("99999999999999999999999", now), Some(Duration::MAX));
    }
}
