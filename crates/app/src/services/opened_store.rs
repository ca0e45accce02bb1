//! The store of a configuration.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::shared_store::open_postgres;
use crate::config::{Config, StoreChoice};
use crate::restore;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::sled::SledStore;
use keyward_state::store::{Store, StoreError};

/// How long [`leave_store`] waits.
const LEAVE_MAX: Duration = Duration::from_secs(2);

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
    let Some(shared) = store.shared() else { return };
    let error = match tokio::time::timeout(LEAVE_MAX, shared.leave()).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the store does not answer".to_owned(),
    };
    tracing::debug!(
        error,
        "cannot remove this process from the list of replicas: its entry expires"
    );
}
