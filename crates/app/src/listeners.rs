//! The listeners of a gateway. All are bound or inherited before anything is served, so that a port in use
//! is reported with a remedy, and nothing is half started.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, bail};
use listenfd::ListenFd;
use tokio::net::TcpListener;

use super::error::AppError;
use super::folders::folder_for;
use super::hand_over::Sockets;
use super::listener_certificates::{ADMIN, DATABASES, HOOKS, ListenerCertificates};
use super::localhost;
use crate::config::{Config, ListenAt, ListenDatabase, ListenTls};
use keyward_api::{DatabaseLocation, Locations};
use keyward_base::id::OrgId;
use keyward_databases::{DatabaseListener, overload_answer};
use keyward_proxy::{Listener, ListenerOwner, ProxyTls};

const ADMIN_KEY: &str = "listen.admin";

pub(super) struct Listeners {
    /// Listeners for agents in the order of the configuration; those of single agents last.
    pub(super) proxy: Vec<Listener>,
    /// The addresses of the shared listeners, with real ports.
    pub(super) proxy_at: Vec<ListenAt>,
    /// The certificates of TLS listeners.
    pub(super) certificates: ListenerCertificates,
    /// The listeners of single agents: owner and address.
    pub(super) agents_at: Vec<(ListenerOwner, ListenAt)>,
    /// The listeners for sessions with databases.
    pub(super) databases: Vec<(Listener, Arc<DatabaseListener>)>,
    /// Their addresses, with real ports.
    pub(super) databases_at: Vec<ListenDatabase>,
    pub(super) metrics: Option<TcpListener>,
    pub(super) metrics_addr: Option<SocketAddr>,
    /// The listener for webhooks.
    pub(super) hooks: Option<BoundHooks>,
    pub(super) admin: BoundAdmin,
}

/// The bound admin listener: health and the CA's certificate for everyone, the API for tokens.
pub(super) struct BoundAdmin {
    /// At its address, and at the others of `localhost`.
    pub(super) listeners: Vec<TcpListener>,
    pub(super) addr: SocketAddr,
    /// The certificate, if it speaks TLS.
    pub(super) tls: Option<Arc<ProxyTls>>,
}

/// The bound listener for webhooks of services.
pub(super) struct BoundHooks {
    pub(super) listener: TcpListener,
    addr: SocketAddr,
    /// The base of the hooks' URLs.
    pub(super) url: String,
    pub(super) tls: Option<Arc<ProxyTls>>,
}

/// Sockets from a service manager: sd_listen_fds(3).
#[derive(Default)]
struct InheritedSockets {
    proxy: Vec<Listener>,
    admin: Vec<TcpListener>,
}

impl Listeners {
    /// Takes inherited listeners, and binds the others.
    pub(super) async fn bind(config: &Config, sockets: &mut Sockets) -> anyhow::Result<Self> {
        let InheritedSockets { mut proxy, admin } = InheritedSockets::take(config)?;
        let mut proxy_at: Vec<_> = proxy.iter().map(at).collect();
        let (inherited, mut certificates) = (!proxy.is_empty(), ListenerCertificates::default());
        for at in &config.listen.proxy {
            // Inherited listeners replace those without TLS.
            if inherited && !matches!(at, ListenAt::Tls(_)) {
                continue;
            }
            let mut listener = agents_at("listen.proxy", at, sockets).await?;
            if let ListenAt::Tls(tls) = at {
                listener = listener.with_tls(certificates.add("listen.proxy", &tls.by)?);
            }
            proxy_at.push(at.bound(listener.addr()));
            proxy.push(listener);
        }
        let admin = admin_at(config, admin, sockets).await?;
        let metrics = match config.listen.metrics {
            Some(at) => Some(tcp_at("listen.metrics", at, sockets).await?),
            None => None,
        };
        let metrics_addr = metrics.as_ref().map(TcpListener::local_addr).transpose();
        let metrics_addr = metrics_addr.context("the listener for metrics has no address")?;
        let admin_addr = admin.first().map(TcpListener::local_addr).transpose()?;
        let admin_addr = admin_addr.context("the admin listener has no address")?;
        proxy_at.iter().for_each(warn_when_open);
        warn_when_open(&ListenAt::Tcp(admin_addr));
        metrics_addr.map(ListenAt::Tcp).iter().for_each(warn_when_open);
        let by = config.listen.admin_access.tls.as_ref();
        let admin_tls = by.map(|by| certificates.add(ADMIN, by)).transpose()?;
        let mut all = Self {
            proxy,
            proxy_at,
            certificates,
            agents_at: Vec::new(),
            databases: Vec::new(),
            databases_at: Vec::new(),
            metrics,
            metrics_addr,
            hooks: None,
            admin: BoundAdmin { listeners: admin, addr: admin_addr, tls: admin_tls },
        };
        all.bind_agents(config, sockets).await?;
        all.bind_databases(config, sockets).await?;
        all.bind_hooks(config, sockets).await?;
        Ok(all)
    }

