//! Records of the audit log on a terminal: aligned lines that can be printed as they arrive, one line for each
//! request, or JSON. Text from requests is escaped, so that it cannot control the terminal.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::terminal::table::{cut, moment};
use keyward_api::wire::{Change, Event, Outcome};
use keyward_base::visible::visible;

const HEADINGS: [&str; 8] =
    ["TIME", "AGENT", "METHOD", "STATUS", "RESULT", "CONNECTION", "RULE", "REQUEST"];

const NARROW_HEADINGS: [&str; 5] = ["TIME (UTC)", "AGENT", "METHOD", "RESULT", "REQUEST"];

/// Blanks between two columns.
const GAP: usize = 3;

/// Blanks between two columns where space is short.
const NARROW_GAP: usize = 2;

/// A longer cell is cut: `--json` has all of it.
const CELL_CHARS_MAX: usize = 120;

/// Widths of agents, methods and results in narrow lines; the request gets the rest. No code of Keyward's is longer
/// than that of results.
const NARROW_WIDTHS_MAX: [usize; 3] = [12, 7, 21];

/// The last column of narrow lines is at least so wide, also on a terminal that is too small.
const NARROW_REQUEST_MIN: usize = 10;

/// Lines under headings. Columns grow with their content.
#[derive(Debug)]
pub(super) struct AuditLines {
    /// The columns of the terminal; `None`: nothing is omitted.
    width: Option<usize>,
    columns: Vec<usize>,
    colours: bool,
    are_none: bool,
}

impl AuditLines {
    pub(super) fn new(colours: bool, width: Option<usize>) -> Self {
        Self { width, columns: Vec::new(), colours, are_none: true }
    }

    /// Whether no record was shown.
    pub(super) fn are_none(&self) -> bool {
        self.are_none
    }

    /// The lines of `records`, below the headings when they are the first.
    pub(super) fn of(&mut self, records: &[Event]) -> String {
        self.at(records, Timestamp::now())
    }

