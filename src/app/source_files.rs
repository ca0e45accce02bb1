//! Background job: changed files of secret sources are read again, so that the next request uses the new value.

use std::sync::Arc;

use super::watched::{LOOK_EVERY, Watched};
use keyward_vault::Vault;

/// Runs until it is dropped. Begins with all of them: they may have changed while no gateway ran.
pub(super) async fn follow(vault: Arc<Vault>) {
    let mut files = vault.source_files();
    let mut watched = Watched::new(files.clone());
    vault.fetch_files_again().await;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = vault.source_files();
        let is_same = now == files;
        files.clone_from(&now);
        let look = move || {
            if !is_same {
                watched.rests_on(now);
            }
            let has_changed = watched.look();
            if has_changed {
                watched.reading();
            }
            (watched, has_changed)
        };
        // A task that panics would end the job silently.
        let Ok((looked, has_changed)) = tokio::task::spawn_blocking(look).await else {
            tracing::error!("files of secret sources are not followed any more");
            return;
        };
        watched = looked;
        if has_changed {
            vault.fetch_files_again().await;
        }
    }
}
