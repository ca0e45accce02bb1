//! Starts a gateway from a configuration: opens the services, binds the listeners, and runs until a signal.
//! It connects the crates: streams are served by `keyward-proxy`, the admin listeners by `keyward-api`.
//!
//! ```text
//! config  last_config  watched                          the configuration file, checked; its changes
//! plan  apply  reload                                   what a configuration changes; a reload
//! services  data_path                                   what the listeners need; the same without listeners
//! listeners  listener_certificates  hand_over           sockets, and their way to the next gateway
//! start_check  patience  succession  stop_condition  notify       the start, the end, and the end of the gateway before
//! descriptors  folders                                  what the system permits
//! keys  ca  audit_log  upstream_settings  public_url    what the configuration names, opened
//! backups  restore  store_check  store_copy             the store as a whole
//! admin_tasks                                           the admin listeners, and the background jobs below
//! expiry                                                jobs for what ends
//! usage  source_files                                   jobs for use and files
//! telemetry                                             a job that reports
//! replicas  limit_exchange                              jobs for the replicas of one store
//! ```

mod admin_tasks;
mod apply;
mod audit_log;
mod backups;
mod ca;
pub mod config;
mod data_path;
mod database_url;
mod descriptors;
mod error;
mod expiry;
mod folders;
mod hand_over;
mod keys;
mod last_config;
mod limit_exchange;
mod listener_certificates;
mod listeners;
pub mod localhost;
mod notify;
mod patience;
mod plan;
mod public_url;
mod reload;
mod replicas;
mod restore;
mod services;
mod source_files;
mod start_check;
mod stop_condition;
mod store_check;
mod store_copy;
mod succession;
mod telemetry;
mod upstream_settings;
mod usage;
mod watched;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::restore::error::{RestoreError, Restored};
pub use backups::written as written_backups;
pub use data_path::DataPath;
pub use error::{AppError, KEY_LOST_HINT, LOCALHOST_KEY, data_directory_remedy, is_locked};
pub use folders::{DanglingLink, create_private_dir};
pub use plan::refused_plan;
use public_url::admin_access;
pub use public_url::own_names;
pub use restore::Restore;
use services::OpenedServices;
pub use services::{FileCheck, Opening, Services};
pub use stop_condition::Hangups;
pub use stop_condition::{StopCondition, StoppedWhile};
pub use store_check::{RepairedStore, check_store, repair_store};
pub use store_copy::{copy_backup, copy_store};

use self::admin_tasks::{AdminTasks, all_ended, until};
use self::audit_log::EventRecorder;
use self::data_path::{EndSignals, serving, start_cores};
use self::database_url::DatabaseUrl;
use self::hand_over::{FIRST_REQUEST_WITHIN, HandOver, Predecessor, Sockets};
use self::listeners::Listeners;
use self::notify::ServiceManager;
use self::reload::Reloader;
use self::succession::{admin_socket, handed_over, offered, opened};
use self::upstream_settings::UpstreamSettings;
use self::watched::WatchedFiles;
use crate::config::{Config, ListenAt, ListenDatabase};
use keyward_api::{Admin, AuditLog, Deps, Locations, Reloads, Runs};
use keyward_databases::{DATABASE_SOCKETS, DatabaseListener};
use keyward_proxy::{Cores, Gateway, Listener, ListenerOwner, Retirement};
use keyward_state::observe::audit::{Audit, AuditWriter};
use keyward_state::observe::change_log::ChangeRecorder;
use keyward_state::observe::log::Verbosity;

/// A gateway that has its store, and serves nothing yet.
struct OpenedGateway {
    watched: WatchedFiles,
    database_url: DatabaseUrl,
    services: OpenedServices,
    predecessor: Option<Predecessor>,
    sockets: Sockets,
}

/// A running gateway.
pub struct Running {
    services: Arc<Services>,
    runs: Runs,
    proxy_addrs: Vec<SocketAddr>,
    agent_addrs: Vec<(ListenerOwner, ListenAt)>,
    database_addrs: Vec<ListenDatabase>,
    admin_addr: SocketAddr,
    locations: Locations,
    ends: EndSignals,
    /// Offers the listening sockets to another process.
    hand_over: Option<HandOver>,
    /// The gateway that handed its sockets over to this one.
    predecessor: Option<Predecessor>,
    cores: Arc<Cores>,
    /// Accept streams for the cores until draining begins.
    listeners: JoinSet<()>,
    tasks: AdminTasks,
    recorder: EventRecorder,
    changes: ChangeRecorder,
    writer: AuditWriter,
    reloads: Reloads,
    manager: ServiceManager,
}

