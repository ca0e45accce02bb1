//! What is told of a flow: how it stands, never what would finish it.

use serde::{Deserialize, Serialize};

use super::Flows;
use super::error::FlowError;
use super::flow::{Flow, Stage};
use crate::base::id::{ConnectionId, FlowId, OrgId};

/// A flow as its owner sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FlowView {
    /// `flw_…`
    pub id: FlowId,
    /// What it is for.
    pub connection: ConnectionId,
    /// `state`, and what belongs to it.
    #[serde(flatten)]
    pub state: FlowState,
}

/// How a flow stands.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum FlowState {
    /// A person has to act.
    Open,
    /// A person has to say whether the account may change.
    Confirm {
        /// Whose account the connection is.
        before: String,
        /// Whose it would be.
        account: String,
    },
    /// The grant is stored.
    Connected {
        /// It will end by itself: the provider gave nothing to renew it with.
        ends: bool,
    },
    /// It gave no grant.
    Failed {
        /// Why.
        why: String,
    },
}

impl Flows {
    /// How a flow stands.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn view(&self, org: &OrgId, id: &FlowId) -> Result<FlowView, FlowError> {
        let found = self.flows.get(org, id.as_str()).await?;
        let (flow, _) = found.ok_or(FlowError::NoFlow)?;
        Ok(self.seen(&flow))
    }

    pub(super) fn seen(&self, flow: &Flow) -> FlowView {
        let over = self.clock.now() >= flow.expires;
        let state = match &flow.stage {
            Stage::Connected { ends } => FlowState::Connected { ends: *ends },
            Stage::Failed { why } => FlowState::Failed { why: why.clone() },
            _ if over => FlowState::Failed { why: "nobody consented in time".to_owned() },
            Stage::Confirming(waits) => {
                let (before, account) = (waits.before.clone(), waits.account.clone());
                FlowState::Confirm { before, account }
            }
            Stage::Offered | Stage::Asked(_) | Stage::Exchanging | Stage::Polling(_) => {
                FlowState::Open
            }
        };
        FlowView { id: flow.id.clone(), connection: flow.connection.clone(), state }
    }
}
