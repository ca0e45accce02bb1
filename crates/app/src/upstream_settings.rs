//! [`UpstreamSettings`]: the part of the configuration that decides how upstreams are dialled and verified.

use std::net::SocketAddr;

use anyhow::Context;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;

use super::plan::differing;
use crate::config::{Config, Upstream};
use keyward_base::host::Host;
use keyward_net::corporate::CorporateProxy;
use keyward_net::dial::Dialler;
use keyward_net::guard::AllowPrivate;
use keyward_net::tls;

/// The settings in force for connections to upstreams.
#[derive(Clone, PartialEq)]
pub(super) struct UpstreamSettings {
    allow_private: Vec<AllowPrivate>,
    resolve: Vec<(Host, Option<u16>, SocketAddr)>,
    proxy: Option<CorporateProxy>,
    dns: Vec<SocketAddr>,
    pub(super) roots: Vec<CertificateDer<'static>>,
}

impl UpstreamSettings {
    /// Reads the roots of the configuration, and the password of a corporate proxy.
    pub(super) fn load(config: &Config) -> anyhow::Result<Self> {
        let mut roots = Vec::new();
        for path in &config.upstream.trust {
            let found = tls::load_pem_certs(path);
            // The error names the path.
            roots.extend(found.context("`upstream.trust`")?);
        }
        let Upstream { allow_private, resolve, proxy, dns, .. } = config.upstream.clone();
        let hidden = config.secret_variables();
        let proxy = proxy.map(|proxy| proxy.load(&config.environment, &hidden)).transpose()?;
        Ok(Self { allow_private, resolve, proxy, dns, roots })
    }

    /// The keys in which others differ.
    pub(super) fn changes(&self, now: &Self) -> Vec<String> {
        differing([
            ("trust", self.roots != now.roots),
            ("allow_private", self.allow_private != now.allow_private),
            ("proxy", self.proxy != now.proxy),
            ("dns", self.dns != now.dns),
            ("resolve", self.resolve != now.resolve),
        ])
    }

    /// Puts these settings in force; upstreams are verified with `tls`.
    pub(super) fn apply(&self, dialler: &Dialler, tls: &ClientConfig) {
        let proxy = self.proxy.clone().map(|proxy| proxy.verified_as(tls));
        dialler.ask_dns(self.dns.clone());
        dialler.replace(self.allow_private.clone(), self.resolve.clone(), proxy);
    }
}
