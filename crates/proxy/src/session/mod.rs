//! [`ProxySession`]: the authenticated agent of a stream, and how the targets of its requests are determined.

mod accepted_stream;
pub mod pass_streams;
pub mod revocation;

use std::sync::Arc;

use keyward_base::agent::Agent;
use keyward_base::host::Target;

pub use self::accepted_stream::{AcceptedStream, AttachedAgent, UnattachedAgent};
use self::revocation::Revocation;
use crate::gateway::Gateway;
use crate::limits::agent_streams::ExchangeDescriptor;
use crate::probe::ProbedStream;
use crate::refusal::{Refusal, Shortage};
use crate::sockets::watchdog::Watchdog;

/// The agent of a stream and the source of its targets. Each request of the stream is authorized by itself.
#[derive(Debug)]
pub struct ProxySession {
    pub agent: Arc<Agent>,
    /// How the targets of requests are determined.
    pub target_source: TargetSource,
    /// Unique in the process for an agent on one accepted stream. Upstream streams of `pass` requests belong to one
    /// number only.
    pub number: u64,
    /// The watchdog of the stream, or of the one HTTP/2 request.
    pub watchdog: Arc<Watchdog>,
    /// Closes the stream on revocation.
    revocation: Arc<Revocation>,
    /// The accepted stream and its counts, released when the last user of the session ends.
    accepted: Arc<AcceptedStream>,
    upstream: UpstreamSlot,
}

/// The descriptor of an exchange's upstream stream.
#[derive(Debug)]
enum UpstreamSlot {
    /// Counted with the stream that the session is of.
    WithStream,
    /// Counted for this exchange: its stream carries several.
    Own(Arc<ExchangeDescriptor>),
    /// The agent has reached its limit.
    TooMany,
}

/// How the target of a request is determined.
#[derive(Clone, Debug)]
pub enum TargetSource {
    /// From the request itself, in absolute form.
    Absolute,
    /// From the CONNECT that opened the tunnel.
    Tunnel {
        target: Target,
        /// Whether the SNI of the TLS handshake is absent or names the target's host.
        sni_agrees: bool,
    },
    /// From the base URL of the request.
    BaseUrl {
        /// The upstream that the base URL means.
        target: Target,
        /// The name of the connection in it.
        connection: Arc<str>,
    },
}

impl ProxySession {
    /// A session of the agent that the accepted stream is attached to.
    pub fn new(
        attached: AttachedAgent,
        target_source: TargetSource,
        watchdog: Arc<Watchdog>,
    ) -> Arc<Self> {
        let (agent, accepted) = attached.into_parts();
        let number = accepted.pass_streams.session();
        let revocation = accepted.revocation.clone();
        let upstream = UpstreamSlot::WithStream;
        Arc::new(Self { agent, target_source, number, watchdog, revocation, accepted, upstream })
    }

    /// The session of one HTTP/2 request on this stream. It has its own watchdog and its own revocation.
    pub fn of_stream(&self, gateway: &Gateway) -> Arc<Self> {
        let upstream = match gateway.agent_streams.upstream(&self.agent.id) {
            Some(descriptor) => UpstreamSlot::Own(Arc::new(descriptor)),
            None => UpstreamSlot::TooMany,
        };
        let watchdog = Arc::new(Watchdog::idle());
        // Its head has just come: the first check may follow at once.
        watchdog.on_write();
        let revocation = Arc::new(Revocation::for_http2_request(gateway, &self.agent));
        let (agent, target_source) = (self.agent.clone(), self.target_source.clone());
        let accepted = self.accepted.clone();
        let number = self.number;
        Arc::new(Self { agent, target_source, number, watchdog, revocation, accepted, upstream })
    }

    /// Checks whether the session may begin another request. A tunnel may be older than a change of the agent's
    /// tokens.
    ///
    /// # Errors
    /// When the token that opened the stream was revoked or has expired, the listener's agent is gone, or the agent
    /// has too many exchanges running.
    pub fn check_still_valid(&self, gateway: &Gateway) -> Result<(), Refusal> {
        let holds =
            gateway.directory.view_guard().is_still_authenticated(&self.agent, gateway.clock.now());
        match (holds, &self.accepted.owner) {
            (true, _) if matches!(self.upstream, UpstreamSlot::TooMany) => {
                Err(Refusal::Overloaded(Shortage::Streams))
            }
            (true, _) => Ok(()),
            (false, None) if self.agent.session.is_some() => Err(Refusal::SessionEnded),
            (false, None) => Err(Refusal::TokenRefused),
            (false, Some(owner)) => Err(Refusal::ListenerAgentGone { agent: owner.agent.clone() }),
        }
    }

    /// The agent's descriptors when its exchange was counted, or its stream.
    pub fn agent_descriptors(&self) -> usize {
        match &self.upstream {
            UpstreamSlot::WithStream => self.revocation.agent_descriptors(),
            UpstreamSlot::Own(descriptor) => descriptor.agent_descriptors(),
            UpstreamSlot::TooMany => usize::MAX,
        }
    }

    /// The descriptor of its exchange, if that is counted by itself.
    pub fn own_descriptor(&self) -> Option<&Arc<ExchangeDescriptor>> {
        match &self.upstream {
            UpstreamSlot::Own(descriptor) => Some(descriptor),
            UpstreamSlot::WithStream | UpstreamSlot::TooMany => None,
        }
    }

    /// Its stream, if that is of a program which is only examined.
    pub fn probed(&self) -> Option<&ProbedStream> {
        self.accepted.probed.get()
    }

    /// The revocation of its stream.
    pub fn revocation(&self) -> &Revocation {
        &self.revocation
    }
}

impl TargetSource {
    /// The target of all its requests, if it is always the same.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Absolute => None,
            Self::Tunnel { target, .. } | Self::BaseUrl { target, .. } => Some(target),
        }
    }

    /// The connection that the base URL names.
    pub fn connection(&self) -> Option<&str> {
        match self {
            Self::Absolute | Self::Tunnel { .. } => None,
            Self::BaseUrl { connection, .. } => Some(connection),
        }
    }
}
