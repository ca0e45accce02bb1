//! [`ExchangeTrace`]: the spans of one exchange, by the semantic conventions for HTTP
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>): one of the kind `server`, with a child for each
//! attempt at the upstream and for each wait for a credential. They are created from the audit event after the exchange
//! has ended. They contain no query, header field or body. A session with a database is one span of the kind `client`
//! (<https://opentelemetry.io/docs/specs/semconv/database/database-spans/>).
//!
//! [`TelemetrySettings`] says which data of exchanges and of the log are recorded.

use http::{HeaderMap, HeaderValue};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use tokio::time::{Duration, Instant};

use super::export::{number, text};
use super::trace_context::{SpanId, TRACEPARENT, TRACESTATE, TraceContext, is_valid_state};
use crate::observe::event::{Event, Outcome};
use keyward_base::database::DatabaseProtocol;
use keyward_base::host::{Host, Target};

/// A shorter wait for a credential leaves no span, because the credential was cached.
const CREDENTIAL_WAIT_MIN: Duration = Duration::from_millis(1);

/// Bits of a span's flags: whether it is known that the parent is remote, and whether it is remote.
const PARENT_KNOWN: u32 = 0x100;
const PARENT_REMOTE: u32 = 0x200;

/// Methods that the conventions name; an agent may invent others.
const METHODS: [&str; 10] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];

/// The trace of a running exchange.
#[derive(Debug)]
pub struct ExchangeTrace {
    context: TraceContext,
    /// The agent's span.
    parent: Option<SpanId>,
    propagate: bool,
    /// Whether the agent's `tracestate` may be passed on.
    keeps_state: bool,
    /// Since when the exchange waits for its credential.
    waiting: Option<Instant>,
    waits: Vec<CredentialWait>,
    attempts: Vec<AttemptSpan>,
}

/// A wait for a credential.
#[derive(Debug)]
struct CredentialWait {
    begun: Instant,
    ended: Instant,
}

/// An attempt at the upstream.
#[derive(Debug)]
struct AttemptSpan {
    context: TraceContext,
    begun: Instant,
    /// `None`: it ended with the exchange.
    ended: Option<Instant>,
    /// `None`: it was not answered.
    status: Option<u16>,
}

/// The trace context that an upstream gets.
#[derive(Debug)]
pub struct OutgoingTrace {
    parent: Option<HeaderValue>,
    keeps_state: bool,
}

/// An exchange that has ended.
#[derive(Debug)]
pub struct FinishedExchange<'a> {
    /// Its audit event.
    pub event: &'a Event<&'a str>,
    pub kind: ExchangeKind<'a>,
    pub target: Option<&'a Target>,
    /// The path without query and without placeholders.
    pub path: Option<&'a str>,
    pub begun: Instant,
}

/// The kind of an exchange.
#[derive(Clone, Copy, Debug)]
pub enum ExchangeKind<'a> {
    Http,
    /// A session with a database. Its name is unknown before the permit.
    Database {
        protocol: DatabaseProtocol,
        name: Option<&'a str>,
    },
    /// A signature for an SSH login.
    SshLogin,
}

impl ExchangeTrace {
    /// A new trace.
    pub(super) fn begin(settings: &TelemetrySettings) -> Self {
        Self {
            context: TraceContext::root(settings.sample),
            parent: None,
            propagate: settings.propagate,
            keeps_state: false,
            waiting: None,
            waits: Vec::new(),
            attempts: Vec::new(),
        }
    }

    /// Continues the agent's trace, if its request names one. Then its flag decides whether it is recorded.
    pub fn continue_from(&mut self, fields: &HeaderMap) {
        let Some(parent) = TraceContext::of(fields) else { return };
        self.context = parent.child();
        self.parent = Some(parent.span);
        self.keeps_state = self.propagate && is_valid_state(fields);
    }

    /// Whether it is recorded.
    pub(super) fn is_sampled(&self) -> bool {
        self.context.is_sampled()
    }

    /// Begins an attempt. Returns the trace context of its request.
    pub fn begin_attempt(&mut self) -> OutgoingTrace {
        let (context, begun) = (self.context.child(), Instant::now());
        let attempt = AttemptSpan { context, begun, ended: None, status: None };
        let parent = self.propagate.then(|| attempt.context.value());
        self.attempts.push(attempt);
        OutgoingTrace { parent, keeps_state: self.keeps_state }
    }

