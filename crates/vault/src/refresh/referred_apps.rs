//! Secrets of apps by reference. Each token request fetches them from the source, so that it uses a rotated secret at
//! once; concurrent requests share one fetch. The last values are stored sealed beside the app's own secrets. They are
//! used while the source is unavailable, up to its `ttl` and `keep`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Refresh;
use super::backoff::{Backoff, FailureDetails};
use super::cache::random;
use super::references::{ReferenceStatus, rejected, shown};
use super::source_values::{FetchedValues, NoValue, digest_of};
use super::token_request::RequestFailure;
use crate::error::VaultError;
use crate::grant::oauth::OAuthClient;
use crate::grant::{AppSecret, FetchedAppSecret, FetchedFacts, StoredAppSecret, same_values};
use crate::grants::apps::secret_of;
use crate::grants::record::GrantVerdict;
use crate::grants::{TRIES_MAX, is_conflict};
use keyward_base::id::{AppId, OrgId};
use keyward_model::Connection;
use keyward_state::directory::{AppRecord, BrokenReason, ConnectionRecord};
use keyward_state::store::Version;

/// The retry time while a source has not answered its first request yet.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Refresh {
    /// The app as an OAuth client.
    ///
    /// # Errors
    /// As [`Refresh::app_secret`].
    pub async fn client(&self, app: &AppRecord) -> Result<OAuthClient, VaultError> {
        let (id, key_id) = (app.client_id.clone(), app.settings.tokens.key_id.clone());
        Ok(OAuthClient { id, secret: self.app_secret(app).await?, key_id })
    }

    /// The credentials of the app at a token endpoint.
    ///
    /// # Errors
    /// When the app is paused, its secret cannot be opened, or its source gives none.
    pub async fn app_secret(&self, app: &AppRecord) -> Result<AppSecret, VaultError> {
        if app.facts.paused {
            return Err(VaultError::AppPaused { app: app.name.clone() });
        }
        match app.references.is_empty() {
            true => self.last_secret(app).await,
            false => self.fetched_secret(app).await,
        }
    }

    /// Requests credentials with the changed app: ends pauses, and tries connections again whose client was
    /// rejected.
    pub async fn app_changed(&self, org: &OrgId, id: &AppId) {
        let view = self.directory.view();
        let of_app = |it: &&Arc<ConnectionRecord>| it.app_id() == Some(id);
        for connection in view.all::<Connection>(org).filter(of_app) {
            self.cache.forget(&connection.id);
        }
        self.retry_changed_clients().await;
    }

    /// The app's secrets, with values of references that are fetched now.
    pub(crate) async fn fetched_secret(&self, app: &AppRecord) -> Result<AppSecret, VaultError> {
        let fetch = self.app_fetches.of(&app.id);
        let arrived = fetch.begun.load(Ordering::Relaxed);
        let mut turn = fetch.turn().await;
        // The app may have been changed while this request waited.
        let app = self.context.app(&app.org, &app.id)?;
        let (version, stored) = self.grants.opened_row(&app).await?;
        if turn.number > arrived {
            return self.known_secret(&app, stored, None);
        }
        let backoff = fetch.backoff();
        if let Some(rest) = backoff.rest(self.clock.moment()) {
            return self.known_secret(&app, stored, Some((&backoff, rest)));
        }
        let number = fetch.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let sources = self.sources.digest(&app.org, &app.references);
        let values = self.values_of(&app.org, &app.references).await;
        match values.and_then(|values| texts(&app, values)) {
            Ok(FetchedValues { fields, ttl, keep }) => {
                let references = digest_of(&app.references);
                let facts = FetchedFacts::new(self.clock.now(), ttl, keep, references, sources);
                let fetched = Some(FetchedAppSecret { fields, facts });
                let newer = StoredAppSecret { given: stored.given, fetched };
                let newer = self.keep_fetched(&app, newer, version).await?;
                turn.number = number;
                fetch.change_backoff(|backoff| *backoff = Backoff::default());
                self.known_secret(&app, newer, None)
            }
            Err(NoValue { message, source }) => {
                tracing::warn!(
                    app = app.name,
                    source,
                    message,
                    "an app's secret cannot be fetched"
                );
                let (message, source) = (Some(message), Some(source));
                let failed = FailureDetails { message, source, ..FailureDetails::default() };
                let (now, settings) = (self.clock.moment(), self.source_settings());
                let (backoff, pause) = fetch.change_backoff(|backoff| {
                    let pause = backoff.failed(now, &failed, random(), &settings);
                    (backoff.clone(), pause)
                });
                self.known_secret(&app, stored, Some((&backoff, pause)))
            }
        }
    }

    /// Stores fetched values over this version. Another replica may store its own values meanwhile, or other secrets of
    /// the app. Of two fetches, the later one stays in the row; each request uses the values that it fetched.
    async fn keep_fetched(
        &self,
        app: &AppRecord,
        mut newer: StoredAppSecret,
        mut over: Version,
    ) -> Result<StoredAppSecret, VaultError> {
        let at = newer.fetched.as_ref().map(|it| it.facts.at);
        for _ in 0..TRIES_MAX {
            match self.grants.seal_app(app, newer.encode(), Some(over)).await {
                Err(error) if is_conflict(&error) => {}
                stored => return stored.map(|()| newer),
            }
            let (version, stored) = self.grants.opened_row(app).await?;
            newer.given = stored.given;
            over = version;
            if stored.fetched.map(|it| it.facts.at) >= at {
                return Ok(newer);
            }
        }
        Ok(newer)
    }

    /// Ends the pauses that a secret of a source has caused: of the connection, and of its app.
    pub(crate) async fn end_pause_of_secret(&self, connection: &ConnectionRecord) {
        if let Some(cell) = self.cache.known(&connection.id) {
            cell.end_pause_of_secret();
        }
        if let Some(app) = connection.app_id() {
            let fetch = self.app_fetches.known(app);
            if let Some(fetch) = fetch {
                // A running fetch could begin another pause.
                let _turn = fetch.turn().await;
                fetch.change_backoff(Backoff::end_pause_of_secret);
            }
        }
    }

    /// Ends the pause of an app, so that its next token request tries the secret, if the sources have another secret
    /// than the last fetched one, or if the last fetch failed.
    pub(crate) async fn use_changed_secret(&self, app: &AppRecord) -> Result<(), VaultError> {
        let (_, stored) = self.grants.opened_row(app).await?;
        let fetch = self.app_fetches.of(&app.id);
        // A running fetch may fail, so its end is awaited.
        drop(fetch.turn().await);
        if let Some(last) = stored.fetched
            && fetch.backoff().failures() == 0
        {
            let values = self.values_of(&app.org, &app.references).await;
            let values = values.and_then(|values| texts(app, values));
            if values.is_ok_and(|values| same_values(&values.fields, &last.fields)) {
                return Ok(());
            }
        }
        let view = self.directory.view();
        let of_app = |it: &&Arc<ConnectionRecord>| it.app_id() == Some(&app.id);
        for connection in view.all::<Connection>(&app.org).filter(of_app) {
            self.end_pause_of_secret(connection).await;
        }
        Ok(())
    }

    /// The app's own secrets with the last fetched values, if these may be used.
    fn known_secret(
        &self,
        app: &AppRecord,
        stored: StoredAppSecret,
        failing: Option<(&Backoff, Duration)>,
    ) -> Result<AppSecret, VaultError> {
        let StoredAppSecret { given, fetched } = stored;
        let (digest, now) = (digest_of(&app.references), self.clock.now());
        if let Some(fetched) = fetched.filter(|it| it.facts.may_be_used(&digest, now)) {
            let mut fields = given.into_fields();
            fields.extend(fetched.fields);
            return secret_of(fields);
        }
        let source = app.references.values().next().map(|it| it.from.clone()).unwrap_or_default();
        let (backoff, retry_after) = failing.unzip();
        let message = backoff.and_then(|it| it.last().message.clone());
        let source_name = backoff.and_then(|it| it.last().source.clone()).unwrap_or(source);
        Err(VaultError::AppSourceUnavailable {
            app: app.name.clone(),
            why: message.unwrap_or_else(|| format!("source `{source_name}` has not answered yet")),
            source_name,
            retry_after: retry_after.unwrap_or(RETRY_AFTER),
        })
    }

    /// The app's secrets, also of a paused app, with the last values of references. No source is asked.
    pub(crate) async fn last_secret(&self, app: &AppRecord) -> Result<AppSecret, VaultError> {
        let (_, stored) = self.grants.opened_row(app).await?;
        if app.references.is_empty() {
            return Ok(stored.given);
        }
        let backoff = self.app_fetches.of(&app.id).backoff();
        let rest = backoff.rest(self.clock.moment()).unwrap_or(RETRY_AFTER);
        self.known_secret(app, stored, (backoff.failures() > 0).then_some((&backoff, rest)))
    }

    /// Why no token can be requested with an app. No source is asked.
    pub async fn app_problem(&self, app: &AppRecord) -> Option<VaultError> {
        if app.facts.paused {
            return Some(VaultError::AppPaused { app: app.name.clone() });
        }
        match self.last_secret(app).await {
            // No fetch has failed yet: the secret was not needed so far.
            Err(VaultError::AppSourceUnavailable { .. })
                if self.app_fetches.of(&app.id).backoff().failures() == 0 =>
            {
                None
            }
            // A failure of the store is not the app's.
            Err(VaultError::Store(_)) => None,
            known => known.err(),
        }
    }

    /// The status of an app's values; nothing for apps without references.
    pub async fn app_reference_status(&self, app: &AppRecord) -> ReferenceStatus {
        if app.references.is_empty() {
            return ReferenceStatus::default();
        }
        let stored = self.grants.opened_row(app).await.ok();
        let digest = digest_of(&app.references);
        let fetched = stored.and_then(|(_, stored)| stored.fetched);
        let fetched = fetched.filter(|it| it.facts.references == digest);
        let backoff = self.app_fetches.of(&app.id).backoff();
        ReferenceStatus {
            fetched: fetched.map(|it| shown(&it.facts)),
            failing: self.failing_of(&backoff),
        }
    }

    /// The failure of a token request whose client the server rejects, although its secret was just fetched.
    pub(crate) fn app_secret_rejected(&self, app: &AppRecord, code: &str) -> RequestFailure {
        let verdict = GrantVerdict::new(BrokenReason::ClientRejected, Some(code.to_owned()));
        rejected(&app.references, &verdict)
    }
}

/// The values without the line ends of files.
fn texts(app: &AppRecord, mut values: FetchedValues) -> Result<FetchedValues, NoValue> {
    for (name, value) in &mut values.fields {
        let Some(text) = AppSecret::of_file(value) else {
            let reference = app.references.get(name);
            let source = reference.map(|it| it.from.clone()).unwrap_or_default();
            let reference = reference.map(|it| it.reference.as_str()).unwrap_or_default();
            let message = format!("source `{source}`, ref `{reference}`: the value is blank");
            return Err(NoValue { message, source });
        };
        *value = text;
    }
    Ok(values)
}
