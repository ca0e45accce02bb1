//! Formats records as aligned lines that can be printed as they arrive. Text from requests is escaped, so
//! that it cannot control the terminal.

use crate::cli::output::is_unseen;
use crate::cli::table::moment;
use keyward_api::wire::{Change, Event, Outcome};

const HEADINGS: [&str; 8] =
    ["TIME", "AGENT", "METHOD", "STATUS", "RESULT", "CONNECTION", "RULE", "REQUEST"];

/// Blanks between two columns.
const GAP: usize = 3;

/// A longer cell is cut: `--json` has all of it.
const CELL_CHARS_MAX: usize = 120;

/// Lines under headings. Columns grow with their content.
#[derive(Debug)]
pub(super) struct Lines {
    widths: [usize; HEADINGS.len()],
    colours: bool,
    are_none: bool,
}

impl Lines {
    pub(super) fn new(colours: bool) -> Self {
        Self { widths: [0; HEADINGS.len()], colours, are_none: true }
    }

    /// Whether no record was shown.
    pub(super) fn are_none(&self) -> bool {
        self.are_none
    }

    /// The lines of `records`, below the headings when they are the first.
    pub(super) fn of(&mut self, records: &[Event]) -> String {
        if records.is_empty() {
            return String::new();
        }
        let rows: Vec<_> = records.iter().map(cells).collect();
        for row in std::iter::once(&HEADINGS.map(str::to_owned)).chain(&rows) {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        if std::mem::take(&mut self.are_none) {
            let headings = self.line(&HEADINGS.map(str::to_owned));
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

    fn line(&self, row: &[String; HEADINGS.len()]) -> String {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(self.widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count()));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

fn cells(record: &Event) -> [String; HEADINGS.len()] {
    let or_none = |text: Option<&str>| shown(text.filter(|text| !text.is_empty()).unwrap_or("-"));
    let target = record.target.as_deref().unwrap_or_default();
    let target = target.strip_prefix("https://").unwrap_or(target);
    let request = format!("{target}{}", record.path.as_deref().unwrap_or_default());
    let rule = record.rule.as_deref().map(rule);
    if let Some(change) = &record.change {
        return changed(record, change);
    }
    [
        moment(record.time),
        or_none(record.agent.as_deref()),
        or_none(record.method.as_deref()),
        record.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
        shown(record.code.as_deref().unwrap_or(outcome(record.outcome))),
        or_none(record.connection.as_deref()),
        or_none(rule),
        or_none(Some(&request)),
    ]
}

/// A change: the author is in the agent's column, the action in the request's.
fn changed(record: &Event, change: &Change) -> [String; HEADINGS.len()] {
    let what = told(record.outcome, change);
    [
        moment(record.time),
        shown(change.user.as_deref().unwrap_or(&change.by)),
        "change".to_owned(),
        record.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
        shown(record.code.as_deref().unwrap_or(outcome(record.outcome))),
        "-".to_owned(),
        "-".to_owned(),
        shown(&what),
    ]
}

/// `added agent ci`, `started run of agent ci (run 4121, tok_…)`, `refused to add agent ci`.
fn told(outcome: Outcome, change: &Change) -> String {
    let done = match outcome {
        Outcome::Refused => format!("refused to {}", infinitive(&change.action)),
        _ => change.action.clone(),
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
    let words = std::iter::once(Some(done)).chain(what).chain([change.why.clone()]);
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
fn rule(id: &str) -> &str {
    match id.split_once(':') {
        Some(("binding", _)) => "binding",
        Some(("file", name)) => name,
        _ => id,
    }
}

pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "ok",
        Outcome::Refused => "refused",
        Outcome::ClientAborted => "agent hung up",
        Outcome::UpstreamAborted => "upstream hung up",
        Outcome::Ended => "ended",
    }
}

/// Escapes control characters, and cuts the text to the width of a screen.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == CELL_CHARS_MAX {
            shown.push('…');
            break;
        }
        match is_unseen(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn nothing_that_was_recorded_moves_the_cursor() {
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
        let text = Lines::new(false).of(&[record]);
        assert_eq!(text.lines().count(), 2);
        assert!(!text.replace('\n', "").chars().any(is_unseen), "{text:?}");
    }

    #[test]
    fn records_stand_in_columns_that_grow_with_what_comes() {
        let mut lines = Lines::new(false);
        assert!(lines.of(&[]).is_empty() && lines.are_none());
        let unknown = Event::begun(record().time, "exc_2".to_owned());
        let mut text = lines.of(&[record(), unknown]);
        text.push_str(&lines.of(&[refused()]));
        text.push_str(&lines.of(&[record()]));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_change_reads_as_what_was_done_and_a_refused_one_as_not_done() {
        let change = |what: &str, action: &str, label: Option<&str>| Change {
            by: "operator".to_owned(),
            what: what.to_owned(),
            action: action.to_owned(),
            name: some("ci"),
            id: some("tok_1"),
            label: label.map(str::to_owned),
            ..Change::default()
        };
        for (outcome, change, reads) in [
            (Outcome::Completed, change("agent", "added", None), "added agent ci"),
            (Outcome::Refused, change("agent", "added", None), "refused to add agent ci"),
            (
                Outcome::Refused,
                change("connection", "pause", None),
                "refused to pause connection ci",
            ),
            (
                Outcome::Completed,
                change("run", "started", Some("run 7")),
                "started run of agent ci (run 7, tok_1)",
            ),
            (
                Outcome::Refused,
                change("run", "started", Some("run 7")),
                "refused to start run of agent ci (run 7, tok_1)",
            ),
        ] {
            assert_eq!(told(outcome, &change), reads);
        }
    }

    #[test]
    fn a_path_of_many_screens_is_cut() {
        let long = Event { path: some(&"/a".repeat(8_000)), ..record() };
        let text = Lines::new(false).of(&[long]);
        assert!(text.len() < 400 && text.ends_with("…\n"), "{text}");
    }
}
