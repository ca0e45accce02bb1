//! Metrics in Prometheus format. Labels are closed sets, except names of secret sources: no value that an agent chooses
//! becomes a label. Where alerts need it, every value of a label has a sample from the start, so that the first increase
//! is seen.

mod parts;

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::event::{Event, Outcome};
use super::run_refusals::RunRefusals;
use super::usage::Usage;
use keyward_base::codes::{Code, Sender};
use keyward_model::{ConnectionState, NoticeKind};
use parts::{
    BackupMetrics, Gauges, HealthMetrics, HookMetrics, LabelledCounters, TelemetryMetrics, metric,
    metric_in, with_samples,
};
pub use parts::{Signal, SourceMetrics, SourceSample};

/// All metrics of a gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    outcomes: Outcomes,
    refusals: Refusals,
    bytes_in: Counter,
    bytes_out: Counter,
    scrubbed: Counter,
    upstream: UpstreamMetrics,
    reload: ReloadMetrics,
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
    /// Secret sources.
    pub sources: SourceMetrics,
    /// Failed refreshes, by cause.
    refresh_failures: LabelledCounters,
    /// Connections whose refreshes fail.
    pub failing: FailingRefreshes,
    /// Expiry of the CA's certificate, in seconds since the epoch.
    pub ca_ends: Gauge,
    /// Failed TLS handshakes with agents.
    pub handshakes_failed: Counter,
    /// Evicted streams, by listener.
    evictions: LabelledCounters,
    /// Events, and their deliveries to webhooks.
    deliveries: DeliveryMetrics,
    /// Hooks of services.
    pub hooks: HookMetrics,
    connections: ConnectionMetrics,
    /// Scheduled backups.
    pub backups: BackupMetrics,
    /// State of the gateway itself.
    pub health: HealthMetrics,
    /// Spans and log records for the collector.
    pub telemetry: TelemetryMetrics,
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
        let exchanges: LabelledCounters = metric(registry, "exchanges", "exchanges, by outcome");
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

/// Upper bounds of the latency histogram, in seconds: local services answer within milliseconds, language models
/// within a minute.
const LATENCIES: [f64; 13] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Answers of upstreams.
#[derive(Debug)]
struct UpstreamMetrics {
    /// By class of status: 1xx to 5xx.
    classes: [Counter; 5],
    latency: Histogram,
}

impl UpstreamMetrics {
    fn registered(registry: &mut Registry) -> Self {
        let help = "answers of upstreams by class of status; each attempt counts";
        let answers: LabelledCounters = metric(registry, "upstream_answers", help);
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"]
            .map(|class| answers.get_or_create_owned(&[("class", class)]));
        let latency = Histogram::new(LATENCIES);
        let help = "time from a request's head to the start of the upstream's answer";
        registry.register_with_unit("upstream_answer", help, Unit::Seconds, latency.clone());
        Self { classes, latency }
    }
}

/// The last reload of the configuration.
#[derive(Debug)]
struct ReloadMetrics {
    results: LabelledCounters,
    succeeded: Gauge,
    success_time: Gauge,
}

impl ReloadMetrics {
    fn registered(registry: &mut Registry) -> Self {
        let results = metric(registry, "config_reloads", "reloads of the configuration by result");
        with_samples(&results, "result", &["success", "failure"]);
        let help = "1 if the configuration that was read last is in force, else 0";
        let succeeded = metric(registry, "config_last_reload_successful", help);
        let help = "when the configuration in force was read, since the epoch";
        let name = "config_last_reload_success_timestamp";
        let success_time = metric_in(registry, Unit::Seconds, name, help);
        Self { results, succeeded, success_time }
    }
}

/// Connections whose refreshes fail but may still succeed.
#[derive(Debug)]
pub struct FailingRefreshes {
    /// Number of such connections.
    pub now: Gauge,
    /// The number of those that have failed for so long that a person should act.
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
        let events = metric(registry, "events", "events, by type");
        let types: Vec<_> = NoticeKind::ALL.iter().map(|kind| kind.code()).collect();
        with_samples(&events, "type", &types);
        let help = "deliveries to webhooks, by outcome";
        let tries = metric(registry, "webhook_tries", help);
        with_samples(&tries, "outcome", &["taken", "failed", "given_up"]);
        let help = "undelivered events of webhooks";
        Self { events, tries, waiting: metric(registry, "webhook_events_waiting", help) }
    }
}

/// Connections, as they are stored.
#[derive(Debug)]
struct ConnectionMetrics {
    by_state: Gauges,
    /// By reminder.
    secrets_due: Gauges,
}

