//! Webhooks as a [`Stored`] resource: the removal of one also deletes its deliveries.

use keyward_model::{ManagedBy, Record, Webhook, WebhookState};

use super::error::DirectoryError;
use super::index::NameKind;
use super::stored::{Stored, stored_in};
use super::view::View;
use super::{DirectoryWriter, check};
use crate::store::Table;

impl Stored for Webhook {
    const TABLE: Table = Table::Webhooks;
    const NAMED: NameKind = NameKind::Webhook;

    stored_in!(webhooks);

    /// A webhook that was removed from the configuration file is paused, and anyone may remove it.
    fn may_remove(record: &Record<Self>, by: ManagedBy, _: &View) -> Result<(), DirectoryError> {
        match record.facts.state {
            WebhookState::Paused => Ok(()),
            _ => check::editor(record.managed_by, by, "webhook", record.name()),
        }
    }

    /// Deletes the pending deliveries, without the write lock: there may be many rows, and the next writer need not
    /// wait.
    async fn after_removal(
        writer: DirectoryWriter,
        record: Record<Self>,
    ) -> Result<(), DirectoryError> {
        let shared = writer.shared.clone();
        drop(writer);
        shared.delete_deliveries_of(&record.org, &record.id).await;
        Ok(())
    }
}
