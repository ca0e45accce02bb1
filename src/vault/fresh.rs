//! The credentials in memory: what the warm data path reads. One cell per connection, so that
//! concurrent first requests mint once.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::OnceCell;

use super::error::VaultError;
use crate::base::id::ConnectionId;
use crate::inject::credential::Credential;

/// Credentials by connection. Bounded by the number of connections, which agents cannot add to.
#[derive(Debug, Default)]
pub struct Fresh {
    cells: RwLock<HashMap<ConnectionId, Arc<OnceCell<Arc<Credential>>>>>,
}

impl Fresh {
    /// The credential, when there is one.
    pub fn ready(&self, id: &ConnectionId) -> Option<Arc<Credential>> {
        self.cells.read().get(id)?.get().cloned()
    }

    /// The credential, made by `mint` when there is none yet. When the caller that mints is
    /// dropped, one of those who wait takes over.
    ///
    /// # Errors
    /// What `mint` answers; the next caller tries again.
    pub async fn fill(
        &self,
        id: &ConnectionId,
        mint: impl Future<Output = Result<Arc<Credential>, VaultError>>,
    ) -> Result<Arc<Credential>, VaultError> {
        let cell = self.cells.write().entry(id.clone()).or_default().clone();
        cell.get_or_try_init(|| mint).await.cloned()
    }

    /// Forgets a connection's credential: its grant changed or went. A mint under way ends in the
    /// forgotten cell, so no later caller sees it.
    pub fn forget(&self, id: &ConnectionId) {
        self.cells.write().remove(id);
    }
}
