//! The store of a configuration.

use std::sync::Arc;

use anyhow::Context;

use super::shared_store::open_postgres;
use crate::config::{Config, StoreChoice};
use crate::restore;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::sled::SledStore;
use keyward_state::store::{Store, StoreError};

/// Opens it, and completes a restore that was interrupted.
pub(crate) async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match &config.store {
        StoreChoice::Memory => Arc::new(MemoryStore::new()),
        StoreChoice::Postgres(choice) => Arc::new(open_postgres(config, choice).await?),
        StoreChoice::Sled { path } => match SledStore::open(path).await {
            Ok(store) => {
                restore::complete(config, path)?;
                Arc::new(store)
            }
            // The system's message does not name the path.
            Err(error @ StoreError::Io { .. }) => {
                return Err(error).with_context(|| format!("cannot use {}", path.display()));
            }
            Err(error) => return Err(error.into()),
        },
    })
}

/// Ends the presence of this process, so that the next command does not wait for it.
pub(crate) async fn leave_store(store: &dyn Store) {
    if let Some(shared) = store.shared()
        && let Err(error) = shared.leave().await
    {
        tracing::debug!(%error, "cannot remove this process from the list of replicas: its entry expires");
    }
}
