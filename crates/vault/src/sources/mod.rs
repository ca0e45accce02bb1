//! Fetches values from secret sources: one file for each kind. Only logins at sources are kept here, in memory; the
//! vault stores the values, sealed, and decides when they are fetched.
//!
//! Requests use Keyward's own client: verified TLS, or cleartext to this machine; addresses are checked by the guard.

mod aws;
mod azure;
mod bitwarden;
mod bitwarden_cipher;
mod connect_server;
mod doppler;
mod error;
mod gcp;
mod hashicorp;
mod infisical;
mod keychain;
mod local;
mod request;
mod session;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use keyward_base::id::SourceId;
use keyward_base::secret::Secret;
use keyward_base::time::Clock;
use keyward_model::{Record, Source, SourceFailures, SourceKind};
use keyward_net::call::HttpClient;

pub use error::SourceError;
pub(crate) use local::path_of;
use request::SourceContext;
use session::Sessions;
pub use value::bearer_of;
use value::{member_of, split};

/// Logins at sources, and the health of each source. Bounded by the number of sources, which only admins add.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    sessions: Sessions,
    health: Mutex<HashMap<SourceId, SourceHealth>>,
}

/// The health of a source since the start of the gateway.
#[derive(Clone, Debug, Default)]
pub struct SourceHealth {
    /// When a value was last fetched.
    pub fetched: Option<Timestamp>,
    /// Failures since then.
    pub failing: Option<SourceFailures>,
}

/// The parameters of a fetch.
pub(crate) struct Fetch<'a> {
    pub(crate) source: &'a Record<Source>,
    pub(crate) credentials: &'a BTreeMap<String, Secret>,
    /// The token of another connection, for kinds that use one.
    pub(crate) bearer: Option<Secret>,
    /// `None` until the network is configured.
    pub(crate) caller: Option<Arc<HttpClient>>,
    pub(crate) clock: &'a Clock,
}

impl Sources {
    /// The value of a reference.
    ///
    /// # Errors
    /// When the source does not give one.
    pub(crate) async fn fetch(
        &self,
        fetch: &Fetch<'_>,
        reference: &str,
    ) -> Result<Secret, SourceError> {
        let kind = fetch.source.spec.kind().ok_or(SourceError::Kind)?;
        match kind {
            SourceKind::Env(env) => return local::variable(env, fetch.credentials, reference),
            SourceKind::File(file) => return local::file(file, reference).await,
            SourceKind::Command(command) => {
                return local::command(command, fetch.credentials, reference).await;
            }
            SourceKind::Keychain(of) => {
                let (attributes, member) = split(reference)?;
                return member_of(keychain::value(of, attributes).await?, member);
            }
            _ => {}
        }
        let caller = fetch.caller.clone().ok_or(SourceError::NoNetwork)?;
        let requests = SourceContext { caller, credentials: fetch.credentials };
        let login = self.sessions.of(fetch.source, fetch.clock);
        let (path, member) = split(reference)?;
        let text = match kind {
            // The member is a field of the answer, not a member of a value in JSON.
            SourceKind::Vault(vault) => {
                return hashicorp::value(vault, &requests, &login, path, member).await;
            }
            SourceKind::OnePassword(server) => {
                return connect_server::value(server, &requests, reference).await;
            }
            SourceKind::Bitwarden(of) => bitwarden::value(of, &requests, &login, path).await?,
            SourceKind::Infisical(of) => infisical::value(of, &requests, &login, path).await?,
            SourceKind::Azure(of) => azure::value(of, &requests, &login, path).await?,
            SourceKind::Aws(of) => aws::value(of, &requests, fetch.clock.now(), path).await?,
            SourceKind::Gcp(of) => gcp::value(of, &requests, fetch.bearer.as_ref(), path).await?,
            SourceKind::Doppler(of) => doppler::value(of, &requests, path).await?,
            SourceKind::Env(_)
            | SourceKind::File(_)
            | SourceKind::Command(_)
            | SourceKind::Keychain(_) => {
                return Err(SourceError::Kind);
            }
        };
        member_of(text, member)
    }

    /// Notes the result of a fetch for a connection, or a test that succeeded.
    pub(crate) fn note(&self, id: &SourceId, now: Timestamp, error: Option<&SourceError>) {
        let mut health = self.health.lock();
        let health = health.entry(id.clone()).or_default();
        match error {
            None => *health = SourceHealth { fetched: Some(now), failing: None },
            Some(error) => {
                let message = error.to_string();
                let before = health.failing.take();
                let (since, count) = before.map_or((now, 0), |it| (it.since, it.count));
                health.failing =
                    Some(SourceFailures { since, count: count.saturating_add(1), message });
            }
        }
    }

    /// The health of a source.
    pub(crate) fn health(&self, id: &SourceId) -> SourceHealth {
        self.health.lock().get(id).cloned().unwrap_or_default()
    }

    /// Forgets a removed source.
    pub(crate) fn forget(&self, id: &SourceId) {
        self.health.lock().remove(id);
        self.sessions.forget(id);
    }
}
