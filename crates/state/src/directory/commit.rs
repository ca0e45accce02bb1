//! Commits the change of a record: writes the events for webhooks, then the row, then replaces the view. Only the
//! [`DirectoryWriter`] does this, which holds the write lock.
//!
//! A write that is reported as failed may have been made. Then the events and index rows of the change stay. In a store
//! of one process, the row is read before the next change to find out. In a store of several replicas, the statement
//! may still be in progress: if it succeeds, the feed shows the row and its events are adopted. Else a reserved name
//! stays reserved until a replica starts alone, or `keyward store check --repair` deletes the reservation.

use std::io;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::changes::ViewChange;
use super::directory_event::{DeliveryCause, DirectoryEvent, UncertainChange};
use super::error::DirectoryError;
use super::index::IndexChange;
use super::rows::{ReadRecord, RowId, plaintext};
use super::view::View;
use super::{DirectoryWriter, Shared};
use crate::store::{StoreError, Version};
use keyward_model::{Org, Record};

/// A record that the view can contain.
pub(super) trait Viewed: Serialize + DeserializeOwned + PartialEq + Send + Sync {
    /// Puts it into the view.
    fn show(self: Arc<Self>, view: &mut View);
}

impl Viewed for Record<Org> {
    fn show(self: Arc<Self>, view: &mut View) {
        view.put_org(self);
    }
}

/// What a change does to its row.
enum RowChange {
    /// Writes a record, if it could be serialized.
    Write(Result<Zeroizing<Vec<u8>>, DirectoryError>),
    Delete,
}

impl DirectoryWriter {
    /// Writes a record over the one that was read, or a new one over none, and shows it. Deletes the index rows that are
    /// not needed then.
    pub(super) async fn commit<T: Viewed>(
        &self,
        at: &RowId,
        record: T,
        read: Option<&ReadRecord<T>>,
        index: IndexChange,
    ) -> Result<Arc<T>, DirectoryError> {
        let record = Arc::new(record);
        let after = self.viewed(|view| T::show(Arc::clone(&record), view));
        let over = read.map(|read| read.version);
        let version = Some(over.unwrap_or_default().next());
        let row = RowChange::Write(match read {
            Some(read) => read.plaintext_of(at, &record),
            None => plaintext(at, &*record, None),
        });
        self.make(self.change(at, version, &after, index), over, row, after).await?;
        Ok(record)
    }

    /// Deletes a row, only in the version `over` if given, and shows the view without its record. Deletes its index rows
    /// `freed` then.
    pub(super) async fn erase(
        &self,
        at: &RowId,
        over: Option<Version>,
        freed: Vec<RowId>,
        after: View,
    ) -> Result<(), DirectoryError> {
        let index = IndexChange { reserved: Vec::new(), freed };
        let change = self.change(at, None, &after, index);
        self.make(change, over, RowChange::Delete, after).await
    }

    fn change(
        &self,
        at: &RowId,
        version: Option<Version>,
        after: &View,
        index: IndexChange,
    ) -> UncertainChange {
        let events = self.events(at, after, DeliveryCause::of(at, version));
        UncertainChange { at: at.clone(), version, events, index }
    }

    /// Makes a change and shows the view after it. It is compiled once, not for each type of records.
    async fn make(
        &self,
        change: UncertainChange,
        over: Option<Version>,
        row: RowChange,
        after: View,
    ) -> Result<(), DirectoryError> {
        self.store_change_events(&change).await?;
        let made = match row {
            RowChange::Write(Ok(plaintext)) => {
                self.rows.write_row(&change.at, &plaintext, over).await.map(drop)
            }
            RowChange::Write(Err(error)) => Err(error),
            RowChange::Delete => self.rows.delete(&change.at, over).await.map_err(From::from),
        };
        match made {
            Ok(()) => {
                self.show(after);
                self.send_events(change.events).await;
                self.release_all(&change.index.freed, &change.at.id).await;
                Ok(())
            }
            Err(error) => {
                self.give_up(change, &error).await;
                Err(error)
            }
        }
    }

    /// Stores the events of a change before it is made. If that fails, the change is not made, and its stored events
    /// are deleted at once. They are deleted again before the next change if an event may have been written since.
    async fn store_change_events(&self, change: &UncertainChange) -> Result<(), DirectoryError> {
        let stored = self.store_deliveries(&change.events).await;
        if let Err(error) = &stored {
            let is_undone = self.undo(change).await;
            if error.is_outcome_unknown() || !is_undone {
                self.add_uncertain_change(change.clone());
            }
        }
        stored
    }

