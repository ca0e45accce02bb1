//! The certificates of TLS listeners: read at the start and at each reload.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use rustls::ServerConfig;

use crate::config::{Certificate, Config};
use keyward_base::secret::Secret;
use keyward_net::tls;
use keyward_proxy::ProxyTls;
use keyward_proxy::ca::authority;
use keyward_state::crypto::private_file::private_file;
use keyward_state::observe::metrics::Metrics;

/// The key of the configuration that names the certificate of the admin listener.
pub(super) const ADMIN: &str = "listen.admin_tls";

/// The key of the configuration that names the certificate of the listener for webhooks.
pub(super) const HOOKS: &str = "listen.hooks";

/// Far longer than any key.
const KEY_BYTES_MAX: usize = 64 * 1024;

/// The key of the configuration that names the certificates of listeners for databases.
pub(super) const DATABASES: &str = "listen.databases";

/// The certificates of a gateway, with their files.
#[derive(Clone, Debug, Default)]
pub(super) struct ListenerCertificates(Vec<ListenerCertificate>);

#[derive(Clone, Debug)]
struct ListenerCertificate {
    /// The key of the configuration that names it.
    named_by: &'static str,
    by: Certificate,
    front: Arc<ProxyTls>,
    /// When it expires; `None` for leaves of the local CA.
    ends: Option<Timestamp>,
}

/// A certificate as it was read.
struct LoadedCertificate {
    config: Arc<ServerConfig>,
    ends: Option<Timestamp>,
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
        let (front, ends) = match by {
            Certificate::Own(names) => (ProxyTls::Own(names.clone()), None),
            Certificate::Files { cert, key } => {
                let LoadedCertificate { config, ends } = load(named_by, cert, key)?;
                (ProxyTls::given(config), ends)
            }
        };
        let front = Arc::new(front);
        self.0.push(ListenerCertificate { named_by, by: by.clone(), front: front.clone(), ends });
        Ok(front)
    }

    /// Reads the certificates of all listeners of a configuration, without effect.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub(super) fn check(config: &Config) -> anyhow::Result<()> {
        let mut read = Self::default();
        for (named_by, by) in config.listen.certificates() {
            read.add(named_by, by)?;
        }
        Ok(())
    }

    /// Sets the metric of their expiry.
    pub(super) fn measure(&self, metrics: &Metrics) {
        measure(metrics, self.0.iter().map(|it| (it.named_by, it.ends)));
    }

    /// Reads the files again, without effect before [`Renewed::apply`].
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub(super) fn renewed(&self) -> anyhow::Result<Renewed> {
        let mut renewed = Vec::new();
        for ListenerCertificate { named_by, by, front, .. } in &self.0 {
            if let Certificate::Files { cert, key } = by {
                let loaded = load(named_by, cert, key)?;
                renewed.push(RenewedCertificate { named_by, front: front.clone(), loaded });
            }
        }
        Ok(Renewed(renewed))
    }
}

/// Certificates that were read again.
pub(super) struct Renewed(Vec<RenewedCertificate>);

struct RenewedCertificate {
    named_by: &'static str,
    front: Arc<ProxyTls>,
    loaded: LoadedCertificate,
}

impl Renewed {
    /// Uses the certificates from the next handshake on.
    pub(super) fn apply(self, metrics: &Metrics) {
        measure(metrics, self.0.iter().map(|it| (it.named_by, it.loaded.ends)));
        for RenewedCertificate { front, loaded, .. } in self.0 {
            front.replace(loaded.config);
        }
    }
}

/// Sets the metric: the first expiry of each kind of listeners.
fn measure(
    metrics: &Metrics,
    certificates: impl Iterator<Item = (&'static str, Option<Timestamp>)>,
) {
    let mut first: BTreeMap<&'static str, Timestamp> = BTreeMap::new();
    for (named_by, ends) in certificates {
        let Some(ends) = ends else { continue };
        let listener = match named_by {
            ADMIN => "admin",
            DATABASES => "databases",
            HOOKS => "hooks",
            _ => "proxy",
        };
        let earlier = first.get(listener).map_or(ends, |known| ends.min(*known));
        first.insert(listener, earlier);
    }
    for (listener, ends) in first {
        metrics.health.certificate_ends(listener, ends);
    }
}

fn load(named_by: &str, cert: &Path, key: &Path) -> anyhow::Result<LoadedCertificate> {
    let chain = tls::load_pem_certs(cert).with_context(|| format!("`{named_by}`"))?;
    let pem = private_file(key, KEY_BYTES_MAX);
    let pem = pem.with_context(|| format!("`{named_by}`: the key's file"))?;
    let ends = chain.first().and_then(authority::expires);
    let config = tls::server_config(chain, &Secret::new(pem.to_vec()));
    let named = || format!("`{named_by}`: {} and {}", cert.display(), key.display());
    Ok(LoadedCertificate { config: config.with_context(named)?, ends })
}
