//! Searches the audit log, newest record first. Files are read backwards; memory is bounded by one block and
//! the results.

use std::fs::File;
use std::io;

use jiff::Timestamp;

use super::chain::{Backwards, offset_of};
use super::event::Event;
use super::filter::{Filter, ended_before};
use super::trail::{Trail, found};

/// Maximum number of bytes read per page: about a second of work, because matches may be far back.
const PAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The request for a page of records.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// The conditions on records.
    pub filter: Filter,
    /// Only records with smaller numbers: `next` of the previous page.
    pub before: Option<u64>,
    /// Maximum number of records, at least one.
    pub limit: usize,
}

/// A page of records. It may have fewer than `limit`, or none, although there is a next page.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AuditPage {
    /// The records, newest first.
    pub records: Vec<Event>,
    /// `before` of the next page; `None` at the end.
    pub next: Option<u64>,
}

/// A running search.
struct AuditSearch<'a> {
    filter: &'a Filter,
    /// Takes a record that matches; false ends the search.
    visit: &'a mut dyn FnMut(Event) -> bool,
    /// Only smaller numbers are still searched, so that a record in a file that was rotated meanwhile is not
    /// seen twice.
    below: u64,
    bytes: u64,
    /// The start of the database session whose records are searched. Records of its statements are later.
    session_begun: Option<Timestamp>,
    /// Where the next search continues, if this one ends before the end of the log.
    next: Option<u64>,
}

impl Trail {
    /// Searches backwards from the newest record, or from `query.before`. Lines that are not records are
    /// skipped; [`Trail::verify`] reports them. Blocks. `go_on` is called regularly; false ends the search.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn query(&self, query: &AuditQuery, go_on: impl Fn() -> bool) -> io::Result<AuditPage> {
        let mut records = Vec::new();
        let next = self.search(&query.filter, query.before, go_on, &mut |event| {
            records.push(event);
            records.len() < query.limit
        })?;
        Ok(AuditPage { records, next })
    }

    /// Calls `visit` with each matching record before `before`, newest first, until it returns false or
    /// [`PAGE_BYTES_MAX`] are read. Returns `before` of the next search; `None` at the end.
    pub(super) fn search<'a>(
        &self,
        filter: &'a Filter,
        before: Option<u64>,
        go_on: impl Fn() -> bool,
        visit: &'a mut dyn FnMut(Event) -> bool,
    ) -> io::Result<Option<u64>> {
        let below = before.unwrap_or(u64::MAX);
        let mut search =
            AuditSearch { filter, visit, below, bytes: 0, session_begun: None, next: None };
        // Opened before the directory is listed, so that a file that is rotated in between is seen twice rather than
        // never.
        let active = self.open_active()?;
        if let Some(active) = active
            && search.ends_after(&active, &go_on)?
        {
            return Ok(search.next);
        }
        for full in self.full()?.iter().rev().skip_while(|full| full.first >= below) {
            // The oldest file may be removed meanwhile.
            let Some(file) = found(File::open(&full.path))? else { continue };
            if search.ends_after(&file, &go_on)? {
                break;
            }
        }
        Ok(search.next)
    }
}

