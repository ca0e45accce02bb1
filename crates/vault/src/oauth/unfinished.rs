//! The background job that completes unfinished consents and pending revocations. It searches for them at the start and
//! at intervals, so that a replica completes the work of another one that crashed or stopped. A task works on a stage
//! of a consent while it holds the lease of the flow and renews it; a stage without a lease was abandoned.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;

use super::Flows;
use super::flow::{Flow, FlowStage, ReceivedTokens};
use crate::RowError;
use crate::grants::record::GrantOrigin;
use crate::rows::RowKey;
use keyward_base::id::{FlowId, OrgId};
use keyward_state::store::Lease;

/// The interval of the search. In PostgreSQL a lease outlives a crash of its holder by up to its lease time, which is
/// longer by default.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Shortest lease time, because renewals take time, too.
const LEASE_MIN: Duration = Duration::from_secs(10);

/// Renewals per lease time: one may be missed.
const LEASE_RENEWALS: u32 = 3;

/// Flows that need no work until their row changes, and how long they are kept. A search reads only the other flows.
#[derive(Default)]
struct SettledFlows(HashMap<RowKey, Timestamp>);

impl Flows {
    /// Continues unfinished work of all organisations, at once and at intervals, until flows are closed.
    pub async fn continue_unfinished(self: &Arc<Self>) {
        let (mut was_read, mut settled) = (true, SettledFlows::default());
        loop {
            let looked = self.look_for_unfinished(&mut settled).await;
            if let Err(error) = &looked
                && was_read
            {
                tracing::error!(%error, "unfinished consents cannot be read; trying again");
            }
            was_read = looked.is_ok();
            if !self.wait(LOOK_EVERY).await {
                return;
            }
        }
    }

    /// Continues work that no task or replica does: polls of device codes, grants that are not in force yet or must be
    /// revoked, pending decisions, and pending revocations. An interrupted exchange has failed. Old flows are deleted.
    async fn look_for_unfinished(
        self: &Arc<Self>,
        settled: &mut SettledFlows,
    ) -> Result<(), RowError> {
        let keys = self.flows.keys().await?;
        let with_owed = self.outbox.orgs().await?;
        let (view, now) = (self.directory().view(), self.clock.now());
        let mut result = Ok(());
        // Deleted rows are omitted.
        let mut before = std::mem::take(&mut settled.0);
        for key in keys {
            if view.org(&key.org).is_none() {
                continue;
            }
            let kept_until = match before.remove(&key).filter(|until| now <= *until) {
                Some(until) => Ok(Some(until)),
                None => self.look_at(&key).await,
            };
            match kept_until {
                Ok(until) => settled.0.extend(until.map(|until| (key, until))),
                Err(error) => result = result.and(Err(error)),
            }
        }
        // Also of organisations that were removed: what they owe is still valid at its provider.
        for org in &with_owed {
            result = result.and(self.resume_outbox(org).await);
        }
        result
    }

    /// Continues a flow, or deletes an old one. Returns how long it is kept if it needs no work until its row changes.
    async fn look_at(self: &Arc<Self>, key: &RowKey) -> Result<Option<Timestamp>, RowError> {
        let Some((flow, _)) = self.flows.get(&key.org, &key.id).await? else { return Ok(None) };
        let kept_until = flow.kept_until();
        if flow.stage.needs_work() {
            self.go_on(flow);
            return Ok(None);
        }
        if kept_until < self.clock.now() {
            self.flows.delete(&key.org, &key.id).await?;
            return Ok(None);
        }
        Ok(Some(kept_until))
    }

    fn go_on(self: &Arc<Self>, flow: Flow) {
        match flow.stage {
            FlowStage::Polling(_) => self.poll_until_done(flow),
            FlowStage::Confirming(_) => self.decline_in_time(&flow),
            FlowStage::Exchanging | FlowStage::Received(_) | FlowStage::Abandoned(_) => {
                let flows = Arc::clone(self);
                self.spawn(async move { flows.finish_left(&flow.org, &flow.id).await });
            }
            FlowStage::Offered
            | FlowStage::AtProvider(_)
            | FlowStage::Connected { .. }
            | FlowStage::Failed { .. } => {}
        }
    }