/// Starts a gateway. Returns when it serves.
///
/// # Errors
/// When a listener cannot be bound, a service cannot be opened, or the configuration contradicts the store.
/// Nothing is served then.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let opened = Box::pin(OpenedGateway::open(&config)).await?;
    Box::pin(start_with(opened, Arc::new(config), None)).await
}

async fn start_with(
    open: OpenedGateway,
    config: Arc<Config>,
    verbosity: Option<Verbosity>,
) -> anyhow::Result<Running> {
    let directory = open.services.directory();
    directory.wait_out(patience::ANSWERED_WITHIN);
    let running = Box::pin(run(open, config, verbosity)).await;
    directory.wait_out(Duration::ZERO);
    if running.is_err() {
        // The next process would wait for the leases of this one.
        directory.leave_replicas().await;
    }
    running
}

async fn run(
    open: OpenedGateway,
    config: Arc<Config>,
    verbosity: Option<Verbosity>,
) -> anyhow::Result<Running> {
    let OpenedGateway { watched, database_url, services: opened, predecessor, mut sockets } = open;
    let bound = Listeners::bind(&config, &mut sockets).await?;
    // Before the plan is applied, so that its changes are recorded.
    let (audit, writer, changes, recorder) = EventRecorder::begin(&config, &opened)?;
    let services = opened.for_serving(&config, &bound).await?;
    let socket = admin_socket(&config, &mut sockets).await?;
    replicas::succeed(&services, &config, predecessor.is_some()).await;
    services.telemetry.begin(&config, verbosity.as_ref())?;
    let (ends, upstream) = (EndSignals::default(), UpstreamSettings::load(&config)?);
    let (gateway, links) = serving(&config, &services, &upstream, &audit, ends.subscribe())?;
    let (cores, locations) = (start_cores(&gateway)?, bound.locations(&config));
    let (proxy_addrs, admin_addr) = (bound.proxy_addrs(), bound.admin.addr);
    let last = watch::Sender::new(None);
    let ((reloads, asks), mut tasks) = (Reloads::new(last.subscribe()), AdminTasks::new());
    let deps = control_plane(&services, &gateway, &audit, changes.clone());
    let admin = Admin::serving(deps, ends.stop.subscribe(), locations.clone(), reloads.clone());
    limit_exchange::start(&services, &mut tasks).await?;
    tasks.serve_network(bound.admin, &admin, admin_access(&config, admin_addr), &services);
    tasks.serve_socket(socket, &admin);
    tasks.serve_others(bound.metrics, bound.hooks, &admin, &services);
    tasks.start_jobs(&admin, links, &services, &config);
    let stored = open_stored(&services, &config, &cores, &ends, &mut sockets).await;
    let listeners = accept(&cores, bound.proxy, bound.databases, stored);
    let reloader = Reloader {
        keys: keys::ConfiguredKeys::of(&config, &config.store),
        started: config.clone(),
        in_force: config.clone(),
        database_url,
        services: services.clone(),
        gateway,
        upstream,
        certificates: bound.certificates,
        verbosity,
        manager: service_manager(&config),
        watched: Some(watched),
        last,
        again_at: None,
    };
    tasks.spawn(|close| until(close, Box::pin(reloader.run(asks))));
    Ok(Running {
        services,
        runs: admin.runs().clone(),
        proxy_addrs,
        agent_addrs: bound.agents_at,
        database_addrs: bound.databases_at,
        admin_addr,
        locations,
        ends,
        hand_over: offered(&config, sockets)?,
        predecessor,
        listeners,
        cores,
        tasks,
        recorder,
        changes,
        writer,
        reloads,
        manager: service_manager(&config),
    })
}

fn service_manager(config: &Config) -> ServiceManager {
    ServiceManager::at(config.environment.path("NOTIFY_SOCKET"))
}

