//! [`SendPlan`]: how a request is sent to its upstream: the key of its streams, TLS, protocol, timeout and retries. [`dial`] opens
//! a new stream for it: with a checked address and verified TLS.

use std::sync::Arc;

use tokio::time::Instant;

use super::retries::{self, Retries};
use crate::gateway::Core;
use crate::pool::interim::Interim;
use crate::pool::{DialledStream, PoolKey};
use crate::refusal::Refusal;
use crate::sockets::streams::UpstreamSocket;
use keyward_base::host::Scheme;
use keyward_base::limits::ReceiveWindow;
use keyward_net::client;
use keyward_net::dial::Dialled;
use keyward_net::tls::ALPN_HTTP2;
use keyward_rules::inject::credential::ConnectionTls;
use keyward_rules::policy::Permit;

/// How a request is sent.
#[derive(Debug)]
pub struct SendPlan {
    pub key: PoolKey,
    /// What the connection brings to TLS handshakes; `key` names it.
    pub tls: Option<Arc<ConnectionTls>>,
    pub plaintext: Plaintext,
    /// Whether it may be sent again even if the upstream may have processed it.
    pub repeatable: bool,
    pub protocol: AskedProtocol,
    /// The window of its answer, over HTTP/2.
    pub window: ReceiveWindow,
    pub interim: Arc<Interim>,
    /// The timeout for the head of the answer. A `u32` fits into padding: the future of an exchange does not grow.
    pub timeout_ms: u32,
    /// The attempts that this is one of, if retries are allowed.
    pub retries: Option<Arc<Retries>>,
}

/// What the agent speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AskedProtocol {
    Http1,
    /// HTTP/2 is tried first.
    Http2,
    /// It is a WebSocket handshake or another upgrade, which needs HTTP/1.1.
    Upgrade,
}

impl SendPlan {
    /// Whether it asks for an upgrade.
    pub fn upgrades(&self) -> bool {
        self.protocol == AskedProtocol::Upgrade
    }

    /// Whether the request may be sent over cleartext to an address that is on the private list or not.
    pub fn allows(&self, private: bool) -> bool {
        self.plaintext.allows(self.key.target.scheme(), private)
    }
}

/// Whether the request may go over cleartext.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plaintext {
    /// The request carries no credential.
    Harmless,
    /// A rule allows it, to addresses on the explicit private list only.
    PrivateOnly,
    Never,
}

impl Plaintext {
    pub(super) fn of(permit: &Permit, has_credential: bool) -> Self {
        match (has_credential, permit.plaintext()) {
            (false, _) => Self::Harmless,
            (true, true) => Self::PrivateOnly,
            (true, false) => Self::Never,
        }
    }

    /// Whether the request may go to `target`, over an address that is on the private list or not.
    pub fn allows(self, scheme: Scheme, private: bool) -> bool {
        match (scheme, self) {
            (Scheme::Https, _) | (Scheme::Http, Self::Harmless) => true,
            (Scheme::Http, Self::PrivateOnly) => private,
            (Scheme::Http, Self::Never) => false,
        }
    }
}

/// The protocols that are offered in the TLS handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsOffer {
    Http1,
    /// HTTP/2, or else HTTP/1.1.
    Either,
}

/// Dials the target of the plan, with retries if the connection's settings allow them.
///
/// # Errors
/// When no address is allowed or reachable, or TLS cannot be verified.
pub async fn dial(core: &Core, plan: &SendPlan, offer: TlsOffer) -> Result<DialledStream, Refusal> {
    let retries = plan.retries.as_deref();
    retries::dial_with_retries(&core.gateway, retries, || dial_once(core, plan, offer)).await
}

async fn dial_once(
    core: &Core,
    plan: &SendPlan,
    offer: TlsOffer,
) -> Result<DialledStream, Refusal> {
    let (gateway, target) = (&core.gateway, &plan.key.target);
    let (limit, begun) = (gateway.limits.connect_timeout, Instant::now());
    let tls_settings = gateway.tls_of(plan.tls.as_deref());
    let tls_settings = tls_settings
        .map_err(|_| Refusal::Internal("a connection's certificates cannot be used"))?;
    let dialled = match plan.upgrades() {
        // A proxy that forwards requests one by one does not switch protocols (RFC 6455 §4.1).
        true => gateway.dialler.dial(target, limit).await?,
        false => gateway.dialler.dial_for_requests(target, limit).await?,
    };
    gateway.metrics.dialled.inc();
    let Dialled { stream, private, forwarded } = dialled;
    if !plan.allows(private) {
        return Err(Refusal::Plaintext);
    }
    let (stream, tls_generation) = (UpstreamSocket::new(stream), tls_settings.generation);
    let socket = stream.state().clone();
    if target.scheme() == Scheme::Http {
        let io = Box::new(stream);
        return Ok(DialledStream { io, socket, http2: false, private, tls_generation, forwarded });
    }
    let tls = match offer {
        TlsOffer::Http1 => &tls_settings.http1,
        TlsOffer::Either => &tls_settings.either,
    };
    let left = limit.saturating_sub(begun.elapsed()).min(gateway.limits.handshake_timeout);
    let tls = client::connect_tls(stream, target, tls.clone(), left).await?;
    let http2 = tls.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
    Ok(DialledStream { io: Box::new(tls), socket, http2, private, tls_generation, forwarded: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleartext_with_a_credential_needs_a_rule_and_a_private_address() {
        for private in [false, true] {
            assert!(!Plaintext::Never.allows(Scheme::Http, private));
            assert_eq!(Plaintext::PrivateOnly.allows(Scheme::Http, private), private);
            assert!(Plaintext::Never.allows(Scheme::Https, private));
            assert!(Plaintext::Harmless.allows(Scheme::Http, private));
        }
    }
}
