//! Config → running gateway: opens the services, binds the listeners, runs until told to stop.
//!
//! The only place where everything meets. What happens on a stream is `proxy/`'s, on the admin
//! doors `admin/`'s.

mod apply;
mod ca;
mod data_path;
mod descriptors;
mod error;
mod fronts;
mod keys;
mod late_log;
mod listeners;
mod notify;
mod plan;
mod reload;
mod rotations;
mod services;
mod usage;
mod watched;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use data_path::DataPath;
pub use error::AppError;
pub use late_log::LateLog;
pub use plan::refused_plan;
use services::Opened;
pub use services::Services;

use self::listeners::Listeners;
use self::notify::Manager;
use self::reload::{Outward, Reloader};
use self::watched::Watched;
use crate::config::{AuditTo, Config, ListenAgent, ListenAt};
use keyward_api::{
    self as admin, Admin, AdminSocket, AuditLog, Deps, OwnNames, Places, Reloads, Runs,
};
use keyward_base::host::{Scheme, Target};
use keyward_net::tls;
use keyward_proxy::Cores;
use keyward_proxy::ListenerOwner;
use keyward_proxy::{Gateway, Parts};
use keyward_state::observe::audit::{Audit, Writer};
use keyward_state::observe::change_log::Changes;
use keyward_state::observe::log::Verbosity;
use keyward_state::observe::trail::Trail;
use keyward_vault::keys::Keys;

/// When a gateway ends by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    /// Never.
    UntilSignalled,
    /// With the last run that uses it, or soon when none comes.
    WithRuns,
}

/// Within it, the run that started a private gateway has opened its own run there.
const FIRST_RUN_WITHIN: Duration = Duration::from_secs(30);

/// A gateway that serves.
pub struct Running {
    services: Arc<Services>,
    runs: Runs,
    proxy_addrs: Vec<SocketAddr>,
    agent_addrs: Vec<(ListenerOwner, ListenAt)>,
    admin_addr: SocketAddr,
    places: Places,
    drain: watch::Sender<bool>,
    cores: Arc<Cores>,
    /// Accept for the cores; end when draining begins.
    listeners: JoinSet<()>,
    doors: Doors,
    herald: Herald,
    changes: Changes,
    writer: Writer,
    reloads: Reloads,
    manager: Manager,
}

