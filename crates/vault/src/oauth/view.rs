//! The public view of a flow: its state, without secrets.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Flows;
use super::callback::Cookies;
use super::error::{CallbackRefusal, FlowError};
use super::flow::{Abandoned, Flow, FlowStage};
use keyward_base::id::{ConnectionId, FlowId, OrgId, UserId};
use keyward_model::{Record, User};

/// A flow for its owner.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct FlowView {
    /// `flw_…`
    pub id: FlowId,
    /// Its connection.
    pub connection: ConnectionId,
    /// The person who started it.
    pub person: String,
    /// Time of the start.
    pub created: Timestamp,
    /// Its expiry.
    pub expires: Timestamp,
    /// `state` and its data.
    #[serde(flatten)]
    pub state: FlowState,
}

/// The state of a flow.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum FlowState {
    /// A person must consent.
    Open,
    /// A person must decide about another account.
    Confirm {
        /// The account of the connection.
        before: String,
        /// The account of the grant; `null`: the provider does not name it.
        account: Option<String>,
    },
    /// The tokens were received, and the platform that requested the consent must release them.
    Held {
        /// The account of the connection, if the grant has another or an unknown one.
        before: Option<String>,
        /// The account of the grant; `null`: the provider does not name it.
        account: Option<String>,
    },
    /// The grant is stored.
    Connected {
        /// Whether the grant expires: it has no refresh token.
        ends: bool,
    },
    /// The flow gave no grant.
    Failed {
        /// The reason.
        why: String,
    },
}

impl Flows {
    /// The state of a flow.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn view(&self, org: &OrgId, id: &FlowId) -> Result<FlowView, FlowError> {
        let found = self.flows.get(org, id.as_str()).await?;
        let (flow, _) = found.ok_or(FlowError::NoFlow)?;
        Ok(self.seen(&flow))
    }

    /// The state of a flow, for the browser that consents.
    ///
    /// # Errors
    /// When there is no flow, the browser is another one, or the store fails.
    pub async fn view_in_browser(
        &self,
        org: &OrgId,
        id: &FlowId,
        cookies: &Cookies,
    ) -> Result<FlowView, CallbackRefusal> {
        let found = self.flows.get(org, id.as_str()).await?;
        let (flow, _) = found.ok_or(CallbackRefusal::NoFlow)?;
        match flow.is_of_browser(cookies.one(&flow.cookie())) {
            true => Ok(self.seen(&flow)),
            false => Err(CallbackRefusal::OtherBrowser),
        }
    }

    /// The user who started a flow; `None` if the operator did, or the user was removed.
    pub(super) fn user_of(&self, flow: &Flow) -> Option<Arc<Record<User>>> {
        let id = UserId::parse(&flow.person).ok()?;
        self.directory().view().one::<User>(&flow.org, &id).cloned()
    }

    /// The name of the person who started a flow.
    pub(super) fn person_of(&self, flow: &Flow) -> String {
        self.user_of(flow).map_or_else(|| flow.person.clone(), |user| user.name.clone())
    }

    pub(super) fn seen(&self, flow: &Flow) -> FlowView {
        let over = self.clock.now() >= flow.expires;
        let state = match &flow.stage {
            FlowStage::Connected { ends } => FlowState::Connected { ends: *ends },
            FlowStage::Failed { why } => FlowState::Failed { why: why.clone() },
            FlowStage::Abandoned(Abandoned { why, .. }) if over => {
                FlowState::Failed { why: why.clone() }
            }
            // The exchange ends soon, and its tokens will be put in force or revoked, also after a crash.
            FlowStage::Exchanging | FlowStage::Received(_) => FlowState::Open,
            _ if over => FlowState::Failed { why: self.why_over(flow) },
            FlowStage::Confirming(waits) => {
                let account = waits.account().map(|account| account.name);
                let before = waits.before.clone();
                match flow.held {
                    true => FlowState::Held {
                        before: Some(before).filter(|it| !it.is_empty()),
                        account,
                    },
                    false => FlowState::Confirm { before, account },
                }
            }
            FlowStage::Offered
            | FlowStage::AtProvider(_)
            | FlowStage::Abandoned(_)
            | FlowStage::Polling(_) => FlowState::Open,
        };
        FlowView {
            id: flow.id.clone(),
            connection: flow.connection.clone(),
            person: self.person_of(flow),
            created: flow.created,
            expires: flow.expires,
            state,
        }
    }
}
