//! [`AdminTasks`]: the admin listeners and the background jobs of a gateway.

use std::pin::Pin;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::keys::finish_rotation;
use super::listeners::{BoundAdmin, BoundHooks};
use super::services::Services;
use super::{backups, ca, expiry, replicas, source_files, usage};
use crate::config::Config;
use keyward_api::{self as admin, Admin, AdminSocket, AdminTls, ListenerStop, NetworkAccess};
use keyward_proxy::WantedLink;

/// The admin listeners and background jobs. They run until the last exchange has ended, so that `/readyz`
/// says `draining` and the admin API stays available.
pub(super) struct AdminTasks {
    /// Turns true when another process accepts.
    retire: watch::Sender<bool>,
    close: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Runs `work` until `close` turns true.
pub(super) async fn until(mut close: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        _ = close.wait_for(|close| *close) => {}
    }
}

impl AdminTasks {
    pub(super) fn new() -> Self {
        let (retire, close) = (watch::Sender::new(false), watch::Sender::new(false));
        Self { retire, close, tasks: JoinSet::new() }
    }

    pub(super) fn spawn<F>(&mut self, task: impl FnOnce(watch::Receiver<bool>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.start(Box::pin(task(self.close.subscribe())));
    }

    /// Spawns a listener.
    pub(super) fn listen<F>(&mut self, task: impl FnOnce(ListenerStop) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (accepting, serving) = (self.retire.subscribe(), self.close.subscribe());
        self.start(Box::pin(task(ListenerStop { accepting, serving })));
    }

    /// Takes one type of future, because the code of a task is compiled for each type that is spawned.
    fn start(&mut self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.tasks.spawn(task);
    }

    /// Accepts no further streams: another process does.
    pub(super) fn retire(&self) {
        self.retire.send_replace(true);
    }

    pub(super) fn serve_network(
        &mut self,
        BoundAdmin { listeners, tls, .. }: BoundAdmin,
        state: &Admin,
        access: NetworkAccess,
        services: &Services,
    ) {
        let tls = tls.map(|tls| AdminTls::new(tls, &services.leaves));
        let router = keyward_console::router(state, access);
        self.listen(|stop| admin::serve_network(listeners, tls, state.clone(), router, stop));
    }

    /// Serves the admin API on its socket.
    pub(super) fn serve_socket(&mut self, socket: AdminSocket, state: &Admin) {
        self.listen(|stop| admin::serve_socket(socket, state.clone(), stop));
    }

    /// Serves the listeners for metrics and for webhooks of services.
    pub(super) fn serve_others(
        &mut self,
        metrics: Option<TcpListener>,
        hooks: Option<BoundHooks>,
        state: &Admin,
        services: &Services,
    ) {
        if let Some(listener) = metrics {
            self.listen(|stop| admin::serve_metrics(listener, state.clone(), stop));
        }
        if let Some(BoundHooks { listener, tls, .. }) = hooks {
            let tls = tls.map(|tls| AdminTls::new(tls, &services.leaves));
            self.listen(|stop| admin::serve_hooks(listener, tls, state.clone(), stop));
        }
    }

    /// Starts the background jobs; those of the control plane make links in refusals, and announce the replica.
    pub(super) fn start_jobs(
        &mut self,
        admin: &Admin,
        links: mpsc::Receiver<WantedLink>,
        services: &Services,
        config: &Config,
    ) {
        self.spawn(|close| until(close, admin::make_links(admin.clone(), links)));
        self.spawn(|close| until(close, admin::announce(admin.clone())));
        services.metrics.started(services.clock.now());
        let (rulebook, keys) = (services.rulebook.clone(), services.keys.clone());
        let (authority, files) = (services.authority.clone(), config.ca.clone());
        self.spawn(|close| async move { until(close, rulebook.follow()).await });
        let following = replicas::follow(services, config);
        self.spawn(|close| until(close, following));
        self.spawn(|close| async move { until(close, finish_rotation(&keys)).await });
        self.spawn(|close| async move { until(close, ca::follow(authority, files)).await });
        let (vault, metrics) = (services.vault.clone(), services.metrics.clone());
        let rotating = expiry::run(vault, metrics, services.clock.clone());
        self.spawn(|close| until(close, rotating));
        let files = source_files::follow(services.vault.clone());
        self.spawn(|close| until(close, files));
        let usage = usage::UsageJob {
            directory: services.directory.clone(),
            metrics: services.metrics.clone(),
            clock: services.clock.clone(),
        };
        self.spawn(|close| usage.run(close));
        let heads = replicas::AuditHeadsJob::of(services);
        self.spawn(|close| heads.run(close));
        let backups = backups::BackupJob {
            backups: services.backups.clone(),
            metrics: services.metrics.clone(),
            clock: services.clock.clone(),
        };
        self.spawn(|close| until(close, backups.run()));
        let ended = expiry::remove_ended(services.directory.clone(), services.sign_in.idle);
        self.spawn(|close| until(close, ended));
        self.spawn(|close| {
            until(close, expiry::remove_ended_connect_sessions(services.flows.clone()))
        });
        let vault = services.vault.clone();
        self.spawn(|close| async move { until(close, vault.refresh().keep_alive()).await });
        let flows = services.flows.clone();
        self.spawn(|close| async move { until(close, Box::pin(flows.follow_moves())).await });
        let events = services.events.clone();
        self.spawn(|close| events.deliver(close));
        let inbox = services.inbox.clone();
        self.spawn(|close| inbox.deliver(close));
        let flows = services.flows.clone();
        self.spawn(|close| async move {
            let unfinished = until(close.clone(), Box::pin(flows.continue_unfinished()));
            tokio::join!(unfinished, flows.revoke_orphans(close));
            flows.close().await;
        });
    }

    pub(super) async fn close(mut self) {
        self.retire();
        self.close.send_replace(true);
        all_ended(&mut self.tasks).await;
    }
}

pub(super) async fn all_ended(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a listener failed");
        }
    }
}
