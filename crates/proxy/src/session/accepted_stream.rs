//! [`AcceptedStream`]: an accepted stream, and [`AttachedAgent`]: the proof that it counts as an agent's.

use std::net::IpAddr;
use std::sync::Arc;

use super::pass_streams::PassStreams;
use super::revocation::Revocation;
use crate::gateway::Gateway;
use crate::limits::agent_streams::CoreStreamCount;
use crate::refusal::Refusal;
use crate::sockets::listener::ListenerOwner;
use crate::sockets::watchdog::Watchdog;
use keyward_base::agent::Agent;
use keyward_base::host::Scheme;

/// An accepted stream before an agent has authenticated on it.
#[derive(Debug)]
pub struct AcceptedStream {
    /// The peer's address, for the limit on guesses.
    pub peer: Option<IpAddr>,
    /// The owner of the listener, if the listener belongs to one agent.
    pub owner: Option<Arc<ListenerOwner>>,
    /// The scheme of URLs that lead to the listener.
    pub scheme: Scheme,
    pub watchdog: Arc<Watchdog>,
    /// Closes the stream on revocation, or when it is evicted before an agent has authenticated.
    pub revocation: Arc<Revocation>,
    pub pass_streams: PassStreams,
    #[expect(dead_code, reason = "held for what dropping it gives back")]
    pub counted: CoreStreamCount,
}

/// Proof that a stream counts as this agent's, and closes when the agent's token is revoked. Made only by
/// [`AcceptedStream::attach_agent`].
#[must_use]
#[derive(Debug)]
pub struct AttachedAgent {
    agent: Arc<Agent>,
    accepted: Arc<AcceptedStream>,
}

/// An agent that the stream was not attached to.
#[derive(Debug)]
pub struct UnattachedAgent {
    pub agent: Arc<Agent>,
    pub refusal: Refusal,
}

impl AcceptedStream {
    /// Counts the stream as `agent`'s from now on; it cannot be evicted any more.
    ///
    /// # Errors
    /// When the agent has reached its limit of streams, or this stream has just been evicted.
    pub fn attach_agent(
        self: &Arc<Self>,
        gateway: &Gateway,
        agent: Arc<Agent>,
    ) -> Result<AttachedAgent, Box<UnattachedAgent>> {
        match self.revocation.attach_agent(gateway, &agent) {
            Ok(has_changed) => {
                if has_changed {
                    self.pass_streams.renew();
                }
                Ok(AttachedAgent { agent, accepted: self.clone() })
            }
            Err(refusal) => Err(Box::new(UnattachedAgent { agent, refusal })),
        }
    }
}

impl AttachedAgent {
    pub fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    pub(crate) fn accepted(&self) -> &AcceptedStream {
        &self.accepted
    }

    /// The agent and its stream.
    pub(super) fn into_parts(self) -> (Arc<Agent>, Arc<AcceptedStream>) {
        (self.agent, self.accepted)
    }
}

impl From<Box<UnattachedAgent>> for Refusal {
    fn from(unattached: Box<UnattachedAgent>) -> Self {
        unattached.refusal
    }
}
