//! [`Answering`]: opens the services in this process, so that it can answer the admin API if no gateway runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request};
use tower::ServiceExt;

use super::read;
use crate::app::{DataPath, LazyLog, Services};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::settings::Global;
use keyward_api::{Admin, Deps, socket_router};
use keyward_vault::Vault;

/// The services of this process. They end in this order.
pub(super) struct Answering {
    pub(super) router: Router,
    /// The same for pages that a browser opens; `None` without services.
    pub(super) admin: Option<Admin>,
    /// Whether the CA is missing, so that nothing of it may be printed.
    pub(super) no_ca: Option<PathBuf>,
    /// What a start would refuse in the rules of the configuration: nothing may be decided without them.
    pub(super) refused_rules: Vec<String>,
    /// The data path for tests of connections.
    _data_path: Option<DataPath>,
    /// The audit log for changes.
    _log: Option<LazyLog>,
    /// Refreshes in progress: their answers are stored before this process ends.
    vault: Option<Arc<Vault>>,
}

impl Answering {
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
        let (vault, refused_rules) = (services.vault.clone(), services.refused_rules.clone());
        let (log, changes) = match &data_path {
            Some(data_path) => (None, data_path.changes()),
            None => {
                let log = LazyLog::new(config);
                let changes = log.changes();
                (Some(log), changes)
            }
        };
        let deps = Deps { data_path: gateway, changes, ..services.deps() };
        let admin = Admin::in_process(deps);
        Ok(Self {
            router: socket_router(admin.clone()),
            admin: Some(admin),
            no_ca,
            refused_rules,
            _data_path: data_path,
            _log: log,
            vault: Some(vault),
        })
    }

    /// A router without further services.
    pub(super) fn only(router: Router) -> Self {
        Self {
            router,
            admin: None,
            no_ca: None,
            refused_rules: Vec::new(),
            _data_path: None,
            _log: None,
            vault: None,
        }
    }

    pub(super) async fn answer(&self, request: Request<Body>) -> Result<Bytes, Failure> {
        if let Some(missing) = &self.no_ca
            && is_of_ca(request.uri().path())
        {
            return Err(without_ca(missing));
        }
        if !self.refused_rules.is_empty()
            && depends_on_rules(request.method(), request.uri().path())
        {
            return Err(without_rules(&self.refused_rules));
        }
        match self.router.clone().oneshot(request).await {
            Ok(answer) => {
                let answer = read(answer).await;
                self.landed().await;
                answer
            }
            Err(never) => match never {},
        }
    }

    async fn landed(&self) {
        let Some(vault) = &self.vault else { return };
        if vault.landed(vault.flight_time()).await {
            return;
        }
        output::note(
            "note: waiting for a token refresh; ending this command now would lose the new tokens",
        );
        if !vault.landed(vault.late_flight_time()).await {
            output::note("note: a token refresh did not finish in time");
        }
    }
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

/// Whether the answer depends on the rules of the configuration. Tests of connections do not, nor do changes of stored
/// rules, which may be the remedy.
fn depends_on_rules(method: &Method, path: &str) -> bool {
    let of_connection = path.strip_prefix("/api/v1/connections/");
    let is_call = of_connection.is_some_and(|rest| rest.ends_with("/request"));
    let is_decided = matches!(path, "/api/v1/rules/explain" | "/api/v1/rules/test");
    let is_shown = matches!(path, "/api/v1/rules" | "/api/v1/export") && method == Method::GET;
    is_call || is_decided || is_shown
}

/// The failure of a command that depends on rules which no gateway would start with.
fn without_rules(refused: &[String]) -> Failure {
    Failure::several(refused.to_vec())
        .hint("no gateway starts with these rules; `keyward plan` shows all that is wrong")
}

/// The gateway creates the CA when it first signs.
pub(super) fn without_ca(cert: &Path) -> Failure {
    let message = format!("there is no CA yet, {}", cert.display());
    Failure::new(Exit::Failed, message)
        .hint("`keyward serve`, `keyward init` or `keyward run` creates it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_rules_decide_or_show_depends_on_them() {
        for (method, path) in [
            (Method::GET, "/api/v1/rules"),
            (Method::GET, "/api/v1/export"),
            (Method::POST, "/api/v1/rules/explain"),
            (Method::POST, "/api/v1/rules/test"),
            (Method::POST, "/api/v1/connections/work/request"),
        ] {
            assert!(depends_on_rules(&method, path), "{path}");
        }
        for (method, path) in [
            (Method::POST, "/api/v1/rules"),
            (Method::DELETE, "/api/v1/rules/no-deletes"),
            (Method::POST, "/api/v1/agents"),
            (Method::POST, "/api/v1/connections/request"),
            (Method::POST, "/api/v1/connections/work/test"),
        ] {
            assert!(!depends_on_rules(&method, path), "{path}");
        }
    }
}
