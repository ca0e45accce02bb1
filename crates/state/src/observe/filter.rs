//! [`Filter`]: which records of the audit log a query selects.

use jiff::{SignedDuration, Timestamp};

use super::change::Change;
use super::event::{Event, Outcome};

/// Records are ordered by the end of exchanges. This is how far the clock may have been set back between two of
/// them before a backwards search stops too early.
const CLOCK_STEP: SignedDuration = SignedDuration::from_hours(1);

/// Conditions on a record. Absent conditions match all records.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    /// The org's id.
    pub org: Option<String>,
    /// Whether records without an org match too: those without authentication.
    pub orgless: bool,
    /// The agent's name.
    pub agent: Option<String>,
    /// The id of the agent's token.
    pub token: Option<String>,
    /// The id of the session.
    pub session: Option<String>,
    /// The name of the session's end user, or of the user who made a change or sent the request.
    pub user: Option<String>,
    /// The host, with or without a port, or `*.suffix`.
    pub host: Option<String>,
    pub connection: Option<String>,
    /// Keyward's code.
    pub code: Option<String>,
    /// Only exchanges that Keyward refused or cut.
    pub refused: bool,
    pub method: Option<String>,
    /// The exchange's id.
    pub exchange: Option<String>,
    /// The type of event that a change is, such as `honeytoken.used`.
    pub event: Option<String>,
    /// Only changes, no exchanges.
    pub changes: bool,
    /// Only changes of the resource with this id or name, and of its parts.
    pub changed: Option<String>,
    /// Only exchanges, no changes.
    pub requests: bool,
    /// Exchanges that began at this time or later.
    pub since: Option<Timestamp>,
    /// Exchanges that began before this time.
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Whether the record matches.
    pub fn wants(&self, event: &Event) -> bool {
        let is =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let of_org = match (&self.org, &event.org) {
            (None, _) => true,
            (Some(_), None) => self.orgless,
            (wanted, found) => wanted == found,
        };
        let refused = event.outcome == Outcome::Refused || event.code.is_some();
        let method = match (&self.method, &event.method) {
            (Some(wanted), Some(found)) => wanted.eq_ignore_ascii_case(found),
            (wanted, _) => wanted.is_none(),
        };
        let change = |of: fn(&Change) -> &Option<String>| event.change.as_deref().map_or(&None, of);
        of_org
            && is(&self.agent, &event.agent)
            && is(&self.token, &event.token)
            && is(&self.session, &event.session)
            && (is(&self.user, &event.user) || is(&self.user, change(|change| &change.user)))
            && self.event.as_ref().is_none_or(|kind| is_event(kind, event))
            && is(&self.connection, &event.connection)
            && is(&self.code, &event.code)
            && (refused || !self.refused)
            && (event.change.is_some() || !self.changes)
            && (event.change.is_none() || !self.requests)
            && self.changed.as_ref().is_none_or(|wanted| is_changed(wanted, event))
            && method
            && self.exchange.as_ref().is_none_or(|id| *id == event.exchange)
            && self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time < until)
            && self.host.as_ref().is_none_or(|host| is_host(host, event.target.as_deref()))
    }
}

/// Whether neither this record nor an earlier one can be of this time or later, because its exchange ended long before.
pub(super) fn ended_before(event: &Event, since: Timestamp) -> bool {
    let took = i64::try_from(event.duration_ms).unwrap_or(i64::MAX);
    let ended = event.time.saturating_add(SignedDuration::from_millis(took));
    let since = since.saturating_sub(CLOCK_STEP);
    matches!((ended, since), (Ok(ended), Ok(since)) if ended < since)
}

/// Whether the record is of a change that is an event of this type.
fn is_event(kind: &str, event: &Event) -> bool {
    event.change.as_ref().is_some_and(|change| change.is_event(kind))
}

/// Whether the record is of a change of the resource with this id or name.
fn is_changed(wanted: &str, event: &Event) -> bool {
    let change = event.change.as_ref();
    change.is_some_and(|it| [&it.id, &it.name].into_iter().flatten().any(|found| found == wanted))
}

/// The servers of a target: `host:port` of `https://host:port` and `postgres://host:port/database`; of a database with
/// several servers, `host:port,host:port`.
pub(super) fn authority(target: &str) -> Option<&str> {
    let (_, rest) = target.split_once("://")?;
    rest.split('/').next()
}

