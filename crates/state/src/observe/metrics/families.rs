//! Registration of metrics, and those with one label.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};

/// Gauges with one label from a closed set.
pub(super) type Gauges = Family<[(&'static str, &'static str); 1], Gauge>;

/// Counters with one label from a closed set.
pub(super) type LabelledCounters = Family<[(&'static str, &'static str); 1], Counter>;

/// A new metric in the registry.
pub(super) fn metric<M: Metric + Clone + Default>(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// A new metric in the registry, with the unit at the end of its name.
pub(super) fn metric_in<M: Metric + Clone + Default>(
    registry: &mut Registry,
    unit: Unit,
    name: &'static str,
    help: &'static str,
) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, unit, metric.clone());
    metric
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
