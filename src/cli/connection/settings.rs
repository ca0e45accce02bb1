//! The settings of a connection: their arguments, and their output.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::failure::Failure;
use crate::cli::resource::members;
use crate::cli::terminal::table::fields;
use keyward_base::keys::{Key, Section};
use keyward_base::settings::{
    FieldText, NamePattern, Rate, RoleName, Settings, StatementKind, Wait, parse_attempts,
    parse_bytes_max, parse_concurrency, parse_name, parse_rows_max, parse_status,
};

/// The settings of a connection.
#[derive(Debug, Default, Args)]
#[group(skip)]
pub(in crate::cli) struct SettingArguments {
    #[command(flatten)]
    requests: RequestArgs,
    #[command(flatten)]
    sessions: DatabaseSessionArgs,
}

/// How sessions with a connection's database are.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Settings of databases")]
struct DatabaseSessionArgs {
    /// sessions may only read
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    read_only: Option<bool>,
    /// the longest time that one statement may take, such as 30s
    #[arg(long, value_name = "TIME")]
    statement_timeout: Option<Wait>,
    /// kinds of statements in sessions: select, insert, update, delete, merge, truncate
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    statements: Vec<StatementKind>,
    /// tables that statements may name, such as orders, sales.orders or sales.*
    #[arg(long, value_name = "TABLE", value_delimiter = ',')]
    tables: Vec<NamePattern>,
    /// functions that statements may call beside the server's own, such as app.*
    #[arg(long, value_name = "FUNCTION", value_delimiter = ',')]
    functions: Vec<NamePattern>,
    /// role that sessions begin with, as by SET ROLE
    #[arg(long, value_name = "ROLE")]
    role: Option<RoleName>,
    /// rows of one answer, at most
    #[arg(long, value_name = "N", value_parser = number(parse_rows_max))]
    rows_max: Option<u64>,
    /// bytes of one answer, at most
    #[arg(long, value_name = "N", value_parser = number(parse_bytes_max))]
    bytes_max: Option<u64>,
    /// record statements in the audit log, without their literals
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    audit_statements: Option<bool>,
}

/// How requests with a connection's credential are sent.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Settings")]
pub(in crate::cli) struct RequestArgs {
    /// time until an answer begins, attempts and waits included, such as 30s
    #[arg(long, value_name = "TIME")]
    timeout: Option<Wait>,
    /// send a request up to N times, where it is idempotent or was not sent
    #[arg(long, value_name = "N", value_parser = number(parse_attempts))]
    retry: Option<u32>,
    /// answers after which it is sent again; default: 429,502,503,504
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = number(parse_status))]
    retry_on: Vec<u16>,
    /// longest wait between two attempts; default: 30s
    #[arg(long, value_name = "TIME")]
    retry_wait_max: Option<Wait>,
    /// requests of all agents in a time, such as 10/s, 100/min or 5000/h
    #[arg(long, value_name = "RATE")]
    rate_limit: Option<Rate>,
    /// concurrent exchanges, of all agents together
    #[arg(long, value_name = "N", value_parser = number(parse_concurrency))]
    concurrency: Option<u32>,
    /// replaces the agents' User-Agent
    #[arg(long, value_name = "TEXT")]
    user_agent: Option<FieldText>,
    /// a field of every request, instead of the agents'; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// protocols that requests may switch to by Upgrade, such as SPDY/3.1 or tcp
    #[arg(long, value_name = "PROTOCOL", value_delimiter = ',')]
    upgrades: Vec<FieldText>,
}

/// What is taken away.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::cli) enum Cleared {
    All,
    Setting(&'static str),
    Header(String),
}

impl SettingArguments {
    /// As the API takes them; only what was given.
    ///
    /// # Errors
    /// As [`RequestArgs::to_json`].
    pub(in crate::cli) fn to_json(&self) -> Result<Map<String, Value>, Failure> {
        let mut settings = self.requests.to_json()?;
        settings.extend(self.sessions.to_json());
        Ok(settings)
    }

    /// Whether sessions with a database are to begin with another role.
    pub(in crate::cli) fn sets_role(&self) -> bool {
        self.sessions.role.is_some()
    }

