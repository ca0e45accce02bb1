//! [`Asker`]: on whose behalf an exchange is made.

use std::sync::Arc;

use http::Request;

use super::Gateway;
use super::body::RequestBody;
use super::error::Refusal;
use super::inbound::Inbound;
use super::session::Session;
use crate::base::id::OrgId;
use crate::base::limits::Limits;
use crate::directory::ConnectionRecord;
use crate::policy::Permit;

/// Who asks. Each stage that asks anew, after a wait, asks it.
#[derive(Clone, Copy, Debug)]
pub enum Asker<'a> {
    /// An agent, on its stream.
    Agent(&'a Arc<Session>),
    /// A person, with a connection of his, through the control plane.
    Owner(&'a Arc<ConnectionRecord>),
}

impl Asker<'_> {
    /// Whose connections may be used.
    pub fn org(&self) -> &OrgId {
        match self {
            Self::Agent(session) => &session.agent.org,
            Self::Owner(connection) => &connection.org,
        }
    }

    /// Whether it may still ask.
    ///
    /// # Errors
    /// As [`Session::still_holds`]; a person's connection is looked at with each permit.
    pub fn still_holds(&self, gateway: &Gateway) -> Result<(), Refusal> {
        match self {
            Self::Agent(session) => session.still_holds(gateway),
            Self::Owner(_) => Ok(()),
        }
    }

    /// The request, as strictly read as all are.
    ///
    /// # Errors
    /// As [`Inbound::parse`].
    pub fn inbound(
        &self,
        request: Request<RequestBody>,
        limits: &Limits,
    ) -> Result<Box<Inbound>, Refusal> {
        match self {
            Self::Agent(session) => Inbound::parse(request, session, limits),
            Self::Owner(connection) => Inbound::call(request, &connection.org, limits),
        }
    }

    /// The permit by the rules in force, on which the agent's stream rests from now on.
    ///
    /// # Errors
    /// When policy refuses.
    pub fn permit(&self, gateway: &Gateway, inbound: &Inbound) -> Result<Permit, Refusal> {
        let session = match self {
            Self::Owner(connection) => {
                return Ok(gateway.rulebook.permit_call(connection, &inbound.asked())?);
            }
            Self::Agent(session) => session,
        };
        loop {
            let policy = gateway.rulebook.current();
            let permit = policy.decide(&session.agent, &inbound.asked())?;
            session.standing().exchanges(inbound, &permit);
            // A policy that came into force before the stream rested on the permit was not asked.
            if Arc::ptr_eq(&policy, &gateway.rulebook.current()) {
                return Ok(permit);
            }
        }
    }
}
