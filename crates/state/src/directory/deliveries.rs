//! Deliveries of events to webhooks, one row for each event and webhook. A row is written before the change that causes
//! the event, so that a crash loses no event. It names that change, so that after a crash an event is delivered only if
//! its change was made.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use jiff::SignedDuration;
use tokio::sync::mpsc;

use super::directory_event::{Delivery, DeliveryCause, DirectoryEvent, StoredDelivery};
use super::error::DirectoryError;
use super::follow_state::Leftovers;
use super::rows::{ReadRecord, RowId};
use super::view::View;
use super::{Directory, Shared};
use crate::observe::change::{RequestEvents, TaskActor};
use crate::observe::notice::{Notice, NoticeDetails, NoticeKind};
use crate::store::{Table, Version};
use keyward_base::id::{OrgId, WebhookId};
use keyward_model::Webhook;

/// Events that wait for the receiver. When there are more, changes wait.
const EVENTS_QUEUED_MAX: usize = 1_024;

/// How long after its event a change may be made. A replica that is paused in between for longer may lose the event.
const MADE_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// Rows that are deleted concurrently.
const TOGETHER: usize = 64;

impl Directory {
    /// The receiver of all events from now on, for the first caller; `None` for later ones.
    pub fn take_event_receiver(&self) -> Option<mpsc::Receiver<DirectoryEvent>> {
        let (sender, receiver) = mpsc::channel(EVENTS_QUEUED_MAX);
        self.shared.event_sender.set(sender).is_ok().then_some(receiver)
    }

