//! Certificates of a connection for TLS handshakes, for tests of its hosts without a credential.

use super::source_values::digest_of;
use super::{Vault, VaultError, method};
use crate::grant::{Grant, MintError};
use keyward_rules::inject::credential::ConnectionTls;
use keyward_state::directory::ConnectionRecord;

impl Vault {
    /// The certificates of a connection for TLS handshakes, as they are stored: no source is read. `None`: it has none.
    ///
    /// # Errors
    /// When its grant cannot be opened, or its source has given no value yet.
    pub async fn known_tls(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Option<ConnectionTls>, VaultError> {
        let catalogue = self.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let Some(names) = &auth.tls else {
            let context = self.guarded_token_context(connection).await?;
            return Ok(context.client_tls(&connection.id));
        };
        let grant = self.stored(connection).await?.grant(self, connection)?;
        let known = match &grant {
            Grant::Referred(referred) => {
                let fetched = referred.of(&digest_of(&connection.references));
                fetched.map(|fetched| &*fetched.grant)
            }
            grant => Some(grant),
        };
        let unknown = || MintError::Malformed { what: "its source has given no value".to_owned() };
        let known = known.ok_or_else(|| self.unmintable(connection, unknown()))?;
        Ok(known.tls(&connection.id, names))
    }
}
