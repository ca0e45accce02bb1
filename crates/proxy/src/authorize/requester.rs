//! [`Requester`]: the party that asks for an exchange, an agent or the owner of a connection.

use std::sync::Arc;

use http::Request;

use super::tripwire;
use crate::body::request_body::RequestBody;
use crate::gateway::Gateway;
use crate::refusal::{Refusal, Shortage};
use crate::request::inbound::Inbound;
use crate::session::Session;
use keyward_base::id::{AgentId, OrgId};
use keyward_rules::policy::Permit;
use keyward_state::directory::ConnectionRecord;

/// The maximum number of policies that one decision asks when each replaces the one before.
const POLICIES_MAX: usize = 16;

/// The party that asks. Stages use it again after a wait, to repeat their checks.
#[derive(Clone, Copy, Debug)]
pub enum Requester<'a> {
    Agent(&'a Arc<Session>),
    /// The owner of a connection, through the control plane.
    Owner(&'a ConnectionRecord),
}

/// Proof that a requester may send requests now. It is used up by one decision, so that each attempt checks again.
/// Made only by [`Requester::check_still_valid`].
#[must_use]
#[derive(Debug)]
pub struct ValidRequester<'a>(Requester<'a>);

impl<'a> Requester<'a> {
    /// The org whose connections may be used.
    pub fn org(self) -> &'a OrgId {
        match self {
            Self::Agent(session) => &session.agent.org,
            Self::Owner(connection) => &connection.org,
        }
    }

    /// The agent whose memory budget is charged.
    pub fn agent(self) -> Option<&'a AgentId> {
        match self {
            Self::Agent(session) => Some(&session.agent.id),
            Self::Owner(_) => None,
        }
    }

    /// Checks whether it may still send requests.
    ///
    /// # Errors
    /// As [`Session::check_still_valid`]. A person's connection is checked with each permit.
    pub fn check_still_valid(self, gateway: &Gateway) -> Result<ValidRequester<'a>, Refusal> {
        if let Self::Agent(session) = self {
            session.check_still_valid(gateway)?;
        }
        Ok(ValidRequester(self))
    }

    /// Checks whether a request may begin. Reports its honeytokens if the agent has too many exchanges running.
    ///
    /// # Errors
    /// As [`Requester::check_still_valid`].
    pub fn may_begin(
        self,
        request: &Request<RequestBody>,
        gateway: &Gateway,
    ) -> Result<ValidRequester<'a>, Refusal> {
        let valid = self.check_still_valid(gateway);
        if let (Self::Agent(session), Err(Refusal::Overloaded(_))) = (self, &valid) {
            let target = session.target_source.target();
            tripwire::refused_early(gateway, &session.agent, target, request);
        }
        valid
    }

    /// Checks the request. Reports its honeytokens also if the request is malformed.
    ///
    /// # Errors
    /// As [`Inbound::check`].
    pub fn inbound(
        self,
        request: Request<RequestBody>,
        gateway: &Gateway,
    ) -> Result<Box<Inbound>, Refusal> {
        let limits = &gateway.limits;
        match self {
            Self::Agent(session) => match Inbound::check(&request, session, limits) {
                Ok(checked) => Ok(Inbound::of(request, checked, session, limits)),
                Err(refusal) => {
                    let target = session.target_source.target();
                    tripwire::refused_early(gateway, &session.agent, target, &request);
                    Err(refusal)
                }
            },
            Self::Owner(connection) => Inbound::call(request, &connection.org, limits),
        }
    }
}

impl<'a> ValidRequester<'a> {
    pub fn who(&self) -> Requester<'a> {
        self.0
    }

    /// Asks policy for a permit. From now on the agent's stream depends on the permit.
    ///
    /// # Errors
    /// When policy refuses, or changes faster than the request is decided.
    pub fn permit(&self, gateway: &Gateway, inbound: &Inbound) -> Result<Permit, Refusal> {
        let session = match self.0 {
            Requester::Owner(connection) => {
                return Ok(gateway.rulebook.permit_call(connection, &inbound.asked())?);
            }
            Requester::Agent(session) => session,
        };
        for _ in 0..POLICIES_MAX {
            let policy = gateway.rulebook.current();
            let permit = policy.decide(&session.agent, &inbound.asked())?;
            session.revocation().begin_exchange(inbound.query(), &permit);
            // If the policy was replaced before the stream depended on the permit, decide again.
            if Arc::ptr_eq(&policy, &gateway.rulebook.current()) {
                return Ok(permit);
            }
        }
        Err(Refusal::Overloaded(Shortage::Decisions))
    }
}
