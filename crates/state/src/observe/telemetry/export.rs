//! [`Exportable`]: how a batch of one signal is written as an OTLP request
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>), and how the collector's answer is read.
//! Spans, log records and resources have the same form of attributes.

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue,
};
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message;

use super::Signal;

pub use opentelemetry_proto::tonic::logs::v1::LogRecord;
pub use opentelemetry_proto::tonic::trace::v1::Span;

/// Describes this gateway in every request.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource(opentelemetry_proto::tonic::resource::v1::Resource);

/// The items that a collector rejected from an accepted batch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RejectedItems {
    /// The number of items.
    pub count: usize,
    /// The collector's reason; empty if it accepted all items.
    pub why: String,
}

/// An item of a signal.
pub trait Exportable: Sized + Send + 'static {
    const SIGNAL: Signal;
    /// The path below the collector's endpoint.
    const PATH: &'static str;

    /// The body of the request.
    fn encode(resource: &Resource, batch: Vec<Self>) -> Vec<u8>;

    /// The rejected items in the body of a successful answer. A malformed body rejects nothing, because some collectors
    /// send other bodies.
    fn rejected(answer: &[u8]) -> RejectedItems;
}

impl Resource {
    /// The service's name and further attributes, which may replace the version.
    pub fn new<'a>(service: &str, more: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut attributes =
            vec![text("service.name", service), text("service.version", env!("CARGO_PKG_VERSION"))];
        for (key, value) in more {
            attributes.retain(|other| other.key != key);
            attributes.push(text(key, value));
        }
        Self(opentelemetry_proto::tonic::resource::v1::Resource {
            attributes,
            ..Default::default()
        })
    }
}

impl Exportable for Span {
    const SIGNAL: Signal = Signal::Traces;
    const PATH: &'static str = "/v1/traces";

    fn encode(resource: &Resource, spans: Vec<Self>) -> Vec<u8> {
        let scope_spans = vec![ScopeSpans { scope: scope(), spans, ..Default::default() }];
        let resource = Some(resource.0.clone());
        let of_resource = ResourceSpans { resource, scope_spans, ..Default::default() };
        ExportTraceServiceRequest { resource_spans: vec![of_resource] }.encode_to_vec()
    }

    fn rejected(answer: &[u8]) -> RejectedItems {
        let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
        answer.partial_success.map_or_else(RejectedItems::default, |partial| {
            RejectedItems::new(partial.rejected_spans, partial.error_message)
        })
    }
}

impl Exportable for LogRecord {
    const SIGNAL: Signal = Signal::Logs;
    const PATH: &'static str = "/v1/logs";

    fn encode(resource: &Resource, log_records: Vec<Self>) -> Vec<u8> {
        let scope_logs = vec![ScopeLogs { scope: scope(), log_records, ..Default::default() }];
        let resource = Some(resource.0.clone());
        let of_resource = ResourceLogs { resource, scope_logs, ..Default::default() };
        ExportLogsServiceRequest { resource_logs: vec![of_resource] }.encode_to_vec()
    }

    fn rejected(answer: &[u8]) -> RejectedItems {
        let answer = ExportLogsServiceResponse::decode(answer).unwrap_or_default();
        answer.partial_success.map_or_else(RejectedItems::default, |partial| {
            RejectedItems::new(partial.rejected_log_records, partial.error_message)
        })
    }
}

impl RejectedItems {
    fn new(count: i64, why: String) -> Self {
        Self { count: usize::try_from(count).unwrap_or_default(), why }
    }
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "keyward".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    })
}

pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// A number. OTLP has no unsigned ones.
pub(super) fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

/// A value of a log line.
pub(super) fn of_json(key: &str, value: serde_json::Value) -> KeyValue {
    attribute(key, any(value))
}

fn any(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::String(text) => Value::StringValue(text),
        serde_json::Value::Bool(is) => Value::BoolValue(is),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::IntValue(whole),
            (None, Some(float)) => Value::DoubleValue(float),
            (None, None) => Value::StringValue(number.to_string()),
        },
        serde_json::Value::Array(items) => {
            let values = items.into_iter().map(|item| AnyValue { value: Some(any(item)) });
            Value::ArrayValue(ArrayValue { values: values.collect() })
        }
        other => Value::StringValue(other.to_string()),
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}
