//! Servers of a session with a database that its connection does not name: DNS lists them, or another server names them.

use super::{FailedAttempt, ServiceExchange};
use crate::refusal::Refusal;
use keyward_base::host::Target;
use keyward_rules::policy::{DatabasePermit, Policy};

impl ServiceExchange {
    /// The permit for such a server. `None`: it cannot be one of the connection's servers. In the session by which a person
    /// tests a connection, no rule is asked.
    ///
    /// # Errors
    /// When policy refuses it, which [`ServiceExchange::refused_attempt`] records.
    pub fn permit_member(
        &self,
        permit: &DatabasePermit,
        member: Target,
    ) -> Result<Option<DatabasePermit>, FailedAttempt> {
        let Some(accepted) = &self.accepted else {
            return Ok(Policy::permit_member_test(permit, member));
        };
        let agent = accepted.revocation.agent().ok_or(FailedAttempt(Refusal::Unauthenticated))?;
        let permitted = self.gateway.rulebook.current().permit_member(&agent, permit, member);
        permitted.map_err(|reason| FailedAttempt(Refusal::Policy(reason)))
    }

    /// The session is at the server of this permit. A rule that denies the agent that server ends the session.
    pub fn use_member(&self, permit: &DatabasePermit) {
        if let Some(accepted) = &self.accepted {
            accepted.revocation.use_member(&permit.endpoint().target);
        }
    }
}
