//! Renews a credential that an upstream rejected, once for all requests.

use std::sync::Arc;

use tokio::time::Instant;

use super::Vault;
use super::cache::{Lookup, Trigger};
use super::error::VaultError;
use futures_util::FutureExt;
use keyward_rules::inject::credential::Credential;

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
        let (why, now) = (Trigger::Rejected(stale.generation), self.clock.moment());
        if let Some(newer) = cell.usable(why, now) {
            return Ok(Some(newer));
        }
        if cell.ignores_rejections(now) {
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
        if cell.ignores_rejections(self.clock.moment()) {
            return;
        }
        let Ok(connection) = self.connection(&cell.org, &stale.connection) else { return };
        let why = Trigger::Rejected(stale.generation);
        if let Lookup::Begin(ticket) = cell.lookup(why, None, &self.clock, &self.token_settings()) {
            self.begin_flight(&connection, why, ticket);
        }
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
        if let Some(cell) = self.cache.known(&credential.connection) {
            cell.ignore_rejections_for(self.clock.moment(), self.token_settings().refusal_pause);
        }
    }
}