    /// Finishes the stage of a flow, unless another task or replica does.
    async fn finish_left(self: &Arc<Self>, org: &OrgId, id: &FlowId) {
        match self.lease_of(id).await {
            Ok(Some(lease)) => self.renewing(&lease, self.finish_stage(org, id).boxed()).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(flow = %id, %error, "a consent is not continued yet"),
        }
    }

    /// Finishes the stage of a flow. The caller holds the lease of the flow.
    async fn finish_stage(self: &Arc<Self>, org: &OrgId, id: &FlowId) {
        // The flow is read again, because another holder of the lease may have finished the stage.
        let Ok(Some((flow, _))) = self.flows.get(org, id.as_str()).await else { return };
        match flow.stage.clone() {
            FlowStage::Received(mut received) => {
                // The consent ended before an upgrade; the connection may have another grant since, which must stay.
                if received.replaces.is_none() && self.clock.now() >= flow.expires {
                    received.replaces = Some(GrantOrigin::default());
                }
                if let Err(error) = self.put_in_force(&flow, received).await {
                    tracing::warn!(flow = %id, %error, "an unfinished consent gave no grant");
                }
            }
            FlowStage::Exchanging => {
                let why = "the gateway stopped while the code was exchanged, or could not store the tokens";
                self.note_failure(&flow, why).await;
            }
            FlowStage::Abandoned(abandoned) => self.revoke_unwanted(&flow, abandoned).await,
            _ => {}
        }
    }

    /// The tokens, with the origin of the grant that is stored now. They replace that grant, and no later one.
    pub(super) async fn noting_replaced(
        &self,
        flow: &Flow,
        received: ReceivedTokens,
    ) -> ReceivedTokens {
        let connection = self.directory().view().connection(&flow.org, &flow.connection).cloned();
        let Some(connection) = connection else { return received };
        match self.vault.grants().grant_origin(&connection).await {
            Ok(origin) => ReceivedTokens { replaces: Some(origin), ..received },
            Err(error) => {
                tracing::warn!(flow = %flow.id, %error, "the grant before a consent cannot be read");
                received
            }
        }
    }

    /// The lease of a flow; `None` while another task or replica works on it.
    pub(super) async fn lease_of(&self, flow: &FlowId) -> Result<Option<Lease>, RowError> {
        Ok(self.store.lease(&format!("flow/{flow}"), self.lease_time()).await?)
    }

    pub(super) fn lease_time(&self) -> Duration {
        let settings = self.settings.load();
        (settings.exchange_timeout * 2 + settings.account_timeout).max(LEASE_MIN)
    }

    /// Runs `work` on a flow under its lease, or without it while another task holds it: the holder may have crashed,
    /// and the decision of a person does not wait until that lease expires. A stage may be finished twice without harm.
    pub(super) async fn under_lease<T>(&self, flow: &FlowId, work: impl Future<Output = T>) -> T {
        match self.lease_of(flow).await {
            Ok(Some(lease)) => self.renewing(&lease, work).await,
            Ok(None) | Err(_) => work.await,
        }
    }

    /// Runs `work` while the lease is renewed. It is not cancelled when the lease is lost: it may have tokens to store.
    pub(super) async fn renewing<T>(&self, lease: &Lease, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.renew(lease) => match never {},
        }
    }

    async fn renew(&self, lease: &Lease) -> Infallible {
        loop {
            tokio::time::sleep(self.lease_time() / LEASE_RENEWALS).await;
            if let Err(error) = self.still_holds(lease).await {
                tracing::warn!(%error, lease = lease.name(), "a lease is not renewed");
            }
        }
    }

    /// Renews the lease. Returns whether no other holder had it meanwhile.
    pub(super) async fn still_holds(&self, lease: &Lease) -> Result<bool, RowError> {
        Ok(self.store.renew_lease(lease, self.lease_time()).await?)
    }
}

#[cfg(test)]
mod tests;
