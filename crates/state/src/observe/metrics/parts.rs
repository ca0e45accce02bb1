//! The metrics of parts beside the data path, one struct for each: scheduled backups, telemetry, webhooks of services,
//! secret sources, and the health of the gateway (store, audit log, certificates and limits). Also the registration of
//! metrics with one label.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};

use keyward_base::names::labelled_enum;

/// Sources with samples of their own; the oldest of the others has the label `other`.
const SOURCES_MAX: usize = 100;

/// The label of the others.
const OTHER: &str = "other";

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

/// Scheduled backups by result.
#[derive(Debug)]
pub struct BackupMetrics {
    last_success: Gauge,
    failures: Counter,
}

impl BackupMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let help = "time of the last scheduled backup, since the epoch; 0: there is none";
        let name = "backup_last_success_timestamp";
        let last_success = metric_in(registry, Unit::Seconds, name, help);
        let help = "scheduled backups that failed";
        Self { last_success, failures: metric(registry, "backup_failures", help) }
    }

    /// Records that a backup of this time was written.
    pub fn succeeded(&self, created: Timestamp) {
        self.last_success.set(created.as_second());
    }

    pub fn failed(&self) {
        self.failures.inc();
    }
}

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

/// Hooks of all organisations.
#[derive(Debug)]
pub struct HookMetrics {
    requests: LabelledCounters,
    refusals: LabelledCounters,
    deliveries: LabelledCounters,
    waiting: Gauge,
    dead: Gauge,
    dropped: Counter,
}

impl HookMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let help = "requests of services to hooks, by outcome";
        let requests = metric(registry, "hook_requests", help);
        with_samples(&requests, "outcome", &["stored", "repeated", "answered", "refused"]);
        let help = "refused requests to hooks, by code";
        let refusals = metric(registry, "hook_refusals", help);
        let deliveries = metric(registry, "hook_deliveries", "deliveries of hooks, by outcome");
        with_samples(&deliveries, "outcome", &["taken", "failed", "given_up"]);
        let waiting = metric(registry, "hook_events_waiting", "undelivered events of hooks");
        let help = "events of hooks whose deliveries all failed";
        let dead = metric(registry, "hook_events_dead", help);
        let help = "events of hooks whose deliveries all failed and that newer ones have replaced";
        let dropped = metric(registry, "hook_events_dropped", help);
        Self { requests, refusals, deliveries, waiting, dead, dropped }
    }

    /// Gives each code of refusals a sample.
    pub fn expect_refusals(&self, codes: &[&'static str]) {
        with_samples(&self.refusals, "code", codes);
    }

    /// Counts a request that was not refused: `stored`, `repeated`, `answered`.
    pub fn accepted(&self, outcome: &'static str) {
        self.requests.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts a refused request.
    pub fn refused(&self, code: &'static str) {
        self.requests.get_or_create(&[("outcome", "refused")]).inc();
        self.refusals.get_or_create(&[("code", code)]).inc();
    }

    /// Counts a delivery: `taken`, `failed`, `given_up`.
    pub fn delivered(&self, outcome: &'static str) {
        self.deliveries.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts an undelivered event that newer ones have replaced.
    pub fn dropped(&self) {
        self.dropped.inc();
    }

    /// Sets the numbers of undelivered events.
    pub fn events(&self, waiting: usize, dead: usize) {
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.dead.set(i64::try_from(dead).unwrap_or(i64::MAX));
    }
}

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

/// State of the gateway.
#[derive(Debug)]
pub struct HealthMetrics {
    store_failures: LabelledCounters,
    /// Why the last write to the store failed, if it did.
    store_failure: Mutex<Option<String>>,
    /// Rows of a shared store that were older than this gateway had seen.
    pub rows_refused: Counter,
    audit_failing: Gauge,
    audit_log_changes: Counter,
    /// The limit of open streams of agents.
    pub streams_max: Gauge,
    certificate_ends: Gauges,
    store_staleness: Gauge<f64, AtomicU64>,
    /// Requests that other replicas allowed within rates that all of them share.
    pub shared_limit_requests: Counter,
    /// The weight of a request against such a rate.
    pub shared_limit_weight: Gauge,
    /// Running replicas of the store.
    pub replicas: Gauge,
}

impl HealthMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let help = "failed reads and writes of the store: disk errors and damaged rows";
        let store_failures = metric(registry, "store_failures", help);
        with_samples(&store_failures, "operation", &["read", "write"]);
        let help = "rows of a shared store that were older than this gateway had seen, or deleted without their mark";
        let rows_refused = metric(registry, "store_rows_refused", help);
        let help = "1 while the audit log cannot be written and requests are refused, else 0";
        let audit_failing = metric(registry, "audit_failing", help);
        let help = "times that the audit log was found moved, replaced, deleted or altered";
        let audit_log_changes = metric(registry, "audit_log_changes", help);
        let help = "limit of open streams of agents";
        let streams_max = metric(registry, "agent_streams_max", help);
        let help = "expiry of the configured certificates of listeners, since the epoch";
        let name = "listener_certificate_ends_timestamp";
        let certificate_ends = metric_in(registry, Unit::Seconds, name, help);
        let help = "for how long changes of other replicas may be missing here; 0 without replicas";
        let store_staleness = metric_in(registry, Unit::Seconds, "store_staleness", help);
        let help =
            "requests, failed logins and sign-ins at other replicas that count against limits here";
        let shared_limit_requests = metric(registry, "shared_limit_requests", help);
        let help = "how many times a request counts against a shared limit: 1, or the number of \
                    replicas while they cannot reach each other";
        let shared_limit_weight: Gauge = metric(registry, "shared_limit_weight", help);
        shared_limit_weight.set(1);
        let help = "running gateways on the same store, with this one";
        let replicas: Gauge = metric(registry, "replicas", help);
        replicas.set(1);
        Self {
            store_failures,
            store_failure: Mutex::default(),
            rows_refused,
            audit_failing,
            audit_log_changes,
            streams_max,
            certificate_ends,
            store_staleness,
            shared_limit_requests,
            shared_limit_weight,
            replicas,
        }
    }

    /// Counts a failed `read` or `write` of the store.
    pub fn store_failed(&self, operation: &'static str, cause: String) {
        self.store_failures.get_or_create(&[("operation", operation)]).inc();
        if operation == "write" {
            *self.store_failure.lock() = Some(cause);
        }
    }

    /// Records that the store was written.
    pub fn store_written(&self) {
        *self.store_failure.lock() = None;
    }

    /// Why the last write to the store failed, if it did.
    pub fn store_failure(&self) -> Option<String> {
        self.store_failure.lock().clone()
    }

    /// Sets for how long changes of other replicas may be missing.
    pub fn stale_for(&self, time: Duration) {
        self.store_staleness.set(time.as_secs_f64());
    }

    /// Sets whether the audit log cannot be written.
    pub fn audit_fails(&self, is_failing: bool) {
        self.audit_failing.set(i64::from(is_failing));
    }

    /// Sets how often the audit log was found changed by others. That number never decreases.
    pub fn audit_changed(&self, times: u64) {
        self.audit_log_changes.inner().store(times, Ordering::Relaxed);
    }

    /// Sets when the first certificate of the listeners of a kind expires: `proxy`, `databases` or `admin`.
    pub fn certificate_ends(&self, listener: &'static str, at: Timestamp) {
        self.certificate_ends.get_or_create(&[("listener", listener)]).set(at.as_second());
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
