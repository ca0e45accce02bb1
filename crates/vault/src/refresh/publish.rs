//! Writes a changed row, and replaces the cached credential without a gap.

use std::sync::Arc;

use super::Refresh;
use super::token_request::StoredGrants;
use crate::error::VaultError;
use crate::grants::record::NewRow;
use crate::grants::{self, StoredGrant, TRIES_MAX};
use keyward_state::directory::ConnectionRecord;

pub(crate) type Change<'a> = dyn Fn(&StoredGrant) -> Result<NewRow, VaultError> + Sync + 'a;

impl Refresh {
    /// Writes the changed row, and publishes its credential.
    pub(crate) async fn change(
        &self,
        connection: &Arc<ConnectionRecord>,
        to: &Change<'_>,
    ) -> Result<StoredGrant, VaultError> {
        let (org, id) = (&connection.org, &connection.id);
        for _ in 0..TRIES_MAX {
            let stored = self.grants.stored(connection).await?;
            match self.grants.write(org, id, to(&stored)?, Some(stored.version)).await {
                Err(error) if grants::is_conflict(&error) => {}
                other => {
                    other?;
                    let published = self.publish_stored(connection).await;
                    if published.is_err() {
                        // The cached credential is outdated, and the feed omits a replica's own changes.
                        self.cache.forget(id);
                    }
                    return published;
                }
            }
        }
        Err(grants::overtaken(org, id))
    }

    /// Replaces the cached credential by that of the stored grant without a gap, if the grant gives it without a request.
    async fn publish_stored(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<StoredGrant, VaultError> {
        let cell = self.cache.known(&connection.id).map(|cell| (cell.epoch(), cell));
        let stored = self.grants.stored(connection).await?;
        let token_context = self.guarded_token_context(connection).await?;
        let grant = stored.grant(&self.context, connection)?;
        let other = stored.other_grant(&self.context, connection)?;
        let grants = StoredGrants { grant: &grant, other: other.as_ref(), version: stored.version };
        match (self.held(connection, &token_context, grants), cell) {
            (Ok(Some(held)), Some((epoch, cell))) => cell.reset_with(held, epoch),
            // A cell that was created since then reads the changed row.
            (Ok(Some(_)), None) => {}
            (Ok(None) | Err(_), _) => self.cache.forget(&connection.id),
        }
        Ok(stored)
    }
}