    /// Ends the attempt, with the status of its answer if there was one.
    pub fn end_attempt(&mut self, status: Option<u16>) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.ended = Some(Instant::now());
            attempt.status = status;
        }
    }

    /// Begins a wait for a credential, which ends with [`ExchangeTrace::end_wait`] or the exchange.
    pub fn begin_wait(&mut self) {
        self.waiting = Some(Instant::now());
    }

    /// Ends the wait for the credential.
    pub fn end_wait(&mut self) {
        let Some(begun) = self.waiting.take() else { return };
        let ended = Instant::now();
        if ended - begun >= CREDENTIAL_WAIT_MIN {
            self.waits.push(CredentialWait { begun, ended });
        }
    }

    /// All spans, the exchange's own first.
    pub(super) fn into_spans(self, exchange: &FinishedExchange<'_>) -> Vec<Span> {
        let times = Times { exchange, now: Instant::now() };
        let own = self.context;
        let mut spans = vec![self.own_span(&times)];
        let waits = self.waits.iter().map(|wait| times.wait(own, wait.begun, Some(wait.ended)));
        spans.extend(waits);
        spans.extend(self.waiting.map(|begun| times.wait(own, begun, None)));
        for (resent, attempt) in self.attempts.iter().enumerate() {
            let mut span = times.attempt(own, attempt);
            if resent > 0 {
                span.attributes.push(number("http.request.resend_count", resent as u64));
            }
            spans.push(span);
        }
        spans
    }

    fn own_span(&self, times: &Times<'_>) -> Span {
        let exchange = times.exchange;
        let mut own = times.span(self.context, exchange.begun, None);
        exchange.name().clone_into(&mut own.name);
        own.kind = match exchange.kind {
            ExchangeKind::Http | ExchangeKind::SshLogin => SpanKind::Server.into(),
            ExchangeKind::Database { .. } => SpanKind::Client.into(),
        };
        own.parent_span_id = self.parent.map(Vec::from).unwrap_or_default();
        own.flags |= if self.parent.is_some() { PARENT_REMOTE } else { 0 };
        own.attributes = exchange.attributes();
        own.attributes.extend(exchange.place());
        own.attributes.extend(about(exchange.event));
        own.status = is_failed(exchange.event).then(error);
        own
    }
}

impl OutgoingTrace {
    /// Writes the header fields of the trace. Those of the agent are never forwarded.
    pub fn write(&self, fields: &mut HeaderMap) {
        match &self.parent {
            Some(parent) => drop(fields.insert(&TRACEPARENT, parent.clone())),
            None => drop(fields.remove(&TRACEPARENT)),
        }
        if !self.keeps_state {
            fields.remove(&TRACESTATE);
        }
    }
}

impl FinishedExchange<'_> {
    /// The name of the span of the exchange; one of a closed set.
    fn name(&self) -> &'static str {
        match self.kind {
            ExchangeKind::Http => Method::of(self.event.method).name,
            ExchangeKind::Database { protocol, .. } => system_of(protocol),
            ExchangeKind::SshLogin => "ssh",
        }
    }

    /// The attributes that only exchanges of its kind have.
    fn attributes(&self) -> Vec<KeyValue> {
        match self.kind {
            ExchangeKind::Http => {
                let mut all = Method::of(self.event.method).attributes();
                all.extend(self.target.map(|it| text("url.scheme", it.scheme().as_str())));
                all.extend(self.path.map(|path| text("url.path", path)));
                let numbers = [
                    ("http.response.status_code", self.event.status.map(u64::from)),
                    ("http.request.body.size", Some(self.event.bytes_in)),
                    ("http.response.body.size", Some(self.event.bytes_out)),
                ];
                all.extend(numbers.into_iter().filter_map(|(key, it)| Some(number(key, it?))));
                all
            }
            ExchangeKind::Database { protocol, name } => {
                let mut all = vec![text("db.system.name", system_of(protocol))];
                all.extend(name.map(|name| text("db.namespace", name)));
                all
            }
            ExchangeKind::SshLogin => vec![text("network.protocol.name", "ssh")],
        }
    }

    fn place(&self) -> Vec<KeyValue> {
        let Some(target) = self.target else { return Vec::new() };
        let address = match target.host() {
            Host::V6(v6) => v6.to_string(),
            host => host.to_string(),
        };
        vec![text("server.address", address), number("server.port", target.port().into())]
    }

    fn url(&self) -> Option<String> {
        Some(format!("{}{}", self.target?, self.path?))
    }
}

