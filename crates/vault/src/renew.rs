//! Renews a credential that an upstream rejected, once for all requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Vault;
use super::cache::{Lookup, Trigger};
use super::challenge::AskedMore;
use super::error::VaultError;
use futures_util::FutureExt;
use http::HeaderMap;
use keyward_rules::inject::credential::Credential;

/// The waits of a request whose token was issued a moment ago.
const NEW_TOKEN_WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

impl Vault {
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
        let connection = self.connection(&cell.org, &stale.connection)?;
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
        let Ok(connection) = self.connection(&cell.org, &stale.connection) else { return };
        if let Lookup::Begin(ticket) = cell.lookup(why, None, &self.clock, &self.token_settings()) {
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
        let (now, within) = (self.clock.now(), self.token_settings().fresh_for);
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
        let Ok(connection) = self.connection(&cell.org, &credential.connection) else {
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
            cell.ignore_rejections_for(self.clock.moment(), self.token_settings().refusal_pause);
        }
    }
}
