//! [`Unsaved`]: usage that was collected and is not in its stored history yet.

use std::collections::HashMap;

use jiff::Timestamp;

use super::history::{UsageHistory, UsageKey, UsageSum};

/// An addition to a stored history.
#[derive(Debug)]
pub(super) struct Unsaved {
    /// Start of the period of the first unsaved count.
    pub(super) since: Timestamp,
    pub(super) history: UsageHistory,
}

/// Adds the counts of the period that begins at `at`.
pub(super) fn add(
    unsaved: &mut HashMap<UsageKey, Unsaved>,
    key: UsageKey,
    at: Timestamp,
    sum: &UsageSum,
) {
    let new = || Unsaved { since: at, history: UsageHistory::default() };
    let history = &mut unsaved.entry(key).or_insert_with(new).history;
    let mut more = UsageHistory::default();
    more.record(at, sum);
    // Also drops old periods, so that the memory stays bounded while the store fails for days.
    history.merge(&more, at);
}