    /// A merge patch of these and of what is cleared.
    ///
    /// # Errors
    /// When nothing is to be changed, or one thing in two ways.
    pub(in crate::cli) fn patch(&self, cleared: &[Cleared]) -> Result<Value, Failure> {
        let mut patch = self.to_json()?;
        let nothing_else = patch.is_empty() && cleared.len() == 1;
        for one in cleared {
            match one {
                Cleared::All if nothing_else => return Ok(Value::Null),
                Cleared::All => {
                    return Err(Failure::usage(
                        "--clear all cannot be combined with other settings",
                    ));
                }
                Cleared::Setting(name) => clear(&mut patch, name)?,
                Cleared::Header(name) => {
                    match patch.entry("headers").or_insert_with(|| json!({})) {
                        Value::Object(headers) => clear(headers, name)?,
                        _ => return Err(Failure::usage("header is both set and cleared")),
                    }
                }
            }
        }
        match patch.is_empty() {
            true => {
                let hint = "give settings, or --clear SETTING";
                Err(Failure::usage("nothing to change").hint(hint))
            }
            false => Ok(patch.into()),
        }
    }
}

impl DatabaseSessionArgs {
    fn to_json(&self) -> Map<String, Value> {
        members([
            ("read_only", self.read_only.map(Value::from)),
            ("statement_timeout", self.statement_timeout.map(|wait| json!(wait))),
            ("statements", (!self.statements.is_empty()).then(|| json!(self.statements))),
            ("tables", (!self.tables.is_empty()).then(|| json!(self.tables))),
            ("functions", (!self.functions.is_empty()).then(|| json!(self.functions))),
            ("role", self.role.as_ref().map(|role| json!(role))),
            ("rows_max", self.rows_max.map(Value::from)),
            ("bytes_max", self.bytes_max.map(Value::from)),
            ("audit_statements", self.audit_statements.map(Value::from)),
        ])
    }
}

impl RequestArgs {
    /// As the API takes them; only what was given.
    ///
    /// # Errors
    /// When a field is none, or given twice.
    pub(in crate::cli) fn to_json(&self) -> Result<Map<String, Value>, Failure> {
        let retry = [
            ("attempts", self.retry.map(Value::from)),
            ("on", (!self.retry_on.is_empty()).then(|| json!(self.retry_on))),
            ("wait_max", self.retry_wait_max.map(|wait| json!(wait))),
        ];
        let settings = [
            ("timeout", self.timeout.map(|wait| json!(wait))),
            ("retry", non_empty(members(retry))),
            ("rate_limit", self.rate_limit.map(|rate| json!(rate))),
            ("concurrency", self.concurrency.map(Value::from)),
            ("user_agent", self.user_agent.as_ref().map(|text| json!(text))),
            ("headers", non_empty(self.headers()?)),
            ("upgrades", (!self.upgrades.is_empty()).then(|| json!(self.upgrades))),
        ];
        Ok(members(settings))
    }

    /// Read here and not by clap, which would repeat a value that it refuses.
    fn headers(&self) -> Result<Map<String, Value>, Failure> {
        let mut headers = Map::new();
        for header in &self.headers {
            let Some((name, value)) = header.split_once(':') else {
                return Err(Failure::usage("a header is written `NAME: VALUE`"));
            };
            let name =
                parse_name(name.trim()).map_err(|error| Failure::usage(error.to_string()))?;
            let value: FieldText = value
                .parse()
                .map_err(|error| Failure::usage(format!("header `{name}`: {error}")))?;
            if headers.insert(name.to_string(), json!(value)).is_some() {
                return Err(Failure::usage(format!("header `{name}` is given twice")));
            }
        }
        Ok(headers)
    }
}

fn clear(map: &mut Map<String, Value>, name: &str) -> Result<(), Failure> {
    match map.insert(name.to_owned(), Value::Null) {
        Some(Value::Null) | None => Ok(()),
        Some(_) => Err(Failure::usage(format!("{name} is both set and cleared"))),
    }
}

fn non_empty(map: Map<String, Value>) -> Option<Value> {
    (!map.is_empty()).then_some(map.into())
}

