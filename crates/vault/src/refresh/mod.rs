//! Usable credentials: kept in memory, and replaced in flights before they expire or when an upstream rejects them.
//!
//! ```text
//! cache  flight  flights                   credentials in memory, and how a new one is fetched
//! token_request  servers  backoff          requests to authorization servers, and their pauses
//! unsaved_tokens  save_again  late         answers that could not be stored, or came too late
//! broken  rejected  status  challenge      what does not work, stored and shown
//! failures  resume                         failures that a restart does not forget
//! issuer_cache  endpoints                  metadata of authorization servers
//! references  source_values  source_files  fields whose values are kept in secret sources
//! referred_apps  app_fetches               secrets of apps that are kept there
//! candidate  publish  account              grants that are not in force yet, and how they come in force
//! keep_alive  ssh                          unused tokens; keys and certificates as they are stored
//! ```

pub(crate) mod account;
pub(crate) mod app_fetches;
pub(crate) mod backoff;
pub(crate) mod broken;
pub(crate) mod cache;
pub(crate) mod candidate;
pub(crate) mod challenge;
pub(crate) mod endpoints;
pub(crate) mod failures;
pub(crate) mod flight;
pub(crate) mod flights;
pub(crate) mod issuer_cache;
pub(crate) mod keep_alive;
pub(crate) mod late;
pub(crate) mod publish;
pub(crate) mod references;
pub(crate) mod referred_apps;
pub(crate) mod rejected;
pub(crate) mod resume;
pub(crate) mod save_again;
pub(crate) mod servers;
pub(crate) mod source_files;
pub(crate) mod source_values;
pub mod ssh;
pub(crate) mod status;
pub(crate) mod token_request;
pub(crate) mod unsaved_tokens;

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use tokio::time::Instant;

use self::app_fetches::{AppFetch, AppFetches};
use self::cache::{CredentialCache, Trigger};
use self::failures::FailureRows;
use self::flights::Flights;
use self::issuer_cache::{EndpointChanges, Issuers};
use self::late::{LateAnswers, OrphanedGrants};
use self::servers::{TokenRequester, TokenServers};
use self::unsaved_tokens::StoredAnswers;
use crate::context::VaultContext;
use crate::error::VaultError;
use crate::grants::Grants;
use crate::sources::Sources;
use keyward_base::id::{AppId, ConnectionId, OrgId};
use keyward_base::opaque::OpaqueArc;
use keyward_base::time::Clock;
use keyward_rules::inject::credential::{Credential, RequiredConnection};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::Directory;
use keyward_state::observe::metrics::Metrics;
use keyward_state::store::Store;

/// The credentials in memory, and the flights that fetch new ones; flights hold clones.
#[derive(Clone)]
pub struct Refresh(OpaqueArc<RefreshParts>);

#[doc(hidden)]
pub struct RefreshParts {
    context: VaultContext,
    grants: Grants,
    sources: Sources,
    directory: Arc<Directory>,
    clock: Clock,
    /// Leases that exclude other replicas.
    store: Arc<dyn Store>,
    failures: FailureRows,
    cache: CredentialCache,
    flights: Flights,
    servers: TokenServers,
    issuers: Issuers,
    requester: TokenRequester,
    metrics: OnceLock<Arc<Metrics>>,
    endpoint_changes: EndpointChanges,
    orphans: OrphanedGrants,
    stored_answers: StoredAnswers,
    app_fetches: AppFetches,
}

room!(Refresh: RefreshParts);

impl Refresh {
    pub(crate) fn new(
        context: &VaultContext,
        grants: &Grants,
        sources: &Sources,
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
    ) -> Self {
        Self(OpaqueArc::new(RefreshParts {
            context: context.clone(),
            grants: grants.clone(),
            sources: sources.clone(),
            directory: context.directory.clone(),
            clock: context.clock.clone(),
            failures: FailureRows::new(store.clone(), keyring),
            store,
            cache: CredentialCache::default(),
            flights: Flights::here(),
            servers: TokenServers::default(),
            issuers: Issuers::default(),
            requester: TokenRequester::default(),
            metrics: OnceLock::default(),
            endpoint_changes: EndpointChanges::default(),
            orphans: OrphanedGrants::default(),
            stored_answers: StoredAnswers::default(),
            app_fetches: AppFetches::default(),
        }))
    }

