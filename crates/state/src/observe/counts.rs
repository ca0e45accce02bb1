//! Counts the records of the audit log in groups, such as refusals by host. Memory is bounded: after
//! [`GROUPS_MAX`] groups, further records are counted without a name.

use std::collections::HashMap;
use std::io;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::Event;
use super::filter::{Filter, authority};
use super::trail::Trail;

/// Maximum number of groups of one count.
pub const GROUPS_MAX: usize = 1_000;

/// The member of a record that determines its group.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grouping {
    /// The host of the target; with its port, unless that is the default of the scheme.
    Host,
    /// The agent's name.
    Agent,
    /// Keyward's code.
    Code,
    /// The connection's name.
    Connection,
    /// The id of the rule that decided.
    Rule,
}

/// The records that have the same value.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Group {
    /// The value; `null` for records without one.
    pub name: Option<String>,
    /// The number of records.
    pub count: u64,
    /// The newest record's time.
    pub last: Timestamp,
}

/// Counted records.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    groups: HashMap<Option<String>, (u64, Timestamp)>,
    other: u64,
}

impl Trail {
    /// Counts the records that match `filter`, from the newest one or from `before` backwards. Reads as much as
    /// [`Trail::query`] and returns `before` of the next call; `None` at the end. Blocks.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn count(
        &self,
        filter: &Filter,
        by: Grouping,
        before: Option<u64>,
        go_on: impl Fn() -> bool,
    ) -> io::Result<(Counts, Option<u64>)> {
        let mut counts = Counts::default();
        let next = self.search(filter, before, go_on, &mut |event| {
            let last = event.until.unwrap_or(event.time);
            counts.add(by.of(&event), event.count.unwrap_or(1), last);
            true
        })?;
        Ok((counts, next))
    }
}

impl Grouping {
    /// The value of a record.
    fn of(self, event: &Event) -> Option<&str> {
        match self {
            Self::Host => event.target.as_deref().map(|it| authority(it).unwrap_or(it)),
            Self::Agent => event.agent.as_deref(),
            Self::Code => event.code.as_deref(),
            Self::Connection => event.connection.as_deref(),
            Self::Rule => event.rule.as_deref(),
        }
    }
}

impl Counts {
    /// Adds `count` records, or refusals that one counts, with this value; `last`: the newest record's time.
    fn add(&mut self, name: Option<&str>, count: u64, last: Timestamp) {
        let name = name.map(str::to_owned);
        let is_full = self.groups.len() >= GROUPS_MAX;
        if is_full && !self.groups.contains_key(&name) {
            self.other += count;
            return;
        }
        let (counted, newest) = self.groups.entry(name).or_insert((0, last));
        *counted += count;
        *newest = last.max(*newest);
    }

    /// Adds the groups of another part of the log, and its records without a group.
    pub fn merge(&mut self, groups: &[Group], other: u64) {
        for Group { name, count, last } in groups {
            self.add(name.as_deref(), *count, *last);
        }
        self.other += other;
    }

    /// The groups, largest first, and the number of records beyond them.
    pub fn into_groups(self) -> (Vec<Group>, u64) {
        let groups = self.groups.into_iter();
        let mut groups: Vec<_> =
            groups.map(|(name, (count, last))| Group { name, count, last }).collect();
        groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
        (groups, self.other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::samples;
    use crate::observe::trail::Rotation;

    #[test]
    fn records_beyond_the_maximum_of_groups_are_counted_without_a_name() {
        let mut counts = Counts::default();
        for n in 0..GROUPS_MAX + 5 {
            counts.add(Some(&n.to_string()), 1, Timestamp::UNIX_EPOCH);
        }
        counts.add(Some("0"), 1, Timestamp::UNIX_EPOCH);
        let (groups, other) = counts.into_groups();
        assert_eq!((groups.len(), other), (GROUPS_MAX, 5));
        assert_eq!((groups[0].name.as_deref(), groups[0].count), (Some("0"), 2), "largest first");
    }

    #[test]
    fn a_group_of_hosts_has_neither_scheme_nor_database() {
        for (target, group) in [
            (Some("https://api.acme.test:8443"), Some("api.acme.test:8443")),
            (Some("postgres://db.acme.test:5432/app"), Some("db.acme.test:5432")),
            (Some("mysql://a.test:3306,b.test:3306/app"), Some("a.test:3306,b.test:3306")),
            (None, None),
        ] {
            let event = Event { target: target.map(str::to_owned), ..samples::event(1) };
            assert_eq!(Grouping::Host.of(&event), group);
        }
    }

    #[tokio::test]
    async fn records_of_all_files_are_counted_once_and_only_those_that_match() {
        let (_folder, trail) = samples::empty();
        samples::write(&trail, samples::SMALL, 21).await;
        let counted = |filter: &Filter, by| {
            let (counts, next) = trail.count(filter, by, None, || true).unwrap();
            assert_eq!(next, None);
            let groups = counts.into_groups().0.into_iter();
            groups.map(|group| (group.name, group.count)).collect::<Vec<_>>()
        };
        let some = |name: &str| Some(name.to_owned());
        let all = Filter::default();
        assert_eq!(counted(&all, Grouping::Agent), [(some("ci"), 11), (some("dev"), 10)]);
        assert_eq!(counted(&all, Grouping::Code), [(None, 21)]);
        let dev = Filter { agent: some("dev"), ..Filter::default() };
        assert_eq!(counted(&dev, Grouping::Agent), [(some("dev"), 10)]);
        let refused = Filter { refused: true, ..Filter::default() };
        assert_eq!(counted(&refused, Grouping::Host), []);
    }

    #[tokio::test]
    async fn an_interrupted_count_goes_on_where_it_ended() {
        let (_folder, trail) = samples::empty();
        samples::write(&trail, Rotation::default(), 9).await;
        let (mut sum, mut before) = (Counts::default(), None);
        loop {
            let (part, next) =
                trail.count(&Filter::default(), Grouping::Agent, before, || false).unwrap();
            let (groups, other) = part.into_groups();
            assert!(groups.iter().map(|group| group.count).sum::<u64>() <= 1);
            sum.merge(&groups, other);
            before = next;
            if before.is_none() {
                break;
            }
        }
        let (groups, _) = sum.into_groups();
        assert_eq!([groups[0].count, groups[1].count], [5, 4]);
    }
}