    /// Handles a failed write: keeps a change that may have been made, and withdraws one that was not. If the
    /// withdrawal fails, the next change repeats it.
    async fn give_up(&self, change: UncertainChange, error: &DirectoryError) {
        // After a conflict, the version of the row does not tell whose change was made.
        if error.is_outcome_unknown() || !self.undo(&change).await && !error.is_conflict() {
            self.add_uncertain_change(change);
        }
    }

    /// Withdraws the events and the index rows of a change that was not made. False if some stay.
    async fn undo(&self, change: &UncertainChange) -> bool {
        let is_withdrawn = self.withdraw_events(&change.events).await;
        self.release_all(&change.index.reserved, &change.at.id).await && is_withdrawn
    }

    pub(super) fn has_uncertain_changes(&self) -> bool {
        !self.uncertain_changes.lock().is_empty()
    }

    /// Refuses a change of a row that may have been changed and cannot be read: the new change would get the version of
    /// the earlier one.
    pub(super) fn refuse_if_uncertain(&self, at: &RowId) -> Result<(), DirectoryError> {
        match self.uncertain_changes.lock().iter().any(|change| change.at == *at) {
            false => Ok(()),
            true => {
                let source = io::Error::other("its last write failed, and it cannot be read since");
                Err(StoreError::Unreached { action: "read a row", source }.into())
            }
        }
    }

    /// Settles changes that may have been made, before another change is made. Changes whose rows cannot be read stay
    /// in doubt.
    pub(super) async fn resolve_uncertain_changes(&self) {
        let uncertain_changes = self.uncertain_changes.lock().clone();
        for change in uncertain_changes {
            let row = change.at.key();
            if let Err(error) = self.resolve_uncertain_change(change).await {
                tracing::debug!(row, %error, "whether a change was made cannot be read yet");
            }
        }
    }

    /// Completes or withdraws a change. It stays in doubt until the view shows its row and its index rows are deleted.
    /// If events cannot be withdrawn after that, the next start deletes them.
    async fn resolve_uncertain_change(
        &self,
        change: UncertainChange,
    ) -> Result<(), DirectoryError> {
        let UncertainChange { at, version, events, index } = change;
        let now = self.rows.version(&at).await?;
        let is_made = match version {
            Some(version) => now >= Some(version),
            None => now.is_none(),
        };
        if is_made {
            self.follow_row(at.table, &at.key()).await?;
        }
        let released = if is_made { index.freed } else { index.reserved };
        for row in released {
            match self.rows.release(&row, &at.id).await {
                Err(DirectoryError::Store(error)) if error.is_io() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(row = row.key(), %error, "an index row stays until a start without other replicas");
                }
                Ok(()) => {}
            }
        }
        self.uncertain_changes.lock().retain(|other| other.at != at || other.version != version);
        match is_made {
            true => self.send_events(events).await,
            false => {
                self.withdraw_events(&events).await;
            }
        }
        Ok(())
    }

    /// The events of a change, with their deliveries to subscribed webhooks.
    fn events(&self, at: &RowId, after: &View, cause: DeliveryCause) -> Vec<DirectoryEvent> {
        let before = self.view.load_full();
        let (by, now) = (&self.actor.by, self.clock.now());
        let catalogue = after.catalogue(&at.org, &self.catalogue.load());
        let view_change = ViewChange { before: &before, after, by, now, catalogue: &catalogue };
        let notices = view_change.notices(at);
        let change = view_change.change(at).filter(|_| notices.is_empty());
        let mut events = Shared::events_with_deliveries(
            notices,
            self.actor.request.as_ref(),
            after,
            Some(cause),
        );
        let org = at.org.clone();
        events.extend(change.map(|change| DirectoryEvent {
            org,
            at: now,
            notice: None,
            deliveries: Vec::new(),
            change: Some(change),
            request: None,
        }));
        events
    }
}

impl Shared {
    /// Keeps a change that may have been made, until [`DirectoryWriter::resolve_uncertain_changes`].
    pub(super) fn add_uncertain_change(&self, change: UncertainChange) {
        tracing::warn!(
            row = change.at.key(),
            "the store failed: a change, its events or its index row may have been written"
        );
        if self.rows.store.shared().is_none() {
            self.uncertain_changes.lock().push(change);
        }
    }

    /// Replaces the view where the store differs from it: another replica has written, or a write that was reported as
    /// failed has reached the store.
    pub(super) fn publish(&self, change: impl FnOnce(&mut View)) {
        self.show(self.viewed(change));
    }

    pub(super) fn viewed(&self, change: impl FnOnce(&mut View)) -> View {
        let mut view = View::clone(&self.view.load());
        change(&mut view);
        view
    }

    /// Replaces the view, then notifies the watchers of changes, so that they find the change in the view.
    fn show(&self, view: View) {
        self.view.store(Arc::new(view));
        self.changes.send_modify(|count| *count += 1);
    }
}