/// Accepts from all listeners until draining begins. `stored`: the task that follows stored listeners.
fn accept(
    cores: &Arc<Cores>,
    proxy: Vec<Listener>,
    databases: Vec<(Listener, Arc<DatabaseListener>)>,
    stored: Option<impl Future<Output = ()> + Send + 'static>,
) -> JoinSet<()> {
    let mut listeners = JoinSet::new();
    for listener in proxy {
        listeners.spawn(cores.clone().accept(listener));
    }
    for (listener, service) in databases {
        listeners.spawn(cores.clone().accept_for(listener, service));
    }
    if let Some(stored) = stored {
        listeners.spawn(stored);
    }
    listeners
}

/// Opens the stored listeners for databases, on sockets of the predecessor if there are any, and returns the task that
/// follows their changes until draining begins. `None` for a private gateway, which uses neither these nor the
/// listeners of the configuration.
async fn open_stored(
    services: &Services,
    config: &Config,
    cores: &Arc<Cores>,
    ends: &EndSignals,
    sockets: &mut Sockets,
) -> Option<impl Future<Output = ()> + Send + use<>> {
    if config.ends_with_runs {
        return None;
    }
    let (stored, inherited) = (services.database_listeners.clone(), sockets.take_databases());
    let folder = config.data_dir.join(DATABASE_SOCKETS);
    Box::pin(stored.begin(cores.clone(), folder, inherited)).await;
    Some(stored.follow(ends.drain.subscribe()))
}

/// The services of the control plane. It holds the data path weakly: the data path ends before the audit
/// log does.
fn control_plane(
    services: &Services,
    gateway: &Arc<Gateway>,
    audit: &Audit,
    changes: ChangeRecorder,
) -> Deps {
    let audit = AuditLog::written(services.audit.clone(), audit.written());
    Deps { data_path: Arc::downgrade(gateway), audit, changes, ..services.deps.clone() }
}

/// Runs a gateway until SIGTERM, SIGINT or its `stop_condition`, then drains it. A signal before it has its store
/// ends it at once. A second signal ends the remaining streams. SIGHUP reloads the configuration, also one that came before it
/// serves: `config` may have been read before. `announce` is called when it serves; `verbosity` follows `log.level`.
///
/// # Errors
/// As [`start`].
pub async fn serve(
    config: Config,
    stop_condition: StopCondition,
    verbosity: Option<Verbosity>,
    hangups: Hangups,
    announce: impl FnOnce(&Running),
) -> anyhow::Result<StoppedWhile> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let unkept = last_config::unkept_providers(&config);
    // It may wait for minutes. A signal after it waits until the gateway serves: the start changes the store.
    let opened = tokio::select! {
        biased;
        () = stop_signal(&mut terminate, &mut interrupt) => {
            tracing::info!(id = "stopped", "stopped before it served");
            return Ok(StoppedWhile::Starting);
        }
        opened = Box::pin(OpenedGateway::open(&config)) => opened?,
    };
    let mut running = Box::pin(start_with(opened, Arc::new(config), verbosity)).await?;
    if stop_condition == StopCondition::WithRuns {
        running.runs.make_private();
    }
    let hangups = tokio::spawn(reload_at(hangups, running.reloads.clone()));
    running.take_over();
    announce(&running);
    running.manager.ready();
    if let Some(unkept) = unkept {
        last_config::keep_providers(unkept);
    }
    let offered = running.hand_over.take();
    let stored = running.services.database_listeners.clone();
    let successor = tokio::select! {
        () = stop_signal(&mut terminate, &mut interrupt) => None,
        () = stop_condition.reached(&running.runs) => None,
        successor = handed_over(offered, &stored) => Some(successor),
    };
    tracing::info!(id = "draining", "draining");
    running.manager.stopping();
    let cutting = running.cores.cutting();
    let vault = running.services.vault.clone();
    let mut shutdown = pin!(running.end(successor.is_some()));
    tokio::select! {
        () = shutdown.as_mut() => {}
        () = stop_signal(&mut terminate, &mut interrupt) => {
            tracing::warn!("open exchanges are cut, because a second signal came");
            cutting.send_replace(true);
            // Waits for the audit records of the ended streams; a third signal does not wait.
            tokio::select! {
                () = shutdown => {}
                () = stop_signal(&mut terminate, &mut interrupt) => {}
            }
        }
    }
    hangups.abort();
    // The successor waits for the end of this process, with which the lock of the store ends.
    std::mem::forget(successor);
    Ok(StoppedWhile::at_end(&vault))
}

