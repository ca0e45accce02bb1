//! Metrics with one label, and their registration.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub(super) fn gauge(registry: &mut Registry, name: &'static str, help: &'static str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

/// Gauges with one label from a closed set.
pub(super) type Gauges = Family<[(&'static str, &'static str); 1], Gauge>;

/// Counters with one label from a closed set.
pub(super) type LabelledCounters = Family<[(&'static str, &'static str); 1], Counter>;

pub(super) fn counted(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
) -> LabelledCounters {
    let family = LabelledCounters::default();
    registry.register(name, help, family.clone());
    family
}

/// Gives a counter a sample of 0 for each value of its label.
pub(super) fn with_samples(
    family: &LabelledCounters,
    label: &'static str,
    values: &[&'static str],
) {
    for value in values {
        drop(family.get_or_create(&[(label, *value)]));
    }
}
