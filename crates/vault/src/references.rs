//! Connections with fields by reference. A flight fetches the values as it refreshes a token: once for all requests, stored
//! sealed before they are used, again before their time has passed, and with pauses after failures. While the source cannot
//! be asked, the last values are used for as long as the source's `keep` says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::backoff::FailureDetails;
use super::cache::{CachedCredential, Lifetime, Trigger};
use super::error::VaultError;
use super::sources::{Fetch, SourceError, bearer_of};
use super::status::after;
use super::token_request::{RequestFailure, StoredGrants, TokenContext};
use super::{Vault, method};
use crate::grant::{Fetched, FetchedFacts, Grant, GrantError, MintContext, Referred};
use keyward_base::id::OrgId;
use keyward_base::secret::Secret;
use keyward_base::time::Moment;
use keyward_base::tokens::TokenSettings;
use keyward_model::{
    Failing, FetchedShown, FieldReference, Record, References, Source, SourceKind,
};
use keyward_rules::inject::credential::Renews;
use keyward_rules::provider::AuthMethod;
use keyward_state::directory::ConnectionRecord;

/// The longest pause after failures: sources are asked often, and an outage ends without notice.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The part of `ttl` after which values are fetched again while they are used.
const AHEAD: f64 = 0.75;

/// The status of a connection's values.
#[derive(Debug, Default)]
pub struct ReferenceStatus {
    /// The last values.
    pub fetched: Option<FetchedShown>,
    /// Failures since then.
    pub failing: Option<Failing>,
}

/// The grant of an owner's fields; without values, if some are references.
pub(super) fn grant_of(
    auth: &AuthMethod,
    references: &References,
    fields: BTreeMap<String, Secret>,
) -> Result<Grant, GrantError> {
    if references.is_empty() {
        return Grant::from_fields(auth, fields);
    }
    let names: BTreeSet<&str> = references.keys().map(String::as_str).collect();
    Grant::referring(auth, fields, &names)
}

/// The name under which sources share limits and pauses, as authorization servers do.
pub(super) fn server_of(org: &OrgId, references: &References) -> Option<String> {
    let first = references.values().next()?;
    Some(format!("source {org}/{}", first.from))
}

impl Vault {
    /// Refuses references to sources that the organisation does not have.
    ///
    /// # Errors
    /// With the first of them.
    pub fn check_references(&self, org: &OrgId, references: &References) -> Result<(), VaultError> {
        let view = self.directory.view();
        for FieldReference { from, .. } in references.values() {
            if view.find::<Source>(org, from).is_none() {
                return Err(VaultError::UnknownSource { name: from.clone() });
            }
        }
        Ok(())
    }

    /// The limits of fetches: as of refreshes, with shorter pauses.
    pub(super) fn settings_of(&self, connection: &ConnectionRecord) -> Arc<TokenSettings> {
        let settings = self.token_settings();
        match connection.references.is_empty() {
            true => settings,
            false => {
                let backoff_max = settings.backoff_max.min(PAUSE_MAX);
                Arc::new(TokenSettings { backoff_max, ..(*settings).clone() })
            }
        }
    }

    /// The credential of the last values, if they may be used.
    pub(super) fn held_by_reference(
        &self,
        connection: &ConnectionRecord,
        token_context: &TokenContext,
        referred: &Referred,
        grants: StoredGrants<'_>,
    ) -> Result<Option<CachedCredential>, VaultError> {
        let at = self.clock.moment();
        let digest = digest_of(&connection.references);
        let Some(fetched) = referred.fetched(&digest, at.day()) else { return Ok(None) };
        let context = MintContext {
            connection: &connection.id,
            generation: grants.version.0,
            instance: token_context.instance(),
            ask: None,
            client_secret: None,
        };
        let minted = fetched.grant.ready(&context);
        let minted = minted.map_err(|source| self.unmintable(connection, source))?;
        let Some(minted) = minted else { return Ok(None) };
        let mut credential = minted.credential;
        // A rejection may mean that the source has a newer value.
        credential.renews = Some(Renews { unsafe_too: true, expired_status: None });
        let is_current = fetched.facts.sources == self.sources_digest(connection);
        let known = self.cache.known(&connection.id);
        let has_failed = known.is_some_and(|cell| cell.backoff().failures() > 0);
        let life = match life_of(&fetched.facts, &at, is_current) {
            // Requests do not wait again for a source that gave nothing the last time.
            life if has_failed => life.without_waiting(),
            life => life,
        };
        Ok(Some(CachedCredential::new(Arc::new(credential), at, Some(life))))
    }

    /// The grant with newer values.
    pub(super) async fn fetched(
        &self,
        connection: &ConnectionRecord,
        referred: &Referred,
    ) -> Result<Result<Grant, RequestFailure>, VaultError> {
        let catalogue = self.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        // Before the sources are asked: a change meanwhile has the values fetched again.
        let sources = self.sources_digest(connection);
        let mut fields = referred.given().clone();
        let (mut ttl, mut keep) = (Duration::MAX, Duration::MAX);
        for (field, reference) in &connection.references {
            let value = self.value_of(&connection.org, reference).await;
            match value {
                Ok((value, source)) => {
                    fields.insert(field.clone(), value);
                    (ttl, keep) = (ttl.min(source.spec.ttl()), keep.min(source.spec.keep()));
                }
                Err(error) => {
                    let message = format!("source `{}`: {error}", reference.from);
                    return Ok(Err(failed(message)));
                }
            }
        }
        let grant = match Grant::from_fields(auth, fields) {
            Ok(grant) => Box::new(grant),
            Err(error) => {
                return Ok(Err(failed(format!(
                    "the source's value is no secret for this: {error}"
                ))));
            }
        };
        let at = self.clock.now();
        let until = after(at, ttl);
        let facts = FetchedFacts {
            at,
            until,
            kept_until: after(until, keep),
            references: digest_of(&connection.references),
            sources,
        };
        Ok(Ok(Grant::Referred(referred.with(Fetched { grant, facts }))))
    }

