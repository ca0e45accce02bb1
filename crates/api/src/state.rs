//! State shared by handlers: the services, the shutdown signal, and the cached bundle of roots.

use std::fmt;
use std::sync::{Arc, Weak};

use http::Extensions;
use jiff::Timestamp;
use tokio::sync::{Mutex, OnceCell, watch};

use super::agents::run_counter::Runs;
use super::audit_log::AuditLog;
use super::error::ApiError;
use super::host::{Arrival, UnprovedSender};
use super::sign_in::limits::SignInLimits;
use crate::idempotency::keys::IdempotencyKeys;
use crate::reload_requests::Reloads;
use keyward_backup::Backups;
use keyward_base::connect::{Branding, ConnectSettings};
use keyward_base::database::DatabaseProtocol;
use keyward_base::limits::Limits;
use keyward_base::opaque::OpaqueArc;
use keyward_base::sign_in::SignInSettings;
use keyward_base::time::Clock;
use keyward_databases::StoredListeners;
use keyward_inbox::Inbox;
use keyward_model::HOOK_BODY_BYTES_MAX;
use keyward_net::dial::Dialler;
use keyward_net::evictable::PeerAddress;
use keyward_proxy::ca::authority::{self, Authority};
use keyward_proxy::{Budget, BudgetShare, Gateway, ListenerOwner, PerAgent, SharedLimits};
use keyward_rules::provider::Definition;
use keyward_state::crypto::challenge::Challenges;
use keyward_state::directory::Directory;
use keyward_state::observe::change_log::ChangeRecorder;
use keyward_state::observe::metrics::Metrics;
use keyward_state::observe::telemetry::TelemetrySwitch;
use keyward_state::rulebook::Rulebook;
use keyward_vault::Vault;
use keyward_vault::events::Events;
use keyward_vault::keys::MasterKeys;
use keyward_vault::oauth::Flows;
use keyward_vault::oidc::RelyingParty;

/// The services of the control plane; `app` provides them. Cheap to clone.
#[derive(Clone)]
pub struct Deps {
    /// Agents, connections' metadata, bindings.
    pub directory: Arc<Directory>,
    pub vault: Arc<Vault>,
    /// The policy in force.
    pub rulebook: Arc<Rulebook>,
    /// What a start would refuse in the rules of the configuration. A gateway has none.
    pub refused_rules: Arc<[String]>,
    pub authority: Arc<Authority>,
    /// Master keys and their rotation.
    pub keys: Arc<MasterKeys>,
    pub flows: Arc<Flows>,
    pub events: Arc<Events>,
    /// Webhooks of services for programs.
    pub inbox: Arc<Inbox>,
    pub database_listeners: Arc<StoredListeners>,
    /// Checks addresses for `explain`.
    pub dialler: Arc<Dialler>,
    pub audit: AuditLog,
    pub changes: ChangeRecorder,
    pub backups: Arc<Backups>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What is exported to a collector.
    pub telemetry: TelemetrySwitch,
    pub clock: Clock,
    /// Base of redirect URIs, without a trailing slash.
    pub public_url: String,
    /// How people connect accounts by a link.
    pub connect: watch::Receiver<Arc<ConnectSettings>>,
    /// The items of `providers:` in the configuration, as they are written.
    pub provider_definitions: watch::Receiver<Arc<[Definition]>>,
    /// Names of the environment variables that the configuration reads secrets from.
    pub secret_variables: Arc<parking_lot::Mutex<Vec<String>>>,
    /// Limits of bodies, heads and waits.
    pub limits: Limits,
    /// Rates that replicas count together.
    pub shared_limits: Arc<SharedLimits>,
    pub sign_in: SignInSettings,
    /// Sign-in with an identity provider, if it is configured.
    pub oidc: Option<Arc<RelyingParty>>,
    /// The gateway through which connections are tested. Its owner ends it; the audit log is complete after
    /// that. Empty in a process that sends no requests.
    pub data_path: Weak<Gateway>,
}

/// Addresses and paths of a gateway, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Locations {
    /// The bound listeners for agents: `127.0.0.1:8080` or `unix:/run/keyward.sock`.
    pub proxy: Vec<String>,
    /// Listeners of single agents, with their owners.
    pub agents: Vec<(ListenerOwner, String)>,
    /// Listeners for sessions with databases.
    pub databases: Vec<DatabaseLocation>,
    /// The bound admin listener.
    pub admin: String,
    /// The bound listener for metrics.
    pub metrics: Option<String>,
    /// The base of the hooks' URLs, if they have a listener of their own.
    pub hooks: Option<String>,
    pub data: String,
    /// The configuration file, which may be absent.
    pub config: String,
    /// The CA's certificate.
    pub ca: String,
}

/// A listener for sessions with databases.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DatabaseLocation {
    /// The bound address: `127.0.0.1:6432` or `unix:/run/keyward/.s.PGSQL.5432`.
    pub at: String,
    /// What is spoken there.
    pub protocol: DatabaseProtocol,
    /// The connection of all its sessions, by name.
    pub connection: Option<String>,
    /// The agent of all its sessions, which need no token.
    pub agent: Option<ListenerOwner>,
}

/// State of both routers; cheap to clone.
#[derive(Clone)]
pub struct Admin(OpaqueArc<Inner>);

