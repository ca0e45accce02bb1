//! [`UpstreamTls`]: how upstreams are verified, in one generation of the configuration. [`ConnectionConfigs`]: the same for
//! connections with a certificate or a CA of their own, made when a stream is dialled, and kept for the next.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ClientConfig;

use keyward_net::tls::{self, ALPN_HTTP1, ALPN_HTTP2, TlsError};
use keyward_rules::inject::credential::{ConnectionTls, TlsId};

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

/// Maximum number of cached configurations; when it is reached, the cache is cleared.
const CONFIGS_MAX: usize = 256;

/// Configurations by the connection and certificates that they were made for.
#[derive(Default)]
pub(crate) struct ConnectionConfigs(Mutex<HashMap<TlsId, Arc<UpstreamTls>>>);

impl ConnectionConfigs {
    /// The configuration of `own`, based on that of all connections.
    ///
    /// # Errors
    /// When its texts are not certificates and a key.
    pub(crate) fn of(
        &self,
        own: &ConnectionTls,
        usual: &UpstreamTls,
    ) -> Result<Arc<UpstreamTls>, TlsError> {
        let kept = self.0.lock().get(&own.id()).cloned();
        if let Some(kept) = kept.filter(|kept| kept.generation == usual.generation) {
            return Ok(kept);
        }
        let identity = own.identity.as_ref().map(|(chain, key)| (chain, key));
        let config = tls::connection_config(&usual.http1, identity, own.ca.as_ref())?;
        let made = Arc::new(UpstreamTls::new(&config, usual.generation));
        let mut all = self.0.lock();
        if all.len() >= CONFIGS_MAX {
            all.clear();
        }
        all.insert(own.id(), Arc::clone(&made));
        Ok(made)
    }
}