/// Takes note of what happens, from before the first change to after the last.
struct Herald {
    close: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

/// The admin doors, which stay open until the last exchange has ended: `/readyz` says `draining`
/// meanwhile, and an operator can still look.
struct Doors {
    close: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Starts a gateway; answers once it serves.
///
/// # Errors
/// When a listener cannot be bound, a service cannot be opened, or the configuration contradicts
/// what is stored. Nothing is served then.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    Box::pin(start_with(config, None)).await
}

async fn start_with(config: Config, verbosity: Option<Verbosity>) -> anyhow::Result<Running> {
    // Before any of them is read: what changes from here on is read again.
    let watched = Watched::new(config.files());
    // The store first: a second gateway on the same data is told that rather than of a busy port.
    let opened = Opened::open(&config).await?;
    let bound = Listeners::bind(&config).await?;
    let (proxy_addrs, admin_addr) = (bound.proxy_addrs(), bound.admin_addr);
    let agent_addrs = bound.agents_at.clone();
    // Before the store is brought in line: what the file changes is written down, too.
    let (audit, writer, changes, herald) = Herald::begin(&config, &opened)?;
    let services = opened.for_serving(&config, &bound).await?;
    warn_of_missing_owners(&services, &config);
    let socket = AdminSocket::bind(&config.data_dir).await?;
    let (drain, draining) = watch::channel(false);
    let audit_log = AuditLog::written(services.audit.clone(), audit.written());
    let outward = Outward::load(&config)?;
    let gateway = Gateway::new(parts(&config, &services, &outward, audit, draining.clone())?);
    let cores = start_cores(&gateway)?;

    let places = places(&config, &bound);
    let last = watch::Sender::new(None);
    let (reloads, asks) = Reloads::new(last.subscribe());
    let manager = Manager::at(config.environment.path("NOTIFY_SOCKET"));
    let deps = control_plane(&services, &gateway, audit_log, changes.clone());
    let admin = Admin::serving(deps, draining, places.clone(), reloads.clone());
    let runs = admin.runs().clone();
    let mut doors = Doors::new();
    let names = own_names(&config, admin_addr);
    doors.open(|close| admin::serve_tcp(bound.admin, admin.clone(), names, close));
    doors.open(|close| admin::serve_socket(socket, admin, close));
    doors.tend(&services, &config);
    let reloader = Reloader {
        keys: keys::Named::of(&config),
        started: Arc::new(config),
        services: services.clone(),
        gateway,
        outward,
        fronts: bound.fronts,
        verbosity,
        manager: manager.clone(),
        watched: Some(watched),
        last,
        again_at: None,
    };
    doors.open(|close| until(close, Box::pin(reloader.run(asks))));
    let accepting = bound.proxy.into_iter().map(|listener| cores.clone().accept(listener));
    let listeners: JoinSet<_> = accepting.collect();
    Ok(Running {
        services,
        runs,
        proxy_addrs,
        agent_addrs,
        admin_addr,
        places,
        drain,
        cores,
        listeners,
        doors,
        herald,
        changes,
        writer,
        reloads,
        manager,
    })
}

fn start_cores(gateway: &Arc<Gateway>) -> anyhow::Result<Arc<Cores>> {
    let cores = Cores::start(gateway.clone(), core_count());
    Ok(Arc::new(cores.context("cannot start a core")?))
}

/// One for each processor that the process may use.
fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The services of the control plane. It holds the data path weakly: the data path ends before the audit
/// log does.
fn control_plane(
    services: &Services,
    gateway: &Arc<Gateway>,
    audit: AuditLog,
    changes: Changes,
) -> Deps {
    Deps { data_path: Arc::downgrade(gateway), audit, changes, ..services.deps() }
}

/// Serves until SIGTERM, SIGINT or the end of its `life`, then drains; a second signal cuts what is
/// left. SIGHUP reads the configuration again. `announce` is called once it serves; `verbosity`
/// follows `log.level`.
///
/// # Errors
/// As [`start`].
pub async fn serve(
    config: Config,
    life: Life,
    verbosity: Option<Verbosity>,
    announce: impl FnOnce(&Running),
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    // Unhandled, it would end a process that is about to serve.
    let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let running = Box::pin(start_with(config, verbosity)).await?;
    if life == Life::WithRuns {
        running.runs.make_private();
    }
    let hangups = tokio::spawn(reload_at(hangup, running.reloads.clone()));
    announce(&running);
    running.manager.ready();
    tokio::select! {
        () = told(&mut terminate, &mut interrupt) => {}
        () = life.over(&running.runs) => {}
    }
    tracing::info!("draining");
    running.manager.stopping();
    let cutting = running.cores.cutting();
    let mut shutdown = pin!(running.shutdown());
    tokio::select! {
        () = shutdown.as_mut() => {}
        () = told(&mut terminate, &mut interrupt) => {
            tracing::warn!("cut by a second signal");
            cutting.send_replace(true);
            // Not without the audit records of what was cut; a third signal waits for nothing.
            tokio::select! {
                () = shutdown => {}
                () = told(&mut terminate, &mut interrupt) => {}
            }
        }
    }
    hangups.abort();
    Ok(())
}

/// Resolves when a signal tells us to end.
async fn told(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn warn_of_missing_owners(services: &Services, config: &Config) {
    for ListenAgent { agent, org, at } in &config.listen.agents {
        if services.directory.view().of_listener(org, agent).is_none() {
            tracing::warn!(agent, org = org.name(), %at, "this listener's agent is paused or does not exist: add it");
        }
    }
}

/// A rotation of the master key that a crash interrupted is finished while the gateway serves.
async fn finish_rotation(keys: &Arc<Keys>) {
    if let Err(error) = keys.finish().await {
        tracing::error!(%error, "the rotation of the master key is not finished: the old key stays");
    }
}

/// SIGHUP means "read your configuration again".
async fn reload_at(mut hangup: Signal, reloads: Reloads) {
    while hangup.recv().await.is_some() {
        // What came of it is in the log.
        drop(reloads.ask().await);
    }
}

impl Life {
    async fn over(self, runs: &Runs) {
        match self {
            Self::UntilSignalled => std::future::pending().await,
            Self::WithRuns => {
                // Whoever started it may have been killed meanwhile.
                let _ = tokio::time::timeout(FIRST_RUN_WITHIN, runs.begun()).await;
                runs.ended().await;
            }
        }
    }
}

/// Works until `close` turns true.
async fn until(mut close: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        _ = close.wait_for(|close| *close) => {}
    }
}

impl Herald {
    /// With the audit log that it writes to.
    fn begin(config: &Config, opened: &Opened) -> anyhow::Result<(Audit, Writer, Changes, Self)> {
        let (audit, writer) = open_audit(config)?;
        let changes = Changes::to(audit.clone());
        let (close, closing) = watch::channel(false);
        let herald = |news| opened.events.clone().herald(news, changes.clone(), closing);
        let task = opened.news().map(|news| tokio::spawn(herald(news)));
        Ok((audit, writer, changes, Self { close, task }))
    }

    /// Ends once everything is written down.
    async fn finish(self) {
        self.close.send_replace(true);
        if let Some(task) = self.task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "events may be unrecorded");
        }
    }
}

impl Doors {
    fn new() -> Self {
        Self { close: watch::channel(false).0, tasks: JoinSet::new() }
    }

