//! [`HookMetrics`]: requests of services to hooks, and deliveries of their events.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::families::{LabelledCounters, metric, with_samples};

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
