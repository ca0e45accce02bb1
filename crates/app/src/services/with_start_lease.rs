//! Processes open a shared store one after another: each holds the start lease meanwhile. A process without listeners
//! releases it once the store is open, a gateway when its services are complete.

use std::sync::Arc;

use super::{OpenedServices, StartLease, leave_store};
use crate::config::Config;
use keyward_proxy::ca::authority::Authority;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::store::Store;
use keyward_vault::keys::KeyLocation;

impl OpenedServices {
    /// Waits for the start lease, and opens the services over this store.
    pub(super) async fn with_start_lease(
        config: &Config,
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        location: KeyLocation,
        authority: impl FnOnce() -> anyhow::Result<Authority>,
    ) -> anyhow::Result<Self> {
        let opened = store.clone();
        let start_lease = StartLease::wait(&store).await?;
        match Box::pin(Self::over(config, store, keyring, location, authority)).await {
            Ok(opened) => Ok(Self { starting: start_lease, ..opened }),
            Err(error) => {
                StartLease::release_if_held(start_lease).await;
                leave_store(&*opened).await;
                Err(error)
            }
        }
    }

    /// Lets the next process open the store.
    pub(super) async fn release_start_lease(&mut self) {
        StartLease::release_if_held(self.starting.take()).await;
    }
}
