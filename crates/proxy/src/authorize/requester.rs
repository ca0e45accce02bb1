//! [`Requester`]: the party that asks for an exchange, an agent or the owner of a connection.

use std::ops::Deref;
use std::sync::Arc;

use http::Request;

use super::token_alerts;
use crate::body::request_body::RequestBody;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::refusal::{Refusal, Shortage};
use crate::request::inbound::Inbound;
use crate::session::ProxySession;
use keyward_base::id::{AgentId, OrgId};
use keyward_rules::policy::{Permit, Policy};
use keyward_state::directory::ConnectionRecord;

/// The maximum number of policies that one decision asks when each replaces the one before.
const POLICIES_MAX: usize = 16;

/// The party that asks. Stages use it again after a wait, to repeat their checks.
#[derive(Clone, Copy, Debug)]
pub enum Requester<'a> {
    Agent(&'a Arc<ProxySession>),
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
    /// As [`ProxySession::check_still_valid`]. A person's connection is checked with each permit.
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
            token_alerts::report_of_refused_request(gateway, &session.agent, target, request);
        }
        valid
    }

    /// Checks the request. Reports its honeytokens also if the request is malformed.
    ///
    /// # Errors
    /// As [`Inbound::of_agent`].
    pub fn inbound(
        self,
        request: Request<RequestBody>,
        gateway: &Gateway,
    ) -> Result<Box<Inbound>, Refusal> {
        let limits = &gateway.limits;
        match self {
            Self::Agent(session) => Inbound::of_agent(request, session, limits, |request| {
                let target = session.target_source.target();
                token_alerts::report_of_refused_request(gateway, &session.agent, target, request);
            }),
            Self::Owner(connection) => Inbound::call(request, &connection.org, limits),
        }
    }
}

impl<'a> ValidRequester<'a> {
    pub fn inner(&self) -> Requester<'a> {
        self.0
    }

    /// Asks policy for a permit. From now on the agent's stream depends on the permit.
    ///
    /// # Errors
    /// When policy refuses, or changes faster than the request is decided.
    pub fn permit(
        &self,
        gateway: &Gateway,
        inbound: &Inbound,
        record: &Record,
    ) -> Result<Permit, Refusal> {
        let session = match self.0 {
            Requester::Owner(connection) => {
                return Ok(gateway.rulebook.permit_call(connection, &inbound.policy_request())?);
            }
            Requester::Agent(session) => session,
        };
        decide_by_policy_in_force(
            || gateway.rulebook.current(),
            |policy: &Policy| {
                let permit = policy.decide(&session.agent, &inbound.policy_request())?;
                session.revocation().begin_exchange(inbound.query(), &permit, record);
                Ok(permit)
            },
        )
    }
}

/// Repeats a decision until its policy is still in force after it: a policy that came into force before the stream
/// depended on the permit was not asked.
fn decide_by_policy_in_force<G, P, T>(
    current: impl Fn() -> G,
    decide: impl Fn(&P) -> Result<T, Refusal>,
) -> Result<T, Refusal>
where
    G: Deref<Target = Arc<P>>,
{
    for _ in 0..POLICIES_MAX {
        let policy = current();
        let decided = decide(&policy)?;
        if Arc::ptr_eq(&policy, &current()) {
            return Ok(decided);
        }
    }
    Err(Refusal::Overloaded(Shortage::Decisions))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Decides while a new policy comes into force during each of the first `changes` decisions.
    fn decisions(changes: usize) -> (Result<usize, Refusal>, usize) {
        let policy = Cell::new(Arc::new(0));
        let current = || {
            let now = policy.take();
            policy.set(Arc::clone(&now));
            Box::new(now)
        };
        let asked = Cell::new(0);
        let decided = decide_by_policy_in_force(current, |number: &usize| {
            asked.set(asked.get() + 1);
            if *number < changes {
                policy.set(Arc::new(number + 1));
            }
            Ok(*number)
        });
        (decided, asked.get())
    }

    #[test]
    fn a_policy_that_always_changes_ends_in_overloaded_after_16_decisions() {
        let (decided, asked) = decisions(usize::MAX);
        assert!(matches!(decided, Err(Refusal::Overloaded(Shortage::Decisions))), "{decided:?}");
        assert_eq!(asked, POLICIES_MAX);
    }

    #[test]
    fn the_policy_that_is_in_force_after_the_decision_decides() {
        for changes in [0, 1, POLICIES_MAX - 1] {
            let (decided, asked) = decisions(changes);
            assert_eq!((decided.ok(), asked), (Some(changes), changes + 1));
        }
    }
}
