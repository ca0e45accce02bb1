//! A new stream: checked address, verified TLS.

use std::sync::Arc;

use super::Way;
use crate::base::host::Scheme;
use crate::net::client;
use crate::net::corporate::Forwarded;
use crate::net::dial::Dialled;
use crate::net::tls::ALPN_HTTP2;
use crate::proxy::Core;
use crate::proxy::error::Refusal;
use crate::proxy::retry;
use crate::proxy::stream::{Io, Upstream};

/// What an upstream is offered in the TLS handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offer {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 or, if it must be, HTTP/1.1.
    Either,
}

/// A dialled, verified stream on which nothing has been sent.
pub struct Fresh {
    pub io: Box<dyn Io>,
    /// What was chosen.
    pub http2: bool,
    /// Whether the address stands on the explicit private list.
    pub private: bool,
    /// Which way out it was made by.
    pub number: u64,
    /// How a corporate proxy wants requests that it forwards.
    pub forwarded: Option<Forwarded>,
}

/// Dials the way's target, as often as its connection's settings want.
///
/// # Errors
/// When no address may be dialled or none answers, or the upstream does not prove to be the target.
pub async fn dial(core: &Arc<Core>, way: &Way, offer: Offer) -> Result<Fresh, Refusal> {
    let tries = way.tries.as_deref();
    retry::dialled(&core.gateway, tries, || dial_once(core, way, offer)).await
}

async fn dial_once(core: &Arc<Core>, way: &Way, offer: Offer) -> Result<Fresh, Refusal> {
    let (gateway, target) = (&core.gateway, &way.key.target);
    let limit = gateway.limits.connect_timeout;
    let outward = gateway.outward.load_full();
    let dialled = match way.upgrades {
        // A proxy that forwards requests one by one does not switch protocols (RFC 6455 §4.1).
        true => gateway.dialler.dial(target, limit).await?,
        false => gateway.dialler.dial_for_requests(target, limit).await?,
    };
    gateway.metrics.dialled.inc();
    let Dialled { stream, private, forwarded } = dialled;
    if !way.allows(private) {
        return Err(Refusal::Plaintext);
    }
    let (socket, number) = (Upstream::new(stream), outward.number);
    if target.scheme() == Scheme::Http {
        return Ok(Fresh { io: Box::new(socket), http2: false, private, number, forwarded });
    }
    let tls = match offer {
        Offer::Http1 => &outward.http1,
        Offer::Either => &outward.either,
    };
    let tls = client::connect_tls(socket, target, tls.clone(), limit).await?;
    let http2 = tls.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
    Ok(Fresh { io: Box::new(tls), http2, private, number, forwarded: None })
}