    async fn bind_agents(&mut self, config: &Config, sockets: &mut Sockets) -> anyhow::Result<()> {
        for own in &config.listen.agents {
            let owner = ListenerOwner { org: own.org.clone(), agent: own.agent.clone() };
            let failed = |error| refused("listen.agents", &own.at, error);
            folder_in_data(config, "listen.agents", &own.at)?;
            let listener = agents_at("listen.agents", &own.at, sockets).await?;
            let listener = listener.owned_by(owner.clone()).map_err(failed)?;
            self.agents_at.push((owner, own.at.bound(listener.addr())));
            self.proxy.push(listener);
        }
        Ok(())
    }

    async fn bind_databases(
        &mut self,
        config: &Config,
        sockets: &mut Sockets,
    ) -> anyhow::Result<()> {
        for listen in &config.listen.databases {
            folder_in_data(config, DATABASES, &listen.at)?;
            let mut listener = for_databases(listen, sockets).await?;
            if let Some(by) = &listen.tls {
                listener = listener.with_tls(self.certificates.add(DATABASES, by)?);
            }
            let at = listen.at.bound(listener.addr());
            warn_when_open(&at);
            self.databases_at.push(ListenDatabase { at, ..listen.clone() });
            let ListenDatabase { protocol, server_version, connection, .. } = listen.clone();
            let service = DatabaseListener::new(protocol, server_version, connection);
            self.databases.push((listener, service));
        }
        Ok(())
    }

    async fn bind_hooks(&mut self, config: &Config, sockets: &mut Sockets) -> anyhow::Result<()> {
        let Some(hooks) = &config.listen.hooks else { return Ok(()) };
        let failed = |error| refused(HOOKS, &ListenAt::Tcp(hooks.at), error);
        let listener = tcp_at(HOOKS, hooks.at, sockets).await?;
        let addr = listener.local_addr().map_err(failed)?;
        let by = hooks.tls.as_ref();
        let tls = by.map(|by| self.certificates.add(HOOKS, by)).transpose()?;
        self.hooks = Some(BoundHooks { listener, addr, url: hooks.base(addr), tls });
        Ok(())
    }

    /// Where the gateway is reached and keeps its files, for people and the API.
    pub(super) fn locations(&self, config: &Config) -> Locations {
        Locations {
            config: config.file().display().to_string(),
            proxy: self.proxy_at.iter().map(ToString::to_string).collect(),
            agents: self.agents_at.iter().map(|(own, at)| (own.clone(), at.to_string())).collect(),
            databases: self.databases_at.iter().map(database_location).collect(),
            admin: match &self.admin.tls {
                None => self.admin.addr.to_string(),
                Some(_) => format!("https://{}", self.admin.addr),
            },
            metrics: self.metrics_addr.map(|at| at.to_string()),
            hooks: self.hooks.as_ref().map(|hooks| hooks.url.clone()),
            data: config.data_dir.display().to_string(),
            ca: config.ca.cert.display().to_string(),
        }
    }

    /// The bound TCP addresses of the shared listeners.
    pub(super) fn proxy_addrs(&self) -> Vec<SocketAddr> {
        self.proxy_at.iter().filter_map(ListenAt::tcp).collect()
    }

    /// All TCP addresses of the gateway; none of them is ever dialled.
    pub(super) fn own_addrs(&self) -> Vec<SocketAddr> {
        let agents = self.agents_at.iter().filter_map(|(_, at)| at.tcp());
        let databases = self.databases_at.iter().filter_map(|listen| listen.at.tcp());
        self.proxy_addrs()
            .into_iter()
            .chain(agents)
            .chain(databases)
            .chain(self.admin.listeners.iter().filter_map(|listener| listener.local_addr().ok()))
            .chain(self.metrics_addr)
            .chain(self.hooks.as_ref().map(|hooks| hooks.addr))
            .collect()
    }
}

impl InheritedSockets {
    /// Listeners by name: `proxy` and `admin`, several of each. Without names, the first is for agents and the
    /// second for the admin API.
    fn take(config: &Config) -> anyhow::Result<Self> {
        let environment = &config.environment;
        // Ignores variables that the configuration does not see.
        if environment.path("LISTEN_FDS").is_none() {
            return Ok(Self::default());
        }
        let mut sockets = ListenFd::from_env();
        let names = environment.path("LISTEN_FDNAMES").unwrap_or_else(|| "proxy:admin".into());
        let names = names.to_string_lossy().into_owned();
        let names: Vec<&str> = names.split(':').collect();
        let mut inherited = Self::default();
        for index in 0..sockets.len() {
            match names.get(index).copied() {
                Some("proxy") => inherited.proxy.push(agents(&mut sockets, index)?),
                Some("admin") => {
                    let socket = sockets.take_tcp_listener(index);
                    let socket = socket.ok().flatten();
                    let socket =
                        socket.context("the inherited socket `admin` is no TCP listener")?;
                    socket.set_nonblocking(true)?;
                    inherited.admin.push(TcpListener::from_std(socket)?);
                }
                other => bail!(
                    "the inherited socket {index} is called `{}`: write `FileDescriptorName=proxy`, \
                     or `admin`",
                    other.unwrap_or_default()
                ),
            }
        }
        Ok(inherited)
    }
}

