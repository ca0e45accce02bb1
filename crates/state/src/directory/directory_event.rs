//! [`DirectoryEvent`]: an event or a change in the directory, with its deliveries that webhooks have not accepted yet.
//! [`UncertainChange`]: a change whose write has failed, and may have been made.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::index::IndexChange;
use super::rows::RowId;
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
    /// The change that caused the event; `None` if no record was changed.
    pub(super) cause: Option<DeliveryCause>,
}

/// The change of a row.
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
}

impl DeliveryCause {
    pub(super) fn of(at: &RowId, version: Option<Version>) -> Self {
        let table = at.table.name().to_owned();
        Self { table, id: at.id.clone(), version: version.map(|version| version.0) }
    }
}

/// A change of a row of which it is not known whether it was made.
#[derive(Clone, Debug)]
pub(super) struct UncertainChange {
    pub(super) at: RowId,
    /// The version of the row after the change; `None`: the change removes the row.
    pub(super) version: Option<Version>,
    /// Its events, which are stored.
    pub(super) events: Vec<DirectoryEvent>,
    pub(super) index: IndexChange,
}
