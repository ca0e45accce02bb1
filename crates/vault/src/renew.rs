//! Renews a credential that an upstream refused, once for all requests that were refused.

use std::sync::Arc;

use super::Vault;
use super::cache::{Lookup, Trigger};
use super::error::VaultError;
use keyward_rules::inject::credential::Credential;

impl Vault {
    /// The upstream refused `stale`: the newer one that there is already, or that is fetched now.
    /// `None` when a refusal says nothing now, or nothing newer can be had at all.
    ///
    /// # Errors
    /// When no newer one can be fetched, for now or until a person acts.
    pub async fn renew(&self, stale: &Credential) -> Result<Option<Arc<Credential>>, VaultError> {
        let (Some(_), Some(cell)) = (stale.renews, self.cache.known(&stale.connection)) else {
            return Ok(None);
        };
        let (why, now) = (Trigger::Beyond(stale.generation), self.clock.moment());
        if let Some(newer) = cell.usable(why, now) {
            return Ok(Some(newer));
        }
        if cell.is_deaf(now) {
            return Ok(None);
        }
        let connection = self.connection(&cell.org, &stale.connection)?;
        Box::pin(self.fetch(connection, why)).await.map(Some)
    }

    /// The same in the background, for the next request.
    pub fn renew_later(&self, stale: &Credential) {
        let (Some(_), Some(cell)) = (stale.renews, self.cache.known(&stale.connection)) else {
            return;
        };
        if cell.is_deaf(self.clock.moment()) {
            return;
        }
        let Ok(connection) = self.connection(&cell.org, &stale.connection) else { return };
        let why = Trigger::Beyond(stale.generation);
        if let Lookup::Begin(ticket) = cell.lookup(why, None, &self.clock, &self.token_settings()) {
            self.begin_flight(&connection, why, ticket);
        }
    }

    /// Whether an answer with this status and body means that the credential has expired.
    pub fn means_expired(&self, credential: &Credential, status: u16, body: &[u8]) -> bool {
        let Some(cell) = self.cache.known(&credential.connection) else { return false };
        let Ok(connection) = self.connection(&cell.org, &credential.connection) else {
            return false;
        };
        self.expired(&connection, status, body)
    }

    /// The upstream refused a credential that was just renewed: it means something else, and for a while
    /// no refusal of this connection's costs a refresh.
    pub fn refused_again(&self, credential: &Credential) {
        if let Some(cell) = self.cache.known(&credential.connection) {
            cell.is_deaf_for(self.clock.moment(), self.token_settings().refusal_pause);
        }
    }
}