/// The conventions' name of a database.
fn system_of(protocol: DatabaseProtocol) -> &'static str {
    match protocol {
        DatabaseProtocol::Postgres => "postgresql",
        DatabaseProtocol::Redis => "redis",
        DatabaseProtocol::Mysql => "mysql",
        DatabaseProtocol::Mongodb => "mongodb",
        // The conventions name products, and the protocol is of several.
        DatabaseProtocol::Bolt => "bolt",
    }
}

/// Whether the span of an exchange is marked as failed. A refusal is an answer, not a failure.
fn is_failed(event: &Event<&str>) -> bool {
    event.status.is_some_and(|status| status >= 500) || event.outcome == Outcome::UpstreamAborted
}

/// Attributes of the audit event for which the conventions have no name.
fn about(event: &Event<&str>) -> Vec<KeyValue> {
    let failure = event.code.map(ToOwned::to_owned).or_else(|| match event.outcome {
        Outcome::UpstreamAborted => Some(event.outcome.as_str().to_owned()),
        _ => event.status.filter(|status| *status >= 500).map(|status| status.to_string()),
    });
    let texts = [
        ("error.type", failure.as_deref()),
        ("keyward.exchange", Some(event.exchange)),
        ("keyward.outcome", Some(event.outcome.as_str())),
        ("keyward.org", event.org),
        ("keyward.agent", event.agent),
        ("keyward.session", event.session),
        ("keyward.connection", event.connection),
        ("keyward.rule", event.rule),
        ("keyward.code", event.code),
    ];
    texts.into_iter().filter_map(|(key, value)| Some(text(key, value?))).collect()
}

fn error() -> Status {
    Status { code: StatusCode::Error.into(), ..Status::default() }
}

/// The request's method. An agent may choose any, but the names of spans are a closed set.
struct Method<'a> {
    /// The name of spans.
    name: &'static str,
    sent: Option<&'a str>,
}

impl<'a> Method<'a> {
    fn of(sent: Option<&'a str>) -> Self {
        let known = METHODS.into_iter().find(|name| Some(*name) == sent);
        Self { name: known.unwrap_or("HTTP"), sent }
    }

    fn attributes(&self) -> Vec<KeyValue> {
        match self.sent {
            None => Vec::new(),
            Some(sent) if sent == self.name => vec![text("http.request.method", sent)],
            Some(sent) => vec![
                text("http.request.method", "_OTHER"),
                text("http.request.method_original", sent),
            ],
        }
    }
}

/// Places the exchange's monotonic times on the clock.
struct Times<'a> {
    exchange: &'a FinishedExchange<'a>,
    now: Instant,
}

