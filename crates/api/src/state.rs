//! What handlers share: the services, the drain signal, and the bundle of roots once it is made.

use std::fmt;
use std::sync::{Arc, Weak};

use tokio::sync::{OnceCell, watch};

use super::audit::AuditLog;
use super::auth::Caller;
use super::error::ApiError;
use super::reload::Reloads;
use super::runs::Runs;
use keyward_base::limits::Limits;
use keyward_base::time::Clock;
use keyward_net::dial::Dialler;
use keyward_proxy::Gateway;
use keyward_proxy::ListenerOwner;
use keyward_proxy::ca::authority::{self, Authority};
use keyward_state::directory::{AgentRecord, ConnectionRecord, Directory};
use keyward_state::observe::change::Changes;
use keyward_state::observe::metrics::Metrics;
use keyward_state::rulebook::Rulebook;
use keyward_vault::Vault;
use keyward_vault::events::Events;
use keyward_vault::keys::Keys;
use keyward_vault::oauth::Flows;

/// The services that the control plane answers from. `app` makes it.
pub struct Deps {
    /// Agents, connections' metadata, bindings.
    pub directory: Arc<Directory>,
    /// Sealed grants.
    pub vault: Arc<Vault>,
    /// The policy in force.
    pub rulebook: Arc<Rulebook>,
    /// The certificate authority.
    pub authority: Arc<Authority>,
    /// Master keys and their rotation.
    pub keys: Arc<Keys>,
    /// Consents under way.
    pub flows: Arc<Flows>,
    /// Tells what happens.
    pub events: Arc<Events>,
    /// Judges addresses for `explain`.
    pub dialler: Arc<Dialler>,
    /// The audit log.
    pub audit: AuditLog,
    /// Where changes are written down.
    pub changes: Changes,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The time of day.
    pub clock: Clock,
    /// Base of redirect URIs, without a slash at its end.
    pub public_url: String,
    /// Bounds of bodies, heads and waits.
    pub limits: Limits,
    /// What tests of connections are sent through. Whoever made it ends it: the audit log is whole
    /// once it is gone. Nothing, in a process that sends no requests.
    pub data_path: Weak<Gateway>,
}

/// Where a gateway is reached and keeps its things, as people read it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Places {
    /// The bound listeners for agents: `127.0.0.1:8080` or `unix:/run/keyward.sock`.
    pub proxy: Vec<String>,
    /// Listeners of one agent each: whose, and where.
    pub agents: Vec<(ListenerOwner, String)>,
    /// The bound admin listener.
    pub admin: String,
    /// The data directory.
    pub data: String,
    /// The CA's certificate.
    pub ca: String,
}

/// State of both routers; cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    deps: Deps,
    draining: watch::Receiver<bool>,
    gateway: Option<(Places, Reloads)>,
    /// The platform's roots.
    roots: OnceCell<Arc<str>>,
    runs: Runs,
}

impl Admin {
    /// State of a gateway. `draining` turns true when it has begun to stop: it is not ready from
    /// then on.
    pub fn serving(
        deps: Deps,
        draining: watch::Receiver<bool>,
        gateway: (Places, Reloads),
    ) -> Self {
        Self::new(deps, draining, Some(gateway))
    }

    /// State of a process that serves nobody: the command line's own.
    pub fn in_process(deps: Deps) -> Self {
        // A receiver keeps its last value after the sender is gone.
        Self::new(deps, watch::channel(false).1, None)
    }

    fn new(
        deps: Deps,
        draining: watch::Receiver<bool>,
        gateway: Option<(Places, Reloads)>,
    ) -> Self {
        Self(Arc::new(Inner {
            deps,
            draining,
            gateway,
            roots: OnceCell::new(),
            runs: Runs::default(),
        }))
    }

    /// The services.
    pub(super) fn deps(&self) -> &Deps {
        &self.0.deps
    }

    /// Where the gateway is reached; `None` when this process serves nobody.
    pub(super) fn places(&self) -> Option<&Places> {
        self.0.gateway.as_ref().map(|(places, _)| places)
    }

    /// How the gateway is asked to read its configuration again; `None` when this process serves
    /// nobody.
    pub(super) fn reloads(&self) -> Option<&Reloads> {
        self.0.gateway.as_ref().map(|(_, reloads)| reloads)
    }

    /// The runs that are open.
    pub fn runs(&self) -> &Runs {
        &self.0.runs
    }

    /// Resolves when no new work is taken any more.
    pub(super) async fn drained(&self) {
        let mut draining = self.0.draining.clone();
        // The sender's end is one as well.
        let _ = draining.wait_for(|draining| *draining).await;
    }

    /// Whether new work is still taken.
    pub(super) fn is_ready(&self) -> bool {
        !*self.0.draining.borrow()
    }

    /// An agent by name or id, as far as it exists for the caller: what they may not see is answered
    /// like what there is not.
    pub(super) fn agent(&self, caller: &Caller, name: &str) -> Result<Arc<AgentRecord>, ApiError> {
        let view = self.deps().directory.view();
        let found = view.find_agent(caller.org(), name).filter(|agent| caller.sees_agent(agent));
        let known = || view.agents().filter(|agent| caller.sees_agent(agent));
        let known = || known().map(|agent| agent.name());
        let found = found.ok_or_else(|| ApiError::not_found_among("agent", name, known()))?;
        caller.names("agent", &found.id, found.name());
        Ok(found.clone())
    }

    /// A connection by name or id, likewise; one that is only to be used is refused where the request
    /// would change it.
    pub(super) fn connection(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Arc<ConnectionRecord>, ApiError> {
        let view = self.deps().directory.view();
        let found = view.find_connection(caller.org(), name);
        let found = found.filter(|connection| caller.sees_connection(connection));
        let known = || view.connections().filter(|connection| caller.sees_connection(connection));
        let known = || known().map(|connection| &*connection.name);
        let found = found.ok_or_else(|| ApiError::not_found_among("connection", name, known()))?;
        caller.names("connection", &found.id, &found.name);
        caller.may_change(found)?;
        Ok(found.clone())
    }

    /// Puts what was just stored in force, so that an answer never runs ahead of the policy.
    pub(super) async fn enforce(&self) -> Result<(), ApiError> {
        self.deps().rulebook.rebuild().await.map_err(|errors| ApiError::NotInForce {
            causes: errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        })
    }

    /// Platform roots and the CA in one PEM: what `SSL_CERT_FILE` wants, which replaces a client's
    /// roots. Reading the platform's store takes milliseconds of file work, so it is done once and
    /// off the async threads.
    pub(super) async fn bundle(&self) -> Result<String, ApiError> {
        let make = || async move {
            match tokio::task::spawn_blocking(authority::platform_pem).await {
                Ok(Ok(pem)) => Ok(Arc::from(pem)),
                Ok(Err(error)) => Err(ApiError::internal(error)),
                Err(error) => Err(ApiError::internal(error)),
            }
        };
        let roots = self.0.roots.get_or_try_init(make).await?;
        Ok(format!("{roots}{}", self.deps().authority.cert_pem()))
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("ready", &self.is_ready()).finish_non_exhaustive()
    }
}
