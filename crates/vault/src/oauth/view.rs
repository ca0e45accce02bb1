//! The public view of a flow: its state, nothing that could finish it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Flows;
use super::error::FlowError;
use super::flow::{Abandoned, Flow, Stage};
use keyward_base::id::{ConnectionId, FlowId, OrgId};

/// A flow as its owner sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FlowView {
    /// `flw_…`
    pub id: FlowId,
    /// What it is for.
    pub connection: ConnectionId,
    /// Who started it.
    pub person: String,
    /// When.
    pub created: Timestamp,
    /// Until when it can be finished.
    pub expires: Timestamp,
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
        /// Whose it would be; `null`: the provider does not say.
        account: Option<String>,
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
            Stage::Abandoned(Abandoned { why, .. }) if over => {
                FlowState::Failed { why: why.clone() }
            }
            _ if over => FlowState::Failed { why: "nobody consented in time".to_owned() },
            Stage::Confirming(waits) => {
                let account = waits.account().map(|account| account.name);
                FlowState::Confirm { before: waits.before.clone(), account }
            }
            Stage::Offered
            | Stage::AtProvider(_)
            | Stage::Exchanging
            | Stage::Received(_)
            | Stage::Abandoned(_)
            | Stage::Polling(_) => FlowState::Open,
        };
        FlowView {
            id: flow.id.clone(),
            connection: flow.connection.clone(),
            person: flow.person.clone(),
            created: flow.created,
            expires: flow.expires,
            state,
        }
    }
}
