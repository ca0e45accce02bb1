//! [`DirectoryEvent`]: an event or a change in the directory, with its deliveries that webhooks have not accepted yet.
//! [`UncertainChange`]: a change whose write has failed, and may have been made.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::error::DirectoryError;
use super::rows::{RowId, RowWrite};
use crate::observe::change::{Change, RequestEvents};
use crate::observe::notice::Notice;
use crate::store::{Table, Version};
use keyward_base::id::{OrgId, WebhookId};

/// The sender of events; empty until [`Directory::take_event_receiver`](super::Directory::take_event_receiver) is called.
pub(super) type EventSender = std::sync::OnceLock<mpsc::Sender<DirectoryEvent>>;

/// One event for one webhook.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Delivery {
    pub notice: Notice,
    /// The receiving webhook.
    pub webhook: WebhookId,
    /// The number of attempts.
    pub tries: u32,
    /// The earliest time of the next attempt.
    pub next: Timestamp,
    /// The time of the first attempt; `None` before it.
    pub since: Option<Timestamp>,
    /// Written by earlier versions, which stored a delivery before the change that caused the event.
    pub(super) cause: Option<DeliveryCause>,
}

/// A change of a row that may not have been made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct DeliveryCause {
    pub(super) table: String,
    pub(super) id: String,
    /// The version of the row after the change; `None`: the change removes the row.
    pub(super) version: Option<u64>,
}

/// A stored delivery, with the version of its row.
#[derive(Clone, Debug)]
pub struct StoredDelivery {
    pub delivery: Delivery,
    pub(super) version: Version,
}

/// An event, or a change that no request has recorded.
#[derive(Clone, Debug)]
pub struct DirectoryEvent {
    pub org: OrgId,
    /// When it happened.
    pub at: Timestamp,
    pub notice: Option<Notice>,
    /// Its stored deliveries.
    pub deliveries: Vec<StoredDelivery>,
    /// The record for the log of changes.
    pub change: Option<Change>,
    /// The events of the request whose audit record covers this one.
    pub(super) request: Option<RequestEvents>,
}

impl Delivery {
    pub(super) fn at(&self) -> RowId {
        let id = format!("{}.{}", self.notice.id, self.webhook);
        RowId::new(Table::Deliveries, &self.notice.org, id)
    }

    /// Its row, which is written with the change that causes the event.
    pub(super) fn new_row(&self) -> Result<RowWrite, DirectoryError> {
        RowWrite::put(self.at(), self, None)
    }
}

/// A change of which it is not known whether it was made.
#[derive(Clone, Debug)]
pub(super) struct UncertainChange {
    /// The rows of its records, with their versions after the change; `None`: the row is gone then.
    pub(super) rows: Vec<(RowId, Option<Version>)>,
    pub(super) events: Vec<DirectoryEvent>,
}
