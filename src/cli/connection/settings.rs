//! The settings of a connection as people read them.

use crate::cli::terminal::table::fields;
use keyward_base::settings::Settings;

/// Lines for a person; none for what is as for every request.
pub(in crate::cli) fn shown(settings: &Settings) -> String {
    fields(&rows(settings))
}

/// The same as names and values, some of which are empty.
pub(in crate::cli) fn rows(settings: &Settings) -> Vec<(&'static str, String)> {
    let text = |value: Option<String>| value.unwrap_or_default();
    let retry = settings.retry.as_ref().map(|retry| {
        let statuses: Vec<_> = retry.statuses().iter().map(ToString::to_string).collect();
        let wait = keyward_base::time::format_duration(retry.wait_max());
        format!("{} attempts, on {}, waits up to {wait}", retry.attempts(), statuses.join(" "))
    });
    let mut rows = vec![
        ("timeout", text(settings.timeout.map(|wait| wait.to_string()))),
        ("retry", text(retry)),
        ("rate limit", text(settings.rate_limit.map(|rate| rate.to_string()))),
        ("concurrency", text(settings.concurrency.map(|max| max.to_string()))),
        ("user agent", text(settings.user_agent.as_ref().map(ToString::to_string))),
    ];
    let upgrades = settings.upgrades.as_ref();
    rows.extend(upgrades.map(|all| ("upgrades", listed(all))));
    // Of databases alone.
    rows.extend(settings.read_only.map(|is_set| ("read only", is_set.to_string())));
    let timeout = settings.statement_timeout;
    rows.extend(timeout.map(|wait| ("statement timeout", wait.to_string())));
    rows.extend(settings.statements.as_ref().map(|kinds| ("statements", listed(kinds))));
    rows.extend(settings.tables.as_ref().map(|tables| ("tables", listed(tables))));
    rows.extend(settings.functions.as_ref().map(|names| ("functions", listed(names))));
    rows.extend(settings.role.as_ref().map(|role| ("role", role.to_string())));
    rows.extend(settings.rows_max.map(|max| ("rows max", max.to_string())));
    rows.extend(settings.bytes_max.map(|max| ("bytes max", max.to_string())));
    let recorded = settings.audit_statements;
    rows.extend(recorded.map(|is_set| ("audit statements", is_set.to_string())));
    for (name, value) in settings.headers.iter() {
        rows.push(("header", format!("{name}: {}", value.to_str().unwrap_or_default())));
    }
    rows
}

fn listed<'a, T: ToString + 'a>(all: impl IntoIterator<Item = &'a T>) -> String {
    all.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
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
    }
}
