//! Attributes of spans, log records and resources.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};

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
