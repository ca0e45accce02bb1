//! `telemetry:`: spans of exchanges and the log, for an OpenTelemetry collector. The variables of OpenTelemetry's SDKs
//! (`OTEL_…`) are not read: they may be meant for other programs, and decide where data goes.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use http::{HeaderName, Uri};
use serde::Deserialize;
use serde_yaml::Value;

use super::reading::ConfigReading;
use super::secret::SecretSource;
use super::source;
use keyward_base::host::{Scheme, Target};
use keyward_base::keys::section;
use keyward_base::time::duration;
use keyward_rules::provider::document::key_of;

const PATH: &str = "telemetry.otlp";

/// The spans of one exchange are queued together.
const QUEUE_MIN: usize = 16;

/// How exchanges and the log are exported.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// The collector, without a slash at its end.
    pub endpoint: String,
    /// Fields of each request to it.
    pub headers: Vec<(HeaderName, SecretSource)>,
    pub settings: OtlpSettings,
    /// Where it stands, for errors: `keyward.yaml:12: telemetry.otlp`.
    pub place: String,
}

/// Who gets `/metrics` of the admin listener. The socket and `listen.metrics` want no token.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum MetricsAccess {
    /// Clients with a personal access token of the scope `install:read`.
    #[default]
    Token,
    /// Every client that reaches the listener.
    Open,
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct TelemetryText {
        /// Who gets `/metrics` of the admin listener: `token` wants a personal access token with the scope
        /// `install:read`, `open` wants none.
        #[key(one of ["token", "open"], "token")]
        metrics: Option<Value>,
        /// Exports by OTLP over HTTP, in protobuf. Without it nothing is recorded or sent.
        #[key(map of OtlpSettings)]
        otlp: Option<Value>,
    }
}

section! {
    #[derive(Clone, Debug, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct OtlpSettings {
        /// The collector's base URL; `/v1/traces` and `/v1/logs` are appended. It may be in any network, also at a
        /// loopback address, and need not be in `upstream.allow_private`. `upstream.trust` and `upstream.proxy` apply.
        #[key("URL such as `https://collector:4318`", required)]
        endpoint: Option<String>,
        /// Header fields of each request to the collector, such as its API key. With `http://` only for a collector on
        /// this machine.
        #[key("map of name to [secret](#secrets)", "{}")]
        headers: BTreeMap<String, Value>,
        /// Whether each exchange leaves a span, with children for attempts at the upstream and waits for a credential.
        #[key(one of ["true", "false"], "true")]
        pub traces: bool,
        /// Whether the lines of the log are exported too, those that `log.level` shows.
        #[key(one of ["true", "false"], "true")]
        pub logs: bool,
        /// The share of traces that are recorded, of those that begin at Keyward. If the agent's request has a
        /// `traceparent`, its sampled flag decides.
        #[key("number from 0 to 1", "1.0")]
        pub sample: f64,
        /// Whether upstreams get `traceparent` with Keyward's span, and the agent's `tracestate`. Otherwise, while
        /// `traces` is on, both fields of the agent are removed.
        #[key(one of ["true", "false"], "false")]
        pub propagate: bool,
        /// The attribute `service.name`.
        #[key("text", "keyward")]
        pub service_name: String,
        /// Further attributes of this service, such as `deployment.environment.name`.
        #[key("map of text to text", "{}")]
        pub resource_attributes: BTreeMap<String, String>,
        /// Time for one export; 100ms to 60s.
        #[key("time", "10s")]
        #[serde(with = "duration")]
        pub timeout: Duration,
        /// How long a span or record waits for others, to be sent with them; 10ms to 60s.
        #[key("time", "5s")]
        #[serde(with = "duration")]
        pub schedule_delay: Duration,
        /// Spans, and log records, that may wait. Further ones are dropped, and counted in
        /// `keyward_telemetry_dropped_total`; 16 to 1000000.
        #[key("number", "2048")]
        pub max_queue_size: usize,
        /// Spans, or log records, of one export; 1 to `max_queue_size`.
        #[key("number", "512")]
        pub max_export_batch_size: usize,
    }
}

impl Deref for Otlp {
    type Target = OtlpSettings;

    fn deref(&self) -> &OtlpSettings {
        &self.settings
    }
}

impl Default for OtlpSettings {
    /// The defaults of OpenTelemetry's SDKs.
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: BTreeMap::new(),
            traces: true,
            logs: true,
            sample: 1.0,
            propagate: false,
            service_name: "keyward".to_owned(),
            resource_attributes: BTreeMap::new(),
            timeout: Duration::from_secs(10),
            schedule_delay: Duration::from_secs(5),
            max_queue_size: 2048,
            max_export_batch_size: 512,
        }
    }
}

