//! [`ConnectionConfigs`]: TLS configurations for connections with a certificate or a CA of their own. They are made when
//! a stream is dialled, and kept for the next.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::upstream_tls::UpstreamTls;
use keyward_net::tls::{self, TlsError};
use keyward_rules::inject::credential::{ConnectionTls, TlsId};

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
