//! Secrets that their provider rejects, such as revoked API keys: the verdict, its end, and the test request that
//! decides it. `keyward-proxy` counts the refusals of traffic and sends the test request.
//!
//! [`Refresh::renew`] renews a credential that an upstream rejected, once for all requests. Services that reject signatures may
//! have another clock: signatures are dated by it where this machine's clock is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::HeaderMap;
use jiff::Timestamp;
use tokio::time::Instant;

use super::Refresh;
use super::cache::{Lookup, Trigger};
use super::challenge::AskedMore;
use crate::context::method;
use crate::error::VaultError;
use crate::grants::record::GrantVerdict;
use crate::grants::{StoredGrant, is_conflict};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_rules::inject::credential::Credential;
use keyward_rules::provider::{TestRequest, TestRequestError};
use keyward_state::directory::{BrokenReason, ConnectionRecord, ConnectionState, RemedyCause};

/// The stored detail of the verdict: the status of the answers.
const REFUSED: &str = "401";

impl Refresh {
    /// The connection of a credential, if it is active and its secret is not a token that is renewed.
    pub fn active_with_secret(&self, credential: &Credential) -> Option<Arc<ConnectionRecord>> {
        let cell = self.cache.known(&credential.connection)?;
        let connection = self.context.connection(&cell.org, &credential.connection).ok()?;
        let catalogue = self.context.catalogue(&connection.org);
        let (_, auth) =
            method(&catalogue, &connection.provider, connection.auth.as_deref()).ok()?;
        let is_active = connection.facts.state == ConnectionState::Active;
        (is_active && !auth.has_tokens()).then_some(connection)
    }

    /// The provider's test request for a connection; `None` if it has none. `shown`: the fields that are not
    /// secret; by default those of the stored grant.
    ///
    /// # Errors
    /// When the declared request cannot be built.
    pub async fn test_request(
        &self,
        connection: &ConnectionRecord,
        shown: Option<BTreeMap<String, String>>,
    ) -> Result<Option<TestRequest>, TestRequestError> {
        let catalogue = self.context.catalogue(&connection.org);
        let Some(provider) = catalogue.get(&connection.provider) else { return Ok(None) };
        let Some(auth) = provider.auth(connection.auth.as_deref()) else { return Ok(None) };
        if provider.test(auth).is_none() {
            return Ok(None);
        }
        // A grant that does not open is a result of the test, not an internal error.
        let shown = match shown {
            Some(shown) => shown,
            None => self.grants.shown_fields(connection).await.unwrap_or_default(),
        };
        provider.test_request(auth, &connection.host_variables(), &shown)
    }

    /// Marks the connection of `refused` as broken, unless its secret has changed since.
    ///
    /// # Errors
    /// When the grant cannot be read, or the store fails.
    pub async fn reject(&self, refused: &Credential) -> Result<(), VaultError> {
        let Some(connection) = self.active_with_secret(refused) else { return Ok(()) };
        let stored = self.grants.stored(&connection).await?;
        if stored.broken.is_some() {
            // After a crash, the record may differ from the verdict in the row.
            return self.sync_record(&connection).await.map(drop);
        }
        if stored.version.0 != refused.generation {
            return Ok(());
        }
        let reason = BrokenReason::Rejected;
        let verdict = GrantVerdict::new(reason, Some(REFUSED.to_owned()));
        match self.mark_broken(&connection, &stored, verdict).await {
            Err(error) if is_conflict(&error) => return Ok(()),
            other => other?,
        };
        let remedy =
            self.context.remedy(&connection, RemedyCause::Broken { reason, detail: Some(REFUSED) });
        tracing::warn!(
            connection = %connection.id, name = connection.name, provider = connection.provider,
            reason = reason.code(), remedy, "a connection is broken: its provider rejects its secret"
        );
        Ok(())
    }

    /// Ends the verdict that the secret is rejected, because a test has accepted it.
    ///
    /// # Errors
    /// When there is no such connection, or the store fails.
    pub async fn accept(&self, org: &OrgId, id: &ConnectionId) -> Result<(), VaultError> {
        self.end_rejection(org, id, false).await
    }

    /// Ends the verdict because a person uses the secret although its test is rejected. From now on the test does not
    /// break the connection.
    ///
    /// # Errors
    /// As [`Refresh::accept`].
    pub async fn ignore_test(&self, org: &OrgId, id: &ConnectionId) -> Result<(), VaultError> {
        self.end_rejection(org, id, true).await
    }

    async fn end_rejection(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        untestable: bool,
    ) -> Result<(), VaultError> {
        let connection = self.context.connection(org, id)?;
        let put = |stored: &StoredGrant| {
            let verdict = stored.broken.clone().filter(GrantVerdict::prevents_test);
            let mut row = stored.becomes(&connection, verdict, &stored.bytes);
            row.header.on_trial = stored.on_trial;
            row.header.untestable |= untestable;
            Ok(row)
        };
        self.change(&connection, &put).await?;
        self.sync_record(&connection).await.map(drop)
    }
}

