//! Connections with fields by reference. A flight fetches the values, as it refreshes a token: once for all requests.
//! Values are stored, sealed, before they are used; fetched again before they expire; and retried with pauses after
//! failures. While the source is unavailable, the last values are used, up to the source's `keep`.
//!
//! Tokens are minted from keys by reference: service accounts, apps of GitHub, signed tokens, sessions, roles. Each mint fetches
//! the key from the source, so that a rotated key is used at once. While the source is unavailable, the last key is used, up
//! to the source's `ttl` and `keep`. The server determines the lifetime of an issued token.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::Refresh;
use super::backoff::FailureDetails;
use super::cache::{CachedCredential, Lifetime};
use super::source_values::{NoValue, digest_of};
use super::token_request::{RequestFailure, StoredGrants, TokenContext, source_failed};
use crate::context::method;
use crate::error::VaultError;
use crate::grant::{Fetched, FetchedFacts, Grant, GrantError, MintContext, Referred};
use crate::grants::record::GrantVerdict;
use keyward_base::id::OrgId;
use keyward_base::secret::Secret;
use keyward_base::time::Moment;
use keyward_base::tokens::TokenSettings;
use keyward_model::{Connection, Failures, FetchedView, References};
use keyward_rules::inject::credential::RenewalConditions;
use keyward_rules::provider::AuthMethod;
use keyward_state::directory::ConnectionRecord;

/// The longest pause after failures. It is short, because requests to sources are cheap and an outage ends without
/// notice.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The part of `ttl` after which values are fetched again while they are used.
const AHEAD: f64 = 0.75;

/// The status of a connection's values.
#[derive(Debug, Default)]
pub struct ReferenceStatus {
    /// The last values.
    pub fetched: Option<FetchedView>,
    /// Failures since then.
    pub failing: Option<Failures>,
}

/// The grant of an owner's fields; without values, if some are references.
pub(crate) fn grant_of(
    auth: &AuthMethod,
    references: &References,
    fields: BTreeMap<String, Secret>,
) -> Result<Grant, GrantError> {
    let mut only = auth.fields.iter().filter(|field| field.from_source);
    if let Some(field) = only.find(|field| fields.contains_key(&field.name)) {
        return Err(GrantError::OnlyReference { field: field.name.clone() });
    }
    if references.is_empty() {
        return Grant::from_fields(auth, fields);
    }
    let names: BTreeSet<&str> = references.keys().map(String::as_str).collect();
    Grant::referring(auth, fields, &names)
}

/// The result of comparing the values of the sources with the last ones.
pub(crate) enum Newer {
    /// The same values.
    Same,
    /// They differ, or there were no values before.
    Other,
    /// The sources give no values now.
    Unknown,
}

impl Refresh {
    /// The limits of fetches: those of refreshes, with shorter pauses.
    pub(crate) fn settings_of(&self, connection: &ConnectionRecord) -> Arc<TokenSettings> {
        let settings = self.context.token_settings();
        match connection.references.is_empty() {
            true => settings,
            false => self.source_settings(),
        }
    }

    /// The limits of fetches.
    pub(crate) fn source_settings(&self) -> Arc<TokenSettings> {
        let settings = self.context.token_settings();
        let backoff_max = settings.backoff_max.min(PAUSE_MAX);
        Arc::new(TokenSettings { backoff_max, ..(*settings).clone() })
    }

