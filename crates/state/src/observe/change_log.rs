//! [`ChangeRecorder`]: records administrative changes in the audit log.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::audit::{Audit, AuditSlot, AuditUnavailable};
use super::event::Event;

/// A handle to the log for changes; cheap to clone. The log is `None` once it was closed.
#[derive(Clone, Default)]
pub struct ChangeRecorder(Option<Arc<Mutex<Option<Audit>>>>);

/// A reserved place for the record of one change.
#[derive(Debug)]
pub struct ChangeSlot(Option<AuditSlot>);

impl ChangeRecorder {
    /// Records into an open log.
    pub fn to(audit: Audit) -> Self {
        Self(Some(Arc::new(Mutex::new(Some(audit)))))
    }

    /// Closes the log for all clones; its writer ends with the last sender.
    pub fn close(&self) {
        if let Some(log) = &self.0 {
            *log.lock() = None;
        }
    }

    /// Reserves a place before a change, so that no change goes unrecorded; waits while the log is behind.
    /// Without a log, nothing is recorded.
    ///
    /// # Errors
    /// While the log cannot be written.
    pub async fn reserve(&self) -> Result<ChangeSlot, AuditUnavailable> {
        let Some(audit) = self.audit()? else { return Ok(ChangeSlot(None)) };
        audit.reserve().await.map(|slot| ChangeSlot(Some(slot)))
    }

    /// Waits until the records of past changes can be read, at most a second.
    pub async fn wait_until_readable(&self) {
        if let Ok(Some(audit)) = self.audit() {
            audit.wait_until_readable().await;
        }
    }

    /// Records a change that has already happened. While the log cannot be written, the record waits in the queue; if
    /// that is full, the program's own log says so.
    pub async fn record(&self, event: Event) {
        if let Some((_, slot)) = self.reserve_for_past(&event).await {
            slot.send(event.entry());
        }
    }

    /// Records a refused request to a hook, of which each may leave `max` records a minute; see [`Audit::send_refusal`].
    pub async fn record_refusal(&self, event: Event, max: u32) {
        if let Some((audit, slot)) = self.reserve_for_past(&event).await {
            audit.send_refusal(slot, &event, max);
        }
    }

    /// `None` without a log, and while the record can neither be written nor queued.
    async fn reserve_for_past(&self, event: &Event) -> Option<(Audit, AuditSlot)> {
        let reserved = async {
            let Some(audit) = self.audit()? else { return Ok(None) };
            let slot = audit.reserve_for_past().await?;
            Ok::<_, AuditUnavailable>(Some((audit, slot)))
        };
        reserved.await.unwrap_or_else(|error| {
            tracing::error!(%error, change = ?event.change, "a change is unrecorded");
            None
        })
    }

    /// The log; `None` without one.
    fn audit(&self) -> Result<Option<Audit>, AuditUnavailable> {
        self.0.as_ref().map(|log| log.lock().clone().ok_or(AuditUnavailable)).transpose()
    }
}

impl ChangeSlot {
    /// Passes the record to the writer without waiting.
    pub fn send(self, event: &Event) {
        if let Some(slot) = self.0 {
            slot.send(event.entry());
        }
    }
}

impl fmt::Debug for ChangeRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changes(…)")
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::observe::change::{Actor, Change};
    use crate::observe::event::Outcome;
    use crate::observe::filter::Filter;
    use crate::observe::query::AuditQuery;
    use crate::observe::tests::samples;
    use crate::observe::trail::Rotation;
    use keyward_base::id::{OrgId, UserId};

    #[tokio::test]
    async fn a_change_gets_no_place_in_a_log_that_was_closed() {
        let (_folder, trail) = samples::empty();
        let (audit, writer) = Audit::open(trail, Rotation::default(), 8, false).unwrap();
        let changes = ChangeRecorder::to(audit);
        assert!(changes.reserve().await.is_ok());
        changes.clone().close();
        writer.finish();
        assert!(changes.reserve().await.is_err());
    }

    #[tokio::test]
    async fn a_change_is_in_the_log_with_its_author_and_resource() {
        let (_folder, trail) = samples::empty();
        let (audit, writer) = Audit::open(trail.clone(), Rotation::default(), 8, false).unwrap();
        let changes = ChangeRecorder::to(audit);
        let by = Actor::User { id: UserId::random(), name: "ann".to_owned(), login: None };
        let change = Change::new(&by, "connection", "paused").of("con_1", "work").because("leak");
        let org = OrgId::default_org();
        let event = change.clone().event(Timestamp::UNIX_EPOCH, &org, Outcome::Completed);
        changes.record(event).await;
        drop(changes);
        writer.finish();
        assert!(trail.verify(|| true).unwrap().broken.is_none());
        let filter = Filter { changes: true, ..Filter::default() };
        let found = trail.query(&AuditQuery { filter, before: None, limit: 5 }, || true).unwrap();
        assert_eq!(found.records[0].change.as_deref(), Some(&change));
        assert_eq!(change.by, by.to_string());
    }
}