/// `SETTING`, `header=NAME` or `all` of an argument.
pub(in crate::cli) fn cleared(text: &str) -> Result<Cleared, String> {
    if text == "all" {
        return Ok(Cleared::All);
    }
    if let Some(name) = text.strip_prefix("header=") {
        let name = parse_name(name).map_err(|error| error.to_string())?;
        return Ok(Cleared::Header(name.to_string()));
    }
    let keys = Settings::keys();
    let argument = |key: &Key| key.name.replace('_', "-");
    let known = keys.iter().find(|key| argument(key) == text);
    known.map(|key| Cleared::Setting(key.name)).ok_or_else(|| {
        let names: Vec<String> = keys.iter().map(argument).collect();
        format!("write {}, header=NAME or all", names.join(", "))
    })
}

/// Reads a number that `parse` accepts.
fn number<T, E: ToString>(
    parse: fn(u64) -> Result<T, E>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.trim().parse().map_err(|_| "this is no number".to_owned())?;
        parse(number).map_err(|error| error.to_string())
    }
}

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
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct SettingsLine {
        #[command(flatten)]
        given: SettingArguments,
        #[arg(long, value_parser = cleared)]
        clear: Vec<Cleared>,
    }

    fn patch(arguments: &[&str]) -> Result<Value, Failure> {
        let line =
            SettingsLine::try_parse_from([&["set"], arguments].concat()).expect("it is parsed");
        line.given.patch(&line.clear)
    }

    #[test]
    fn contradictory_and_invalid_settings_are_refused_without_their_values() {
        for wrong in [
            &[][..],
            &["--header", "canary"],
            &["--header", "Authorization: canary"],
            &["--header", "X-A: canary\n"],
            &["--header", "X-A: canary", "--header", "x-a: 2"],
            &["--header", "X-A: canary", "--clear", "header=X-A"],
            &["--header", "X-A: canary", "--clear", "headers"],
            &["--timeout", "5s", "--clear", "timeout"],
            &["--timeout", "5s", "--clear", "all"],
            &["--clear", "all", "--clear", "retry"],
        ] {
            let refused = patch(wrong).unwrap_err();
            assert!(!refused.to_string().contains("canary"), "{wrong:?}: {refused}");
        }
        for wrong in ["nothing", "rate_limit", "header=", "header=Host", ""] {
            assert!(cleared(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn arguments_become_a_merge_patch() {
        let all = [
            "--timeout",
            "90s",
            "--retry",
            "2",
            "--retry-on",
            "503,429",
            "--retry-wait-max",
            "5s",
            "--rate-limit",
            "100/min",
            "--concurrency",
            "7",
            "--user-agent",
            "a/1",
            "--header",
            "X-Env: prod",
        ];
        let patched = json!({
            "timeout": "90s", "rate_limit": "100/min", "concurrency": 7, "user_agent": "a/1",
            "retry": {"attempts": 2, "on": [503, 429], "wait_max": "5s"},
            "headers": {"x-env": "prod"},
        });
        assert_eq!(patch(&all).unwrap(), patched);
        let some = ["--clear", "rate-limit", "--clear", "header=X-Env", "--retry", "3"];
        let patched = json!({
            "rate_limit": null, "headers": {"x-env": null}, "retry": {"attempts": 3},
        });
        assert_eq!(patch(&some).unwrap(), patched);
        assert_eq!(patch(&["--clear", "all"]).unwrap(), Value::Null);
    }

    #[test]
    fn rules_and_limits_of_database_sessions_become_a_merge_patch() {
        let all = "--statements select,insert --tables orders,sales.* --functions f --role r --rows-max 5 --bytes-max 1000 --audit-statements";
        let patched = json!({
            "statements": ["select", "insert"], "tables": ["orders", "sales.*"], "functions": ["f"],
            "role": "r", "rows_max": 5, "bytes_max": 1000, "audit_statements": true,
        });
        assert_eq!(patch(&all.split(' ').collect::<Vec<_>>()).unwrap(), patched);
        let cleared = ["--clear", "functions", "--clear", "rows-max"];
        assert_eq!(patch(&cleared).unwrap(), json!({"functions": null, "rows_max": null}));
    }

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
