//! Config → running gateway: opens the services, binds the listeners, runs until told to stop.
//!
//! The only place where everything meets. What happens on a stream is `proxy/`'s, on the admin
//! doors `admin/`'s.

mod declared;
mod services;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use services::Opened;
pub use services::Services;

use crate::admin::{self, Admin, AdminSocket, OwnNames};
use crate::base::host::{Scheme, Target};
use crate::config::{Config, ListenAt};
use crate::net::tls;
use crate::observe::audit::{Audit, Writer};
use crate::proxy::listen::{Cores, Listener};
use crate::proxy::{Gateway, Parts};

/// A gateway that serves.
pub struct Running {
    services: Arc<Services>,
    proxy_addrs: Vec<SocketAddr>,
    admin_addr: SocketAddr,
    drain: watch::Sender<bool>,
    cores: Arc<Cores>,
    tasks: JoinSet<()>,
    writer: Writer,
}

/// The listeners. Bound after the store is open, so that a second gateway on the same data is told
/// that, and before anything is served.
struct Bound {
    proxy: Vec<Listener>,
    admin: TcpListener,
    admin_addr: SocketAddr,
}

/// Starts a gateway; answers once it serves.
///
/// # Errors
/// When a listener cannot be bound, a service cannot be opened, or the configuration contradicts
/// what is stored. Nothing is served then.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let opened = Opened::open(&config).await?;
    let bound = bind(&config).await?;
    let proxy_addrs: Vec<SocketAddr> = bound.proxy.iter().filter_map(Listener::addr).collect();
    let own = proxy_addrs.iter().copied().chain([bound.admin_addr]).collect();
    let services = opened.for_serving(&config, own).await?;
    let socket = AdminSocket::bind(&config.data_dir).await?;
    let (drain, draining) = watch::channel(false);
    let (audit, writer) = open_audit(&config)?;
    let gateway = Gateway::new(parts(&config, &services, audit, draining.clone())?);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = Arc::new(Cores::start(gateway, threads).context("cannot start a core")?);

    let mut tasks = JoinSet::new();
    for listener in bound.proxy {
        tasks.spawn(cores.clone().accept(listener));
    }
    let admin = Admin::new(services.deps(), draining.clone());
    let names = own_names(&config, bound.admin_addr);
    tasks.spawn(admin::serve_tcp(bound.admin, admin.clone(), names, draining.clone()));
    tasks.spawn(admin::serve_socket(socket, admin, draining));
    let rulebook = services.rulebook.clone();
    let follow = tokio::spawn(async move { rulebook.follow().await });
    let mut ended = drain.subscribe();
    tasks.spawn(async move {
        let _ = ended.wait_for(|draining| *draining).await;
        follow.abort();
    });
    Ok(Running { services, proxy_addrs, admin_addr: bound.admin_addr, drain, cores, tasks, writer })
}

/// Serves until SIGTERM or SIGINT, then drains; a second signal cuts what is left.
///
/// # Errors
/// As [`start`].
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let data_dir = config.data_dir.clone();
    let running = Box::pin(start(config)).await?;
    announce(&running, &data_dir);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining");
    tokio::select! {
        () = running.shutdown() => {}
        _ = terminate.recv() => tracing::warn!("cut by a second signal"),
        _ = interrupt.recv() => tracing::warn!("cut by a second signal"),
    }
    Ok(())
}

impl Running {
    /// The bound TCP addresses of the proxy, in the configuration's order.
    pub fn proxy_addrs(&self) -> &[SocketAddr] {
        &self.proxy_addrs
    }

    /// The bound address of the admin listener.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// What it serves from.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Stops accepting, lets what is under way finish within `limits.drain_timeout`, cuts the rest,
    /// and writes the last audit record.
    pub async fn shutdown(self) {
        let Self { services, drain, cores, mut tasks, writer, .. } = self;
        let within = services.limits.drain_timeout;
        drain.send_replace(true);
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a listener failed");
            }
        }
        let Ok(cores) = Arc::try_unwrap(cores) else {
            return tracing::error!("a listener outlived its task");
        };
        if !cores.finish(within).await {
            tracing::warn!("streams were cut: they did not end within the drain timeout");
        }
        if tokio::task::spawn_blocking(move || writer.finish()).await.is_err() {
            tracing::error!("the audit writer panicked");
        }
    }
}

async fn bind(config: &Config) -> anyhow::Result<Bound> {
    let mut proxy = Vec::new();
    for at in &config.listen.proxy {
        let listener = match at {
            ListenAt::Tcp(addr) => Listener::tcp(*addr).await,
            ListenAt::Unix(path) => Listener::unix(path.clone()).await,
        };
        proxy.push(listener.with_context(|| cannot_listen("proxy", at))?);
        warn_when_open(at);
    }
    let at = ListenAt::Tcp(config.listen.admin);
    let admin = TcpListener::bind(config.listen.admin).await;
    let admin = admin.with_context(|| cannot_listen("admin", &at))?;
    warn_when_open(&at);
    let admin_addr = admin.local_addr().context("the admin listener has no address")?;
    Ok(Bound { proxy, admin, admin_addr })
}

fn cannot_listen(which: &str, at: &ListenAt) -> String {
    format!("cannot listen on {at} (`listen.{which}`): is another gateway running?")
}

fn warn_when_open(at: &ListenAt) {
    if let ListenAt::Tcp(addr) = at
        && !addr.ip().is_loopback()
    {
        tracing::warn!(%addr, "this listener can be reached from other machines");
    }
}

fn open_audit(config: &Config) -> anyhow::Result<(Audit, Writer)> {
    if let Some(folder) = config.audit.file.parent() {
        services::private_dir(folder)?;
    }
    Ok(Audit::open(&config.audit.file, config.limits.audit_queue_max, config.audit.stdout)?)
}

fn parts(
    config: &Config,
    services: &Services,
    audit: Audit,
    draining: watch::Receiver<bool>,
) -> anyhow::Result<Parts> {
    let mut extra = Vec::new();
    for path in &config.upstream.trust {
        let roots = tls::load_pem_certs(path);
        extra.extend(roots.with_context(|| format!("`upstream.trust`: {}", path.display()))?);
    }
    Ok(Parts {
        directory: services.directory.clone(),
        rulebook: services.rulebook.clone(),
        vault: services.vault.clone(),
        leaves: services.leaves.clone(),
        dialler: services.dialler.clone(),
        client_tls: tls::client_config(&extra)?,
        audit,
        metrics: services.metrics.clone(),
        limits: config.limits.clone(),
        clock: services.clock.clone(),
        draining,
    })
}

/// The names under which the admin listener answers: its own address, and that of `public_url`.
fn own_names(config: &Config, addr: SocketAddr) -> OwnNames {
    let authority = config.public_url.split_once("://").map(|(scheme, rest)| {
        let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
        Target::parse(scheme, rest.split('/').next().unwrap_or(rest))
    });
    let named = match authority {
        Some(Ok(target)) => vec![(target.host().clone(), target.port())],
        _ => Vec::new(),
    };
    OwnNames::new(addr.port(), named)
}

/// Tells a person where things are.
fn announce(running: &Running, data_dir: &std::path::Path) {
    for addr in &running.proxy_addrs {
        eprintln!("proxy   http://{addr}");
    }
    eprintln!("admin   http://{}", running.admin_addr);
    eprintln!("data    {}", data_dir.display());
    eprintln!("ready; stop with Ctrl-C");
}