impl ConnectionMetrics {
    fn registered(registry: &mut Registry) -> Self {
        let by_state = metric(registry, "connections", "connections, by state");
        let help = "connections whose secret is due within that time, or overdue";
        Self { by_state, secrets_due: metric(registry, "connection_secrets_due", help) }
    }
}

impl FailingRefreshes {
    fn registered(registry: &mut Registry) -> Self {
        let help = "connections whose refreshes fail but may still succeed";
        let now = metric(registry, "connections_failing", help);
        let help = "connections whose refreshes have failed for oauth.alert_after";
        Self { now, long: metric(registry, "connections_failing_long", help) }
    }
}

fn refreshes(registry: &mut Registry) -> LabelledCounters {
    let family = metric(registry, "token_refreshes", "token refreshes, by outcome");
    with_samples(&family, "outcome", &["brought", "failed", "broken"]);
    family
}

/// Refusals that the proxy sends, by code.
type Refusals = Family<[(&'static str, String); 1], Counter>;

fn refusals(registry: &mut Registry) -> Refusals {
    let help = "exchanges that Keyward refused, by code";
    let family: Refusals = metric(registry, "refusals", help);
    for code in Code::ALL {
        if let Sender::Proxy(_) | Sender::Both(_) = code.row().sender {
            drop(family.get_or_create(&[("code", code.to_string())]));
        }
    }
    family
}

/// The registry of the program's metrics, with its version.
fn registry() -> Registry {
    let mut registry = Registry::with_prefix("keyward");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "the version of the program", build);
    registry
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registered = registry();
        let registry = &mut registered;
        let outcomes = Outcomes::registered(registry);
        let help = "streams without a request or a token, closed to make room for new ones";
        let evictions = metric(registry, "streams_evicted", help);
        let refusals = refusals(registry);
        let refreshes = refreshes(registry);
        let sources = SourceMetrics::registered(registry);
        let help = "failed token refreshes that will be retried, by cause";
        let refresh_failures = metric(registry, "token_refresh_failures", help);
        let dialled = metric(registry, "upstreams_dialled", "streams dialled to upstreams");
        let help = "requests sent on an idle upstream stream";
        let reused = metric(registry, "upstreams_reused", help);
        let retried = metric(registry, "requests_retried", "requests sent again by retry settings");
        let help = "requests sent again with a newer credential";
        let renewed = metric(registry, "requests_renewed", help);
        let help = "TLS handshakes with agents that failed";
        let handshakes_failed = metric(registry, "agent_handshakes_failed", help);
        let help = "answers in which a credential was masked";
        let scrubbed = metric(registry, "answers_scrubbed", help);
        let bytes_in = metric_in(registry, Unit::Bytes, "received", "body bytes from agents");
        let bytes_out = metric_in(registry, Unit::Bytes, "sent", "body bytes to agents");
        let help = "expiry of the CA certificate, since the epoch";
        let ca_ends = metric_in(registry, Unit::Seconds, "ca_ends_timestamp", help);
        Self {
            outcomes,
            refusals,
            refreshes,
            sources,
            refresh_failures,
            bytes_in,
            bytes_out,
            scrubbed,
            upstream: UpstreamMetrics::registered(registry),
            reload: ReloadMetrics::registered(registry),
            usage: Usage::default(),
            run_refusals: RunRefusals::default(),
            streams: metric(registry, "agent_streams", "open streams of agents"),
            failing: FailingRefreshes::registered(registry),
            ca_ends,
            dialled,
            reused,
            retried,
            renewed,
            handshakes_failed,
            evictions,
            deliveries: DeliveryMetrics::registered(registry),
            hooks: HookMetrics::registered(registry),
            connections: ConnectionMetrics::registered(registry),
            backups: BackupMetrics::registered(registry),
            health: HealthMetrics::registered(registry),
            telemetry: TelemetryMetrics::registered(registry),
            registry: registered,
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
        // Cores share the counter, and most requests have no body.
        if event.bytes_in > 0 {
            self.bytes_in.inc_by(event.bytes_in);
        }
        self.bytes_out.inc_by(event.bytes_out);
    }

    /// Counts an answer of an upstream.
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, self.upstream.classes.len());
        self.upstream.classes[class - 1].inc();
    }

    /// Counts the time from a request's head to the begin of the answer that the agent gets.
    pub fn waited(&self, waited: Duration) {
        self.upstream.latency.observe(waited.as_secs_f64());
    }

    /// Records the time of the first configuration.
    pub fn started(&self, now: Timestamp) {
        self.reload.succeeded.set(1);
        self.reload.success_time.set(now.as_second());
    }

    /// Counts a reload of the configuration.
    pub fn reloaded(&self, is_success: bool, now: Timestamp) {
        let result = if is_success { "success" } else { "failure" };
        self.reload.results.get_or_create(&[("result", result)]).inc();
        match is_success {
            true => self.started(now),
            false => {
                self.reload.succeeded.set(0);
            }
        }
    }

    /// Counts an evicted stream by listener: `proxy`, `admin`, `metrics`.
    pub fn evicted(&self, listener: &'static str) {
        self.evictions.get_or_create(&[("listener", listener)]).inc();
    }

    /// Counts a token refresh: `brought`, `failed`, `broken`.
    pub fn refreshed(&self, outcome: &'static str) {
        self.refreshes.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts a failed refresh by its cause: a word of `keyward_net::call::CallFailure`, or `http_answer`.
    pub fn refresh_failed(&self, cause: &'static str) {
        self.refresh_failures.get_or_create(&[("cause", cause)]).inc();
    }

    /// Gives each cause of failed refreshes a sample.
    pub fn expect_refresh_failures(&self, causes: &[&'static str]) {
        with_samples(&self.refresh_failures, "cause", causes);
    }

    /// Counts an event by its type.
    pub fn count_event(&self, code: &'static str) {
        self.deliveries.events.get_or_create(&[("type", code)]).inc();
    }

    /// Counts a delivery to a webhook: `taken`, `failed`, `given_up`.
    pub fn count_webhook_delivery(&self, outcome: &'static str) {
        self.deliveries.tries.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Sets the number of undelivered events.
    pub fn webhooks_waiting(&self, count: usize) {
        self.deliveries.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the number of connections per reminder, in days before their secret is due.
    pub fn secrets_due(&self, by_days: &HashMap<i64, i64>) {
        for (days, label) in REMINDERS {
            let count = by_days.get(&days).copied().unwrap_or_default();
            self.connections.secrets_due.get_or_create(&[("within", label)]).set(count);
        }
    }

    /// Sets the number of connections of each state.
    pub fn connections(&self, in_state: impl Fn(&str) -> usize) {
        for code in ConnectionState::CODES {
            let count = i64::try_from(in_state(code)).unwrap_or(i64::MAX);
            self.connections.by_state.get_or_create(&[("state", code)]).set(count);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_reload_keeps_the_time_of_the_configuration_in_force() {
        let metrics = Metrics::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        metrics.started(at(10));
        metrics.reloaded(false, at(20));
        let text = metrics.render();
        for line in [
            "keyward_config_last_reload_successful 0\n",
            "keyward_config_last_reload_success_timestamp_seconds 10\n",
            "keyward_config_reloads_total{result=\"failure\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        metrics.reloaded(true, at(30));
        let text = metrics.render();
        assert!(text.contains("keyward_config_last_reload_successful 1\n"), "{text}");
        assert!(text.contains("_success_timestamp_seconds 30\n"), "{text}");
    }

    #[test]
    fn a_state_without_connections_is_zero() {
        let metrics = Metrics::default();
        let line = |state: &str, count: u8| {
            let line = format!("keyward_connections{{state=\"{state}\"}} {count}\n");
            assert!(metrics.render().contains(&line), "{line}: {}", metrics.render());
        };
        metrics.connections(|state| usize::from(state == "active") * 2);
        line("active", 2);
        line("broken", 0);
        metrics.connections(|_| 0);
        line("active", 0);
    }

    /// An upstream chooses its status: a label for each would be an unbounded set.
    #[test]
    fn every_status_is_counted_in_one_of_five_classes() {
        let metrics = Metrics::default();
        for status in [0, 99, 101, 200, 299, 304, 401, 599, 999] {
            metrics.answered(status);
        }
        let text = metrics.render();
        for (class, count) in [("1xx", 3), ("2xx", 2), ("3xx", 1), ("4xx", 1), ("5xx", 2)] {
            let line = format!("keyward_upstream_answers_total{{class=\"{class}\"}} {count}\n");
            assert!(text.contains(&line), "{line}: {text}");
        }
        assert_eq!(text.matches("keyward_upstream_answers_total{").count(), 5, "{text}");
    }

    #[test]
    fn latencies_are_a_histogram_in_seconds() {
        let metrics = Metrics::default();
        metrics.waited(Duration::from_millis(30));
        metrics.waited(Duration::from_secs(600));
        let text = metrics.render();
        for line in [
            "keyward_upstream_answer_seconds_bucket{le=\"0.025\"} 0\n",
            "keyward_upstream_answer_seconds_bucket{le=\"0.05\"} 1\n",
            "keyward_upstream_answer_seconds_bucket{le=\"60.0\"} 1\n",
            "keyward_upstream_answer_seconds_bucket{le=\"+Inf\"} 2\n",
            "keyward_upstream_answer_seconds_count 2\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
