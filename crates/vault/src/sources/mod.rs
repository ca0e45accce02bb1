//! Fetches values from secret sources: `service` over HTTP, by the files of the kinds, the others from the gateway's machine.
//! The sources' own credentials are sealed here, and logins are kept in memory; the callers store the values, sealed, and
//! decide when they are fetched.
//!
//! Requests use Keyward's own client: verified TLS, or cleartext to this machine; addresses are checked by the guard.

mod error;
mod forms;
mod keychain;
mod keys;
mod local;
mod request;
mod sealed;
mod service;
mod session;
mod sigv4;
mod templates;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::context::VaultContext;
use crate::error::VaultError;
use crate::rows::{RowError, SealedRows};
use keyward_base::id::{OrgId, SourceId};
use keyward_base::opaque::OpaqueArc;
use keyward_base::secret::Secret;
use keyward_base::time::Clock;
use keyward_model::{LocalOrigin, Record, References, Source, SourceFailures};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::{Directory, DirectoryError};
use keyward_state::observe::metrics::SourceSample;
use keyward_state::store::{Store, StoreError, Table, Version};

pub use error::SourceError;
pub(crate) use keys::SourceKeys;
pub(crate) use local::path_of;
pub(crate) use service::Fetch;
use session::Sessions;
pub use value::bearer_of;
use value::{member_of, split};

/// The credentials of sources, sealed, logins at them, and their health. Bounded by the number of sources, which only
/// admins add.
#[derive(Clone)]
pub struct Sources(OpaqueArc<SourcesParts>);

#[doc(hidden)]
pub struct SourcesParts {
    directory: Arc<Directory>,
    clock: Clock,
    rows: SealedRows<SourceKeys>,
    sessions: Sessions,
    health: Mutex<HashMap<SourceId, SourceHealth>>,
}

room!(Sources: SourcesParts);

/// How often a write is retried after a conflict.
const TRIES_MAX: usize = 8;

/// The health of a source since the start of the gateway.
#[derive(Clone, Debug, Default)]
pub struct SourceHealth {
    /// When a value was last fetched.
    pub fetched: Option<Timestamp>,
    /// Failures since then.
    pub failing: Option<SourceFailures>,
}

impl Sources {
    pub(crate) fn new(
        context: &VaultContext,
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
    ) -> Self {
        let (directory, clock) = (context.directory.clone(), context.clock.clone());
        let rows = SealedRows::new(store, keyring, Table::SourceKeys, "");
        let (sessions, health) = (Sessions::default(), Mutex::default());
        Self(OpaqueArc::new(SourcesParts { directory, clock, rows, sessions, health }))
    }

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

    /// The credentials of a source.
    ///
    /// # Errors
    /// When they cannot be opened.
    pub(crate) async fn credentials(
        &self,
        source: &Record<Source>,
    ) -> Result<BTreeMap<String, Secret>, RowError> {
        let found = self.rows.get(&source.org, source.id.as_str()).await?;
        Ok(found.map(|(keys, _)| keys.credentials()).unwrap_or_default())
    }

    /// Stores the credentials of a source. A row that cannot be opened is replaced.
    pub(crate) async fn put_credentials(
        &self,
        org: &OrgId,
        id: &SourceId,
        credentials: &BTreeMap<String, Secret>,
    ) -> Result<Version, VaultError> {
        let keys = SourceKeys::of(credentials).map_err(DirectoryError::from)?;
        for _ in 0..TRIES_MAX {
            match self.rows.replace(org, id.as_str(), &keys).await {
                Err(RowError::Store(StoreError::Conflict { .. })) => {}
                other => return Ok(other?),
            }
        }
        Err(VaultError::Directory(DirectoryError::Interrupted))
    }

    /// Notes the result of a fetch for a connection, or a test that succeeded.
    pub(crate) fn note(&self, id: &SourceId, error: Option<&SourceError>) {
        let now = self.clock.now();
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

    /// The health of a source since the start of the gateway.
    pub fn health(&self, id: &SourceId) -> SourceHealth {
        self.health.lock().get(id).cloned().unwrap_or_default()
    }

    /// The metrics of all sources.
    pub fn samples(&self) -> Vec<SourceSample> {
        let (view, now) = (self.directory.view(), self.clock.now());
        let since = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        let all = view.orgs().map(|org| (org.name(), view.all::<Source>(&org.id)));
        let sources = all.flat_map(|(org, sources)| sources.map(move |source| (org, source)));
        let sample = |(org, source): (&str, &Arc<Record<Source>>)| {
            let SourceHealth { fetched, failing } = self.health(&source.id);
            SourceSample {
                name: format!("{org}/{}", source.name()),
                age: fetched.map(since),
                failing: failing.map(|it| since(it.since)).unwrap_or_default(),
            }
        };
        sources.map(sample).collect()
    }

    /// A digest of the settings of the sources that are referred to.
    pub(crate) fn digest(&self, org: &OrgId, references: &References) -> String {
        let view = self.directory.view();
        let mut digest = Sha256::new();
        for reference in references.values() {
            if let Some(source) = view.find::<Source>(org, &reference.from) {
                digest.update(format!("{}\0{:?}\0{:?}\0", source.id, source.spec, source.facts));
            }
        }
        HEXLOWER.encode(&digest.finalize())
    }

    /// Removes the credentials and logins of a removed source.
    pub(crate) async fn forget(&self, org: &OrgId, id: &SourceId) -> Result<(), VaultError> {
        self.health.lock().remove(id);
        self.sessions.forget(id);
        Ok(self.rows.delete(org, id.as_str()).await?)
    }
}