    fn at(&mut self, records: &[Event], now: Timestamp) -> String {
        if records.is_empty() {
            return String::new();
        }
        let headings = match self.width {
            Some(_) => NARROW_HEADINGS.map(str::to_owned).to_vec(),
            None => HEADINGS.map(str::to_owned).to_vec(),
        };
        let cells = |record: &Event| match self.width {
            Some(_) => AuditRow::of(record).narrow(record, now).to_vec(),
            None => AuditRow::of(record).wide(record).to_vec(),
        };
        let rows: Vec<_> = records.iter().map(cells).collect();
        self.columns.resize(headings.len(), 0);
        for row in std::iter::once(&headings).chain(&rows) {
            for (width, cell) in self.columns.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut text = String::new();
        if std::mem::take(&mut self.are_none) {
            let headings = self.line(&headings);
            text = match self.colours {
                true => format!("\u{1b}[2m{headings}\u{1b}[0m\n"),
                false => format!("{headings}\n"),
            };
        }
        for row in &rows {
            text.push_str(&self.line(row));
            text.push('\n');
        }
        text
    }

    fn line(&self, row: &[String]) -> String {
        let gap = if self.width.is_some() { NARROW_GAP } else { GAP };
        let mut line = String::new();
        let (last, others) = row.split_last().expect("a row has cells");
        for (cell, width) in others.iter().zip(&self.columns) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + gap - cell.width()));
        }
        match self.width {
            None => line.push_str(last),
            Some(all) => {
                let rest = all.saturating_sub(line.width()).max(NARROW_REQUEST_MIN);
                line.push_str(&cut(last, rest));
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// The parts of a line. Absent ones are empty.
struct AuditRow {
    /// The sender of a request, or the author of a change.
    who: String,
    method: String,
    status: Option<u16>,
    /// Keyward's code, or how the exchange ended.
    result: String,
    connection: String,
    rule: String,
    request: String,
}

impl AuditRow {
    fn of(record: &Event) -> Self {
        let result = match &record.code {
            Some(code) => code,
            None => outcome(record),
        };
        if let Some(change) = &record.change {
            return Self {
                who: shown(change.user.as_deref().unwrap_or(&change.by)),
                method: "change".to_owned(),
                status: record.status,
                result: shown(result),
                connection: String::new(),
                rule: String::new(),
                request: shown(&told(record.outcome, change)),
            };
        }
        let text = |text: &Option<String>| shown(text.as_deref().unwrap_or_default());
        let target = record.target.as_deref().unwrap_or_default();
        let target = target.strip_prefix("https://").unwrap_or(target);
        let statement = record.statement.as_ref().map(|statement| format!("  {statement}"));
        let path = record.path.as_deref().or(statement.as_deref()).unwrap_or_default();
        Self {
            who: shown(record.sender().unwrap_or_default()),
            method: text(&record.method),
            status: record.status,
            result: shown(result),
            connection: text(&record.connection),
            rule: shown(rule(record.rule.as_deref().unwrap_or_default())),
            request: shown(&record.counted().unwrap_or_else(|| format!("{target}{path}"))),
        }
    }

    /// All columns.
    fn wide(self, record: &Event) -> [String; HEADINGS.len()] {
        let status = self.status.map(|status| status.to_string()).unwrap_or_default();
        let Self { who, method, result, connection, rule, request, .. } = self;
        let time = moment(record.time);
        [time, who, method, status, result, connection, rule, request].map(or_dash)
    }

    /// The columns that fit a terminal: a code replaces its status, `ok` is the status alone.
    fn narrow(self, record: &Event, now: Timestamp) -> [String; NARROW_HEADINGS.len()] {
        let result = match (self.status, &*self.result) {
            (Some(status), "ok") if record.change.is_none() => status.to_string(),
            (Some(status), result) if record.code.is_none() && record.change.is_none() => {
                format!("{status} {result}")
            }
            (_, result) => result.to_owned(),
        };
        let [agents, methods, results] = NARROW_WIDTHS_MAX;
        let short = |text: &str, width| or_dash(cut(text, width).into_owned());
        let (who, method) = (short(&self.who, agents), short(&self.method, methods));
        let result = short(&result, results);
        [clock(record.time, now), who, method, result, or_dash(self.request)]
    }
}

fn or_dash(cell: String) -> String {
    if cell.is_empty() { "-".to_owned() } else { cell }
}

/// `08:00:00` for a time of today, else `01-31 08:00`; UTC.
fn clock(time: Timestamp, now: Timestamp) -> String {
    let [then, now] = [time, now].map(|time| time.to_zoned(TimeZone::UTC));
    let format = if then.date() == now.date() { "%H:%M:%S" } else { "%m-%d %H:%M" };
    then.strftime(format).to_string()
}

/// `added agent ci`, `started run of agent ci (run 4121, tok_…)`, `tried to add agent ci`.
fn told(outcome: Outcome, change: &Change) -> String {
    let done = match outcome {
        Outcome::Refused => format!("tried to {}", infinitive(&change.action)),
        _ => change.past_tense().to_owned(),
    };
    let of = change.name.as_deref().or(change.id.as_deref());
    let what = match &*change.what {
        "run" => {
            let facts = [change.label.as_deref(), change.id.as_deref()];
            let facts = facts.into_iter().flatten().collect::<Vec<_>>().join(", ");
            let facts = if facts.is_empty() { facts } else { format!("({facts})") };
            [Some("run of agent".to_owned()), of.map(str::to_owned), Some(facts)]
        }
        what => [Some(what.to_owned()), of.map(str::to_owned), None],
    };
    // A pause explains itself by the same word.
    let why = change.why.clone().filter(|why| *why != change.past_tense());
    let words = std::iter::once(Some(done)).chain(what).chain([why]);
    words.flatten().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The infinitive of a recorded action. Actions that the API's paths name are infinitives already.
fn infinitive(action: &str) -> &str {
    match action {
        "added" => "add",
        "asked for" => "ask for",
        "changed" => "change",
        "ended" => "end",
        "removed" => "remove",
        "resumed" => "resume",
        "started" => "start",
        action => action,
    }
}

/// Shortens a rule's id: a binding's connection has its own column, and most rules come from the file.
pub(super) fn rule(id: &str) -> &str {
    match id.split_once(':') {
        Some(("binding", _)) => "binding",
        Some(("file", name)) => name,
        _ => id,
    }
}

/// How it ended. An error status without a code is the upstream's own answer, not Keyward's.
pub(super) fn outcome(record: &Event) -> &'static str {
    match record.outcome {
        Outcome::Completed if record.status.is_some_and(|status| status >= 400) => "upstream",
        Outcome::Completed => "ok",
        Outcome::Refused => "refused",
        Outcome::ClientAborted => "agent hung up",
        Outcome::UpstreamAborted => "upstream hung up",
        Outcome::Ended => "ended",
    }
}

/// Escapes control characters, and cuts the text to the width of a screen.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", visible(&text[..end])),
        None => visible(text).into_owned(),
    }
}