/// Whether the target has the wanted host.
fn is_host(wanted: &str, target: Option<&str>) -> bool {
    let Some(authority) = target.and_then(authority) else { return false };
    let is = |name: &str| match wanted.strip_prefix('*').filter(|rest| rest.starts_with('.')) {
        Some(suffix) => {
            let at = name.len().checked_sub(suffix.len()).filter(|at| *at > 0);
            at.and_then(|at| name.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        }
        None => name.eq_ignore_ascii_case(wanted),
    };
    // The whole list is the name of a group in counts.
    let is_server = |server: &str| is(server) || is(without_port(server));
    is(authority) || authority.split(',').any(is_server)
}

/// The host of `host:port`; IPv6 addresses are in brackets.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::samples;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn event() -> Event {
        Event {
            org: some("org_default"),
            agent: some("ci"),
            session: some("ses_1"),
            user: some("auth0|1"),
            connection: some("work"),
            target: some("https://api.acme.test:8443"),
            method: some("DELETE"),
            code: some("denied"),
            outcome: Outcome::Refused,
            duration_ms: 2_000,
            ..samples::event(100)
        }
    }

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn each_condition_of_a_filter_excludes_other_records() {
        let all = Filter::default;
        for filter in [
            Filter { org: some("org_other"), ..all() },
            Filter { agent: some("CI"), ..all() },
            Filter { token: some("tok_other"), ..all() },
            Filter { session: some("ses_other"), ..all() },
            Filter { user: some("42"), ..all() },
            Filter { connection: some("wor"), ..all() },
            Filter { code: some("default_deny"), ..all() },
            Filter { method: some("GET"), ..all() },
            Filter { exchange: some("exc_1"), ..all() },
            Filter { changes: true, ..all() },
            Filter { changed: some("work"), ..all() },
            Filter { event: some("honeytoken.used"), ..all() },
            Filter { since: at(101), ..all() },
            Filter { until: at(100), ..all() },
            Filter { host: some("acme.test"), ..all() },
            Filter { host: some("*.api.acme.test"), ..all() },
            Filter { host: some("*acme.test"), ..all() },
            Filter { host: some("api.acme.test:443"), ..all() },
            Filter { host: some(""), ..all() },
        ] {
            assert!(!filter.wants(&event()), "{filter:?}");
        }
        let fine = Event { code: None, outcome: Outcome::Completed, ..event() };
        assert!(!Filter { refused: true, ..all() }.wants(&fine));
        let change = Event { change: Some(Box::default()), ..event() };
        assert!(all().wants(&change) && !Filter { requests: true, ..all() }.wants(&change));
        let of_work = Change { id: some("con_1"), name: some("work"), ..Change::default() };
        let of_work = Event { change: Some(Box::new(of_work)), ..event() };
        for (wanted, is_wanted) in [("work", true), ("con_1", true), ("wor", false), ("", false)] {
            let filter = Filter { changed: some(wanted), ..all() };
            assert_eq!(filter.wants(&of_work), is_wanted, "{wanted}");
        }
        let author = Change { user: some("ann"), event: some("rule.added"), ..Change::default() };
        let by_ann = Event { change: Some(Box::new(author)), ..event() };
        let is_wanted = |filter: Filter| filter.wants(&by_ann);
        assert!(is_wanted(Filter { user: some("ann"), event: some("rule.added"), ..all() }));
        assert!(!is_wanted(Filter { user: some("ann"), event: some("rule.removed"), ..all() }));
        assert!(!is_wanted(Filter { user: some("an"), ..all() }));
        let events = vec!["rule.added".to_owned(), "rule.changed".to_owned()];
        let several = Change { events, ..Change::default() };
        let several = Event { change: Some(Box::new(several)), ..event() };
        for (kind, is_wanted) in [("rule.changed", true), ("rule.added", true), ("rule", false)] {
            assert_eq!(Filter { event: some(kind), ..all() }.wants(&several), is_wanted, "{kind}");
        }
        let of_nobody = Event { org: None, ..event() };
        let ours = Filter { org: some("org_default"), ..all() };
        assert!(!ours.wants(&of_nobody) && Filter { orgless: true, ..ours }.wants(&of_nobody));
        let nobody = Event { agent: None, method: None, target: None, ..event() };
        for filter in [
            Filter { agent: some("ci"), ..all() },
            Filter { method: some("GET"), ..all() },
            Filter { host: some("*.test"), ..all() },
        ] {
            assert!(!filter.wants(&nobody), "{filter:?}");
        }
    }

    #[test]
    fn a_record_that_fits_every_condition_matches() {
        for host in ["API.acme.test", "api.acme.test:8443", "*.acme.test", "*.test"] {
            let filter = Filter {
                org: some("org_default"),
                orgless: false,
                agent: some("ci"),
                token: None,
                session: some("ses_1"),
                user: some("auth0|1"),
                host: some(host),
                connection: some("work"),
                code: some("denied"),
                refused: true,
                method: some("delete"),
                exchange: some("exc_100"),
                event: None,
                changes: false,
                changed: None,
                requests: true,
                since: at(100),
                until: at(101),
            };
            assert!(filter.wants(&event()), "{host}");
        }
        let address = Event { target: some("http://[::1]:80"), ..event() };
        assert!(Filter { host: some("[::1]"), ..Filter::default() }.wants(&address));
    }

    #[test]
    fn records_of_a_database_match_by_each_of_its_servers() {
        let one = "postgres://db.acme.test:5432/app";
        let several = "mongodb://one.acme.test:27017,two.acme.test:27018/app";
        let by_dns = "mongodb+srv://cluster.acme.test/app";
        for (target, hosts, others) in [
            (
                one,
                &["db.acme.test", "DB.acme.test", "db.acme.test:5432", "*.acme.test"][..],
                &["acme.test", "db.acme.test:5433", "db.acme.test:5432/app", "app", "*.test/app"][..],
            ),
            (
                several,
                &[
                    "one.acme.test",
                    "two.acme.test",
                    "two.acme.test:27018",
                    "*.acme.test",
                    "one.acme.test:27017,two.acme.test:27018",
                ][..],
                &["two.acme.test:27017", "*.one.acme.test", "acme.test", ""][..],
            ),
            (
                by_dns,
                &["cluster.acme.test", "*.acme.test"][..],
                &["app", "cluster.acme.test/app"][..],
            ),
        ] {
            let record = Event { target: some(target), ..event() };
            let is_wanted =
                |host: &str| Filter { host: some(host), ..Filter::default() }.wants(&record);
            assert!(hosts.iter().all(|host| is_wanted(host)), "{target}");
            assert!(!others.iter().any(|host| is_wanted(host)), "{target}");
        }
    }

    #[test]
    fn an_exchange_that_took_long_does_not_end_the_search() {
        let is_past = |second| ended_before(&event(), Timestamp::from_second(second).unwrap());
        assert!(!is_past(102 + 3600), "it may have ended then");
        assert!(is_past(103 + 3600));
    }
}
