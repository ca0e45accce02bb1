//! One line for each request, as `keyward logs`, `run --verbose` and `serve` on a terminal print them: time, method,
//! status, host and path, and the connection or the code of a refusal.

use super::show::shown;
use keyward_api::wire::{Event, Outcome};

/// The line of a record; nothing for a change.
pub(in crate::cli) fn of(record: &Event, colours: bool) -> Option<String> {
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
        (None, _) => (super::show::outcome(record).to_owned(), "33"),
    };
    Some(match (end.is_empty(), colours) {
        (true, _) => format!("{line}\n"),
        (false, false) => format!("{line}  {end}\n"),
        (false, true) => format!("{line}  \u{1b}[{colour}m{end}\u{1b}[0m\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::visible::is_invisible;

    fn record(change: impl FnOnce(&mut Event)) -> Event {
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
        let change = record(|it| it.change = Some(Box::default()));
        assert_eq!(of(&change, false), None);
        let nasty = || Some("\u{1b}[2J\r\n\u{202e}x".to_owned());
        let nasty = record(|it| {
            (it.method, it.target, it.path, it.connection) = (nasty(), nasty(), nasty(), nasty());
        });
        let line = of(&nasty, false).unwrap();
        assert!(!line.trim_end_matches('\n').chars().any(is_invisible), "{line:?}");
    }

    #[test]
    fn a_line_shows_the_request_its_status_and_its_connection_code_or_outcome() {
        let lines = [
            record(|_| {}),
            record(|it| it.connection = Some("work".to_owned())),
            record(|it| {
                it.status = Some(403);
                it.code = Some("default_deny".to_owned());
                it.outcome = Outcome::Refused;
            }),
            record(|it| {
                it.method = Some("CONNECT".to_owned());
                it.target = Some("https://b.test:8443".to_owned());
                (it.path, it.status) = (None, Some(403));
                it.code = Some("port_refused".to_owned());
                it.outcome = Outcome::Refused;
            }),
            record(|it| it.outcome = Outcome::UpstreamAborted),
        ];
        let text: String = lines.iter().filter_map(|record| of(record, false)).collect();
        insta::assert_snapshot!(text, @r"
        08:00:00Z  GET     200  api.acme.test/v1/items
        08:00:00Z  GET     200  api.acme.test/v1/items  work
        08:00:00Z  GET     403  api.acme.test/v1/items  default_deny
        08:00:00Z  CONNECT 403  b.test:8443  port_refused
        08:00:00Z  GET     200  api.acme.test/v1/items  upstream hung up
        ");
    }
}
