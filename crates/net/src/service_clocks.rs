//! [`ServiceClocks`]: how far this machine's clock is from those of services, by the `Date` of their answers. Signatures and
//! assertions are dated by the service's clock where they differ. Only answers over verified TLS count.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use http::{HeaderMap, header};
use jiff::{SignedDuration, Timestamp};
use parking_lot::RwLock;

use keyward_base::time::http_date;

/// A smaller difference is of the network, or of the service.
const DIFFERENCE_MIN: SignedDuration = SignedDuration::from_secs(60);

/// A larger difference is not believed.
const DIFFERENCE_MAX: SignedDuration = SignedDuration::from_hours(24);

/// Most hosts that are remembered.
const HOSTS_MAX: usize = 256;

/// What is added to this machine's time for the time of a service, by host. Empty where the clock is right.
#[derive(Debug, Default)]
pub struct ServiceClocks {
    differs: AtomicBool,
    by_host: RwLock<BTreeMap<String, SignedDuration>>,
}

impl ServiceClocks {
    /// Learns from an answer that was received at `now` over verified TLS.
    pub fn learn(&self, host: &str, headers: &HeaderMap, now: Timestamp) {
        let Some(difference) = difference(headers, now) else { return };
        if difference.abs() < DIFFERENCE_MIN && !self.differs.load(Relaxed) {
            return;
        }
        let mut by_host = self.by_host.write();
        let is_believed = (DIFFERENCE_MIN..=DIFFERENCE_MAX).contains(&difference.abs());
        if is_believed && (by_host.len() < HOSTS_MAX || by_host.contains_key(host)) {
            let before = by_host.insert(host.to_owned(), difference);
            if before.is_none() {
                let warning = wrong_clock(host, difference);
                tracing::warn!(id = "clock_differs", host, "{warning}");
            }
        } else {
            by_host.remove(host);
        }
        self.differs.store(!by_host.is_empty(), Relaxed);
    }

    /// What is added to this machine's time for that of the service.
    pub fn difference(&self, host: &str) -> SignedDuration {
        match self.differs.load(Relaxed) {
            true => self.by_host.read().get(host).copied().unwrap_or_default(),
            false => SignedDuration::ZERO,
        }
    }

    /// The time of the service at `now`.
    pub fn at(&self, host: &str, now: Timestamp) -> Timestamp {
        now.checked_add(self.difference(host)).unwrap_or(now)
    }

    /// The number of services whose clock is another one. It changes when an answer shows that this machine's is wrong.
    pub fn count(&self) -> usize {
        match self.differs.load(Relaxed) {
            true => self.by_host.read().len(),
            false => 0,
        }
    }

    /// What is wrong, for people: the largest difference.
    pub fn warning(&self) -> Option<String> {
        let by_host = self.by_host.read();
        let (host, largest) = by_host.iter().max_by_key(|(_, difference)| difference.abs())?;
        Some(wrong_clock(host, *largest))
    }
}

/// What is wrong with this machine's clock by one answer; `None` if nothing is.
pub fn warning_of(host: &str, headers: &HeaderMap, now: Timestamp) -> Option<String> {
    let difference = difference(headers, now)?;
    (difference.abs() >= DIFFERENCE_MIN).then(|| wrong_clock(host, difference))
}

fn difference(headers: &HeaderMap, now: Timestamp) -> Option<SignedDuration> {
    let date = http_date(headers.get(header::DATE)?.to_str().ok()?)?;
    Some(date.duration_since(now))
}

fn wrong_clock(host: &str, difference: SignedDuration) -> String {
    let way = if difference.is_negative() { "ahead of" } else { "behind" };
    // `Date` has whole seconds, so that a difference of 3 h is a little less.
    let minutes = (difference.abs().as_secs() + 30) / 60;
    let long = match minutes {
        0..120 => format!("{minutes} min"),
        120..2_880 => format!("{} h", (minutes + 30) / 60),
        _ => format!("{} days", (minutes + 720) / 1_440),
    };
    format!("the clock of this machine is {long} {way} that of {host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: &str = "2026-02-01T12:00:00Z";

    fn dated(date: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::DATE, date.parse().expect("a value"))])
    }

    #[test]
    fn a_date_that_is_missing_invalid_near_or_days_away_changes_no_time() {
        let (clocks, now) = (ServiceClocks::default(), NOON.parse().expect("a time"));
        clocks.learn("a.test", &HeaderMap::new(), now);
        for date in ["soon", "Sun, 01 Feb 2026 12:00:59 GMT", "Tue, 03 Feb 2026 12:00:00 GMT"] {
            clocks.learn("a.test", &dated(date), now);
            assert_eq!((clocks.at("a.test", now), clocks.warning()), (now, None), "{date}");
        }
    }

    #[test]
    fn the_time_of_a_service_is_that_of_its_last_answer_and_of_no_other_host() {
        let (clocks, now) = (ServiceClocks::default(), NOON.parse().expect("a time"));
        clocks.learn("a.test", &dated("Sun, 01 Feb 2026 15:00:00 GMT"), now);
        let later = "2026-02-01T15:00:00Z".parse().expect("a time");
        assert_eq!((clocks.at("a.test", now), clocks.at("b.test", now)), (later, now));
        let warning = clocks.warning().expect("it differs");
        assert_eq!(warning, "the clock of this machine is 3 h behind that of a.test");
        clocks.learn("a.test", &dated("Sun, 01 Feb 2026 12:00:01 GMT"), now);
        assert_eq!((clocks.at("a.test", now), clocks.warning()), (now, None), "it was set");
    }
}