impl Times<'_> {
    /// A wait for a credential, which failed if it has no end.
    fn wait(&self, parent: TraceContext, begun: Instant, ended: Option<Instant>) -> Span {
        let event = self.exchange.event;
        let mut span = self.span(parent.child(), begun, ended);
        "credential".clone_into(&mut span.name);
        span.kind = SpanKind::Internal.into();
        span.parent_span_id = parent.span.to_vec();
        span.attributes.extend(event.connection.map(|it| text("keyward.connection", it)));
        if ended.is_none() {
            span.attributes.extend(event.code.map(|code| text("error.type", code)));
            span.status = Some(error());
        }
        span
    }

    fn attempt(&self, parent: TraceContext, attempt: &AttemptSpan) -> Span {
        let (exchange, event) = (self.exchange, self.exchange.event);
        let method = Method::of(event.method);
        let mut span = self.span(attempt.context, attempt.begun, attempt.ended);
        method.name.clone_into(&mut span.name);
        span.kind = SpanKind::Client.into();
        span.parent_span_id = parent.span.to_vec();
        span.attributes = method.attributes();
        let scheme = exchange.target.map(|it| text("url.scheme", it.scheme().as_str()));
        span.attributes.extend(scheme);
        span.attributes.extend(exchange.place());
        span.attributes.extend(exchange.url().map(|url| text("url.full", url)));
        let status = attempt.status.map(u64::from);
        span.attributes.extend(status.map(|it| number("http.response.status_code", it)));
        let failure = match status {
            Some(status) if status >= 400 => Some(status.to_string()),
            Some(_) => None,
            None => Some(event.code.unwrap_or("_OTHER").to_owned()),
        };
        if let Some(failure) = failure {
            span.attributes.push(text("error.type", failure));
            span.status = Some(error());
        }
        span
    }

    fn span(&self, context: TraceContext, begun: Instant, ended: Option<Instant>) -> Span {
        Span {
            trace_id: context.trace.to_vec(),
            span_id: context.span.to_vec(),
            flags: u32::from(context.flags) | PARENT_KNOWN,
            start_time_unix_nano: self.unix(begun),
            end_time_unix_nano: self.unix(ended.unwrap_or(self.now)),
            ..Span::default()
        }
    }

    fn unix(&self, at: Instant) -> u64 {
        let start = u64::try_from(self.exchange.event.time.as_nanosecond()).unwrap_or_default();
        let since = at.saturating_duration_since(self.exchange.begun).as_nanos();
        start.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

/// The recorded signals, and the limits of recording.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetrySettings {
    /// The collector, for people.
    pub endpoint: String,
    /// Whether exchanges leave spans.
    pub traces: bool,
    /// Whether the log is exported.
    pub logs: bool,
    /// The share of recorded traces, among the traces that begin in this gateway.
    pub sample: f64,
    /// Whether upstreams get the trace's context.
    pub propagate: bool,
    /// How many spans, and how many log records, may wait.
    pub queue_max: usize,
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use keyward_base::host::Scheme;

    fn traced() -> ExchangeTrace {
        ExchangeTrace::begin(&TelemetrySettings {
            endpoint: String::new(),
            traces: true,
            logs: false,
            sample: 1.0,
            propagate: false,
            queue_max: 1,
        })
    }

    #[test]
    fn an_invalid_tracestate_is_not_passed_on() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (state, is_passed_on) in [("vendor=1", true), ("vendor", false)] {
            let mut fields = HeaderMap::new();
            fields.insert(&TRACEPARENT, HeaderValue::from_static(parent));
            fields.insert(&TRACESTATE, HeaderValue::from_static(state));
            let mut trace = ExchangeTrace { propagate: true, ..traced() };
            trace.continue_from(&fields);
            trace.begin_attempt().write(&mut fields);
            assert_eq!(fields.contains_key(&TRACESTATE), is_passed_on, "{state}");
            assert!(fields.contains_key(&TRACEPARENT), "{state}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_a_credential_is_a_span_unless_it_was_in_memory() {
        let (mut trace, begun) = (traced(), Instant::now());
        trace.begin_wait();
        trace.end_wait();
        trace.begin_wait();
        tokio::time::advance(Duration::from_millis(7)).await;
        trace.end_wait();
        // The next wait never ends.
        trace.begin_wait();
        tokio::time::advance(Duration::from_millis(2)).await;
        let event = Event::begun(Timestamp::from_second(10).unwrap(), "exc_1");
        let event = Event { code: Some("refresh_failed"), ..event };
        let (kind, path) = (ExchangeKind::Http, None);
        let finished = FinishedExchange { event: &event, kind, target: None, path, begun };
        let spans = trace.into_spans(&finished);
        let [own, waited, failed] = &spans[..] else { panic!("{spans:#?}") };
        let times = |span: &Span| (span.start_time_unix_nano, span.end_time_unix_nano);
        assert_eq!(times(own), (10_000_000_000, 10_009_000_000));
        assert_eq!(
            (times(waited), &*waited.name),
            ((10_000_000_000, 10_007_000_000), "credential")
        );
        assert_eq!(times(failed), (10_007_000_000, 10_009_000_000));
        assert_eq!((waited.status.is_none(), failed.status.is_some()), (true, true));
        for span in [waited, failed] {
            assert_eq!((&span.parent_span_id, &span.trace_id), (&own.span_id, &own.trace_id));
        }
    }

    #[test]
    fn the_span_of_an_ssh_login_has_no_http_attributes() {
        let event = Event::begun(Timestamp::UNIX_EPOCH, "exc_1");
        let event = Event { method: Some("SIGN"), status: Some(200), ..event };
        let target = Target::parse(Scheme::Https, "git.acme.test:22").unwrap();
        let (kind, path, begun) = (ExchangeKind::SshLogin, None, Instant::now());
        let finished = FinishedExchange { event: &event, kind, target: Some(&target), path, begun };
        let spans = traced().into_spans(&finished);
        let [own] = &spans[..] else { panic!("{spans:#?}") };
        assert_eq!(own.name, "ssh");
        let keys: Vec<_> = own.attributes.iter().map(|it| it.key.as_str()).collect();
        let expected = [
            "network.protocol.name",
            "server.address",
            "server.port",
            "keyward.exchange",
            "keyward.outcome",
        ];
        assert_eq!(keys, expected);
    }
}
