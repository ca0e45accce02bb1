//! [`RecordChange`]: a change of one or several records, with their index rows and the deliveries of its events. It is one
//! commit of the store: all of it is made, or nothing. Only the [`DirectoryWriter`] makes it, which holds the write lock,
//! and then shows it in the view.
//!
//! A commit that is reported as failed may have been made. In a store of one process, one of its rows is read before the
//! next change to find out. In a store of several replicas, the feed shows the rows if it was made.

use std::io;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::changes::ViewChange;
use super::directory_event::{DirectoryEvent, UncertainChange};
use super::error::DirectoryError;
use super::index::{Claim, Unique};
use super::rows::{ReadRecord, RowId, RowWrite};
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

/// Shows one of its rows.
type Shown = Box<dyn FnOnce(&mut View) + Send>;

/// A change that is not made yet.
#[doc(hidden)]
#[derive(Default)]
pub struct RecordChange {
    rows: Vec<RowWrite>,
    /// The records that differ after the change, whose events are sent.
    records: Vec<RowId>,
    shown: Vec<Shown>,
    /// The refusal for each row whose precondition the caller can understand.
    refusals: Vec<(RowId, DirectoryError)>,
}

impl RecordChange {
    /// Adds a row with its precondition.
    pub(super) fn add(&mut self, row: RowWrite) {
        self.rows.push(row);
    }

    /// Adds what the view shows after the change.
    pub(super) fn show(&mut self, show: impl FnOnce(&mut View) + Send + 'static) {
        self.shown.push(Box::new(show));
    }

    /// The row must exist when the change is made; else the change is refused so.
    pub(super) fn need(&mut self, at: RowId, refusal: DirectoryError) {
        self.rows.push(RowWrite::Exists(at.clone()));
        self.refusals.push((at, refusal));
    }

    /// Puts a record in place of the one that was read, or as a new one.
    pub(super) fn write<T: Viewed + 'static>(
        &mut self,
        at: RowId,
        read: Option<&ReadRecord<T>>,
        record: T,
    ) -> Result<Arc<T>, DirectoryError> {
        self.rows.push(match read {
            Some(read) => RowWrite::Put {
                plaintext: read.plaintext_of(&at, &record)?,
                over: Some(read.version),
                at: at.clone(),
            },
            None => RowWrite::put(at.clone(), &record, None)?,
        });
        if read.is_none_or(|read| read.record != record) {
            self.records.push(at);
        }
        let record = Arc::new(record);
        let shown = Arc::clone(&record);
        self.show(move |view| shown.show(view));
        Ok(record)
    }

    /// Deletes a record, only in the version `over` if given. The caller adds what the view shows.
    pub(super) fn delete(&mut self, at: RowId, over: Option<Version>) {
        self.rows.push(RowWrite::Delete { at: at.clone(), over });
        self.records.push(at);
    }

    /// Reserves a unique value for a record.
    pub(super) fn reserve(&mut self, unique: Unique, owner: &str) -> Result<(), DirectoryError> {
        let Unique { at, refusal, .. } = unique;
        self.rows.push(RowWrite::put(at.clone(), &Claim::of(owner), None)?);
        self.refusals.push((at, refusal.into()));
        Ok(())
    }

    /// Frees unique values.
    pub(super) fn free(&mut self, values: impl IntoIterator<Item = RowId>) {
        self.rows.extend(values.into_iter().map(|at| RowWrite::Delete { at, over: None }));
    }
}

