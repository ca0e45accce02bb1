//! Stored usage: one row for each history, to which a background job adds. The histories of removed connections, agents
//! and organisations are removed.

use futures_util::future::join_all;

use super::Directory;
use super::error::DirectoryError;
use super::rows::{ReadRecord, RowId};
use super::view::View;
use crate::observe::usage::{Usage, UsageHistory, UsageKey, UsageOf};
use crate::store::Table;

/// Rows that are written at once; they share a flush of the store.
const ROWS_AT_ONCE: usize = 50;

impl Directory {
    /// The stored history; empty if there is none.
    ///
    /// # Errors
    /// When the row cannot be read.
    pub async fn usage_history(&self, key: &UsageKey) -> Result<UsageHistory, DirectoryError> {
        let read = self.shared.rows.read::<UsageHistory>(&at(key)).await?;
        Ok(read.map(|read| read.record).unwrap_or_default())
    }

    /// Stores up to `max` of the collected histories, the longest waiting first.
    ///
    /// # Errors
    /// When the store fails. Histories that are not stored stay in memory.
    pub async fn save_usage(&self, usage: &Usage, max: usize) -> Result<(), DirectoryError> {
        for keys in usage.due(max).chunks(ROWS_AT_ONCE) {
            let _turn = usage.saving().await;
            let saved = join_all(keys.iter().map(|key| self.save_one(usage, key))).await;
            saved.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    async fn save_one(&self, usage: &Usage, key: &UsageKey) -> Result<(), DirectoryError> {
        self.add_usage(key, &usage.unsaved(key)).await?;
        usage.saved(key);
        Ok(())
    }

    /// Adds to a stored history. Does nothing for a removed resource. A row that cannot be opened is replaced, because
    /// it contains statistics only.
    ///
    /// # Errors
    /// When the store fails. Nothing was added then.
    pub(super) async fn add_usage(
        &self,
        key: &UsageKey,
        more: &UsageHistory,
    ) -> Result<(), DirectoryError> {
        if !self.view().has_usage_of(key) {
            return Ok(());
        }
        let (rows, at) = (&self.shared.rows, at(key));
        loop {
            let (mut history, version) = match rows.read::<UsageHistory>(&at).await {
                Ok(Some(ReadRecord { record, version, .. })) => (record, Some(version)),
                Ok(None) => Default::default(),
                Err(error) if error.is_unreadable() => {
                    tracing::warn!(%error, "this history of usage begins again");
                    rows.delete(&at, None).await?;
                    Default::default()
                }
                Err(error) => return Err(error),
            };
            history.merge(more, self.shared.clock.now());
            match rows.write(&at, &history, version).await {
                Err(error) if error.is_conflict() => {}
                written => return written.map(|_| ()),
            }
        }
    }

    /// Removes the histories of removed resources, and returns their number.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_orphaned_usage(&self) -> Result<usize, DirectoryError> {
        let (view, mut count) = (self.view(), 0);
        for at in self.shared.rows.all_places(Table::Usage).await? {
            let key = UsageKey::parse(&at.org, &at.id);
            if !key.is_some_and(|key| view.has_usage_of(&key)) {
                self.shared.rows.delete(&at, None).await?;
                count += 1;
            }
        }
        Ok(count)
    }
}

impl View {
    /// Whether the resource of the history exists.
    fn has_usage_of(&self, key: &UsageKey) -> bool {
        match &key.of {
            UsageOf::Org => self.org(&key.org).is_some(),
            UsageOf::Agent(id) => self.agent(&key.org, id).is_some(),
            UsageOf::Connection(id) => self.connection(&key.org, id).is_some(),
        }
    }
}

fn at(key: &UsageKey) -> RowId {
    RowId::new(Table::Usage, &key.org, key.id())
}
