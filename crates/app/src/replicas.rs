//! Background job of a gateway whose store has other replicas: their changes come into the view, and what is in memory of
//! changed rows is dropped. Before it serves, a replica ends the leases of the process before it.

use std::fs;
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

/// The file of the data directory with the host and the name of its last replica.
const LAST_REPLICA: &str = "replica";

/// Ends the leases of the last process of this data directory, which may have been killed: it has ended, because this one
/// has its admin socket. `is_handed_over`: it still runs.
pub(super) async fn succeed(services: &Services, config: &Config, is_handed_over: bool) {
    let path = config.data_dir.join(LAST_REPLICA);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let last = fs::read_to_string(&path).unwrap_or_default();
    // A copy of the directory on another host has another last process.
    let before = last.strip_prefix(&host).map(str::trim).filter(|_| !is_handed_over);
    match services.directory.succeed(before).await {
        Ok(None) => {}
        Ok(Some(own)) => {
            if let Err(error) = fs::write(&path, format!("{host} {own}\n")) {
                tracing::warn!(%error, "after a crash, the leases of this process end by themselves");
            }
        }
        Err(error) => {
            tracing::warn!(%error, "the leases of the last process end by themselves");
        }
    }
}
