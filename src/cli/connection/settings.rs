//! The settings of a connection as people read them.

use std::sync::LazyLock;

use serde_json::Value;

use crate::cli::terminal::table::fields;
use keyward_base::keys::Section;
use keyward_base::settings::{ConnectionUsage, Retry, Settings};
use keyward_base::time::format_duration;

/// Lines for a person; none for what is as for every request.
pub(in crate::cli) fn shown(settings: &Settings) -> String {
    fields(&rows(settings))
}

/// The settings that have one line each: the member, and its word.
static WORDS: LazyLock<Vec<(&str, String)>> = LazyLock::new(|| {
    let names = Settings::keys().into_iter().map(|key| key.name).filter(|name| *name != "headers");
    names.map(|name| (name, name.replace('_', " "))).collect()
});

/// The same as names and values. Those of requests are among them also if they are empty.
pub(in crate::cli) fn rows(settings: &Settings) -> Vec<(&'static str, String)> {
    let now = serde_json::to_value(settings).unwrap_or_default();
    let mut rows = Vec::new();
    for (name, word) in WORDS.iter() {
        let text = match (*name, &settings.retry) {
            ("retry", Some(retry)) => retried(retry),
            _ => text(&now[*name]),
        };
        if !text.is_empty() || Settings::has_effect(name, ConnectionUsage::Requests) {
            rows.push((word.as_str(), text));
        }
    }
    for (name, value) in settings.headers.iter() {
        rows.push(("header", format!("{name}: {}", value.to_str().unwrap_or_default())));
    }
    rows
}

fn retried(retry: &Retry) -> String {
    let statuses: Vec<_> = retry.statuses().iter().map(ToString::to_string).collect();
    let wait = format_duration(retry.wait_max());
    format!("{} attempts, on {}, waits up to {wait}", retry.attempts(), statuses.join(" "))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_shown_line_by_line() {
        let settings = json!({
            "timeout": "90s", "rate_limit": "100/min", "concurrency": 7, "user_agent": "a/1",
            "retry": {}, "headers": {"x-env": "prod", "x-b": "2"},
        });
        insta::assert_snapshot!(shown(&serde_json::from_value(settings).unwrap()));
        assert_eq!(shown(&Settings::default()), "");
        let of_database = json!({"read_only": true, "tables": ["a", "b.*"], "rows_max": 5});
        let told = shown(&serde_json::from_value(of_database).unwrap());
        assert_eq!(told, "read only     true\ntables        a b.*\nrows max      5\n");
    }
}
