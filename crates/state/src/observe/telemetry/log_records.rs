//! [`LogRecords`]: a layer that exports the lines of the log. It runs after the log's filter, so both have the same
//! lines with the same fields.

use jiff::Timestamp;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::TelemetrySwitch;
use super::export::of_json;
use crate::observe::log_json::members;

/// Queues log lines while their export is enabled.
pub(in crate::observe) struct LogRecords(pub(in crate::observe) TelemetrySwitch);

impl<S: Subscriber> Layer<S> for LogRecords {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.log(|| record(event));
    }
}

fn record(event: &Event<'_>) -> LogRecord {
    let level = *event.metadata().level();
    let severity = match level {
        Level::ERROR => SeverityNumber::Error,
        Level::WARN => SeverityNumber::Warn,
        Level::INFO => SeverityNumber::Info,
        Level::DEBUG => SeverityNumber::Debug,
        Level::TRACE => SeverityNumber::Trace,
    };
    let now = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default();
    let mut record = LogRecord {
        time_unix_nano: now,
        observed_time_unix_nano: now,
        severity_number: severity.into(),
        severity_text: level.as_str().to_owned(),
        ..LogRecord::default()
    };
    for (name, value) in members(event) {
        match (name, value) {
            ("message", serde_json::Value::String(text)) => {
                record.body = Some(AnyValue { value: Some(Value::StringValue(text)) });
            }
            (name, value) => record.attributes.push(of_json(name, value)),
        }
    }
    record
}
