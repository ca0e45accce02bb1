//! An OpenTelemetry collector that decodes what it receives, and answers as a test says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;

use super::hooks::status;
use super::lab::Plan;
use super::origin::{Origin, Stream};
use super::pki::pki;
use super::wire::Message;

/// Its host, with TLS.
const OTEL: &str = "otel.acme.test";

/// It, running.
pub struct Collector {
    pub origin: Origin,
    is_secure: bool,
    answers: Arc<Mutex<VecDeque<String>>>,
}

/// A span, or a record of the log.
#[derive(Clone, Debug)]
pub struct Item {
    /// The span's name, or the text of the record.
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub kind: i32,
    /// Whether its status is an error; of a record, its severity.
    pub level: i32,
    pub times: (u64, u64),
    pub attributes: BTreeMap<String, String>,
    pub resource: BTreeMap<String, String>,
}

impl Collector {
    /// In cleartext at a loopback address, where `allow_private` does not allow it.
    pub async fn start() -> Self {
        Self::answering(false).await
    }

    /// With TLS, by its name.
    pub async fn secure() -> Self {
        Self::answering(true).await
    }

    async fn answering(is_secure: bool) -> Self {
        let answers = Arc::<Mutex<VecDeque<String>>>::default();
        let next = answers.clone();
        let tls = is_secure.then(|| pki().server(&[OTEL]));
        let script = move |mut stream: Stream| {
            let next = next.clone();
            async move {
                while stream.request().await.is_some() {
                    let answer = next.lock().expect("not poisoned").pop_front();
                    let answer = answer.unwrap_or_else(|| status(200));
                    // Silence until the client goes.
                    if answer.is_empty() {
                        stream.hold().await;
                        return;
                    }
                    stream.send(answer).await;
                }
            }
        };
        Self { origin: Origin::with_tls(tls, script), is_secure, answers }
    }

    /// What the next requests are answered with, in order; nothing at all where it is empty.
    pub fn answers(&self, answers: impl IntoIterator<Item = String>) {
        self.answers.lock().expect("not poisoned").extend(answers);
    }

    /// The section that exports to it, with further keys.
    pub fn section(&self, more: &str) -> String {
        let at = match self.is_secure {
            true => format!("https://{OTEL}"),
            false => format!("http://{}", self.origin.addr),
        };
        format!("telemetry: {{ otlp: {{ endpoint: \"{at}\", {more} }} }}")
    }

    /// A plan that exports to it. What one exchange leaves is sent at once.
    pub fn reached(&self, plan: Plan, more: &str) -> Plan {
        let plan = match self.is_secure {
            true => plan.resolve(&format!("{OTEL}: \"{}\"", self.origin.addr)),
            false => plan,
        };
        plan.top(&self.section(&format!("schedule_delay: 10ms, {more}")))
    }

    /// All spans so far, in order of their times, without those of waits for credentials: the first request may wait
    /// for the store.
    pub fn spans(&self) -> Vec<Item> {
        let mut spans: Vec<_> = self.all("/v1/traces").iter().flat_map(spans).collect();
        spans.retain(|span| (span.kind, &*span.name) != (INTERNAL, "credential"));
        spans.sort_by_key(|span| (span.times.0, span.kind != SERVER));
        spans
    }

    /// All records of the log so far.
    pub fn records(&self) -> Vec<Item> {
        self.all("/v1/logs").iter().flat_map(records).collect()
    }

    fn all(&self, path: &str) -> Vec<Message> {
        let mut all = self.origin.received();
        for one in &all {
            assert_eq!(one.head.method(), "POST");
            assert_eq!(one.head.all("content-type"), ["application/x-protobuf"]);
        }
        all.retain(|one| one.head.target() == path);
        all
    }
}

/// Kinds of spans.
const INTERNAL: i32 = 1;
pub const SERVER: i32 = 2;
pub const CLIENT: i32 = 3;

/// The status of a span that failed.
pub const ERROR: i32 = 2;

/// The spans of one export.
pub fn spans(export: &Message) -> Vec<Item> {
    let export = ExportTraceServiceRequest::decode(&*export.body).expect("spans");
    let mut found = vec![];
    for of_resource in export.resource_spans {
        let resource = attributes(of_resource.resource.expect("a resource").attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            assert_eq!(span.trace_state, "", "of an agent");
            found.push(Item {
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                kind: span.kind,
                level: span.status.map_or(0, |status| status.code),
                times: (span.start_time_unix_nano, span.end_time_unix_nano),
                attributes: attributes(span.attributes),
                resource: resource.clone(),
            });
        }
    }
    found
}

fn records(export: &Message) -> Vec<Item> {
    let export = ExportLogsServiceRequest::decode(&*export.body).expect("records");
    let mut found = vec![];
    for of_resource in export.resource_logs {
        let resource = attributes(of_resource.resource.expect("a resource").attributes);
        for record in of_resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
            found.push(Item {
                name: shown(record.body.and_then(|body| body.value)),
                trace: hex(&record.trace_id),
                id: hex(&record.span_id),
                parent: String::new(),
                kind: 0,
                level: record.severity_number,
                times: (record.time_unix_nano, record.observed_time_unix_nano),
                attributes: attributes(record.attributes),
                resource: resource.clone(),
            });
        }
    }
    found
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let count = pairs.len();
    let pairs = pairs.into_iter().map(|pair| (pair.key, shown(pair.value.and_then(|it| it.value))));
    let found: BTreeMap<_, _> = pairs.collect();
    assert_eq!(found.len(), count, "each name once");
    found
}

fn shown(value: Option<Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is)) => is.to_string(),
        Some(Value::ArrayValue(items)) => {
            let items = items.values.into_iter().map(|item| shown(item.value));
            items.collect::<Vec<_>>().join(",")
        }
        other => panic!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