/// The line of a record; nothing for a change.
pub(in crate::cli) fn request_line(record: &Event, colours: bool) -> Option<String> {
    if record.change.is_some() {
        return None;
    }
    let time = record.time.strftime("%H:%M:%SZ");
    let method = shown(record.method.as_deref().unwrap_or("-"));
    let status = record.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let target = record.target.as_deref().unwrap_or("-");
    let target = target.strip_prefix("https://").unwrap_or(target);
    let target = target.strip_suffix(":443").unwrap_or(target);
    let statement = record.statement.as_ref().map(|statement| format!("  {statement}"));
    let rest = record.path.as_deref().or(statement.as_deref()).unwrap_or_default();
    let request = shown(&record.counted().unwrap_or_else(|| format!("{target}{rest}")));
    let line = format!("{time}  {method:<7} {status:>3}  {request}");
    let (end, colour) = match (&record.code, record.outcome) {
        (Some(code), _) => (shown(code), "31"),
        (None, Outcome::Completed) => {
            (record.connection.as_deref().map(shown).unwrap_or_default(), "2")
        }
        (None, _) => (outcome(record).to_owned(), "33"),
    };
    Some(match (end.is_empty(), colours) {
        (true, _) => format!("{line}\n"),
        (false, false) => format!("{line}  {end}\n"),
        (false, true) => format!("{line}  \u{1b}[{colour}m{end}\u{1b}[0m\n"),
    })
}

/// How records are printed for people.
pub(super) enum AuditScreen {
    Table(AuditLines),
    /// A line for each request, without headings.
    Short {
        colours: bool,
    },
}

impl AuditScreen {
    fn of(&mut self, records: &[Event]) -> String {
        match self {
            Self::Table(lines) => lines.of(records),
            Self::Short { colours } => {
                records.iter().filter_map(|record| request_line(record, *colours)).collect()
            }
        }
    }
}

/// Prints one JSON object per line, or lines for people.
pub(super) fn rendered(
    json: bool,
    records: &[Event],
    lines: &mut AuditScreen,
) -> Result<String, Failure> {
    if json { rendered_json(records) } else { Ok(lines.of(records)) }
}

