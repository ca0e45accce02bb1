//! Open consents: limited in number, listed, cancelled by a person, and ended with their connection.

use std::sync::Arc;

use super::error::FlowError;
use super::flow::{Flow, FlowStage, ReceivedTokens, StoredFlow};
use super::{FlowView, Flows};
use crate::RowError;
use crate::refresh::flights::STORE_AGAIN;
use keyward_base::id::{ConnectionId, FlowId, OrgId};
use keyward_state::store::{StoreError, Version};

/// How often a write is retried after a conflict.
const TRIES_MAX: usize = 8;

impl Flows {
    /// The consents of an org that a person can still finish, the oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open_consents(&self, org: &OrgId) -> Result<Vec<FlowView>, FlowError> {
        let (now, view) = (self.clock.now(), self.directory().view());
        let mut open: Vec<Flow> =
            self.flows.all(org).await?.into_iter().map(|(_, flow, _)| flow).collect();
        let exists = |flow: &Flow| view.connection(org, &flow.connection).is_some();
        open.retain(|flow| flow.is_open(now) && exists(flow));
        open.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(open.iter().map(|flow| self.seen(flow)).collect())
    }

    /// Cancels an unfinished consent. A grant that waits for a decision is declined.
    ///
    /// # Errors
    /// When there is none, or it has ended or is being completed.
    pub async fn cancel(self: &Arc<Self>, org: &OrgId, id: &FlowId) -> Result<FlowView, FlowError> {
        for _ in 0..TRIES_MAX {
            let found = self.flows.get(org, id.as_str()).await?;
            let (flow, version) = found.ok_or(FlowError::NoFlow)?;
            if self.clock.now() >= flow.expires {
                return Err(FlowError::NotOpen);
            }
            match self.end(StoredFlow { flow, version }, "it was cancelled").await {
                Err(FlowError::Row(RowError::Store(StoreError::Conflict { .. }))) => {}
                Err(error) => return Err(error),
                Ok(()) => return self.view(org, id).await,
            }
        }
        Err(FlowError::BeingFinished)
    }

    /// Stores the tokens of a flow that waits for them. If the flow has ended meanwhile, returns the reason: then the
    /// tokens are unwanted, and are not stored. A write that was reported as failed may have been made, so it is
    /// repeated while the store fails.
    ///
    /// # Errors
    /// When the store fails for some seconds. See [`Flows::is_unkept`].
    pub(super) async fn keep_received(
        &self,
        flow: &Flow,
        received: &ReceivedTokens,
    ) -> Result<Option<String>, FlowError> {
        for pause in STORE_AGAIN {
            match self.try_to_keep(flow, received).await {
                Err(error) if error.is_of_store() => tokio::time::sleep(pause).await,
                other => return other,
            }
        }
        self.try_to_keep(flow, received).await
    }

    async fn try_to_keep(
        &self,
        flow: &Flow,
        received: &ReceivedTokens,
    ) -> Result<Option<String>, FlowError> {
        for _ in 0..TRIES_MAX {
            let found = self.flows.get(&flow.org, flow.id.as_str()).await?;
            let (mut now, version) = found.ok_or(FlowError::NoFlow)?;
            match &now.stage {
                FlowStage::Exchanging | FlowStage::Polling(_) => {}
                // Stored by a write that was reported as failed.
                stage if stage.has_received(received) => return Ok(None),
                FlowStage::Failed { why } => return Ok(Some(why.clone())),
                _ => return Ok(Some(FlowError::NotOpen.to_string())),
            }
            now.stage = FlowStage::Received(received.clone());
            match self.flows.put(&flow.org, flow.id.as_str(), &now, Some(version)).await {
                Err(RowError::Store(StoreError::Conflict { .. })) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(None),
            }
        }
        Err(FlowError::BeingFinished)
    }

    /// Whether the tokens are certainly not stored with their flow, so that `unfinished.rs` never puts them in force.
    pub(super) async fn is_unkept(&self, flow: &Flow, received: &ReceivedTokens) -> bool {
        match self.flows.get(&flow.org, flow.id.as_str()).await {
            Ok(found) => !found.is_some_and(|(now, _)| now.stage.has_received(received)),
            // A failed read does not tell whether an earlier write was made.
            Err(RowError::Store(error)) => !(error.is_io() || error.is_outcome_unknown()),
            // A row that cannot be opened is not put in force.
            Err(RowError::Sealed { .. } | RowError::Malformed { .. }) => true,
        }
    }

    /// Ends the consents of a removed connection.
    pub(super) async fn end_consents_of(self: &Arc<Self>, org: &OrgId, id: &ConnectionId) {
        let flows = match self.flows.all(org).await {
            Ok(flows) => flows,
            Err(error) => {
                return tracing::warn!(%error, "consents of a removed connection stay open");
            }
        };
        let now = self.clock.now();
        for (_, flow, version) in flows {
            if flow.connection != *id || !flow.is_open(now) {
                continue;
            }
            let (flows, id) = (Arc::clone(self), flow.id.clone());
            let end = async move {
                let stored = StoredFlow { flow, version };
                match flows.end(stored, "the connection was removed").await {
                    // The connection was removed, so the flow ends anyway.
                    Ok(()) | Err(FlowError::BeingFinished | FlowError::NotOpen) => {}
                    Err(error) => tracing::warn!(flow = %id, %error, "a consent stays open"),
                }
            };
            // Runs in the background: a revocation at the provider may take long.
            self.spawn(end);
        }
    }

    /// Stores a new flow, if its person may have one more.
    ///
    /// # Errors
    /// When too many of the person's flows are open, or the store fails.
    pub(super) async fn put_new(&self, flow: &Flow) -> Result<Version, FlowError> {
        let _turn = self.turn.lock().await;
        self.sweep(&flow.org, &flow.person).await?;
        Ok(self.flows.put(&flow.org, flow.id.as_str(), flow, None).await?)
    }

    /// Limits a person's open flows, and deletes old ones.
    pub(super) async fn sweep(&self, org: &OrgId, person: &str) -> Result<(), FlowError> {
        let (now, view) = (self.clock.now(), self.directory().view());
        let mut open = 0;
        for (id, flow, _) in self.flows.all(org).await? {
            // The flow of a removed connection cannot be finished.
            let is_one = flow.is_open(now) && view.connection(org, &flow.connection).is_some();
            open += usize::from(flow.person == person && is_one);
            if flow.kept_until() < now && !flow.has_tokens() {
                self.flows.delete(org, &id).await?;
            }
        }
        for rows in [&self.states, &self.tickets] {
            for (id, pointer, _) in rows.all(org).await? {
                if pointer.expires <= now {
                    rows.delete(org, &id).await?;
                }
            }
        }
        for (id, posted, _) in self.posted.all(org).await? {
            if posted.expires <= now {
                self.posted.delete(org, &id).await?;
            }
        }
        let max = self.settings.load().flows_per_person_max;
        if open >= max { Err(FlowError::TooMany(max)) } else { Ok(()) }
    }

    /// Ends an open flow for a reason.
    ///
    /// # Errors
    /// When it is not open, is being finished, or has changed since it was read.
    pub(super) async fn end(
        self: &Arc<Self>,
        stored: StoredFlow,
        why: &str,
    ) -> Result<(), FlowError> {
        let StoredFlow { mut flow, version } = stored;
        match flow.stage.clone() {
            FlowStage::Offered | FlowStage::AtProvider(_) | FlowStage::Polling(_) => {
                flow.stage = FlowStage::Failed { why: why.to_owned() };
                self.flows.put(&flow.org, flow.id.as_str(), &flow, Some(version)).await?;
                self.note_draft_failure(&flow, why).await;
                Ok(())
            }
            FlowStage::Confirming(waiting) => {
                self.decline(StoredFlow { flow, version }, waiting, why).await
            }
            FlowStage::Exchanging | FlowStage::Received(_) | FlowStage::Abandoned(_) => {
                Err(FlowError::BeingFinished)
            }
            FlowStage::Connected { .. } | FlowStage::Failed { .. } => Err(FlowError::NotOpen),
        }
    }
}