impl DirectoryWriter {
    /// Makes a change, and shows it.
    pub(super) async fn commit(&self, change: RecordChange) -> Result<(), DirectoryError> {
        let RecordChange { mut rows, mut records, shown, refusals } = change;
        let after = self.viewed(|view| shown.into_iter().for_each(|show| show(view)));
        // Events of records that others name come first.
        records.sort_by_key(|at| at.table);
        let events = self.events(&records, &after);
        let deliveries = events.iter().flat_map(|event| &event.deliveries);
        let deliveries: Result<Vec<_>, _> = deliveries.map(|it| it.delivery.new_row()).collect();
        rows.extend(deliveries?);
        let Err(error) = self.rows.commit(&rows).await else {
            self.show(after);
            self.send_events(events).await;
            return Ok(());
        };
        if error.is_outcome_unknown() {
            let changed = rows.iter().filter_map(RowWrite::changed);
            let changed = changed.filter(|(at, _)| records.contains(at));
            let rows = changed.map(|(at, version)| (at.clone(), version)).collect();
            self.add_uncertain_change(UncertainChange { rows, events });
        }
        if error.is_conflict() {
            // What it met may be a change in doubt that can be read by now.
            self.resolve_uncertain_changes().await;
        }
        let mut refusals = refusals.into_iter();
        let refusal = refusals.find(|(at, _)| error.is_conflict_of(at.table, &at.key()));
        Err(refusal.map_or(error, |(_, refusal)| refusal))
    }

    /// The events of a change, with their deliveries to subscribed webhooks.
    fn events(&self, changed: &[RowId], after: &View) -> Vec<DirectoryEvent> {
        let before = self.view.load_full();
        let (by, now) = (&self.actor.by, self.clock.now());
        let mut events = Vec::new();
        for at in changed {
            let catalogue = after.catalogue(&at.org, &self.catalogue.load());
            let view_change = ViewChange { before: &before, after, by, now, catalogue: &catalogue };
            let notices = view_change.notices(at);
            let change = view_change.change(at).filter(|_| notices.is_empty());
            let request = self.actor.request.as_ref();
            events.extend(Shared::events_with_deliveries(notices, request, after));
            events.extend(change.map(|change| DirectoryEvent {
                org: at.org.clone(),
                at: now,
                notice: None,
                deliveries: Vec::new(),
                change: Some(change),
                request: None,
            }));
        }
        events
    }

    /// Refuses a change of a row that may have been changed and cannot be read: the new change would get the version of
    /// the earlier one.
    pub(super) fn refuse_if_uncertain(&self, at: &RowId) -> Result<(), DirectoryError> {
        let is_its = |change: &UncertainChange| change.rows.iter().any(|(row, _)| row == at);
        match self.uncertain_changes.lock().iter().any(is_its) {
            false => Ok(()),
            true => {
                let source = io::Error::other("its last write failed, and it cannot be read since");
                Err(StoreError::Unreached { action: "read a row", source }.into())
            }
        }
    }

    /// Finds out which changes were made that may have been, before another change is made. Changes whose rows cannot be
    /// read stay in doubt.
    pub(super) async fn resolve_uncertain_changes(&self) {
        let uncertain_changes = self.uncertain_changes.lock().clone();
        for change in uncertain_changes {
            if let Err(error) = self.resolve_uncertain_change(change).await {
                tracing::debug!(%error, "whether a change was made cannot be read yet");
            }
        }
    }

    /// Shows a change if it was made. One row tells that.
    async fn resolve_uncertain_change(
        &self,
        change: UncertainChange,
    ) -> Result<(), DirectoryError> {
        let UncertainChange { rows, events } = change;
        let is_made = match rows.first() {
            Some((at, Some(version))) => self.rows.version(at).await? >= Some(*version),
            Some((at, None)) => self.rows.version(at).await?.is_none(),
            None => false,
        };
        if is_made {
            for (at, _) in &rows {
                self.follow_row(at.table, &at.key()).await?;
            }
        }
        self.uncertain_changes.lock().retain(|other| other.rows != rows);
        if is_made {
            self.send_events(events).await;
        }
        Ok(())
    }
}

impl Shared {
    /// Keeps a change that may have been made, until [`DirectoryWriter::resolve_uncertain_changes`].
    fn add_uncertain_change(&self, change: UncertainChange) {
        let row = change.rows.first().map(|(at, _)| at.key());
        tracing::warn!(row, "the store failed: a change may have been made");
        if self.rows.store.shared().is_none() {
            self.uncertain_changes.lock().push(change);
        }
    }

    /// Replaces the view where the store differs from it: another replica has written, or a write that was reported as
    /// failed has reached the store.
    pub(super) fn publish(&self, change: impl FnOnce(&mut View)) {
        self.show(self.viewed(change));
    }

    fn viewed(&self, change: impl FnOnce(&mut View)) -> View {
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