/// The waits of a request whose token was issued a moment ago.
const NEW_TOKEN_WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

impl Refresh {
    /// Returns a credential newer than `stale`, which the upstream rejected; fetches it if necessary.
    /// `None` if the rejection is ignored now, or the grant cannot be renewed.
    ///
    /// # Errors
    /// When no newer credential can be fetched.
    pub async fn renew(&self, stale: &Credential) -> Result<Option<Arc<Credential>>, VaultError> {
        let (Some(_), Some(cell)) = (stale.renews, self.cache.known(&stale.connection)) else {
            return Ok(None);
        };
        let now = self.clock.moment();
        let why = self.rejection_of(stale);
        if let Some(newer) = cell.usable(why, now) {
            return Ok(Some(newer));
        }
        if why != Trigger::Needed && cell.ignores_rejections(now) {
            return Ok(None);
        }
        let connection = self.context.connection(&cell.org, &stale.connection)?;
        self.fetch(connection, why, Instant::now()).boxed().await.map(Some)
    }

    /// Like [`Self::renew`], in the background, for the next request.
    pub fn renew_later(&self, stale: &Credential) {
        let (Some(_), Some(cell)) = (stale.renews, self.cache.known(&stale.connection)) else {
            return;
        };
        let why = self.rejection_of(stale);
        if why != Trigger::Needed && cell.ignores_rejections(self.clock.moment()) {
            return;
        }
        let Ok(connection) = self.context.connection(&cell.org, &stale.connection) else { return };
        if let Lookup::Begin(ticket) =
            cell.lookup(why, None, &self.clock, &self.context.token_settings())
        {
            self.begin_flight(&connection, why, ticket);
        }
    }

    /// Why another credential is needed after a 401. A token that has ended since it was sent was not rejected.
    fn rejection_of(&self, stale: &Credential) -> Trigger {
        match stale.expires.is_some_and(|end| end <= self.clock.now()) {
            true => Trigger::Needed,
            false => Trigger::Rejected(stale.generation),
        }
    }

    /// The wait before a request is sent again with the same token, because that is too new to be known everywhere.
    /// `waits`: how often this was done for the request. `None`: a 401 means what it says.
    pub fn wait_while_new(&self, refused: &Credential, waits: u32) -> Option<Duration> {
        let cell = self.cache.known(&refused.connection)?;
        let wait = NEW_TOKEN_WAITS.get(usize::try_from(waits).ok()?)?;
        let (now, within) = (self.clock.now(), self.context.token_settings().fresh_for);
        // A token with the claims that the service asks for is another one.
        let asks_claims = cell.asked().is_some_and(|asked| asked.claims.is_some());
        let is_waited = !asks_claims
            && cell.is_new(refused.generation, now, within)
            && !cell.ignores_rejections(self.clock.moment());
        is_waited.then_some(*wait)
    }

    /// Notes what a refusal asks for beyond a valid token. Returns whether only a person can give it.
    pub fn note_challenge(&self, refused: &Credential, headers: &HeaderMap) -> bool {
        let Some(asked) = AskedMore::of(headers) else { return false };
        let needs_a_person = asked.claims.is_none();
        if let Some(cell) = self.cache.known(&refused.connection) {
            cell.ask_more(asked);
        }
        needs_a_person
    }

    /// Whether a response with this status and body means that the credential has expired.
    pub fn means_expired(&self, credential: &Credential, status: u16, body: &[u8]) -> bool {
        let Some(cell) = self.cache.known(&credential.connection) else { return false };
        let Ok(connection) = self.context.connection(&cell.org, &credential.connection) else {
            return false;
        };
        self.expired(&connection, status, body)
    }

    /// Records that the upstream rejected a new credential too. The rejection has another cause, so for
    /// a while further rejections do not trigger a refresh.
    pub fn rejected_again(&self, credential: &Credential) {
        if self.rejection_of(credential) == Trigger::Needed {
            return;
        }
        if let Some(cell) = self.cache.known(&credential.connection) {
            cell.ignore_rejections_for(
                self.clock.moment(),
                self.context.token_settings().refusal_pause,
            );
        }
    }
}

impl Refresh {
    /// The time of a service by its own clock, for signatures.
    pub fn time_at(&self, authority: &str, now: Timestamp) -> Timestamp {
        match &*self.requester.0.load() {
            Some(by) => by.caller.clocks().at(authority, now),
            None => now,
        }
    }

    /// Learns the clock of a service from its refusal of a signed request, over verified TLS.
    pub fn learn_clock(&self, authority: &str, headers: &HeaderMap) {
        if let Some(by) = &*self.requester.0.load() {
            by.caller.clocks().learn(authority, headers, self.clock.now());
        }
    }

    /// What is wrong with this machine's clock, by the answers of services.
    pub fn clock_warning(&self) -> Option<String> {
        self.requester.0.load().as_ref()?.caller.clocks().warning()
    }
}