pub(super) fn rendered_json(records: &[Event]) -> Result<String, Failure> {
    let mut text = String::new();
    for record in records {
        text.push_str(&output::json_line(record)?);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::visible::is_invisible;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn record() -> Event {
        Event {
            agent: some("ci"),
            method: some("GET"),
            target: some("https://api.acme.test"),
            path: some("/v1/items"),
            status: Some(200),
            rule: some("binding:con_1"),
            connection: some("work"),
            outcome: Outcome::Completed,
            ..Event::begun("2026-01-31T08:00:00.5Z".parse().unwrap(), "exc_1".to_owned())
        }
    }

    fn refused() -> Event {
        Event {
            agent: some("claude-code"),
            method: some("DELETE"),
            target: some("http://10.0.0.1:8080"),
            status: Some(403),
            rule: some("file:no-deletes"),
            connection: None,
            code: some("denied"),
            outcome: Outcome::Refused,
            ..record()
        }
    }

    #[test]
    fn invisible_characters_of_a_record_are_not_printed() {
        let nasty = "\u{1b}[2J\u{9b}31m\r\n\u{7f}\u{202e}\u{85}x";
        let record = Event {
            agent: some(nasty),
            method: some(nasty),
            target: some(nasty),
            path: some(nasty),
            rule: some(nasty),
            connection: some(nasty),
            code: some(nasty),
            ..record()
        };
        let text = AuditLines::new(false, None).of(&[record]);
        assert_eq!(text.lines().count(), 2);
        assert!(!text.replace('\n', "").chars().any(is_invisible), "{text:?}");
    }

    #[test]
    fn the_line_of_a_test_names_who_tested() {
        let of = |by: &str, user: Option<&str>| {
            let record = Event {
                agent: None,
                by: some(by),
                user: user.map(str::to_owned),
                rule: some("test:con_1"),
                ..record()
            };
            let text = AuditLines::new(false, None).of(&[record]);
            let line = text.lines().last().unwrap_or_default().to_owned();
            line.split_whitespace().nth(1).unwrap_or_default().to_owned()
        };
        assert_eq!(of("usr_1", Some("ann")), "ann");
        assert_eq!(of("operator", None), "operator");
    }

    #[test]
    fn columns_of_records_widen_for_longer_values_of_later_records() {
        let mut lines = AuditLines::new(false, None);
        assert!(lines.of(&[]).is_empty() && lines.are_none());
        let unknown = Event::begun(record().time, "exc_2".to_owned());
        let mut text = lines.of(&[record(), unknown]);
        text.push_str(&lines.of(&[refused()]));
        text.push_str(&lines.of(&[record()]));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_completed_change_reads_as_done_and_a_refused_change_as_tried() {
        let change = |what: &str, action: &str, label: Option<&str>| Change {
            by: "operator".to_owned(),
            what: what.to_owned(),
            action: action.to_owned(),
            name: some("ci"),
            id: some("tok_1"),
            label: label.map(str::to_owned),
            ..Change::default()
        };
        let because =
            |action: &str, why: &str| Change { why: some(why), ..change("agent", action, None) };
        for (outcome, change, reads) in [
            (Outcome::Completed, change("agent", "added", None), "added agent ci"),
            (Outcome::Completed, change("connection", "pause", None), "paused connection ci"),
            (Outcome::Completed, change("connection", "compare", None), "compared connection ci"),
            (Outcome::Refused, change("agent", "added", None), "tried to add agent ci"),
            (Outcome::Refused, change("connection", "pause", None), "tried to pause connection ci"),
            (
                Outcome::Completed,
                change("run", "started", Some("run 7")),
                "started run of agent ci (run 7, tok_1)",
            ),
            (
                Outcome::Refused,
                change("run", "started", Some("run 7")),
                "tried to start run of agent ci (run 7, tok_1)",
            ),
            (Outcome::Completed, because("pause", "paused"), "paused agent ci"),
            (Outcome::Completed, because("resume", "resumed"), "resumed agent ci"),
            (Outcome::Completed, because("changed", "paused"), "changed agent ci paused"),
        ] {
            assert_eq!(told(outcome, &change), reads);
        }
    }

    #[test]
    fn lines_fit_the_terminal_and_a_pipe_gets_the_whole_agent_name() {
        let long = Event {
            agent: some(&"a".repeat(40)),
            code: some("agent_unauthenticated_and_more"),
            method: some(&"M".repeat(40)),
            path: some(&"/東京".repeat(40)),
            ..refused()
        };
        let now = "2026-01-31T23:00:00Z".parse().unwrap();
        for width in [80, 100, 132] {
            let text = AuditLines::new(false, Some(width)).at(&[record(), long.clone()], now);
            assert!(text.lines().all(|line| line.width() <= width), "{text}");
        }
        let text = AuditLines::new(false, None).at(&[long], now);
        assert!(text.contains(&"a".repeat(40)), "{text}");
    }

    #[test]
    fn a_terminal_of_80_columns_shows_time_agent_method_result_and_request() {
        let now = "2026-02-01T09:00:00Z".parse().unwrap();
        let at = |time: &str, event: Event| Event { time: time.parse().unwrap(), ..event };
        let change = Change {
            by: "operator".to_owned(),
            what: "agent".to_owned(),
            name: some("a-name-of-20-letters"),
            action: "added".to_owned(),
            ..Change::default()
        };
        let records = [
            record(),
            at("2026-02-01T08:01:02.9Z", Event { status: Some(401), ..record() }),
            at("2026-02-01T08:01:03Z", Event { agent: some("a-name-of-20-letters"), ..refused() }),
            at(
                "2026-02-01T08:01:04Z",
                Event {
                    path: some("/repos/an-organisation/a-repository-with-a-long-name/issues"),
                    outcome: Outcome::ClientAborted,
                    ..record()
                },
            ),
            at(
                "2026-02-01T08:01:05Z",
                Event {
                    change: Some(Box::new(change)),
                    code: some("not_allowed"),
                    outcome: Outcome::Refused,
                    ..record()
                },
            ),
        ];
        insta::assert_snapshot!(AuditLines::new(false, Some(80)).at(&records, now));
    }

    #[test]
    fn an_upstream_error_is_distinguished_from_a_refusal_by_keyward() {
        let upstream = Event { status: Some(401), ..record() };
        assert_eq!(AuditRow::of(&upstream).wide(&upstream)[3..5], ["401", "upstream"]);
        assert_eq!(AuditRow::of(&refused()).wide(&refused())[3..5], ["403", "denied"]);
        assert_eq!(AuditRow::of(&record()).wide(&record())[3..5], ["200", "ok"]);
    }

    #[test]
    fn a_path_of_many_screens_is_cut() {
        let long = Event { path: some(&"/a".repeat(8_000)), ..record() };
        let text = AuditLines::new(false, None).of(&[long]);
        assert!(text.len() < 400 && text.ends_with("…\n"), "{text}");
    }

    fn ended_request(change: impl FnOnce(&mut Event)) -> Event {
        let time = "2026-01-31T08:00:00.5Z".parse().unwrap();
        let mut record = Event {
            method: Some("GET".to_owned()),
            target: Some("https://api.acme.test".to_owned()),
            path: Some("/v1/items".to_owned()),
            status: Some(200),
            outcome: Outcome::Completed,
            ..Event::begun(time, "exc_1".to_owned())
        };
        change(&mut record);
        record
    }

    #[test]
    fn a_change_record_has_no_line_and_no_line_has_invisible_characters() {
        let change = ended_request(|it| it.change = Some(Box::default()));
        assert_eq!(request_line(&change, false), None);
        let nasty = || Some("\u{1b}[2J\r\n\u{202e}x".to_owned());
        let nasty = ended_request(|it| {
            (it.method, it.target, it.path, it.connection) = (nasty(), nasty(), nasty(), nasty());
        });
        let line = request_line(&nasty, false).unwrap();
        assert!(!line.trim_end_matches('\n').chars().any(is_invisible), "{line:?}");
    }

    #[test]
    fn a_line_shows_the_request_its_status_and_its_connection_code_or_outcome() {
        let lines = [
            ended_request(|_| {}),
            ended_request(|it| it.connection = Some("work".to_owned())),
            ended_request(|it| {
                it.status = Some(403);
                it.code = Some("default_deny".to_owned());
                it.outcome = Outcome::Refused;
            }),
            ended_request(|it| {
                it.method = Some("CONNECT".to_owned());
                it.target = Some("https://b.test:8443".to_owned());
                (it.path, it.status) = (None, Some(403));
                it.code = Some("port_refused".to_owned());
                it.outcome = Outcome::Refused;
            }),
            ended_request(|it| it.outcome = Outcome::UpstreamAborted),
        ];
        let text: String = lines.iter().filter_map(|record| request_line(record, false)).collect();
        insta::assert_snapshot!(text, @r"
        08:00:00Z  GET     200  api.acme.test/v1/items
        08:00:00Z  GET     200  api.acme.test/v1/items  work
        08:00:00Z  GET     403  api.acme.test/v1/items  default_deny
        08:00:00Z  CONNECT 403  b.test:8443  port_refused
        08:00:00Z  GET     200  api.acme.test/v1/items  upstream hung up
        ");
    }
}
