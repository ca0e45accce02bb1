//! Fetches values from secret sources: `service` over HTTP, by the files of the kinds, the others from the gateway's machine.
//! Only logins at sources are kept here, in memory; the vault stores the values, sealed, and decides when they are fetched.
//!
//! Requests use Keyward's own client: verified TLS, or cleartext to this machine; addresses are checked by the guard.

mod error;
mod forms;
mod keychain;
mod local;
mod request;
mod sealed;
mod service;
mod session;
mod sigv4;
mod templates;
mod value;

use std::collections::HashMap;

use jiff::Timestamp;
use parking_lot::Mutex;

use keyward_base::id::SourceId;
use keyward_base::secret::Secret;
use keyward_model::{LocalOrigin, SourceFailures};

pub use error::SourceError;
pub(crate) use local::path_of;
pub(crate) use service::Fetch;
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
        let (kind, settings) = fetch.source.spec.kind().ok_or(SourceError::Kind)?;
        match kind.local {
            Some(LocalOrigin::Variables) => {
                local::variable(&settings.texts("names"), fetch.credentials, reference)
            }
            Some(LocalOrigin::Folder) => {
                local::file(&settings.text("folder").unwrap_or_default(), reference).await
            }
            Some(LocalOrigin::Program) => {
                let (words, time) = (settings.texts("run"), settings.time("timeout"));
                local::command(words, time, fetch.credentials, reference).await
            }
            Some(LocalOrigin::Keyring) => {
                let (attributes, member) = split(reference)?;
                let address = settings.text("address");
                member_of(keychain::value(address.as_deref(), attributes).await?, member)
            }
            None => {
                let slot = self.sessions.of(fetch.source, fetch.clock);
                service::value(fetch, &slot, reference).await
            }
        }
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
