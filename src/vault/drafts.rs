//! Connections before their first grant: what a person still has to consent to.

use std::sync::Arc;

use super::error::VaultError;
use super::{NewConnection, Vault, method, not_authenticating};
use crate::directory::{ConnectionRecord, ConnectionState};

impl Vault {
    /// Puts the metadata of a connection whose grant a consent will bring. Agents may be bound to it, and
    /// get nothing of it until then.
    ///
    /// # Errors
    /// When provider or variables do not fit, the name is taken, or the store fails.
    pub async fn add_draft(&self, new: NewConnection) -> Result<Arc<ConnectionRecord>, VaultError> {
        let catalogue = self.catalogue();
        let (provider, auth) = method(&catalogue, &new.provider, new.auth.as_deref())?;
        provider.instantiate(auth, &new.variables)?;
        not_authenticating(provider, &new.settings)?;
        let state = ConnectionState::Draft { failure: None };
        let record = ConnectionRecord { state, ..self.new_record(new, auth) };
        Ok(self.directory.add_connection(record).await?)
    }
}