fn agents(sockets: &mut ListenFd, index: usize) -> anyhow::Result<Listener> {
    if let Ok(Some(tcp)) = sockets.take_tcp_listener(index) {
        return Ok(Listener::inherited_tcp(tcp)?);
    }
    let unix = sockets.take_unix_listener(index).ok().flatten();
    let unix = unix.context("an inherited socket `proxy` is no listener")?;
    Ok(Listener::inherited_unix(unix)?)
}

/// The address of an inherited listener.
fn at(listener: &Listener) -> ListenAt {
    let unnamed = || ListenAt::Unix(listener.path().unwrap_or_default());
    listener.addr().map_or_else(unnamed, ListenAt::Tcp)
}

/// Creates the folder of a socket in the data directory: an export has the sockets of stored listeners there. Other folders
/// must exist, because who may enter them is not the gateway's decision.
fn folder_in_data(config: &Config, key: &'static str, at: &ListenAt) -> anyhow::Result<()> {
    match at {
        ListenAt::Unix(path) if path.starts_with(&config.data_dir) => folder_for(key, path),
        _ => Ok(()),
    }
}

/// A listener for agents, on a socket of the gateway before or a new one.
async fn agents_at(
    key: &'static str,
    at: &ListenAt,
    sockets: &mut Sockets,
) -> anyhow::Result<Listener> {
    let name = format!("{key} {at}");
    let listener = match (sockets.take(&name), at) {
        (Some(socket), ListenAt::Unix(path)) => {
            Listener::inherited_unix_at(socket.into(), path.clone())
        }
        (Some(socket), _) => Listener::inherited_tcp(socket.into()),
        (None, _) => bound(at).await,
    };
    let listener = listener.map_err(|error| refused(key, at, error))?;
    sockets.give(name, &listener)?;
    Ok(listener.kept_when(sockets.handed_over.clone()))
}

/// A TCP listener of the control plane, on a socket of the gateway before or a new one.
async fn tcp_at(
    key: &'static str,
    at: SocketAddr,
    sockets: &mut Sockets,
) -> anyhow::Result<TcpListener> {
    let name = format!("{key} {at}");
    let listener = match sockets.take(&name) {
        Some(socket) => TcpListener::from_std(socket.into()),
        None => TcpListener::bind(at).await,
    };
    let listener = listener.map_err(|error| refused(key, &ListenAt::Tcp(at), error))?;
    sockets.give(name, &listener)?;
    Ok(listener)
}

/// The admin listener on inherited sockets, on those of the gateway before, or on new ones.
async fn admin_at(
    config: &Config,
    mut all: Vec<TcpListener>,
    sockets: &mut Sockets,
) -> anyhow::Result<Vec<TcpListener>> {
    let (at, is_activated) = (config.listen.admin, !all.is_empty());
    // With port 0, both processes know the sockets by it.
    let name = |ip: IpAddr| format!("{ADMIN_KEY} {}", SocketAddr::new(ip, at.port()));
    let mut taken = |ip: IpAddr| TcpListener::from_std(sockets.take(&name(ip))?.into()).ok();
    if !is_activated {
        all.extend(taken(at.ip()));
    }
    match all.is_empty() {
        true => all = localhost::bind_admin(config).await?,
        false => localhost::bind_others(config, &mut all, |other| taken(other.ip())).await?,
    }
    if !is_activated {
        for listener in &all {
            sockets.give(name(listener.local_addr()?.ip()), listener)?;
        }
    }
    Ok(all)
}

async fn bound(at: &ListenAt) -> std::io::Result<Listener> {
    match at {
        ListenAt::Tcp(addr) | ListenAt::Tls(ListenTls { at: addr, .. }) => {
            Listener::tcp(*addr).await
        }
        ListenAt::Unix(path) => Listener::unix(path.clone()).await,
    }
}

/// Binds a listener for sessions with databases, for all agents or for one.
async fn for_databases(listen: &ListenDatabase, sockets: &mut Sockets) -> anyhow::Result<Listener> {
    let listener = agents_at(DATABASES, &listen.at, sockets).await?;
    let listener = listener.with_overload_answer(overload_answer(listen.protocol));
    let Some((org, agent)) = &listen.agent else { return Ok(listener) };
    let owned = listener.owned_by(ListenerOwner { org: org.clone(), agent: agent.clone() });
    Ok(owned.map_err(|error| refused(DATABASES, &listen.at, error))?)
}

fn database_location(listen: &ListenDatabase) -> DatabaseLocation {
    let owner = |(org, agent): (OrgId, String)| ListenerOwner { org, agent };
    DatabaseLocation {
        at: listen.at.to_string(),
        protocol: listen.protocol,
        connection: listen.connection.clone(),
        agent: listen.agent.clone().map(owner),
    }
}

fn refused(key: &'static str, at: &ListenAt, source: std::io::Error) -> AppError {
    AppError::Listen { key, at: at.clone(), source }
}

fn warn_when_open(at: &ListenAt) {
    if let Some(addr) = at.tcp()
        && !addr.ip().is_loopback()
    {
        tracing::warn!(id = "listener_open", %addr, "this listener can be reached from other machines");
    }
}
