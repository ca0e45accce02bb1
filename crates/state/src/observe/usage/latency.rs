//! [`LatencyCounts`]: a histogram of the times until answers began, in buckets of powers of two of milliseconds.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Buckets: up to over 9 hours.
const BUCKETS: usize = 26;

/// How many answers began within which time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LatencyCounts([u64; BUCKETS]);

impl LatencyCounts {
    /// Counts an answer.
    pub fn count(&mut self, waited: Duration) {
        self.0[bucket(waited)] += 1;
    }

    /// Adds the counts of another period or thread.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    /// The time within which `percent` of the answers began, rounded up to a power of two of milliseconds.
    /// `None` without answers.
    pub fn within(&self, percent: u64) -> Option<Duration> {
        let all: u64 = self.0.iter().sum();
        let wanted = (all * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let found = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map(|bucket| Duration::from_millis(1 << bucket))
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }
}

/// The bucket: the first power of two of milliseconds that is not less.
fn bucket(waited: Duration) -> usize {
    let begun = u64::from(waited.subsec_micros().div_ceil(1_000));
    let ms = waited.as_secs().saturating_mul(1_000).saturating_add(begun).max(1);
    let power = ms.checked_next_power_of_two().map_or(BUCKETS, |it| it.trailing_zeros() as usize);
    power.min(BUCKETS - 1)
}

/// A list of counts without the empty buckets at its end.
impl Serialize for LatencyCounts {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let used = self.0.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        s.collect_seq(&self.0[..used])
    }
}

impl<'de> Deserialize<'de> for LatencyCounts {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut counts = Self::default();
        for (bucket, count) in Vec::<u64>::deserialize(d)?.into_iter().enumerate() {
            counts.0[bucket.min(BUCKETS - 1)] += count;
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_to_the_next_power_of_two() {
        let mut counts = LatencyCounts::default();
        assert_eq!(counts.within(50), None);
        for ms in [0, 1, 3, 900] {
            counts.count(Duration::from_millis(ms));
        }
        assert_eq!(counts.within(50), Some(Duration::from_millis(1)));
        assert_eq!(counts.within(75), Some(Duration::from_millis(4)));
        assert_eq!(counts.within(99), Some(Duration::from_millis(1024)));
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_partial_millisecond_is_rounded_up_and_a_partial_microsecond_is_dropped() {
        for (nanos, expected) in [
            (1_000_999, 0),
            (1_001_000, 1),
            (1_024_000_999, 10),
            (1_024_001_000, 11),
            (2_048_000_000, 11),
        ] {
            assert_eq!(bucket(Duration::from_nanos(nanos)), expected, "{nanos}");
        }
    }

    #[test]
    fn the_stored_list_ends_with_the_last_bucket_in_use() {
        let mut counts = LatencyCounts::default();
        assert_eq!(serde_json::to_string(&counts).unwrap(), "[]");
        counts.count(Duration::from_millis(4));
        assert_eq!(serde_json::to_string(&counts).unwrap(), "[0,0,1]");
        assert_eq!(serde_json::from_str::<LatencyCounts>("[0,0,1]").unwrap(), counts);
    }
}
