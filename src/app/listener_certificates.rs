//! The certificates of TLS listeners, for agents and of the admin listener: read at the start and at each reload.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;

use crate::config::Certificate;
use keyward_base::secret::Secret;
use keyward_net::tls;
use keyward_proxy::ProxyTls;
use keyward_state::crypto::private_file::private_file;

/// Far longer than any key.
const KEY_BYTES_MAX: usize = 64 * 1024;

/// The certificates of a gateway, with their files.
#[derive(Clone, Debug, Default)]
pub(super) struct ListenerCertificates(Vec<ListenerCertificate>);

/// The certificate of one listener.
#[derive(Clone, Debug)]
struct ListenerCertificate {
    /// The key of the configuration that names it.
    named_by: &'static str,
    by: Certificate,
    front: Arc<ProxyTls>,
}

impl ListenerCertificates {
    /// Reads the certificate of a listener, and keeps it for reloads.
    ///
    /// # Errors
    /// When its certificate cannot be used.
    pub(super) fn add(
        &mut self,
        named_by: &'static str,
        by: &Certificate,
    ) -> anyhow::Result<Arc<ProxyTls>> {
        let front = Arc::new(match by {
            Certificate::Own(names) => ProxyTls::Own(names.clone()),
            Certificate::Files { cert, key } => ProxyTls::given(load(named_by, cert, key)?),
        });
        self.0.push(ListenerCertificate { named_by, by: by.clone(), front: front.clone() });
        Ok(front)
    }

    /// Reads the files again, without effect before [`Renewed::apply`].
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub(super) fn renewed(&self) -> anyhow::Result<Renewed> {
        let mut renewed = Vec::new();
        for ListenerCertificate { named_by, by, front } in &self.0 {
            if let Certificate::Files { cert, key } = by {
                renewed.push((front.clone(), load(named_by, cert, key)?));
            }
        }
        Ok(Renewed(renewed))
    }
}

/// Certificates that were read again.
pub(super) struct Renewed(Vec<(Arc<ProxyTls>, Arc<ServerConfig>)>);

impl Renewed {
    /// Uses the certificates from the next handshake on.
    pub(super) fn apply(self) {
        for (front, config) in self.0 {
            front.replace(config);
        }
    }
}

fn load(named_by: &str, cert: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let named = || format!("`{named_by}`: {}", cert.display());
    let chain = tls::load_pem_certs(cert).with_context(named)?;
    let pem = private_file(key, KEY_BYTES_MAX);
    let pem = pem.with_context(|| format!("`{named_by}`: the key's file"))?;
    let config = tls::server_config(chain, &Secret::new(pem.to_vec()));
    config.with_context(|| format!("`{named_by}`: {} and {}", cert.display(), key.display()))
}
