//! [`InProcessApi`]: opens the services in this process, so that it can answer the admin API if no gateway runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use tower::ServiceExt;

use super::read;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::signals::Signals;
use keyward_api::{Admin, Deps, socket_router};
use keyward_app::{DataPath, LazyLog, Services};
use keyward_vault::Vault;

/// What a person reads who waits for the end of the command, or has asked for it.
const WAITS: &str = "note: waiting for new tokens; ending this command now would lose them";

/// The services of this process. They end in this order.
pub(super) struct InProcessApi {
    pub(super) router: Router,
    /// The same for pages that a browser opens; `None` without services.
    pub(super) admin: Option<Admin>,
    /// Whether the CA is missing, so that nothing of it may be printed.
    pub(super) no_ca: Option<PathBuf>,
    /// The data path for tests of connections.
    _data_path: Option<DataPath>,
    /// The audit log for changes.
    _log: Option<LazyLog>,
    /// Refreshes in progress: their answers are stored before this process ends.
    vault: Option<Arc<Vault>>,
}

impl InProcessApi {
    /// Opens the services.
    pub(super) async fn open(
        global: &Global,
        missing: MissingData,
        to_send: bool,
    ) -> anyhow::Result<Self> {
        let config = global.load()?;
        if !config.data_dir.exists() {
            // A mistyped directory would look like an empty installation.
            output::note(&format!(
                "note: creating a new data directory, {}",
                config.data_dir.display()
            ));
        }
        let services = match missing {
            MissingData::Make => Services::open(&config).await?,
            MissingData::Leave => Services::open_existing(&config).await?,
        };
        let no_ca = (!Services::has_authority(&config)).then(|| config.ca.cert.clone());
        let data_path = to_send.then(|| DataPath::open(&config, &services)).transpose()?;
        let gateway = data_path.as_ref().map(DataPath::gateway).unwrap_or_default();
        let vault = services.vault.clone();
        let (log, changes) = match &data_path {
            Some(data_path) => (None, data_path.changes()),
            None => {
                let log = LazyLog::new(config);
                let changes = log.changes();
                (Some(log), changes)
            }
        };
        let deps = Deps { data_path: gateway, changes, ..services.deps.clone() };
        let admin = Admin::in_process(deps);
        Ok(Self {
            router: socket_router(admin.clone()),
            admin: Some(admin),
            no_ca,
            _data_path: data_path,
            _log: log,
            vault: Some(vault),
        })
    }

    /// A router without further services.
    pub(super) fn only(router: Router) -> Self {
        Self { router, admin: None, no_ca: None, _data_path: None, _log: None, vault: None }
    }

    pub(super) async fn answer(&self, request: Request<Body>) -> Result<Bytes, Failure> {
        if let Some(missing) = &self.no_ca
            && is_of_ca(request.uri().path())
        {
            return Err(without_ca(missing));
        }
        let answering = async {
            match self.router.clone().oneshot(request).await {
                Ok(answer) => {
                    let answer = read(answer).await;
                    self.landed().await;
                    answer
                }
                Err(never) => match never {},
            }
        };
        self.until_landed(answering).await
    }

    /// Awaits `work`. After a signal that ends a process, it ends when the tokens of running refreshes and consents are
    /// stored; without any, or after a second signal, the process ends at once. Signals that something else reads
    /// already are left to that.
    ///
    /// # Errors
    /// Those of `work`, and after a signal.
    pub(super) async fn until_landed<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let signals = (!Signals::are_read()).then(|| Signals::ending().ok()).flatten();
        let (Some(vault), Some(mut signals)) = (&self.vault, signals) else {
            return work.await;
        };
        let mut work = Box::pin(work);
        let signal = tokio::select! {
            biased;
            done = &mut work => return done,
            Ok(received) = signals.next() => received.signal,
        };
        if !vault.refresh().wait_for_flights(Duration::ZERO).await {
            output::note(WAITS);
            let has_landed = tokio::select! {
                has_landed = vault.refresh().wait_for_flights(vault.refresh().late_flight_time()) => has_landed,
                Ok(_) = signals.next() => false,
            };
            if has_landed {
                return Err(interrupted());
            }
        }
        // What reads signals in it ends too, so that the signal ends this process.
        drop(work);
        signals.take_effect(signal);
        std::future::pending().await
    }

    async fn landed(&self) {
        let Some(vault) = &self.vault else { return };
        if vault.refresh().wait_for_flights(vault.refresh().flight_time()).await {
            return;
        }
        output::note(WAITS);
        if !vault.refresh().wait_for_flights(vault.refresh().late_flight_time()).await {
            output::note("note: a token refresh did not finish in time");
        }
    }
}

/// The failure after a signal. The services of this process still end in order, so that changes are recorded.
fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted, after the end of a token request")
}

/// Whether a missing data directory is created.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MissingData {
    /// Created at once.
    Make,
    /// Created when something is added.
    Leave,
}

/// Whether the path is answered with the CA's certificates or replaces them.
pub(super) fn is_of_ca(path: &str) -> bool {
    matches!(path, "/api/v1/ca" | "/ca.pem" | "/bundle.pem") || path.starts_with("/api/v1/ca/")
}

/// The gateway creates the CA when it first signs.
pub(super) fn without_ca(cert: &Path) -> Failure {
    let message = format!("there is no CA yet, {}", cert.display());
    Failure::new(Exit::Failed, message)
        .hint("`keyward serve`, `keyward init` or `keyward run` creates it")
}
