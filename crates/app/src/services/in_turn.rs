//! Replicas open a shared store in turn. A process without listeners ends its turn once the store is open; the turn of a
//! gateway ends when its services are complete.

use std::sync::Arc;

use super::{OpenedServices, StartTurn};
use crate::config::Config;
use keyward_proxy::ca::authority::Authority;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::store::Store;
use keyward_vault::keys::Home;

impl OpenedServices {
    /// Waits for the turn, and opens the services over this store.
    pub(super) async fn in_turn(
        config: &Config,
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        home: Home,
        authority: impl FnOnce() -> anyhow::Result<Authority>,
    ) -> anyhow::Result<Self> {
        let turn = StartTurn::wait(&store).await?;
        match Box::pin(Self::over(config, store, keyring, home, authority)).await {
            Ok(opened) => Ok(Self { starting: turn, ..opened }),
            Err(error) => {
                StartTurn::end_if_held(turn).await;
                Err(error)
            }
        }
    }

    /// Lets the next process open the store.
    pub(super) async fn end_turn(&mut self) {
        StartTurn::end_if_held(self.starting.take()).await;
    }
}
