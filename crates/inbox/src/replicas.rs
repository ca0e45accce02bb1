//! Several replicas on one store: all replicas know all events, but only the holder of the lease of a hook delivers its
//! events, so that they stay in order. When the lease ends, another replica takes over.

use std::sync::Arc;
use std::time::Duration;

use super::event::EventRow;
use super::queue::QueueEntry;
use super::{Inbox, InboxError};
use keyward_base::id::{HookId, OrgId};
use keyward_state::store::{Table, Version};
use keyward_vault::RowError;

/// How long a stopped replica still holds a hook, in addition to the timeout of a delivery.
const LEASE: Duration = Duration::from_secs(20);

impl Inbox {
    /// Takes or renews the lease of a hook. False while another replica delivers its events.
    pub(crate) async fn holds_lease(&self, hook: &HookId) -> Result<bool, InboxError> {
        let long = self.settings.load().timeout + LEASE;
        let held = self.owned.lock().remove(hook);
        let lease = match held {
            Some(lease)
                if self.store.renew_lease(&lease, long).await.map_err(RowError::Store)? =>
            {
                Some(lease)
            }
            _ => self.store.lease(&format!("hook/{hook}"), long).await.map_err(RowError::Store)?,
        };
        let Some(lease) = lease else { return Ok(false) };
        self.owned.lock().insert(hook.clone(), lease);
        Ok(true)
    }

    /// Updates the queue after another replica has changed this row.
    pub fn changed_elsewhere(self: &Arc<Self>, table: Table, key: &str) {
        let (Table::HookEvents, Some((org, row))) = (table, key.split_once('/')) else { return };
        let (Ok(org), row) = (OrgId::parse(org), row.to_owned()) else { return };
        let inbox = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = inbox.follow_once(&org, &row).await {
                tracing::warn!(%error, row, "cannot load an event that another replica has stored");
            }
        });
    }

    /// Makes the queue show what the store has of an event, also if that is changed meanwhile.
    pub(crate) async fn follow(&self, org: &OrgId, row: &str) -> Result<(), InboxError> {
        loop {
            let shown = self.follow_once(org, row).await?;
            let now = self.events.get(org, row).await?.map(|(_, version)| version);
            if now == shown {
                return Ok(());
            }
        }
    }

    /// Makes the queue show what was read of an event; returns its version.
    async fn follow_once(&self, org: &OrgId, row: &str) -> Result<Option<Version>, InboxError> {
        let found = self.events.get(org, row).await?;
        let version = found.as_ref().map(|(_, version)| *version);
        match found {
            Some((entry, version)) => {
                // Its delivery may have been postponed.
                if let EventRow::Waiting(event) = &entry {
                    self.queue.lock().postpone(&event.hook, &event.id, event.next);
                }
                self.queue_row(org, row, QueueEntry::of(org, row, entry, version)).await?;
            }
            None => {
                if let Some((hook, id)) = row.split_once('.')
                    && let Ok(hook) = HookId::parse(hook)
                {
                    self.queue.lock().remove(&hook, id);
                }
            }
        }
        self.signal_change();
        Ok(version)
    }
}
