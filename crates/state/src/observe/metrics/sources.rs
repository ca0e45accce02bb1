//! [`SourceMetrics`]: whether secret sources give values, and how old these are.

use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::families::{LabelledCounters, metric, metric_in, with_samples};

/// Sources with samples of their own; the oldest of the others has the label `other`.
const SOURCES_MAX: usize = 100;

/// The label of the others.
const OTHER: &str = "other";

/// Gauges with the name of a source.
type OfSources = Family<[(&'static str, String); 1], Gauge>;

/// Secret sources of all organisations.
#[derive(Debug)]
pub struct SourceMetrics {
    fetches: LabelledCounters,
    age: OfSources,
    failing: OfSources,
}

/// The measurements of a source at a scrape.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceSample {
    /// `ORG/NAME`.
    pub name: String,
    /// The time since its last value; `None`: no value was requested yet.
    pub age: Option<Duration>,
    /// The time since its fetches began to fail; zero: they do not fail.
    pub failing: Duration,
}

impl SourceMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let help = "values requested from secret sources, by outcome";
        let fetches = metric(registry, "source_fetches", help);
        with_samples(&fetches, "outcome", &["fetched", "failed"]);
        let help = "time since a secret source last gave a value to this gateway, by source";
        let age = metric_in(registry, Unit::Seconds, "source_age", help);
        let help = "for how long a secret source has given no value; 0 if the last fetch succeeded";
        let failing = metric_in(registry, Unit::Seconds, "source_failing", help);
        Self { fetches, age, failing }
    }

    /// Counts a fetch, successful or not.
    pub fn fetched(&self, succeeded: bool) {
        let outcome = if succeeded { "fetched" } else { "failed" };
        self.fetches.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Replaces the samples of all sources.
    pub fn set(&self, sources: impl Iterator<Item = SourceSample>) {
        self.age.clear();
        self.failing.clear();
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        for (index, source) in sources.enumerate() {
            let name = if index < SOURCES_MAX { source.name } else { OTHER.to_owned() };
            let raise = |family: &OfSources, time: Duration| {
                let gauge = family.get_or_create_owned(&[("source", name.clone())]);
                gauge.set(gauge.get().max(seconds(time)));
            };
            if let Some(age) = source.age {
                raise(&self.age, age);
            }
            raise(&self.failing, source.failing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_beyond_the_limit_share_a_label_with_the_oldest_value() {
        let metrics = SourceMetrics::registered(&mut Registry::default());
        let source = |number: u64| SourceSample {
            name: format!("default/{number}"),
            age: Some(Duration::from_secs(number)),
            failing: Duration::ZERO,
        };
        metrics.set((0..300).map(source));
        let age = |name: &str| metrics.age.get_or_create(&[("source", name.to_owned())]).get();
        assert_eq!((age("default/99"), age(OTHER)), (99, 299));
        metrics.set((0..1).map(source));
        assert_eq!((age("default/99"), age(OTHER)), (0, 0), "removed sources have no sample");
    }
}
