//! [`HealthMetrics`]: the health of the gateway: store, audit log, certificates and limits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::families::{Gauges, LabelledCounters, metric, metric_in, with_samples};

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