pub(super) fn telemetry(
    value: Option<&Value>,
    reading: &mut ConfigReading<'_>,
) -> (MetricsAccess, Option<Otlp>) {
    let Some(text) = reading.section::<TelemetryText>(value, "telemetry") else {
        return (MetricsAccess::default(), None);
    };
    let metrics = reading.section(text.metrics.as_ref(), "telemetry.metrics").unwrap_or_default();
    (metrics, otlp(text.otlp.as_ref(), reading))
}

fn otlp(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> Option<Otlp> {
    let mut settings = reading.section::<OtlpSettings>(value, PATH)?;
    check_numbers(&settings, reading);
    let url = reading.required(settings.endpoint.take(), "endpoint", PATH);
    let endpoint = if url.is_empty() { None } else { endpoint(&url, reading) };
    if let Some(target) = &endpoint
        && !settings.headers.is_empty()
        && target.scheme() == Scheme::Http
        && !target.host().is_this_machine()
    {
        let message = "these header fields would cross the network in cleartext";
        let remedy = "write `https://` in `endpoint`, or remove `headers`";
        reading.problems.add(&key_of(PATH, "headers"), message, remedy);
    }
    let mut headers = Vec::new();
    for (name, value) in &std::mem::take(&mut settings.headers) {
        let path = key_of(&key_of(PATH, "headers"), name);
        let name = header(name, &path, reading);
        headers.extend(name.zip(source::secret(value, &path, reading)));
    }
    endpoint?;
    Some(Otlp {
        endpoint: url.trim_end_matches('/').to_owned(),
        headers,
        settings,
        place: reading.place(PATH),
    })
}

fn check_numbers(text: &OtlpSettings, reading: &mut ConfigReading<'_>) {
    let seconds = |time: Duration| time.as_secs_f64();
    let checks = [
        (
            (0.0..=1.0).contains(&text.sample),
            "sample",
            "this is not a share",
            "write a number from 0 to 1, such as 0.1",
        ),
        (
            !text.service_name.trim().is_empty(),
            "service_name",
            "the name is empty",
            "write a name, or remove the key",
        ),
        (
            (0.1..=60.0).contains(&seconds(text.timeout)),
            "timeout",
            "the time is out of bounds",
            "write 100ms to 60s, such as 10s",
        ),
        (
            (0.01..=60.0).contains(&seconds(text.schedule_delay)),
            "schedule_delay",
            "the time is out of bounds",
            "write 10ms to 60s, such as 5s",
        ),
        (
            (QUEUE_MIN..=1_000_000).contains(&text.max_queue_size),
            "max_queue_size",
            "the number is out of bounds",
            "write 16 to 1000000, such as 2048",
        ),
        (
            (1..=text.max_queue_size.max(1)).contains(&text.max_export_batch_size),
            "max_export_batch_size",
            "the number is out of bounds",
            "write 1 to the number of `max_queue_size`",
        ),
        (
            text.traces || text.logs,
            "traces",
            "neither traces nor logs are exported",
            "turn one of them on, or remove `otlp`",
        ),
    ];
    for (_, key, message, remedy) in checks.into_iter().filter(|(is_good, ..)| !is_good) {
        reading.problems.add(&key_of(PATH, key), message, remedy);
    }
}

/// No message quotes the URL: it may hold a password.
fn endpoint(url: &str, reading: &mut ConfigReading<'_>) -> Option<Target> {
    const FORM: &str =
        "write `https://HOST:PORT` or `http://HOST:PORT`, such as https://collector.example:4318";
    let mut refuse = |message: &str, remedy: &str| {
        reading.problems.add(&key_of(PATH, "endpoint"), message, remedy);
        None
    };
    if url.contains('@') {
        return refuse(
            "the URL holds a user or a password",
            "remove them, and add `headers: { authorization: { env: NAME } }`",
        );
    }
    if url.contains(['?', '#']) {
        return refuse("the URL has a query or a fragment", FORM);
    }
    let path = url.trim_end_matches('/');
    if path.ends_with("/v1/traces") || path.ends_with("/v1/logs") {
        return refuse(
            "this is the URL of one signal",
            "write it without `/v1/traces` or `/v1/logs`, which are appended",
        );
    }
    let uri = url.parse::<Uri>().ok();
    let target = uri.as_ref().and_then(|uri| {
        let scheme = match uri.scheme_str()? {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return None,
        };
        Target::parse(scheme, uri.authority()?.as_str()).ok()
    });
    target.or_else(|| refuse("this is not the URL of a collector", FORM))
}

/// Fields that frame the request are the sender's.
fn header(name: &str, path: &str, reading: &mut ConfigReading<'_>) -> Option<HeaderName> {
    const OWN: [&str; 6] = [
        "host",
        "content-type",
        "content-length",
        "content-encoding",
        "connection",
        "transfer-encoding",
    ];
    let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
    let (message, remedy) = match &parsed {
        None => ("this is not the name of a header field", "write letters, digits and `-`"),
        Some(name) if OWN.contains(&name.as_str()) => {
            ("Keyward sets this header field itself", "remove it")
        }
        Some(_) => return parsed,
    };
    reading.problems.add(path, message, remedy);
    None
}
