//! [`TelemetryMetrics`]: spans and log records that a collector accepted, or that were lost.

use prometheus_client::registry::Registry;

use super::families::{LabelledCounters, metric, with_samples};
use keyward_base::names::labelled_enum;

labelled_enum! {
    /// The kind of exported items.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub enum Signal by as_str {
        /// Spans.
        Traces = "traces",
        Logs = "logs",
    }
}

/// Spans and log records by result.
#[derive(Debug)]
pub struct TelemetryMetrics {
    exported: LabelledCounters,
    dropped: LabelledCounters,
}

impl TelemetryMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let help = "spans and log records that the collector accepted, by signal";
        let exported = metric(registry, "telemetry_exported", help);
        let help =
            "spans and log records lost: the queue was full, or the collector did not accept them";
        let dropped = metric(registry, "telemetry_dropped", help);
        for family in [&exported, &dropped] {
            with_samples(family, "signal", &["traces", "logs"]);
        }
        Self { exported, dropped }
    }

    /// Counts accepted items.
    pub fn exported(&self, signal: Signal, count: usize) {
        self.exported.get_or_create(&[("signal", signal.as_str())]).inc_by(count as u64);
    }

    /// Counts lost items.
    pub fn dropped(&self, signal: Signal, count: usize) {
        self.dropped.get_or_create(&[("signal", signal.as_str())]).inc_by(count as u64);
    }
}
