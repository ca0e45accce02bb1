//! The public URL of a gateway, and the names of its admin listener.

use std::net::SocketAddr;

use crate::config::{Config, MetricsAccess};
use keyward_api::{NetworkAccess, OwnNames};
use keyward_base::host::{Scheme, Target};

/// The public URL, with the real port if it has port 0.
pub(super) fn public_url(config: &Config, admin: SocketAddr) -> String {
    match config.public_url.strip_suffix(":0") {
        Some(host) => format!("{host}:{}", admin.port()),
        None => config.public_url.clone(),
    }
}

/// How the admin listener is reached over the network.
pub(super) fn admin_access(config: &Config, addr: SocketAddr) -> NetworkAccess {
    let access = &config.listen.admin_access;
    let (proxies, origins) = (access.proxies.clone(), access.origins.clone());
    let metrics_are_open = config.metrics == MetricsAccess::Open;
    NetworkAccess { names: own_names(config, addr), proxies, origins, metrics_are_open }
}

/// The names that the admin listener answers to: its own address, and the host of `public_url`.
pub fn own_names(config: &Config, addr: SocketAddr) -> OwnNames {
    let named = public_target(&config.public_url);
    let named = named.map(|target| (target.host().clone(), target.port()));
    OwnNames::new(addr.port(), named.into_iter().collect())
}

/// Scheme, host and port of a public URL.
pub(super) fn public_target(url: &str) -> Option<Target> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    Target::parse(scheme, rest.split('/').next().unwrap_or(rest)).ok()
}
