//! [`UpstreamTls`]: how upstreams are verified, in one generation of the configuration.

use std::sync::Arc;

use rustls::ClientConfig;

use keyward_net::tls::{ALPN_HTTP1, ALPN_HTTP2};

/// How upstreams are dialled and verified now.
pub struct UpstreamTls {
    /// Offers HTTP/1.1 alone.
    pub(crate) http1: Arc<ClientConfig>,
    /// Offers HTTP/2 as well.
    pub(crate) either: Arc<ClientConfig>,
    /// Streams of an earlier generation are not reused: they were verified with other roots, or their address may
    /// no longer be allowed.
    pub(crate) generation: u64,
}

impl UpstreamTls {
    pub(crate) fn new(tls: &ClientConfig, generation: u64) -> Self {
        // The sessions to resume are common to both.
        let offering = |names: &[&[u8]]| {
            let mut config = ClientConfig::clone(tls);
            config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        let (http1, either) = (offering(&[ALPN_HTTP1]), offering(&[ALPN_HTTP2, ALPN_HTTP1]));
        Self { http1, either, generation }
    }
}
