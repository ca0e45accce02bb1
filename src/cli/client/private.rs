//! [`PrivateGateway`]: the gateway of one command, where no other runs. It has no listener, answers the same API in this
//! process, and ends with the command. Where nothing is stored yet, it reads an empty store in memory (`absent.rs`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response};
use tokio::sync::OnceCell;
use tower::ServiceExt;

use super::absent::AbsentInstallation;
use super::messages::read;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::signals::Signals;
use keyward_api::{Admin, Deps, socket_router};
use keyward_app::config::Config;
use keyward_app::{DataPath, Opening, Services};
use keyward_base::codes::Code;

/// What a person reads who waits for the end of the command, or has asked for it.
const WAITS: &str = "note: waiting for new tokens; ending this command now would lose them";

/// A gateway in this process. Its parts end in this order.
pub(super) struct PrivateGateway {
    config: Config,
    /// Answers requests that only read, which write nothing into the data directory.
    reads: Router,
    /// Answers all requests, from the first one on that does more.
    acts: OnceCell<ActingGateway>,
    services: Arc<Services>,
    /// `None` where something is stored.
    absent: Option<AbsentInstallation>,
}

/// The API with an audit log for changes, and with a data path, which tests connections.
struct ActingGateway {
    router: Router,
    admin: Admin,
    _data_path: DataPath,
}

impl PrivateGateway {
    /// Opens the services. Where nothing is stored, something is made only if `opening` says so.
    ///
    /// # Errors
    /// When another process has the store, or it cannot be opened.
    pub(super) async fn open(global: &Global, opening: Opening) -> anyhow::Result<Self> {
        let config = global.load()?;
        let absent = match opening {
            Opening::Make => None,
            Opening::Stored | Opening::Empty => AbsentInstallation::find(global, &config),
        };
        if absent.is_none() && !config.data_dir.exists() {
            // A mistyped directory would look like an empty installation.
            output::note(&format!(
                "note: creating a new data directory, {}",
                config.data_dir.display()
            ));
        }
        let opening = if absent.is_some() { Opening::Empty } else { opening };
        let services = Services::open(&config, opening).await?;
        Ok(Self::over(config, services, absent))
    }

    /// Of what a configuration file declares, and of nothing that is stored.
    ///
    /// # Errors
    /// All errors of the configuration.
    pub(super) async fn of_file(config: &Config) -> anyhow::Result<Self> {
        let services = Services::declared_only(config).await?;
        Ok(Self::over(config.clone(), services, None))
    }

    fn over(config: Config, services: Arc<Services>, absent: Option<AbsentInstallation>) -> Self {
        let reads = socket_router(Admin::in_process(services.deps.clone()));
        Self { config, reads, acts: OnceCell::new(), services, absent }
    }

    /// The installation that does not exist yet.
    pub(super) fn absent(&self) -> Option<&AbsentInstallation> {
        self.absent.as_ref()
    }

    /// For pages of a consent; `None` before a request that can begin one.
    pub(super) fn admin(&self) -> Option<&Admin> {
        self.acts.get().map(|acting| &acting.admin)
    }

    /// Answers a request.
    ///
    /// # Errors
    /// A refusal of the API; and as [`PrivateGateway::send`].
    pub(super) async fn answer(&self, request: Request<Body>) -> Result<Bytes, Failure> {
        let path = request.uri().path().to_owned();
        let answering = async {
            let answer = read(self.send(request).await?).await;
            self.landed().await;
            answer
        };
        match (self.until_landed(answering).await, &self.absent) {
            // It never drains: the settings of upstreams cannot be read, so that nothing can be sent.
            (Err(failure), _) if failure.has_code(Code::Draining) => {
                DataPath::check(&self.config)?;
                Err(failure)
            }
            (answer, Some(absent)) if !needs_no_store(&path) => absent.noted(answer),
            (answer, _) => answer,
        }
    }

