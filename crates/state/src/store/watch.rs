//! Change counters per table, for backends that see every write in this process.

use tokio::sync::watch;

use super::{Table, Version};

/// The counters. They start at 1, so that a watcher with `Version(0)` returns at once.
#[derive(Debug)]
pub(super) struct ChangeCounters(Vec<(Table, watch::Sender<u64>)>);

impl ChangeCounters {
    pub(super) fn new() -> Self {
        Self(Table::ALL.map(|table| (table, watch::Sender::new(1))).into())
    }

    /// Increments the counter and wakes its watchers.
    pub(super) fn count(&self, table: Table) {
        self.of(table).send_modify(|count| *count += 1);
    }

    /// Waits until the counter exceeds `seen`.
    pub(super) async fn after(&self, table: Table, seen: Version) -> Version {
        let mut counter = self.of(table).subscribe();
        let passed = counter.wait_for(|count| *count > seen.0).await;
        Version(*passed.expect("the sender lives in self, which is borrowed"))
    }

    fn of(&self, table: Table) -> &watch::Sender<u64> {
        let entry = self.0.iter().find(|(of, _)| *of == table);
        &entry.expect("new() made one for each table").1
    }
}
