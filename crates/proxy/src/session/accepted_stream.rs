//! [`AcceptedStream`]: an accepted stream, and [`AttachedAgent`]: the proof that it counts as an agent's.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use super::pass_streams::PassStreams;
use super::revocation::Revocation;
use crate::gateway::Gateway;
use crate::limits::agent_streams::CoreStreamCount;
use crate::probe::ProbedStream;
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
    /// Set if it is of a program that is only examined.
    pub probed: OnceLock<ProbedStream>,
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
    /// Counts the stream as `agent`'s from now on; it cannot be evicted any more. With the token of a probe, it is examined.
    ///
    /// # Errors
    /// When the agent has reached its limit of streams, or this stream has just been evicted.
    pub fn attach_agent(
        self: &Arc<Self>,
        gateway: &Gateway,
        agent: Arc<Agent>,
    ) -> Result<AttachedAgent, Box<UnattachedAgent>> {
        if let Some(probe) = agent.token.as_ref().and_then(|token| gateway.probes.of_token(token)) {
            let new = || ProbedStream::new(probe, String::new(), self.owner.clone());
            self.probed.get_or_init(new);
        }
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