    /// Begins to answer a request.
    ///
    /// # Errors
    /// When it needs what is not there: a resource that is stored, a CA, or the audit log.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let path = request.uri().path();
        self.require(path)?;
        let acts = !only_reads(request.method(), path);
        let router = match &self.absent {
            None if acts => &self.acting().await?.router,
            _ => self.acts.get().map_or(&self.reads, |acting| &acting.router),
        };
        let answer = match router.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        match &self.absent {
            // A change of a resource that does not exist must fail.
            Some(absent) if acts && answer.status().is_success() => Err(absent.refusal()),
            _ => Ok(answer),
        }
    }

    async fn acting(&self) -> Result<&ActingGateway, Failure> {
        let open = || async {
            let data_path = DataPath::open(&self.config, &self.services)?;
            let (gateway, changes) = (data_path.gateway(), data_path.changes());
            let deps = Deps { data_path: gateway, changes, ..self.services.deps.clone() };
            let admin = Admin::in_process(deps);
            let router = socket_router(admin.clone());
            Ok::<_, anyhow::Error>(ActingGateway { router, admin, _data_path: data_path })
        };
        Ok(self.acts.get_or_try_init(open).await?)
    }

    /// Refuses a request for what is not there, or may be elsewhere.
    fn require(&self, path: &str) -> Result<(), Failure> {
        if path.starts_with("/api/v1/audit") {
            Services::check_audit_log(&self.config).map_err(anyhow::Error::from)?;
        }
        let lacks_ca = is_of_ca(path) && !Services::has_authority(&self.config);
        match &self.absent {
            Some(absent) if lacks_ca || path.starts_with("/api/v1/keys") => Err(absent.refusal()),
            None if lacks_ca => Err(without_ca(&self.config.ca.cert)),
            _ => Ok(()),
        }
    }

    /// Awaits work during which this process may receive tokens. After a signal that ends a process, it ends when the tokens
    /// of running refreshes and consents are stored; without any, or after a second signal, the process ends at once.
    /// Signals that something else reads already are left to that.
    ///
    /// # Errors
    /// Those of `work`, and after a signal.
    pub(super) async fn until_landed<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut work = Box::pin(work);
        let signals = (!Signals::are_read()).then(|| Signals::ending().ok()).flatten();
        let Some(mut signals) = signals else { return work.await };
        let signal = tokio::select! {
            biased;
            done = &mut work => return done,
            Ok(received) = signals.next() => received.signal,
        };
        let refresh = self.services.vault.refresh();
        if !refresh.wait_for_flights(Duration::ZERO).await {
            output::note(WAITS);
            let has_landed = tokio::select! {
                has_landed = refresh.wait_for_flights(refresh.late_flight_time()) => has_landed,
                Ok(_) = signals.next() => false,
            };
            if has_landed {
                // The services still end in order, so that changes are recorded.
                let message = "interrupted, after the end of a token request";
                return Err(Failure::new(Exit::Interrupted, message));
            }
        }
        // What reads signals in it ends too, so that the signal ends this process.
        drop(work);
        signals.take_effect(signal);
        std::future::pending().await
    }

    /// Waits for the results of refreshes.
    async fn landed(&self) {
        let refresh = self.services.vault.refresh();
        if refresh.wait_for_flights(refresh.flight_time()).await {
            return;
        }
        output::note(WAITS);
        if !refresh.wait_for_flights(refresh.late_flight_time()).await {
            output::note("note: a token refresh did not finish in time");
        }
    }
}

/// Whether a request changes nothing, and makes no connection.
fn only_reads(method: &Method, path: &str) -> bool {
    match *method {
        Method::GET => path != "/api/v1/upstreams",
        _ => matches!(path, "/api/v1/rules/explain" | "/api/v1/rules/test"),
    }
}

/// The catalogue is complete without any data, and the audit log has files of its own.
fn needs_no_store(path: &str) -> bool {
    ["/api/v1/providers", "/api/v1/audit"].iter().any(|it| path.starts_with(it))
}

/// Whether the path is answered with the CA's certificates or replaces them.
fn is_of_ca(path: &str) -> bool {
    matches!(path, "/api/v1/ca" | "/ca.pem" | "/bundle.pem") || path.starts_with("/api/v1/ca/")
}

/// The gateway creates the CA when it first signs.
fn without_ca(cert: &Path) -> Failure {
    let message = format!("there is no CA yet, {}", cert.display());
    Failure::new(Exit::Failed, message)
        .hint("`keyward serve`, `keyward init` or `keyward run` creates it")
}