struct Inner {
    deps: Deps,
    draining: watch::Receiver<bool>,
    /// `None` in a process without listeners.
    serving: Option<Serving>,
    /// The platform's roots.
    roots: OnceCell<Arc<str>>,
    runs: Runs,
    idempotency: IdempotencyKeys,
    sign_in_limits: SignInLimits,
    challenges: Challenges,
    store_checks: Mutex<()>,
    unproved_bodies: Arc<Budget>,
}

struct Serving {
    locations: Locations,
    reloads: Reloads,
    started: Timestamp,
}

impl Admin {
    /// State of a gateway. `draining` turns true when it begins to stop; it is not ready from then on.
    pub fn serving(
        deps: Deps,
        draining: watch::Receiver<bool>,
        locations: Locations,
        reloads: Reloads,
    ) -> Self {
        let started = deps.clock.now();
        Self::new(deps, draining, Some(Serving { locations, reloads, started }))
    }

    /// State of a process without listeners, for the command line.
    pub fn in_process(deps: Deps) -> Self {
        // A receiver keeps its last value after the sender is gone.
        Self::new(deps, watch::channel(false).1, None)
    }

    fn new(deps: Deps, draining: watch::Receiver<bool>, serving: Option<Serving>) -> Self {
        let sign_in_limits = SignInLimits::new(&deps.limits, &deps.shared_limits);
        let shared = deps.directory.shared_key("challenges of passkeys");
        let each = PerAgent::at_least(HOOK_BODY_BYTES_MAX);
        let unproved_bodies = Budget::new(deps.limits.unproved_body_bytes_total, each);
        Self(OpaqueArc::new(Inner {
            deps,
            draining,
            serving,
            roots: OnceCell::new(),
            runs: Runs::default(),
            idempotency: IdempotencyKeys::default(),
            sign_in_limits,
            challenges: Challenges::new(shared.as_deref()),
            store_checks: Mutex::default(),
            unproved_bodies,
        }))
    }

    /// The services.
    pub(super) fn deps(&self) -> &Deps {
        &self.0.deps
    }

    /// The addresses of the gateway; `None` in a process without listeners.
    pub(super) fn locations(&self) -> Option<&Locations> {
        self.0.serving.as_ref().map(|serving| &serving.locations)
    }

    /// When the gateway started; `None` in a process without listeners.
    pub(super) fn started(&self) -> Option<Timestamp> {
        self.0.serving.as_ref().map(|serving| serving.started)
    }

    /// Requests a reload of the configuration; `None` in a process without listeners.
    pub(super) fn reloads(&self) -> Option<&Reloads> {
        self.0.serving.as_ref().map(|serving| &serving.reloads)
    }

    /// The open runs.
    pub fn runs(&self) -> &Runs {
        &self.0.runs
    }

    /// The keys of requests that have effect once.
    pub(super) fn idempotency(&self) -> &IdempotencyKeys {
        &self.0.idempotency
    }

    /// The ways to sign in.
    pub fn sign_in(&self) -> &SignInSettings {
        &self.deps().sign_in
    }

    /// How pages for end users look.
    pub fn branding(&self) -> Branding {
        self.deps().connect.borrow().branding.clone()
    }

    /// The challenges of passkeys.
    pub(super) fn challenges(&self) -> &Challenges {
        &self.0.challenges
    }

    /// Held by the check of the store that runs.
    pub(super) fn store_checks(&self) -> &Mutex<()> {
        &self.0.store_checks
    }

    /// How often clients failed to sign in.
    pub(super) fn sign_in_limits(&self) -> &SignInLimits {
        &self.0.sign_in_limits
    }

    /// Memory for the body of a request whose sender has proved nothing yet, by its address.
    pub(super) fn unproved_body(&self, extensions: &Extensions) -> BudgetShare {
        let peer = || Some(extensions.get::<Arrival>()?.peer.ip().to_canonical());
        let client = extensions.get::<UnprovedSender>().map(|UnprovedSender(client)| *client);
        self.0.unproved_bodies.share_at(PeerAddress::of(client.or_else(peer)))
    }

    /// Resolves when the gateway stops accepting work.
    pub(super) async fn drain_started(&self) {
        let mut draining = self.0.draining.clone();
        // A dropped sender means the same.
        let _ = draining.wait_for(|draining| *draining).await;
    }

    /// Whether the gateway takes runs and keeps streams of events: it does not drain, and knows the store as it is.
    pub(super) fn accepts_work(&self) -> bool {
        let directory = &self.deps().directory;
        !self.is_draining() && !directory.is_stale() && !directory.is_outdated()
    }

    pub(super) fn is_draining(&self) -> bool {
        *self.0.draining.borrow()
    }

    /// Waits until the stored change is in force, so that no response precedes the policy.
    pub(super) async fn enforce(&self) -> Result<(), ApiError> {
        self.deps().rulebook.rebuild().await.map_err(|errors| ApiError::NotInForce {
            causes: errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        })
    }

    /// Platform roots and the CA as one PEM, for `SSL_CERT_FILE`, which replaces a client's roots. Cached,
    /// because reading the platform's store takes milliseconds of blocking work.
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
        f.debug_struct("Admin").field("accepts_work", &self.accepts_work()).finish_non_exhaustive()
    }
}
