//! Deliveries of events to webhooks, one row for each event and webhook. They are written with the change that causes the
//! event. Earlier versions wrote them before it: their deliveries name the change, and are delivered only if it was made.

use std::sync::Arc;

use jiff::SignedDuration;
use tokio::sync::mpsc;

use super::directory_event::{Delivery, DirectoryEvent, StoredDelivery};
use super::error::DirectoryError;
use super::follow_state::Leftovers;
use super::rows::{ReadRecord, RowId, RowWrite};
use super::view::View;
use super::{Directory, Shared};
use crate::observe::change::{RequestEvents, TaskActor};
use crate::observe::notice::{Notice, NoticeDetails, NoticeKind};
use crate::store::{Table, Version};
use keyward_base::id::{OrgId, WebhookId};
use keyward_model::Webhook;

/// Events that wait for the receiver. When there are more, changes wait.
const EVENTS_QUEUED_MAX: usize = 1_024;

/// How long after its event a replica of an earlier version may make the change. Other replicas see a webhook sooner.
const MADE_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// Rows that are deleted at once.
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
                Shared::events_with_deliveries(vec![notice], actor.request.as_ref(), &view);
            let deliveries = events.iter().flat_map(|event| &event.deliveries);
            let rows: Result<Vec<_>, _> = deliveries.map(|it| it.delivery.new_row()).collect();
            shared.rows.commit(&rows?).await?;
            shared.send_events(events).await;
            Ok(())
        }))
        .await
    }

    /// All stored deliveries. Deletes those of removed webhooks, and those of an earlier version whose change was not made.
    ///
    /// # Errors
    /// When the store fails, or a row does not open.
    pub async fn pending_deliveries(&self) -> Result<Vec<StoredDelivery>, DirectoryError> {
        let mut all = Vec::new();
        for (at, ReadRecord { record, version, .. }) in
            self.shared.rows.all::<Delivery>(Table::Deliveries).await?
        {
            let has_webhook =
                self.view().one::<Webhook>(&record.notice.org, &record.webhook).is_some();
            if record.at() != at {
                return Err(at.malformed());
            }
            if has_webhook && self.shared.happened(&record).await? {
                all.push(StoredDelivery { delivery: record, version });
            } else if !self.may_be_used_soon(&record) {
                self.shared.rows.delete(&at, Some(version)).await?;
            }
        }
        Ok(all)
    }

    /// Whether another replica may have added the webhook just now, or may make the change of this event now. If there was
    /// no other replica when this process opened the store, that holds only for events since then.
    fn may_be_used_soon(&self, delivery: &Delivery) -> bool {
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
        self.shared.rows.delete(&stored.delivery.at(), None).await
    }
}

impl Shared {
    /// Events with their deliveries to subscribed webhooks of `view`.
    pub(super) fn events_with_deliveries(
        notices: Vec<Notice>,
        request: Option<&RequestEvents>,
        view: &View,
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
                    cause: None,
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

    /// Deletes the deliveries of a removed webhook. Those that cannot be deleted are deleted at the next start.
    pub(super) async fn delete_deliveries_of(&self, org: &OrgId, webhook: &WebhookId) {
        let of_it = format!(".{webhook}");
        let deleted = async {
            let mut all = self.rows.places(Table::Deliveries, org).await?;
            all.retain(|at| at.id.ends_with(&of_it));
            let all = all.into_iter().map(|at| RowWrite::Delete { at, over: None });
            for some in all.collect::<Vec<_>>().chunks(TOGETHER) {
                self.rows.commit(some).await?;
            }
            Ok::<_, DirectoryError>(())
        };
        if let Err(error) = deleted.await {
            tracing::warn!(%error, %webhook, "deliveries of a removed webhook stay until the next start");
        }
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

    /// Whether the change of a delivery was made, which an earlier version stored before the change.
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
