//! Metrics in Prometheus format. Labels are closed sets: no value that an agent chooses becomes a label.

use std::collections::HashMap;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::event::{Event, Outcome};
use super::run_refusals::RunRefusals;
use super::usage::Usage;

/// All metrics of a gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    outcomes: Outcomes,
    refusals: Family<[(&'static str, String); 1], Counter>,
    bytes_in: Counter,
    bytes_out: Counter,
    scrubbed: Counter,
    /// Usage of connections and tokens; not part of the text.
    pub usage: Usage,
    /// Refusals to open runs; not part of the text.
    pub run_refusals: RunRefusals,
    /// Open streams of agents.
    pub streams: Gauge,
    /// Streams opened to upstreams.
    pub dialled: Counter,
    /// Requests sent on an idle upstream stream.
    pub reused: Counter,
    /// Requests sent again because of a connection's retry settings.
    pub retried: Counter,
    /// Requests sent again with a renewed credential, after the upstream rejected the old one.
    pub renewed: Counter,
    /// Token refreshes, by result.
    refreshes: LabelledCounters,
    /// Failed refreshes, by cause.
    refresh_failures: LabelledCounters,
    /// Connections whose refreshes fail.
    pub failing: Failing,
    /// Expiry of the CA's certificate, in seconds since the epoch.
    pub ca_ends: Gauge,
    /// Failed TLS handshakes with agents.
    pub handshakes_failed: Counter,
    /// Evicted streams, by listener.
    evictions: LabelledCounters,
    /// Events, and their deliveries to webhooks.
    told: DeliveryMetrics,
    /// Connections whose secret is due, by reminder.
    secrets_due: Gauges,
}

/// Reminders in days, with their labels.
const REMINDERS: [(i64, &str); 4] = [(14, "14d"), (7, "7d"), (1, "1d"), (0, "over")];

/// Exchanges by outcome.
#[derive(Debug)]
struct Outcomes {
    completed: Counter,
    refused: Counter,
    client_aborted: Counter,
    upstream_aborted: Counter,
    ended: Counter,
}

impl Outcomes {
    fn registered(registry: &mut Registry) -> Self {
        let exchanges = counted(registry, "exchanges", "exchanges, by outcome");
        let outcome = |name| exchanges.get_or_create_owned(&[("outcome", name)]);
        Self {
            completed: outcome("completed"),
            refused: outcome("refused"),
            client_aborted: outcome("client_aborted"),
            upstream_aborted: outcome("upstream_aborted"),
            ended: outcome("ended"),
        }
    }
}

/// Connections whose refreshes fail but may still succeed.
#[derive(Debug)]
pub struct Failing {
    /// Number of such connections.
    pub now: Gauge,
    /// Those that have failed for so long that a person should act.
    pub long: Gauge,
}

/// Events, and their deliveries to webhooks.
#[derive(Debug)]
struct DeliveryMetrics {
    events: LabelledCounters,
    tries: LabelledCounters,
    waiting: Gauge,
}

impl DeliveryMetrics {
    fn registered(registry: &mut Registry) -> Self {
        let events = counted(registry, "events", "events, by type");
        let help = "deliveries to webhooks, by outcome";
        let tries = counted(registry, "webhook_tries", help);
        let help = "undelivered events of webhooks";
        Self { events, tries, waiting: gauge(registry, "webhook_events_waiting", help) }
    }
}

impl Failing {
    fn registered(registry: &mut Registry) -> Self {
        let help = "connections whose refreshes fail but may still succeed";
        let now = gauge(registry, "connections_failing", help);
        let help = "connections whose refreshes have failed for oauth.alert_after";
        Self { now, long: gauge(registry, "connections_failing_long", help) }
    }
}

fn gauge(registry: &mut Registry, name: &'static str, help: &'static str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

/// Gauges with one label from a closed set.
type Gauges = Family<[(&'static str, &'static str); 1], Gauge>;

fn gauges(registry: &mut Registry, name: &'static str, help: &'static str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

/// Counters with one label from a closed set.
type LabelledCounters = Family<[(&'static str, &'static str); 1], Counter>;

fn counted(registry: &mut Registry, name: &'static str, help: &'static str) -> LabelledCounters {
    let family = LabelledCounters::default();
    registry.register(name, help, family.clone());
    family
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("keyward");
        let outcomes = Outcomes::registered(&mut registry);
        let help = "streams without a request or a token, closed for new ones";
        let evictions = counted(&mut registry, "streams_evicted", help);
        let refusals = Family::default();
        let help = "exchanges that Keyward refused, by code";
        registry.register("refusals", help, refusals.clone());
        let help = "token refreshes, by outcome";
        let refreshes = counted(&mut registry, "token_refreshes", help);
        let help = "failed token refreshes that will be retried, by cause";
        let refresh_failures = counted(&mut registry, "token_refresh_failures", help);
        let mut counter = |name, help| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let dialled = counter("upstreams_dialled", "streams dialled to upstreams");
        let reused = counter("upstreams_reused", "requests sent on an idle upstream stream");
        let retried = counter("requests_retried", "requests sent again by retry settings");
        let renewed = counter("requests_renewed", "requests sent again with a newer credential");
        let handshakes_failed =
            counter("agent_handshakes_failed", "TLS handshakes with agents that failed");
        let scrubbed = counter("answers_scrubbed", "answers in which a credential was masked");
        let mut bytes = |name, help| {
            let counter = Counter::default();
            registry.register_with_unit(name, help, Unit::Bytes, counter.clone());
            counter
        };
        let bytes_in = bytes("received", "body bytes from agents");
        let bytes_out = bytes("sent", "body bytes to agents");
        let help = "connections whose secret is due within that time, or overdue";
        let secrets_due = gauges(&mut registry, "connection_secrets_due", help);
        let streams = gauge(&mut registry, "agent_streams", "open streams of agents");
        let failing = Failing::registered(&mut registry);
        let told = DeliveryMetrics::registered(&mut registry);
        let ca_ends = Gauge::default();
        let help = "expiry of the CA certificate, since the epoch";
        registry.register_with_unit("ca_ends_timestamp", help, Unit::Seconds, ca_ends.clone());
        Self {
            registry,
            outcomes,
            refusals,
            refreshes,
            refresh_failures,
            bytes_in,
            bytes_out,
            scrubbed,
            usage: Usage::default(),
            run_refusals: RunRefusals::default(),
            streams,
            failing,
            ca_ends,
            dialled,
            reused,
            retried,
            renewed,
            handshakes_failed,
            evictions,
            told,
            secrets_due,
        }
    }
}

impl Metrics {
    /// Counts a finished exchange. Only a refusal needs a look-up.
    pub fn count<S: AsRef<str>>(&self, event: &Event<S>) {
        let by_outcome = match event.outcome {
            Outcome::Completed => &self.outcomes.completed,
            Outcome::Refused => &self.outcomes.refused,
            Outcome::ClientAborted => &self.outcomes.client_aborted,
            Outcome::UpstreamAborted => &self.outcomes.upstream_aborted,
            Outcome::Ended => &self.outcomes.ended,
        };
        by_outcome.inc();
        if let Some(code) = &event.code {
            self.refusals.get_or_create(&[("code", code.as_ref().to_owned())]).inc();
        }
        if event.scrubbed > 0 {
            self.scrubbed.inc();
        }
        self.bytes_in.inc_by(event.bytes_in);
        self.bytes_out.inc_by(event.bytes_out);
    }

    /// Counts an evicted stream by listener: `proxy`, `admin`.
    pub fn evicted(&self, listener: &'static str) {
        self.evictions.get_or_create(&[("listener", listener)]).inc();
    }

    /// Counts a token refresh: `brought`, `failed`, `broken`.
    pub fn refreshed(&self, outcome: &'static str) {
        self.refreshes.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts a failed refresh by its cause: a word of `net::call::Cause`, or `http_answer`.
    pub fn refresh_failed(&self, cause: &'static str) {
        self.refresh_failures.get_or_create(&[("cause", cause)]).inc();
    }

    /// Counts an event by its type.
    pub fn happened(&self, code: &'static str) {
        self.told.events.get_or_create(&[("type", code)]).inc();
    }

    /// Counts a delivery to a webhook: `taken`, `failed`, `given_up`.
    pub fn told(&self, outcome: &'static str) {
        self.told.tries.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Sets the number of undelivered events.
    pub fn webhooks_waiting(&self, count: usize) {
        self.told.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the number of connections per reminder, in days before their secret is due.
    pub fn secrets_due(&self, by_days: &HashMap<i64, i64>) {
        for (days, label) in REMINDERS {
            let count = by_days.get(&days).copied().unwrap_or_default();
            self.secrets_due.get_or_create(&[("within", label)]).set(count);
        }
    }

    /// The metrics as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }
}
