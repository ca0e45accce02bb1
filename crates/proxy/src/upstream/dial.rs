//! [`dial`] opens a new stream to an upstream: with a checked address and verified TLS.

use tokio::time::Instant;

use super::plan::SendPlan;
use super::retries;
use crate::gateway::Core;
use crate::pool::DialledStream;
use crate::refusal::Refusal;
use crate::sockets::streams::UpstreamSocket;
use keyward_base::host::Scheme;
use keyward_net::client;
use keyward_net::dial::Dialled;
use keyward_net::tls::ALPN_HTTP2;

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
