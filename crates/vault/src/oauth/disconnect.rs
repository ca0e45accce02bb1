//! Removes a connection and revokes its grant. The store writes one row at a time, so the revocation is planned in the
//! outbox before the removal: a crash or a failing store in between leaves no grant unrevoked.

use std::sync::Arc;

use jiff::SignedDuration;
use tokio::time::Instant;

use super::Flows;
use super::error::FlowError;
use super::flow::PendingRevocation;
use super::revocation_attempt::{Revoked, encoded};
use super::revoke::RevocationTarget;
use crate::RemovedConnection;
use keyward_base::id::{ConnectionId, OrgId};
use keyward_state::directory::ConnectionRecord;
use keyward_state::store::Version;

/// How long a removal has for what follows its plan. Afterwards any replica decides by the connection: the plan is carried
/// out if it is removed, and deleted if it is not. Views of replicas differ by less.
const PLANNED_FOR: SignedDuration = SignedDuration::from_mins(1);

/// A revocation that is in the outbox before its connection is removed.
struct PlannedRevocation {
    pending: PendingRevocation,
    version: Version,
}

impl Flows {
    /// Removes a connection, and revokes its grants at the provider if `revoke`. Does not fail because of
    /// the provider, and waits for it a bounded time.
    ///
    /// # Errors
    /// When there is no such connection, or the store fails. If it fails after the removal, the revocation stays pending.
    pub async fn disconnect(
        self: &Arc<Self>,
        org: &OrgId,
        id: &ConnectionId,
        revoke: bool,
    ) -> Result<Option<Revoked>, FlowError> {
        let before = self.directory().view().connection(org, id).cloned();
        let (app, planned) = match before {
            Some(connection) if revoke => {
                // Read before the connection is removed: until then its app cannot be removed.
                let app = self.pending_app(&connection).await;
                let target = RevocationTarget { connection, app };
                let planned = self.plan_revocation(&target).await?;
                (target.app, planned)
            }
            Some(_) => {
                self.drop_plan(org, id).await?;
                (None, None)
            }
            None => (None, None),
        };
        let ended = match self.vault.lifecycle().disconnect(org, id, revoke).await {
            Ok(ended) => ended,
            Err(error) => {
                if let Some(PlannedRevocation { pending, .. }) = planned {
                    self.drop_plan_of_existing(id.as_str(), &pending).await;
                }
                return Err(error.into());
            }
        };
        self.end_consents_of(org, id).await;
        let RemovedConnection { connection, grant, late, is_awaited_elsewhere } = ended;
        let removed = RevocationTarget { connection, app };
        let deadline = Instant::now() + self.settings.load().revoke_timeout;
        let grant = grant.filter(|_| revoke).map(|grant| encoded(&grant));
        let (before, plan) = planned.map(|plan| (plan.pending.grant, plan.version)).unzip();
        // The grant may have been renewed since the plan.
        let first = match grant.or(before) {
            None => None,
            Some(grant) => {
                let pending = removed.pending_revocation(grant, self.revoked_until());
                Some(self.store_and_attempt(id.as_str(), pending, plan, deadline).await?)
            }
        };
        let Some(mut late) = late else {
            let later = is_awaited_elsewhere.then(|| self.after_refresh());
            return Ok(Revoked::both(first, later));
        };
        // A refresh is running: its tokens must be revoked too.
        let newer = match tokio::time::timeout_at(deadline, late.landed()).await {
            Ok(()) => self.revoke_late(&removed, late, deadline).await?,
            Err(_) => {
                self.revoke_when_landed(removed, late);
                self.after_refresh()
            }
        };
        Ok(Revoked::both(first, Some(newer)))
    }

    /// The result while a refresh runs, whose tokens are revoked later.
    fn after_refresh(&self) -> Revoked {
        let why = "a refresh of its tokens has not ended".to_owned();
        Revoked::Later { until: self.revoked_until(), why: Some(why) }
    }

    /// Stores the revocation of the grant that a connection has now. `None` if nothing can be revoked.
    async fn plan_revocation(
        &self,
        target: &RevocationTarget,
    ) -> Result<Option<PlannedRevocation>, FlowError> {
        let RevocationTarget { connection, .. } = target;
        let Some(grant) = self.vault.grants().revocable_grant(connection).await? else {
            return Ok(None);
        };
        let mut pending = target.pending_revocation(encoded(&grant), self.revoked_until());
        pending.planned = Some(self.clock.now());
        let (org, key) = (&connection.org, connection.id.as_str());
        // An earlier removal may have failed and left its plan.
        let over = self.outbox.get(org, key).await?.map(|(_, version)| version);
        let version = self.outbox.put(org, key, &pending, over).await?;
        Ok(Some(PlannedRevocation { pending, version }))
    }

    /// Deletes the plan of an earlier removal that failed, before one that revokes nothing.
    async fn drop_plan(&self, org: &OrgId, id: &ConnectionId) -> Result<(), FlowError> {
        let key = id.as_str();
        match self.outbox.get(org, key).await? {
            Some((pending, _)) if pending.planned.is_some() => {
                Ok(self.outbox.delete(org, key).await?)
            }
            _ => Ok(()),
        }
    }

    /// Deletes the plan of a removal that failed. If the connection is removed nevertheless, the plan stays.
    async fn drop_plan_of_existing(&self, key: &str, plan: &PendingRevocation) {
        let ConnectionRecord { org, id, .. } = &plan.connection;
        if self.directory().view().connection(org, id).is_some()
            && let Err(error) = self.outbox.delete(org, key).await
        {
            tracing::warn!(%error, connection = %id, "the plan of a failed removal is not deleted yet");
        }
    }

    /// Whether a stored revocation may be carried out. A plan of a removal in progress may not; an old one of a connection
    /// that exists is deleted.
    pub(super) async fn may_revoke(&self, key: &str, pending: &PendingRevocation) -> bool {
        let Some(planned) = pending.planned else { return true };
        if self.clock.now().duration_since(planned) < PLANNED_FOR {
            return false;
        }
        let ConnectionRecord { org, id, .. } = &pending.connection;
        let is_removed = self.directory().view().connection(org, id).is_none();
        if !is_removed {
            self.drop_plan_of_existing(key, pending).await;
        }
        is_removed
    }
}