    fn open<F>(&mut self, door: impl FnOnce(watch::Receiver<bool>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(door(self.close.subscribe()));
    }

    /// What goes on beside the doors.
    fn tend(&mut self, services: &Services, config: &Config) {
        let (rulebook, keys) = (services.rulebook.clone(), services.keys.clone());
        let (authority, files) = (services.authority.clone(), config.ca.clone());
        self.open(|close| async move { until(close, rulebook.follow()).await });
        self.open(|close| async move { until(close, finish_rotation(&keys)).await });
        self.open(|close| async move { until(close, ca::follow(authority, files)).await });
        let (vault, metrics) = (services.vault.clone(), services.metrics.clone());
        let rotating = rotations::tend(vault, metrics, services.clock.clone());
        self.open(|close| until(close, rotating));
        let usage = usage::follow(services.directory.clone(), services.metrics.clone());
        self.open(|close| until(close, usage));
        let vault = services.vault.clone();
        self.open(|close| async move { until(close, vault.keep_alive()).await });
        let flows = services.flows.clone();
        self.open(|close| async move { until(close, Box::pin(flows.follow_moves())).await });
        let events = services.events.clone();
        self.open(|close| Box::pin(events.deliver(close)));
        let (flows, directory) = (services.flows.clone(), services.directory.clone());
        self.open(|mut close| async move {
            for org in directory.view().orgs() {
                flows.resume(&org.id).await;
            }
            let _ = close.wait_for(|close| *close).await;
            flows.close().await;
        });
    }

    async fn close(mut self) {
        self.close.send_replace(true);
        all_ended(&mut self.tasks).await;
    }
}

async fn all_ended(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a listener failed");
        }
    }
}

impl Running {
    /// The bound TCP addresses of the proxy, in the configuration's order.
    pub fn proxy_addrs(&self) -> &[SocketAddr] {
        &self.proxy_addrs
    }

    /// The listeners of one agent each: whose, and where; in the configuration's order.
    pub fn agent_addrs(&self) -> &[(ListenerOwner, ListenAt)] {
        &self.agent_addrs
    }

    /// How it is asked to read its configuration again.
    pub fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// The bound address of the admin listener.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// Where everything is, for people.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// What it serves from.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Stops accepting, lets what is under way finish within `limits.drain_timeout`, cuts the rest,
    /// and writes the last audit record.
    pub async fn shutdown(self) {
        let Self { services, drain, cores, mut listeners, doors, herald, changes, writer, .. } =
            self;
        let within = services.limits.drain_timeout;
        drain.send_replace(true);
        all_ended(&mut listeners).await;
        let Ok(cores) = Arc::try_unwrap(cores) else {
            return tracing::error!("a listener outlived its task");
        };
        if !cores.finish(within).await {
            tracing::warn!("streams were cut: they did not end within the drain timeout");
        }
        if !services.vault.landed(services.vault.flight_time()).await {
            tracing::warn!("a refresh did not end in time: what it brings is lost");
        }
        doors.close().await;
        herald.finish().await;
        changes.close();
        if tokio::task::spawn_blocking(move || writer.finish()).await.is_err() {
            tracing::error!("the audit writer panicked");
        }
    }
}

fn open_audit(config: &Config) -> anyhow::Result<(Audit, Writer)> {
    if let Some(folder) = config.audit.file.parent() {
        services::folder_for(folder)?;
    }
    let AuditTo { file, rotation, stdout } = &config.audit;
    Ok(Audit::open(Trail::at(file), *rotation, config.limits.audit_queue_max, *stdout)?)
}

fn parts(
    config: &Config,
    services: &Services,
    outward: &Outward,
    audit: Audit,
    draining: watch::Receiver<bool>,
) -> anyhow::Result<Parts> {
    let client_tls = tls::client_config(&outward.roots)?;
    outward.apply(&services.dialler, &client_tls);
    services.caller.trust(client_tls.clone());
    let descriptors_max = descriptors::for_streams(descriptors::open_files());
    Ok(Parts {
        directory: services.directory.clone(),
        rulebook: services.rulebook.clone(),
        vault: services.vault.clone(),
        leaves: services.leaves.clone(),
        dialler: services.dialler.clone(),
        client_tls,
        audit,
        metrics: services.metrics.clone(),
        limits: descriptors::within(&config.limits, descriptors_max, core_count()),
        descriptors_max,
        clock: services.clock.clone(),
        base_urls: config.listen.base_urls.clone(),
        draining,
    })
}

/// Where browsers reach us: with the port that the system chose, where it was to choose one.
fn public_url(config: &Config, admin: SocketAddr) -> String {
    match config.public_url.strip_suffix(":0") {
        Some(host) => format!("{host}:{}", admin.port()),
        None => config.public_url.clone(),
    }
}

/// The names under which the admin listener answers: its own address, and that of `public_url`.
pub fn own_names(config: &Config, addr: SocketAddr) -> OwnNames {
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

fn places(config: &Config, bound: &Listeners) -> Places {
    Places {
        proxy: bound.proxy_at.iter().map(ToString::to_string).collect(),
        agents: bound.agents_at.iter().map(|(own, at)| (own.clone(), at.to_string())).collect(),
        admin: bound.admin_addr.to_string(),
        data: config.data_dir.display().to_string(),
        ca: config.ca.cert.display().to_string(),
    }
}
