//! [`JsonLines`]: log events as lines of JSON: `timestamp`, `level`, `message` and the fields of the event. Names are
//! unique, and lists are JSON lists.

use std::fmt::{self, Debug};

use jiff::Timestamp;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Fields that are lists of texts, recorded by `?`. Tracing has no type for lists. Other fields are not parsed, because
/// their text may come from a peer and look like a list.
const LISTS: [&str; 4] = ["proxy", "agents", "databases", "retired_keys"];

/// Formats an event as one line. The module of the event is omitted: our field `target` is a host.
pub(super) struct JsonLines;

/// The members of a line, in the order in which they were recorded.
struct LogMembers(Vec<(&'static str, Value)>);

/// The fields of an event with their types, `message` among them.
pub(super) fn members(event: &Event<'_>) -> Vec<(&'static str, Value)> {
    let mut members = LogMembers(Vec::new());
    event.record(&mut members);
    members.0
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut members = LogMembers(Vec::new());
        members.set("timestamp", format!("{:.6}", Timestamp::now()).into());
        members.set("level", event.metadata().level().as_str().into());
        event.record(&mut members);
        members.write(&mut writer)
    }
}

impl LogMembers {
    /// The first value of a name counts.
    fn set(&mut self, name: &'static str, value: Value) {
        if !self.0.iter().any(|(other, _)| *other == name) {
            self.0.push((name, value));
        }
    }

    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let mut before = '{';
        for (name, value) in &self.0 {
            write!(writer, "{before}{}:{value}", Value::from(*name))?;
            before = ',';
        }
        writeln!(writer, "}}")
    }
}

impl Visit for LogMembers {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        let list = LISTS.contains(&field.name()).then(|| list(&text)).flatten();
        self.set(field.name(), list.unwrap_or_else(|| text.into()));
    }
}

/// The debug form of a list of texts, which is JSON unless Rust escapes a character in its own way.
fn list(text: &str) -> Option<Value> {
    serde_json::from_str::<Vec<String>>(text).ok().map(Value::from)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct LogBuffer(Arc<Mutex<Vec<u8>>>);

    impl Write for LogBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for LogBuffer {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged(log: impl FnOnce()) -> Value {
        let buffer = LogBuffer::default();
        let lines = tracing_subscriber::fmt().event_format(JsonLines).with_writer(buffer.clone());
        tracing::subscriber::with_default(lines.finish(), log);
        let text = String::from_utf8(buffer.0.lock().clone()).unwrap();
        assert_eq!((text.lines().count(), text.ends_with("}\n")), (1, true), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_text_that_looks_like_a_list_stays_a_text() {
        let nasty = "[\"a\"]\n\"";
        let line = logged(|| tracing::info!(host = %nasty, proxy = %"[1", "said \"x\""));
        assert_eq!((&line["host"], &line["proxy"]), (&nasty.into(), &"[1".into()));
        assert_eq!((&line["message"], &line["level"]), (&"said \"x\"".into(), &"INFO".into()));
    }

    #[test]
    fn lists_numbers_and_booleans_keep_their_types_and_absent_fields_are_omitted() {
        let proxy = ["127.0.0.1:8080", "unix:/a \"b\""];
        let none: Option<&str> = None;
        let line = logged(|| tracing::warn!(?proxy, count = 3_u64, fine = true, none, "x"));
        assert_eq!(line["proxy"], serde_json::json!(proxy));
        assert_eq!((&line["count"], &line["fine"]), (&3.into(), &true.into()));
        assert!(line.get("none").is_none(), "{line}");
        let time: Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(time > Timestamp::UNIX_EPOCH);
    }
}
