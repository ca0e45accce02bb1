//! Health and public data: liveness, readiness, metrics, the certificates that agents must trust, and `/status`,
//! which names listeners as far as the caller may see the agents and connections that they are for.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::{StatusCode, header};
use jiff::Timestamp;

use super::auth::Caller;
use super::context::Context;
use super::database_listeners::{failed_view, open_view};
use super::error::ApiError;
use super::openapi::Routes;
use super::state::{Admin, DatabaseLocation, Deps, Locations};
use super::wire::{
    AgentListener, CallerView, DatabaseListenerView, FailedListenerView, FaultView, Health,
    OidcView, SharedStoreView, Status, TelemetryFailure, TelemetryView,
};
use crate::handler::get;
use crate::reload_requests::Reloads;
use keyward_base::codes::Code;
use keyward_base::id::OrgId;
use keyward_databases::{ListenerStatus, ListenerTerms};
use keyward_proxy::ListenerOwner;
use keyward_state::directory::View;
use keyward_state::observe::telemetry::Telemetry;
use keyward_vault::oidc::RelyingParty;

/// Media type of certificate chains in PEM (RFC 8555 §9.1).
const PEM: &str = "application/pem-certificate-chain";
/// Media type of one certificate in DER (RFC 8555 §9.1, RFC 2585 §4.1).
const DER: &str = "application/pkix-cert";
/// The state of a gateway that gets requests.
const READY: &str = "ready";
/// Media type of the output of `prometheus-client`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Routes without authentication, for both listeners.
pub(super) fn open_routes() -> Router<Admin> {
    probe_routes()
        .route("/ca.pem", get(ca))
        .route("/ca.crt", get(ca_der))
        .route("/bundle.pem", get(bundle))
}

/// Liveness and readiness, for supervisors and load balancers.
pub(super) fn probe_routes() -> Router<Admin> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

/// Metrics for a user's token, on the TCP listener.
pub(super) fn routes_with_token() -> Router<Admin> {
    Router::new().route("/metrics", get(metrics_for_user))
}

/// Metrics without authentication, for their own listener, the socket, and where the configuration says so.
pub(super) fn metrics_route() -> Router<Admin> {
    Router::new().route("/metrics", get(metrics))
}

/// What the API says of the gateway and of the caller.
pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/status", ["getStatus", "Show the state and the addresses of the gateway"], status)
        .get("/caller", ["getCaller", "Show who the caller is"], caller)
}

async fn healthz() -> Json<Health> {
    Json(Health { status: "ok".to_owned() })
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, Json<Health>) {
    let word = word(&admin);
    let status = match word == READY {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(Health { status: word.to_owned() }))
}

/// The state of the gateway: [`READY`], or why a load balancer must send requests to another one.
pub(super) fn word(admin: &Admin) -> &'static str {
    let directory = &admin.deps().directory;
    if admin.is_draining() {
        "draining"
    } else if directory.is_outdated() {
        "outdated"
    } else if directory.is_stale() {
        // A replica that hears of revocations must get the requests.
        "stale"
    } else if is_audit_failing(admin.deps()) {
        Code::AuditUnavailable.as_str()
    } else {
        READY
    }
}

/// What anybody may know of a gateway.
pub struct PublicFacts {
    /// `ready`, or why a load balancer must send requests to another one.
    pub state: &'static str,
    pub is_ready: bool,
    /// The listeners for agents, without unix sockets: their paths are files of the gateway.
    pub proxy: Vec<String>,
    pub public_url: String,
    /// Of the certificate authority.
    pub fingerprint: String,
    /// When the certificate authority ends.
    pub expires: Timestamp,
}

impl PublicFacts {
    pub fn of(admin: &Admin) -> Self {
        let (deps, state) = (admin.deps(), word(admin));
        let proxy = admin.locations().map(|at| &*at.proxy).unwrap_or_default();
        Self {
            state,
            is_ready: state == READY,
            proxy: proxy.iter().filter(|at| !at.starts_with("unix:")).cloned().collect(),
            public_url: deps.public_url.clone(),
            fingerprint: deps.authority.fingerprint(),
            expires: deps.authority.expires(),
        }
    }
}

/// Whether requests are refused because the audit log cannot be written.
fn is_audit_failing(deps: &Deps) -> bool {
    deps.data_path.upgrade().is_some_and(|gateway| gateway.audit.is_failing())
}