    /// Sets the maximum number of credentials in memory.
    pub fn keep_at_most(&self, credentials: usize) {
        self.cache.keep_at_most(credentials);
    }

    /// The credential of the connection that a permit requires; `None` if it requires none. From the cache,
    /// without store and keys, if possible.
    ///
    /// # Errors
    /// When the connection belongs to another org, or its grant cannot be opened or minted.
    pub async fn credential_in(
        &self,
        org: &OrgId,
        wanted: Option<&RequiredConnection>,
    ) -> Result<Option<Arc<Credential>>, VaultError> {
        self.credential_since(org, wanted, Instant::now()).await
    }

    /// [`Self::credential_in`] for a request that has waited for one since this time, which counts against
    /// `wait_timeout`.
    ///
    /// # Errors
    /// As there.
    pub async fn credential_since(
        &self,
        org: &OrgId,
        wanted: Option<&RequiredConnection>,
        since: Instant,
    ) -> Result<Option<Arc<Credential>>, VaultError> {
        let Some(wanted) = wanted else { return Ok(None) };
        if let Some(ready) = self.ready(org, &wanted.connection) {
            return Ok(Some(ready));
        }
        let connection = self.context.connection(org, &wanted.connection)?;
        // Boxed: this path is rare, and every request would reserve space for it.
        Ok(Some(self.fetch(connection, Trigger::Needed, since).boxed().await?))
    }

    /// The credential in memory, without a reference count of the connection that cores share. The org is part of every
    /// lookup: data of one org is never used for another.
    fn ready(&self, org: &OrgId, id: &ConnectionId) -> Option<Arc<Credential>> {
        self.directory.view_guard().connection(org, id)?;
        self.cache.ready(id, &self.clock)
    }

    /// Fetches a newer token now, regardless of the age of the current one. Pauses of authorization servers apply; a secret of
    /// a source is tried at once, also if the last one was rejected.
    ///
    /// # Errors
    /// When no newer token can be fetched.
    pub async fn refresh_now(&self, org: &OrgId, id: &ConnectionId) -> Result<(), VaultError> {
        self.end_pause_of_secret(&*self.context.connection(org, id)?).await;
        self.fetch_newer(org, id).await
    }

    /// Like [`Self::refresh_now`], but all pauses apply.
    pub(crate) async fn fetch_newer(
        &self,
        org: &OrgId,
        id: &ConnectionId,
    ) -> Result<(), VaultError> {
        let connection = self.context.connection(org, id)?;
        // The stored token may have expired; the next one must be newer than that.
        let generation = self.grants.stored(&connection).await?.version.0;
        self.fetch(connection, Trigger::Requested(generation), Instant::now()).await.map(|_| ())
    }

    /// Called after a change of a connection's grant or references: the next request reads them again.
    pub fn forget(&self, id: &ConnectionId) {
        self.cache.forget(id);
    }

    /// Called after a change of what all credentials of an organisation may depend on.
    pub(crate) fn forget_all_of(&self, org: &str) {
        self.cache.forget_all_of(org);
    }

    /// Forgets a removed connection.
    pub(crate) async fn remove(&self, org: &OrgId, id: &ConnectionId) {
        self.cache.remove(id);
        self.failures.delete(org, id).await;
    }

    /// Keeps late responses to refreshes of a connection until the returned value is dropped.
    pub(crate) fn collect_late(&self, id: &ConnectionId) -> LateAnswers {
        self.flights.refreshes().collect_late(id)
    }

    /// Newer grants of removed connections, for their revocation.
    pub(crate) fn orphans(&self) -> &OrphanedGrants {
        &self.orphans
    }

    /// The fetches of an app's secret.
    pub(crate) fn app_fetch(&self, app: &AppId) -> Arc<AppFetch> {
        self.app_fetches.of(app)
    }

    pub(crate) fn forget_app_fetch(&self, app: &AppId) {
        self.app_fetches.forget(app);
    }

    /// Waits for connections whose authorization server may have changed its endpoints, and takes them all; for one reader.
    pub async fn changed_endpoints(&self) -> Vec<(OrgId, ConnectionId)> {
        self.endpoint_changes.all().await
    }
}

#[cfg(test)]
impl Refresh {
    pub(crate) fn cache(&self) -> &CredentialCache {
        &self.cache
    }

    pub(crate) fn requester(&self) -> &TokenRequester {
        &self.requester
    }

    pub(crate) fn failures(&self) -> &FailureRows {
        &self.failures
    }
}
