//! Background job: changed files of secret sources are read again, so that the next request uses the new value. A file whose
//! value is the same has not changed.

use std::path::PathBuf;
use std::sync::Arc;

use super::watched::{POLL_INTERVAL, WatchedFiles};
use keyward_vault::Vault;

/// Runs until it is dropped. Begins with all of them: they may have changed while no gateway ran.
pub(super) async fn follow(vault: Arc<Vault>) {
    let mut files = vault.refresh().source_files();
    let mut watched = WatchedFiles::new(files.clone());
    vault.refresh().use_files_at_start().await;
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let now = vault.refresh().source_files();
        let is_same = now == files;
        files.clone_from(&now);
        let look = move || {
            if !is_same {
                watched.set_files(now);
            }
            let changed: Vec<PathBuf> = match watched.poll() {
                true => watched.changed().cloned().collect(),
                false => Vec::new(),
            };
            if !changed.is_empty() {
                watched.mark_read();
            }
            (watched, changed)
        };
        // A task that panics would end the job silently.
        let Ok((looked, changed)) = tokio::task::spawn_blocking(look).await else {
            tracing::error!("files of secret sources are no longer watched");
            return;
        };
        watched = looked;
        if !changed.is_empty() {
            vault.refresh().use_changed_files(&changed).await;
        }
    }
}