/// The addresses of the gateway; only it knows ports that the system chose. Paths, the process, the collector and the last
/// reload are for readers of the installation: errors of a reload name resources of all organisations.
async fn status(context: Context) -> Result<Json<Status>, ApiError> {
    let Context { admin, caller } = &context;
    let places = admin.locations().ok_or(ApiError::NoSuchPath)?.clone();
    let VisibleListeners { agents, databases, databases_failed } =
        VisibleListeners::of(&context, &places);
    let (deps, reads_install) = (admin.deps(), caller.reads_install());
    let of_install = |path: String| if reads_install { path } else { String::new() };
    let telemetry = deps.telemetry.get().filter(|_| reads_install);
    let oidc = deps.oidc.as_ref().filter(|it| reads_install || it.org() == caller.org());
    Ok(Json(Status {
        status: word(admin).to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        process: reads_install.then(std::process::id),
        started: admin.started(),
        faults: faults(deps, reads_install),
        proxy: places.proxy,
        agents,
        databases,
        databases_failed,
        admin: places.admin,
        metrics: places.metrics,
        hooks: places.hooks,
        data: of_install(places.data),
        config: of_install(places.config),
        ca: of_install(places.ca),
        private: admin.runs().is_private(),
        runs: admin.runs().open(),
        default: deps.rulebook.default_action(),
        oidc: oidc.map(|party| oidc_view(party)),
        telemetry: telemetry.map(|telemetry| telemetry_view(&telemetry)),
        store: shared_store(admin),
        reload: admin.reloads().filter(|_| reads_install).and_then(Reloads::last),
        secret_variables: match caller.client() {
            None => deps.secret_variables.lock().clone(),
            Some(_) => Vec::new(),
        },
    }))
}

/// What fails now, of which a full disk is the usual cause, and what others did to the audit log. A cause may name servers
/// and paths, so it is for readers of the installation.
fn faults(deps: &Deps, reads_install: bool) -> Vec<FaultView> {
    let fault = |part: &str, message: &str, hint: &str| FaultView {
        part: part.to_owned(),
        message: message.to_owned(),
        hint: hint.to_owned(),
    };
    let mut faults = Vec::new();
    let gateway = deps.data_path.upgrade();
    if is_audit_failing(deps) {
        let message = "the audit log cannot be written: requests and changes are refused";
        let hint = "make sure that its disk has room and is writable: writing resumes by itself; the gateway's log names the cause";
        faults.push(fault("audit", message, hint));
    }
    if gateway.is_some_and(|gateway| gateway.audit.changes() > 0) {
        let message = "the audit log was moved, replaced, deleted or altered while the gateway ran";
        let hint = "`keyward audit verify` names what is missing: find out who did it; this is shown until the next start";
        faults.push(fault("audit", message, hint));
    }
    let refused = deps.metrics.health.rows_refused.get();
    if refused > 0 {
        let message = format!(
            "{refused} rows of the database were older than this gateway has seen, or deleted without their mark: they are not used"
        );
        let hint = "the log names them: find out who changed the database; after a failover that lost changes, restart the gateways; this is shown until the next start";
        faults.push(fault("store", &message, hint));
    }
    if let Some(cause) = deps.metrics.health.store_failure() {
        let cause = if reads_install { format!(" ({cause})") } else { String::new() };
        let message =
            format!("the last write to the store failed{cause}: changes and token refreshes fail");
        faults.push(fault("store", &message, Code::StoreFailed.row().remedy));
    }
    if let Some(message) = deps.vault.refresh().clock_warning().filter(|_| reads_install) {
        let hint = "set the clock (systemd: `timedatectl set-ntp true`); signatures are dated by the service's clock until then";
        faults.push(fault("clock", &message, hint));
    }
    faults
}

fn shared_store(admin: &Admin) -> Option<SharedStoreView> {
    let Deps { directory, metrics, .. } = admin.deps();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    directory.is_shared().then(|| SharedStoreView {
        staleness_ms: ms(directory.staleness()),
        stale_max_ms: ms(directory.stale_max()),
        outdated: directory.is_outdated(),
        replicas: metrics.health.replicas.get(),
    })
}

fn oidc_view(party: &RelyingParty) -> OidcView {
    OidcView {
        name: party.name().to_owned(),
        issuer: party.issuer().to_owned(),
        org: party.org().name().to_owned(),
        redirect_uri: party.redirect_uri().to_owned(),
    }
}

fn telemetry_view(telemetry: &Telemetry) -> TelemetryView {
    let settings = telemetry.settings();
    TelemetryView {
        endpoint: settings.endpoint.clone(),
        traces: settings.traces,
        logs: settings.logs,
        failure: telemetry.failure().map(|it| TelemetryFailure { time: it.at, why: it.why }),
    }
}

/// Who asks.
async fn caller(caller: Caller) -> Json<CallerView> {
    Json(caller.view())
}

async fn ca(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, PEM)], admin.deps().authority.cert_pem()).into_response()
}

/// The certificate that signs leaves, for systems that do not read PEM.
async fn ca_der(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, DER)], admin.deps().authority.cert_der().to_vec()).into_response()
}

async fn bundle(State(admin): State<Admin>) -> Result<Response, ApiError> {
    Ok(([(header::CONTENT_TYPE, PEM)], admin.bundle().await?).into_response())
}