impl AuditSearch<'_> {
    /// Searches one file. Returns whether older files need not be searched.
    fn ends_after(&mut self, file: &File, go_on: &impl Fn() -> bool) -> io::Result<bool> {
        let end = match self.below {
            u64::MAX => file.metadata()?.len(),
            below => offset_of(file, below)?,
        };
        for line in Backwards::before(file, end)? {
            let line = line?;
            self.bytes += line.len() as u64;
            let event = serde_json::from_slice::<Event>(&line);
            if event.is_ok_and(|event| self.ends_with_record(event)) {
                return Ok(true);
            }
            if self.bytes > PAGE_BYTES_MAX || !go_on() {
                self.next = Some(self.below);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn ends_with_record(&mut self, event: Event) -> bool {
        let filter = self.filter;
        if event.seq >= self.below {
            return false;
        }
        self.below = event.seq;
        let is_past =
            |since: Option<Timestamp>| since.is_some_and(|since| ended_before(&event, since));
        if is_past(filter.since) || is_past(self.session_begun) {
            return true;
        }
        if !filter.wants(&event) {
            return false;
        }
        let is_of_database = event.database_role.is_some() || event.statement.is_some();
        if filter.exchange.is_some() && is_of_database && event.statement.is_none() {
            self.session_begun = Some(event.time);
        }
        let is_enough = !(self.visit)(event);
        // A session with a database has a record for each recorded statement too. Others have one record.
        if filter.exchange.is_some() && !is_of_database {
            return true;
        }
        self.next = (is_enough && self.below > 1).then_some(self.below);
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::observe::audit::Audit;
    use crate::observe::tests::samples::{self, SMALL, log};

    fn asked(trail: &Trail, filter: Filter, before: Option<u64>, limit: usize) -> AuditPage {
        trail.query(&AuditQuery { filter, before, limit }, || true).unwrap()
    }

    fn numbers(found: &AuditPage) -> Vec<u64> {
        found.records.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn a_log_that_was_never_written_holds_nothing() {
        let (_folder, trail) = samples::empty();
        assert_eq!(asked(&trail, Filter::default(), None, 5), AuditPage::default());
    }

    #[tokio::test]
    async fn pages_go_back_over_all_files_and_meet_each_record_once() {
        let (_folder, trail) = log(20).await;
        for limit in 1..=7 {
            let (mut seen, mut before) = (Vec::new(), None);
            loop {
                let page = asked(&trail, Filter::default(), before, limit);
                assert!(page.records.len() <= limit);
                seen.extend(numbers(&page));
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
            assert_eq!(seen, (1..=20).rev().collect::<Vec<_>>(), "pages of {limit}");
        }
    }

    #[tokio::test]
    async fn damaged_lines_hide_no_record() {
        let (_folder, trail) = log(8).await;
        let mut file = File::options().append(true).open(trail.active()).unwrap();
        file.write_all(b"damaged\n\n{\"seq\":99}\nunfinished").unwrap();
        let all = asked(&trail, Filter::default(), None, 100);
        assert_eq!(numbers(&all), (1..=8).rev().collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn only_matching_records_count_towards_the_page_limit() {
        let (_folder, trail) = log(20).await;
        let ci = Filter { agent: Some("ci".to_owned()), ..Filter::default() };
        let page = asked(&trail, ci.clone(), None, 3);
        assert_eq!((numbers(&page), page.next), (vec![19, 17, 15], Some(15)));
        assert_eq!(numbers(&asked(&trail, ci, Some(4), 3)), [3, 1]);
        let one = Filter { exchange: Some("exc_7".to_owned()), ..Filter::default() };
        let page = asked(&trail, one, None, 3);
        assert_eq!((numbers(&page), page.next), (vec![7], None));
    }

    #[tokio::test]
    async fn a_session_with_a_database_is_found_with_all_its_statements() {
        let (_folder, trail) = samples::empty();
        let (audit, writer) = Audit::open(trail.clone(), SMALL, 8, false).unwrap();
        let of_session = |n, statement: Option<&str>| Event {
            exchange: "exc_session".to_owned(),
            database_role: Some("app".to_owned()),
            statement: statement.map(str::to_owned),
            ..samples::event(n)
        };
        let (begun, day) = (10, 86_400);
        for event in [
            samples::event(1),
            of_session(begun + 1, Some("select ?")),
            samples::event(begun + 2),
            of_session(begun + day, Some("commit")),
            of_session(begun, None),
            samples::event(begun + day),
        ] {
            audit.reserve().await.unwrap().send(event.entry());
        }
        drop(audit);
        writer.finish();
        let session = Filter { exchange: Some("exc_session".to_owned()), ..Filter::default() };
        let page = asked(&trail, session.clone(), None, 5);
        assert_eq!((numbers(&page), page.next), (vec![5, 4, 2], None));
        let page = asked(&trail, session.clone(), None, 2);
        assert_eq!((numbers(&page), page.next), (vec![5, 4], Some(4)));
        assert_eq!(numbers(&asked(&trail, session, Some(4), 2)), [2]);
        let other = Filter { exchange: Some("exc_1".to_owned()), ..Filter::default() };
        assert_eq!(numbers(&asked(&trail, other, None, 5)), [1]);
    }

    #[tokio::test]
    async fn a_caller_that_stops_waiting_ends_the_search() {
        let (_folder, trail) = log(20).await;
        let nobody = Filter { agent: Some("nobody".to_owned()), ..Filter::default() };
        let query = AuditQuery { filter: nobody, before: None, limit: 1 };
        let found = trail.query(&query, || false).unwrap();
        assert_eq!(found.next, Some(20), "after the first line");
    }
}