async fn cut(mut cutting: watch::Receiver<bool>) {
    let _ = cutting.wait_for(|cut| *cut).await;
}

/// Resolves at SIGTERM or SIGINT.
async fn stop_signal(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Reloads the configuration at each SIGHUP.
async fn reload_at(mut hangups: Hangups, reloads: Reloads) {
    while hangups.next().await.is_some() {
        // The result is logged.
        drop(reloads.reload().await);
    }
}

impl OpenedGateway {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        // Before the files are read, so that later changes are noticed.
        let watched = WatchedFiles::new(config.files());
        let database_url = DatabaseUrl::read(config);
        // The store first: a second gateway on the same data fails because of the store, not of a port in use.
        let (services, predecessor, sockets) = opened(config).await?;
        Ok(Self { watched, database_url, services, predecessor, sockets })
    }
}

impl Running {
    /// The bound TCP addresses of the proxy, in the order of the configuration.
    pub fn proxy_addrs(&self) -> &[SocketAddr] {
        &self.proxy_addrs
    }

    /// The listeners of single agents with their owners, in the order of the configuration.
    pub fn agent_addrs(&self) -> &[(ListenerOwner, ListenAt)] {
        &self.agent_addrs
    }

    /// The listeners for sessions with databases, in the order of the configuration, with real ports.
    pub fn database_addrs(&self) -> &[ListenDatabase] {
        &self.database_addrs
    }

    /// Requests reloads of the configuration.
    pub fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// The bound address of the admin listener.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// The addresses and paths of the gateway, for people.
    pub fn locations(&self) -> &Locations {
        &self.locations
    }

    /// The services of the gateway.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Ends the gateway whose sockets this one has.
    fn take_over(&mut self) {
        if let Some(before) = &mut self.predecessor
            && let Err(error) = before.end()
        {
            tracing::debug!(%error, "the gateway before has ended already");
        }
    }

    /// Ends the gateway. After a hand-over, recently accepted streams get time for a request; otherwise load balancers
    /// get `limits.shutdown_delay` to notice.
    async fn end(self, is_handed_over: bool) {
        let (retirement, time) = match is_handed_over {
            true => (Retirement::Replaced, FIRST_REQUEST_WITHIN),
            false => (Retirement::Announced, self.services.limits.shutdown_delay),
        };
        if is_handed_over {
            self.tasks.retire();
        } else {
            self.ends.stop.send_replace(true);
        }
        if !time.is_zero() {
            self.ends.retire.send_replace(retirement);
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = cut(self.cores.cutting().subscribe()) => {}
            }
        }
        self.shutdown().await;
    }

    /// Stops accepting, waits up to `limits.drain_timeout` for running exchanges, ends the rest, and writes
    /// the last audit record.
    pub async fn shutdown(self) {
        let Self {
            services,
            ends,
            hand_over,
            cores,
            mut listeners,
            tasks,
            recorder,
            changes,
            writer,
            ..
        } = self;
        // Its copies of the sockets would keep them open.
        drop(hand_over);
        let within = services.limits.drain_timeout;
        ends.stop.send_replace(true);
        ends.drain.send_replace(true);
        all_ended(&mut listeners).await;
        let Ok(cores) = Arc::try_unwrap(cores) else {
            return tracing::error!(
                "a listener still runs after its task has ended: streams are not drained"
            );
        };
        if !cores.finish(within).await {
            tracing::warn!("streams were cut: they did not end within the drain timeout");
        }
        stop_condition::wait_for_refreshes(&services.vault).await;
        tasks.close().await;
        recorder.finish().await;
        changes.close();
        if tokio::task::spawn_blocking(move || writer.finish()).await.is_err() {
            tracing::error!("the audit writer panicked");
        }
        services.directory.leave_replicas().await;
        services.telemetry.finish().await;
    }
}
