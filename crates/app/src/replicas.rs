//! Background job of a gateway whose store has other replicas: their changes come into the view, and what is in memory of
//! changed rows is dropped.

use std::sync::Arc;

use super::services::Services;
use crate::config::{Config, StoreChoice};
use keyward_state::store::Table;

/// Runs until dropped; ends at once where no other process writes the store.
pub(super) fn follow(services: &Services, config: &Config) -> impl Future<Output = ()> + use<> {
    let directory = services.directory.clone();
    if let StoreChoice::Postgres(choice) = &config.store {
        directory.set_stale_max(choice.stale_max);
    }
    let (vault, inbox) = (services.vault.clone(), Arc::clone(&services.inbox));
    async move {
        let changed = |table: Table, key: &str| {
            vault.changed_elsewhere(table, key);
            inbox.changed_elsewhere(table, key);
        };
        directory.follow(&changed).await;
    }
}
