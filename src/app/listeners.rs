//! The listeners of a gateway, bound before anything is served, so that a port in use is told with
//! what to do about it and leaves nothing half started.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::TcpListener;

use super::AppError;
use crate::config::{Config, ListenAt};
use crate::proxy::listen::Listener;

/// All listeners, bound.
pub(super) struct Listeners {
    /// For agents, in the configuration's order.
    pub(super) proxy: Vec<Listener>,
    /// Where they are; port 0 has become a real one.
    pub(super) proxy_at: Vec<ListenAt>,
    /// For everyone: health and the CA's certificate.
    pub(super) admin: TcpListener,
    /// Where that is.
    pub(super) admin_addr: SocketAddr,
}

impl Listeners {
    pub(super) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let mut proxy = Vec::new();
        for at in &config.listen.proxy {
            let listener = match at {
                ListenAt::Tcp(addr) => Listener::tcp(*addr).await,
                ListenAt::Unix(path) => Listener::unix(path.clone()).await,
            };
            proxy.push(listener.map_err(|error| refused("listen.proxy", at, error))?);
            warn_when_open(at);
        }
        let at = ListenAt::Tcp(config.listen.admin);
        let admin = TcpListener::bind(config.listen.admin).await;
        let admin = admin.map_err(|error| refused("listen.admin", &at, error))?;
        warn_when_open(&at);
        let admin_addr = admin.local_addr().context("the admin listener has no address")?;
        let bound = proxy.iter().zip(&config.listen.proxy);
        let proxy_at = bound.map(|(l, at)| l.addr().map_or_else(|| at.clone(), ListenAt::Tcp));
        Ok(Self { proxy_at: proxy_at.collect(), proxy, admin, admin_addr })
    }

    /// The bound TCP addresses for agents.
    pub(super) fn proxy_addrs(&self) -> Vec<SocketAddr> {
        self.proxy.iter().filter_map(Listener::addr).collect()
    }
}

fn refused(key: &'static str, at: &ListenAt, source: io::Error) -> AppError {
    AppError::Listen { key, at: at.clone(), source }
}

fn warn_when_open(at: &ListenAt) {
    if let ListenAt::Tcp(addr) = at
        && !addr.ip().is_loopback()
    {
        tracing::warn!(%addr, "this listener can be reached from other machines");
    }
}