    /// One value, with its source.
    async fn value_of(
        &self,
        org: &OrgId,
        reference: &FieldReference,
    ) -> Result<(Secret, Arc<Record<Source>>), SourceError> {
        let view = self.directory.view();
        let unknown = || SourceError::Unknown(reference.from.clone());
        let source = view.find::<Source>(org, &reference.from).cloned().ok_or_else(unknown)?;
        let value = self.value_in(&source, &reference.reference).await;
        self.sources.note(&source.id, self.clock.now(), value.as_ref().err());
        self.count_fetch(value.is_ok());
        Ok((value?, source))
    }

    async fn value_in(
        &self,
        source: &Record<Source>,
        reference: &str,
    ) -> Result<Secret, SourceError> {
        let credentials = self.source_credentials(source).await.map_err(|error| {
            tracing::warn!(source = source.name(), %error, "credentials of a source cannot be opened");
            SourceError::Kind
        })?;
        let fetch = Fetch {
            source,
            credentials: &credentials,
            bearer: self.bearer_for(source).await?,
            caller: self.caller(),
            clock: &self.clock,
        };
        self.sources.fetch(&fetch, reference).await
    }

    /// Fetches a value to find out whether that works. The value is dropped.
    ///
    /// # Errors
    /// When the source gives none.
    pub async fn test_source(
        &self,
        source: &Record<Source>,
        reference: &str,
    ) -> Result<(), SourceError> {
        self.value_in(source, reference).await?;
        // A reference that somebody tries says nothing about those of connections.
        self.sources.note(&source.id, self.clock.now(), None);
        Ok(())
    }

    /// The token of the connection that the source names.
    async fn bearer_for(&self, source: &Record<Source>) -> Result<Option<Secret>, SourceError> {
        let Some(SourceKind::Gcp(gcp)) = source.spec.kind() else { return Ok(None) };
        let failed = || SourceError::Connection(gcp.connection.clone());
        let view = self.directory.view();
        let found = view.find_connection(&source.org, &gcp.connection);
        // One whose own values come from sources could wait for itself.
        let found = found.filter(|it| it.references.is_empty()).ok_or_else(failed)?;
        let credential = match self.cache.ready(&found.id, &self.clock) {
            Some(credential) => credential,
            None => {
                let fetched: BoxFuture<'_, _> =
                    Box::pin(self.fetch(found.clone(), Trigger::Needed));
                fetched.await.map_err(|_| failed())?
            }
        };
        Ok(Some(bearer_of(&credential).ok_or_else(failed)?))
    }

    /// Has the next use of connections with fields in the source fetch them again.
    pub(super) fn source_changed(&self, org: &OrgId, source: &str) {
        let view = self.directory.view();
        for connection in view.connections_of_source(org, source) {
            self.cache.forget(&connection.id);
        }
    }

    /// The status of a connection's values; nothing for connections without references.
    pub async fn reference_status(&self, connection: &ConnectionRecord) -> ReferenceStatus {
        if connection.references.is_empty() {
            return ReferenceStatus::default();
        }
        let failing = self.failing(connection);
        let stored = self.stored(connection).await.ok();
        let grant = stored.and_then(|stored| stored.grant(self, connection).ok());
        let Some(Grant::Referred(referred)) = grant else {
            return ReferenceStatus { fetched: None, failing };
        };
        let fetched = referred.fetched(&digest_of(&connection.references), self.clock.now());
        let fetched = fetched.map(|Fetched { facts, .. }| FetchedShown {
            at: facts.at,
            until: facts.until,
            kept_until: facts.kept_until,
        });
        ReferenceStatus { fetched, failing }
    }

    /// A digest of the settings of the connection's sources.
    fn sources_digest(&self, connection: &ConnectionRecord) -> String {
        let view = self.directory.view();
        let mut digest = Sha256::new();
        for reference in connection.references.values() {
            if let Some(source) = view.find::<Source>(&connection.org, &reference.from) {
                digest.update(format!("{}\0{:?}\0{:?}\0", source.id, source.spec, source.facts));
            }
        }
        HEXLOWER.encode(&digest.finalize())
    }

    pub(super) fn count_fetch(&self, succeeded: bool) {
        if let Some(metrics) = self.metrics.get() {
            metrics.source_fetched(succeeded);
        }
    }
}

/// Its ages from now on. Values of changed sources are fetched at once, and used if that fails.
fn life_of(facts: &FetchedFacts, now: &Moment, is_current: bool) -> Lifetime {
    let left =
        |until: Timestamp| Duration::try_from(until.duration_since(now.day())).unwrap_or_default();
    let whole = Duration::try_from(facts.until.duration_since(facts.at)).unwrap_or_default();
    let (until, kept) = (left(facts.until), left(facts.kept_until));
    match is_current {
        true => Lifetime::kept(until.saturating_sub(whole.mul_f64(1.0 - AHEAD)), until, kept),
        false => Lifetime::kept(Duration::ZERO, Duration::ZERO, kept),
    }
}

fn failed(message: String) -> RequestFailure {
    let failed = FailureDetails { message: Some(message), ..FailureDetails::default() };
    RequestFailure::Passing { failed, whole_client: None }
}

fn digest_of(references: &References) -> String {
    let mut digest = Sha256::new();
    for (field, FieldReference { from, reference }) in references {
        for text in [field, from, reference] {
            digest.update(text);
            digest.update([0]);
        }
    }
    HEXLOWER.encode(&digest.finalize())
}