async fn metrics_for_user(
    State(admin): State<Admin>,
    request: Request,
) -> Result<Response, ApiError> {
    Caller::by_token(&admin, &request)?;
    Ok(metrics(State(admin)).await)
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let deps = admin.deps();
    deps.metrics.ca_ends.set(deps.authority.expires().as_second());
    let gateway = deps.data_path.upgrade();
    deps.metrics.health.audit_fails(gateway.as_ref().is_some_and(|it| it.audit.is_failing()));
    if let Some(gateway) = &gateway {
        deps.metrics.health.audit_changed(gateway.audit.changes());
    }
    deps.metrics.health.stale_for(deps.directory.staleness());
    let (failing, long) = deps.vault.refresh().failing_counts();
    deps.metrics.failing.now.set(i64::try_from(failing).unwrap_or(i64::MAX));
    deps.metrics.failing.long.set(i64::try_from(long).unwrap_or(i64::MAX));
    deps.metrics.sources.set(deps.vault.sources().samples().into_iter());
    let directory = deps.directory.view();
    deps.metrics.connections(|state| directory.connections_in_state(state));
    ([(header::CONTENT_TYPE, OPEN_METRICS)], deps.metrics.render()).into_response()
}

/// The listeners that the caller may see.
pub(super) struct VisibleListeners {
    pub(super) agents: Vec<AgentListener>,
    pub(super) databases: Vec<DatabaseListenerView>,
    pub(super) databases_failed: Vec<FailedListenerView>,
}

/// Who reads, with the records as of now.
struct ListenerReader<'a> {
    caller: &'a Caller,
    view: Arc<View>,
}

impl VisibleListeners {
    pub(super) fn of(context: &Context, places: &Locations) -> Self {
        let reader = ListenerReader { caller: &context.caller, view: context.view() };
        let stored = context.deps().database_listeners.statuses();
        let of_agents = places.agents.iter().filter(|(owner, _)| reader.sees_owner(owner, None));
        let of_file = places.databases.iter().filter(|place| reader.sees_location(place));
        let open = stored.iter().filter_map(|status| reader.open(status));
        let failed = stored.iter().filter(|status| reader.sees_terms(&status.terms));
        Self {
            agents: of_agents.map(|(owner, at)| agent_view(owner, at)).collect(),
            databases: of_file.map(location_view).chain(open).collect(),
            databases_failed: failed.filter_map(|status| failed_view(status.clone())).collect(),
        }
    }
}

impl ListenerReader<'_> {
    /// Whether the reader may see a listener of an agent, which may be for one connection.
    fn sees_owner(&self, owner: &ListenerOwner, connection: Option<&str>) -> bool {
        self.sees(&owner.org, Some(&owner.agent), connection)
    }

    /// Whether the reader may see a listener of the configuration. Without an agent it belongs to no organisation: the
    /// session's token decides in which one the connection is looked up.
    fn sees_location(&self, place: &DatabaseLocation) -> bool {
        let connection = place.connection.as_deref();
        match &place.agent {
            Some(owner) => self.sees_owner(owner, connection),
            None if self.caller.reads_install() => true,
            None => connection.is_none_or(|name| self.sees_connection(self.caller.org(), name)),
        }
    }

    fn sees_terms(&self, terms: &ListenerTerms) -> bool {
        self.sees(&terms.org, terms.agent.as_deref(), terms.connection.as_deref())
    }

    /// A stored listener that is open. Agents of every organisation can use one that names neither an agent nor a
    /// connection; its name is for readers of its organisation and of the installation.
    fn open(&self, status: &ListenerStatus) -> Option<DatabaseListenerView> {
        let view = open_view(status)?;
        if self.sees_terms(&status.terms) {
            return Some(view);
        }
        let is_for_all = view.agent.is_none() && view.connection.is_none();
        let reads_name = self.caller.reads_install();
        is_for_all.then(|| DatabaseListenerView { name: view.name.filter(|_| reads_name), ..view })
    }

    /// Whether the reader may see a listener of this organisation that names this agent and connection.
    fn sees(&self, org: &OrgId, agent: Option<&str>, connection: Option<&str>) -> bool {
        if self.caller.is_operator() {
            return true;
        }
        let sees_named = || {
            agent.is_none_or(|name| self.sees_agent(org, name))
                && connection.is_none_or(|name| self.sees_connection(org, name))
        };
        org == self.caller.org() && (self.caller.sees_all() || sees_named())
    }

    fn sees_agent(&self, org: &OrgId, name: &str) -> bool {
        self.view.find_agent(org, name).is_some_and(|agent| self.caller.sees_agent(agent))
    }

    fn sees_connection(&self, org: &OrgId, name: &str) -> bool {
        let found = self.view.find_connection(org, name);
        found.is_some_and(|connection| self.caller.sees_connection(connection))
    }
}

fn agent_view(owner: &ListenerOwner, at: &str) -> AgentListener {
    let (org, agent) = (owner.org.name().to_owned(), owner.agent.clone());
    AgentListener { org, agent, at: at.to_owned() }
}

fn location_view(place: &DatabaseLocation) -> DatabaseListenerView {
    let DatabaseLocation { at, protocol, connection, agent } = place.clone();
    let agent = agent.map(|owner| owner.agent);
    DatabaseListenerView { at, protocol, connection, agent, name: None }
}
