//! Compares given fields with the secret of a connection, so that a key which is connected already is recognised.
//! Nothing is sent, and no value leaves the vault.

use std::collections::BTreeMap;

use super::error::VaultError;
use super::grants::{self, StoredGrant};
use super::{Vault, method};
use crate::grant::Grant;
use keyward_base::secret::Secret;
use keyward_state::directory::ConnectionRecord;

impl Vault {
    /// Whether the secret in force has these values. Fields of the connection that are not given are not compared.
    /// `false` if the fields do not fit the auth method, if the connection has no secret or one that cannot be read,
    /// and if its values are kept in a secret source.
    ///
    /// # Errors
    /// When the provider is not known any more, or the store fails.
    pub async fn holds(
        &self,
        connection: &ConnectionRecord,
        fields: BTreeMap<String, Secret>,
    ) -> Result<bool, VaultError> {
        let catalogue = self.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let Ok(given) = Grant::from_fields(auth, fields) else { return Ok(false) };
        match self.stored_if_any(connection).await {
            Ok(Some(stored)) => self.has_values(connection, &stored, &given),
            Ok(None) | Err(VaultError::Sealed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn has_values(
        &self,
        connection: &ConnectionRecord,
        stored: &StoredGrant,
        given: &Grant,
    ) -> Result<bool, VaultError> {
        // Newer tokens replace the given ones; the digest of the given ones stays.
        let digest = grants::given(given);
        if digest.is_some() && digest == stored.given {
            return Ok(true);
        }
        match stored.grant(self, connection)? {
            Grant::Referred(_) => Ok(false),
            own => Ok(own.has_values_of(given)),
        }
    }
}
