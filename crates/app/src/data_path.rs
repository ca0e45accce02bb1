//! [`DataPath`]: the data path of a process without listeners, with its audit log. A command has one when no gateway runs
//! and it changes something or sends a request.

use std::sync::{Arc, Weak};

use anyhow::Context;
use tokio::sync::{mpsc, watch};

use super::services::Services;
use super::upstream_settings::UpstreamSettings;
use super::{audit_log, descriptors};
use crate::config::Config;
use keyward_base::codes::ERRORS_PATH;
use keyward_net::tls;
use keyward_proxy::{ConnectLinks, Cores, Gateway, GatewayServices, Retirement, WantedLink};
use keyward_state::observe::audit::{Audit, AuditWriter};
use keyward_state::observe::change_log::ChangeRecorder;

/// A data path without listeners. When it is dropped, its audit records are complete.
pub struct DataPath {
    /// `None` also if the settings of upstreams cannot be read: changes need none.
    gateway: Option<Arc<Gateway>>,
    changes: Option<ChangeRecorder>,
    writer: Option<AuditWriter>,
}

/// Ends a gateway.
#[derive(Debug, Default)]
pub(super) struct EndSignals {
    /// Turns true when the gateway begins to stop: it is not ready from then on.
    pub(super) stop: watch::Sender<bool>,
    /// See [`Ending::retirement`].
    pub(super) retire: watch::Sender<Retirement>,
    /// See [`Ending::draining`].
    pub(super) drain: watch::Sender<bool>,
}

/// How a gateway ends.
pub(super) struct Ending {
    /// Whether new streams are for others.
    pub(super) retirement: watch::Receiver<Retirement>,
    /// Turns true when streams end.
    pub(super) draining: watch::Receiver<bool>,
}

impl EndSignals {
    pub(super) fn subscribe(&self) -> Ending {
        Ending { retirement: self.retire.subscribe(), draining: self.drain.subscribe() }
    }
}

impl Ending {
    /// A receiver keeps its last value after the sender was dropped.
    fn never() -> Self {
        let (retirement, draining) = (watch::channel(Retirement::No).1, watch::channel(false).1);
        Self { retirement, draining }
    }
}

impl DataPath {
    /// Opens the audit log and the dialler.
    ///
    /// # Errors
    /// When the audit log cannot be continued.
    pub fn open(config: &Config, services: &Services) -> anyhow::Result<Self> {
        let (audit, writer) = audit_log::open_at_rest(config)?;
        let changes = Some(ChangeRecorder::to(audit.clone()));
        let upstream = UpstreamSettings::load(config).ok();
        let parts =
            upstream.and_then(|it| parts(config, services, &it, audit, Ending::never()).ok());
        Ok(Self { gateway: parts.map(Gateway::new), changes, writer: Some(writer) })
    }

    /// Whether requests can be sent.
    ///
    /// # Errors
    /// When a root, or the password of a corporate proxy, cannot be read.
    pub fn check(config: &Config) -> anyhow::Result<()> {
        let upstream = UpstreamSettings::load(config)?;
        Ok(tls::client_config(&upstream.roots).map(drop)?)
    }

    /// The log for changes.
    pub fn changes(&self) -> ChangeRecorder {
        self.changes.clone().unwrap_or_default()
    }

    /// The gateway that sends requests, while this value lives; nothing if none can be sent.
    pub fn gateway(&self) -> Weak<Gateway> {
        self.gateway.as_ref().map(Arc::downgrade).unwrap_or_default()
    }
}

impl Drop for DataPath {
    fn drop(&mut self) {
        // The writer ends when its last handle is dropped.
        drop(self.gateway.take());
        if let Some(changes) = self.changes.take() {
            changes.close();
        }
        if let Some(writer) = self.writer.take() {
            writer.finish();
        }
    }
}

/// A gateway with listeners, and the links for end users that its refusals want.
pub(super) fn serving(
    config: &Config,
    services: &Services,
    upstream: &UpstreamSettings,
    audit: &Audit,
    ending: Ending,
) -> anyhow::Result<(Arc<Gateway>, mpsc::Receiver<WantedLink>)> {
    let mut parts = parts(config, services, upstream, audit.clone(), ending)?;
    let links = parts.connect.for_end_users();
    Ok((Gateway::new(parts), links))
}

/// The parts of a gateway. Sets how the services reach upstreams.
fn parts(
    config: &Config,
    services: &Services,
    upstream: &UpstreamSettings,
    audit: Audit,
    ending: Ending,
) -> anyhow::Result<GatewayServices> {
    let client_tls = tls::client_config(&upstream.roots)?;
    upstream.apply(&services.dialler, &client_tls);
    services.caller.replace_tls(client_tls.clone());
    let descriptors_max = descriptors::for_streams(descriptors::open_files());
    let cores = descriptors::core_count();
    let limits = descriptors::within(&config.limits, descriptors_max, cores);
    let streams_max = i64::try_from(limits.streams_max).unwrap_or(i64::MAX);
    services.metrics.health.streams_max.set(streams_max);
    Ok(GatewayServices {
        directory: services.directory.clone(),
        rulebook: services.rulebook.clone(),
        vault: services.vault.clone(),
        leaves: services.leaves.clone(),
        dialler: services.dialler.clone(),
        client_tls,
        audit,
        metrics: services.metrics.clone(),
        telemetry: services.telemetry.switch().clone(),
        limits,
        shared_limits: services.shared_limits.clone(),
        descriptors_max,
        clock: services.clock.clone(),
        base_urls: config.listen.base_urls.clone(),
        errors_page: (!config.ends_with_runs)
            .then(|| format!("{}{ERRORS_PATH}", services.public_url)),
        connect: ConnectLinks {
            base: (!config.ends_with_runs).then(|| services.public_url.clone()),
            settings: services.connect.subscribe(),
            wanted: None,
        },
        retirement: ending.retirement,
        draining: ending.draining,
    })
}

/// Starts the threads that serve streams.
pub(super) fn start_cores(gateway: &Arc<Gateway>) -> anyhow::Result<Arc<Cores>> {
    let cores = Cores::start(gateway.clone(), descriptors::core_count());
    Ok(Arc::new(cores.context("cannot start a core")?))
}