    /// The credential of the last values, if they may be used.
    pub(crate) fn held_by_reference(
        &self,
        connection: &ConnectionRecord,
        token_context: &TokenContext,
        referred: &Referred,
        grants: StoredGrants<'_>,
    ) -> Result<Option<CachedCredential>, VaultError> {
        let at = self.clock.moment();
        let digest = digest_of(&connection.references);
        let Some(fetched) = referred.fetched(&digest, at.wall_time()) else { return Ok(None) };
        let context = MintContext {
            connection: &connection.id,
            generation: grants.version.0,
            instance: token_context.instance(),
            ask: None,
            client_secret: None,
            client_id: None,
        };
        let minted = fetched.grant.ready(&context);
        let minted = minted.map_err(|source| self.context.unmintable(connection, source))?;
        let Some(minted) = minted else { return Ok(None) };
        let mut credential = minted.credential;
        // A rejection may mean that the source has a newer value.
        credential.renews = Some(RenewalConditions { unsafe_too: true, expired_status: None });
        let is_current =
            fetched.facts.sources == self.sources.digest(&connection.org, &connection.references);
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
    pub(crate) async fn fetched(
        &self,
        connection: &ConnectionRecord,
        referred: &Referred,
    ) -> Result<Result<Grant, RequestFailure>, VaultError> {
        let fetched = self.fetched_now(connection, referred).await?;
        Ok(fetched.map(|fetched| Grant::Referred(referred.with(fetched))))
    }

    /// Newer values as a grant.
    pub(crate) async fn fetched_now(
        &self,
        connection: &ConnectionRecord,
        referred: &Referred,
    ) -> Result<Result<Fetched, RequestFailure>, VaultError> {
        let catalogue = self.context.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let references = &connection.references;
        // The digest is taken before the fetch, so that the values are fetched again if the settings change meanwhile.
        let sources = self.sources.digest(&connection.org, references);
        let values = match self.values_of(&connection.org, references).await {
            Ok(values) => values,
            Err(NoValue { message, source }) => {
                return Ok(Err(source_failed(message, source, None)));
            }
        };
        let mut fields = referred.given().clone();
        fields.extend(values.fields);
        let grant = match Grant::from_fields(auth, fields) {
            Ok(grant) => Box::new(grant),
            Err(error) => {
                let first = references.values().next();
                let source = first.map(|it| it.from.clone()).unwrap_or_default();
                let message = format!("the source's value cannot be used: {error}");
                return Ok(Err(source_failed(message, source, None)));
            }
        };
        let (ttl, keep) = (values.ttl, values.keep);
        let facts = FetchedFacts::new(self.clock.now(), ttl, keep, digest_of(references), sources);
        Ok(Ok(Fetched { grant, facts }))
    }

    /// Compares the current values of the sources with the last fetched ones.
    pub(crate) async fn newer_values(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Newer, VaultError> {
        let stored = self.grants.stored(connection).await?;
        let Grant::Referred(referred) = stored.grant(&self.context, connection)? else {
            return Ok(Newer::Other);
        };
        let Some(last) = referred.of(&digest_of(&connection.references)) else {
            return Ok(Newer::Other);
        };
        Ok(match self.fetched_now(connection, &referred).await? {
            Ok(newer) if last.is_of(&newer.grant) => Newer::Same,
            Ok(_) => Newer::Other,
            Err(_) => Newer::Unknown,
        })
    }

    /// Connections with fields in the source fetch them again at the next use; pauses of apps with secrets in the
    /// source end.
    pub(crate) fn source_changed(&self, org: &OrgId, source: &str) {
        let view = self.directory.view();
        for connection in view.connections_of_source(org, source) {
            self.cache.forget(&connection.id);
        }
        let apps: BTreeSet<_> = view.apps_of_source(org, source).map(|app| &app.id).collect();
        for app in &apps {
            self.app_fetches.forget(app);
        }
        let of_app = |it: &&Arc<ConnectionRecord>| it.app_id().is_some_and(|id| apps.contains(id));
        for connection in view.all::<Connection>(org).filter(of_app) {
            self.cache.forget(&connection.id);
        }
    }

    /// The status of a connection's values; nothing for connections without references.
    pub async fn reference_status(&self, connection: &ConnectionRecord) -> ReferenceStatus {
        if connection.references.is_empty() {
            return ReferenceStatus::default();
        }
        let failing = self.failing(connection);
        let stored = self.grants.stored(connection).await.ok();
        let grant = stored.and_then(|stored| stored.grant(&self.context, connection).ok());
        let Some(Grant::Referred(referred)) = grant else {
            return ReferenceStatus { fetched: None, failing };
        };
        let fetched = referred.fetched(&digest_of(&connection.references), self.clock.now());
        let fetched = fetched.map(|Fetched { facts, .. }| shown(facts));
        ReferenceStatus { fetched, failing }
    }
}

/// The facts of values that are shown.
pub(crate) fn shown(facts: &FetchedFacts) -> FetchedView {
    FetchedView { at: facts.at, until: facts.until, kept_until: facts.kept_until }
}

/// The lifetime of values from now on. Values of changed sources are fetched again at once; the old ones are used if
/// that fails.
fn life_of(facts: &FetchedFacts, now: &Moment, is_current: bool) -> Lifetime {
    let left = |until: Timestamp| {
        Duration::try_from(until.duration_since(now.wall_time())).unwrap_or_default()
    };
    let whole = Duration::try_from(facts.until.duration_since(facts.at)).unwrap_or_default();
    let (until, kept) = (left(facts.until), left(facts.kept_until));
    match is_current {
        true => Lifetime::kept(until.saturating_sub(whole.mul_f64(1.0 - AHEAD)), until, kept),
        false => Lifetime::kept(Duration::ZERO, Duration::ZERO, kept),
    }
}

/// The pause after a server rejected a secret that was just fetched. A changed file or a manual refresh ends it.
const REJECTED_PAUSE: Duration = Duration::from_secs(60);

impl Refresh {
    /// The credential of the last token. It outlives the key that it was minted from.
    pub(crate) fn held_token(
        &self,
        connection: &ConnectionRecord,
        token_context: &TokenContext,
        referred: &Referred,
        grants: StoredGrants<'_>,
    ) -> Result<Option<CachedCredential>, VaultError> {
        match referred.of(&digest_of(&connection.references)) {
            Some(Fetched { grant, .. }) => {
                self.held(connection, token_context, StoredGrants { grant, ..grants })
            }
            None => Ok(None),
        }
    }

    /// The grant with a newer token. Boxed, because [`Refresh::ask`] calls this and is called by it.
    pub(crate) fn minted_by_reference<'a>(
        &'a self,
        connection: &'a ConnectionRecord,
        token_context: &'a TokenContext,
        referred: &'a Referred,
    ) -> BoxFuture<'a, Result<Result<Grant, RequestFailure>, VaultError>> {
        Box::pin(async move {
            let last = referred.fetched(&digest_of(&connection.references), self.clock.now());
            let newer = self.fetched_now(connection, referred).await?;
            let Fetched { grant, facts } = match (&newer, last) {
                (Ok(newer), _) => newer,
                (Err(_), Some(last)) => last,
                (Err(_), None) => return Ok(newer.map(|it| Grant::Referred(referred.with(it)))),
            };
            Ok(match self.ask(connection, token_context, grant).await? {
                Ok(grant) => {
                    let fetched = Fetched { grant: Box::new(grant), facts: facts.clone() };
                    Ok(Grant::Referred(referred.with(fetched)))
                }
                Err(RequestFailure::Dead(verdict)) => {
                    Err(rejected(&connection.references, &verdict))
                }
                Err(passing) => Err(passing),
            })
        })
    }
}

/// A rejected key is a temporary failure of the connection, because the source may have another key soon.
pub(crate) fn rejected(references: &References, verdict: &GrantVerdict) -> RequestFailure {
    let code = verdict.detail.clone().unwrap_or_else(|| verdict.reason.code().to_owned());
    let names: Vec<_> = references
        .values()
        .map(|it| format!("source `{}`, ref `{}`", it.from, it.reference))
        .collect();
    let message = format!("the server rejects the secret of {}: {code}", names.join(" and "));
    let failed = FailureDetails {
        code: Some(code),
        message: Some(message),
        retry_after: Some(REJECTED_PAUSE),
        rejected: true,
        ..FailureDetails::default()
    };
    RequestFailure::Temporary { failed: Box::new(failed), whole_client: None }
}