    /// Announces an event without a change of a record, by the current actor. When this returns, its deliveries are durable.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn announce(
        &self,
        org: &OrgId,
        kind: NoticeKind,
        about: NoticeDetails,
    ) -> Result<(), DirectoryError> {
        let shared = Arc::clone(&self.shared);
        let actor = TaskActor::current();
        let org = org.clone();
        super::run_to_completion(Box::pin(async move {
            let notice = Notice::new(kind, &org, &actor.by, shared.clock.now(), about);
            let view = shared.view.load_full();
            let events =
                Shared::events_with_deliveries(vec![notice], actor.request.as_ref(), &view, None);
            if let Err(error) = shared.store_deliveries(&events).await {
                // The caller may announce it again.
                shared.withdraw_events(&events).await;
                return Err(error);
            }
            shared.send_events(events).await;
            Ok(())
        }))
        .await
    }

    /// All stored deliveries. Deletes those whose change was lost in a crash.
    ///
    /// # Errors
    /// When the store fails, or a row does not open.
    pub async fn pending_deliveries(&self) -> Result<Vec<StoredDelivery>, DirectoryError> {
        let mut all = Vec::new();
        for (at, ReadRecord { record, version, .. }) in
            self.shared.rows.all::<Delivery>(Table::Deliveries).await?
        {
            let there = self.view().one::<Webhook>(&record.notice.org, &record.webhook).is_some();
            if record.at() != at {
                return Err(at.malformed());
            }
            if there && self.shared.happened(&record).await? {
                all.push(StoredDelivery { delivery: record, version });
            } else if self.may_be_made_now(&record) {
                // Kept: the process that makes the change delivers it.
            } else {
                self.shared.rows.delete(&at, Some(version)).await?;
            }
        }
        Ok(all)
    }

    /// Whether the change of this event may be in progress, in this process or in another replica. Another replica may
    /// have begun it before this process opened the store, unless there was no other replica then.
    fn may_be_made_now(&self, delivery: &Delivery) -> bool {
        let age = self.shared.clock.now().duration_since(delivery.notice.at);
        let is_of_now = delivery.notice.at > self.shared.opened;
        (is_of_now || self.leftovers() == Leftovers::Keep) && age < MADE_WITHIN
    }

    /// Stores the progress of a delivery. `None` if it was deleted, or another replica has changed it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn postpone(
        &self,
        stored: StoredDelivery,
    ) -> Result<Option<StoredDelivery>, DirectoryError> {
        let StoredDelivery { delivery, version } = stored;
        let (rows, at) = (&self.shared.rows, delivery.at());
        let mut written = rows.write(&at, &delivery, Some(version)).await;
        if written.as_ref().is_err_and(DirectoryError::is_conflict) && !self.is_shared() {
            // No other process writes this row, so an earlier write of this process was made although it was reported
            // as failed.
            let Some(version) = rows.version(&at).await? else { return Ok(None) };
            written = rows.write(&at, &delivery, Some(version)).await;
        }
        match written {
            Ok(version) => Ok(Some(StoredDelivery { delivery, version })),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a delivery that has succeeded or was given up.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete_delivery(&self, stored: &StoredDelivery) -> Result<(), DirectoryError> {
        Ok(self.shared.rows.delete(&stored.delivery.at(), None).await?)
    }
}

impl Shared {
    /// Events with their deliveries to subscribed webhooks of `view`. [`Self::store_deliveries`] stores the deliveries before
    /// the change of `cause` is made.
    pub(super) fn events_with_deliveries(
        notices: Vec<Notice>,
        request: Option<&RequestEvents>,
        view: &View,
        cause: Option<DeliveryCause>,
    ) -> Vec<DirectoryEvent> {
        let mut events = Vec::with_capacity(notices.len());
        for notice in notices {
            let wanting = view.all::<Webhook>(&notice.org).filter(|hook| hook.wants(notice.kind));
            let pending = wanting.map(|webhook| {
                let delivery = Delivery {
                    notice: notice.clone(),
                    webhook: webhook.id.clone(),
                    tries: 0,
                    next: notice.at,
                    since: None,
                    cause: cause.clone(),
                };
                StoredDelivery { delivery, version: Version::default().next() }
            });
            let deliveries = pending.collect();
            let request = request.filter(|_| !notice.needs_own_record()).cloned();
            let change = request.is_none().then(|| notice.change());
            let (org, at) = (notice.org.clone(), notice.at);
            events.push(DirectoryEvent {
                org,
                at,
                notice: Some(notice),
                deliveries,
                change,
                request,
            });
        }
        events
    }

    /// Stores new deliveries. After an error, some may be stored.
    pub(super) async fn store_deliveries(
        &self,
        events: &[DirectoryEvent],
    ) -> Result<(), DirectoryError> {
        for stored in events.iter().flat_map(|event| &event.deliveries) {
            self.rows.write(&stored.delivery.at(), &stored.delivery, None).await?;
        }
        Ok(())
    }

    /// Deletes the deliveries of a removed webhook. Those that cannot be deleted are deleted at the next start.
    pub(super) async fn delete_deliveries_of(&self, org: &OrgId, webhook: &WebhookId) {
        let of_it = format!(".{webhook}");
        let all = match self.rows.places(Table::Deliveries, org).await {
            Ok(all) => all.into_iter().filter(|at| at.id.ends_with(&of_it)),
            Err(error) => {
                tracing::warn!(%error, %webhook, "the deliveries of a removed webhook cannot be listed: they are deleted at the next start");
                return;
            }
        };
        let drop_one = |at: RowId| async move {
            if let Err(error) = self.rows.delete(&at, None).await {
                tracing::warn!(%error, "a delivery of a removed webhook cannot be deleted: it is deleted at the next start");
            }
        };
        // Concurrent deletes share a flush of the disk.
        stream::iter(all).for_each_concurrent(TOGETHER, drop_one).await;
    }

    /// Deletes the deliveries of a change that was not made. False if some stay.
    pub(super) async fn withdraw_events(&self, events: &[DirectoryEvent]) -> bool {
        let mut is_done = true;
        for stored in events.iter().flat_map(|event| &event.deliveries) {
            if let Err(error) = self.rows.delete(&stored.delivery.at(), None).await {
                tracing::warn!(%error, "a delivery of a change that was not made cannot be deleted: it is deleted at the next start");
                is_done = false;
            }
        }
        is_done
    }

    /// Sends the notices and records of a committed change to the receiver of events.
    pub(super) async fn send_events(&self, events: Vec<DirectoryEvent>) {
        for (request, notice) in
            events.iter().filter_map(|one| one.request.as_ref().zip(one.notice.as_ref()))
        {
            request.add(notice.kind);
        }
        let Some(sender) = self.event_sender.get() else { return };
        for one in events {
            // An error means that the receiver has ended; deliveries to webhooks are stored.
            let _ = sender.send(one).await;
        }
    }

    async fn happened(&self, delivery: &Delivery) -> Result<bool, DirectoryError> {
        let Some(cause) = delivery.cause.as_ref().filter(|_| delivery.tries == 0) else {
            return Ok(true);
        };
        let Some(table) = Table::ALL.into_iter().find(|table| table.name() == cause.table) else {
            return Ok(true);
        };
        let now = self.rows.version(&RowId::new(table, &delivery.notice.org, &cause.id)).await?;
        Ok(match (now, cause.version) {
            (None, None) => true,
            (Some(_), None) => false,
            // The row does not exist: it was removed since, or, if the change is its first version, was never written.
            (None, Some(then)) => then > 1,
            (Some(now), Some(then)) => now.0 >= then,
        })
    }
}
