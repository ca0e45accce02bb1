//! Files that contain values of connections and apps. The caller detects changes. Only a changed value requests a new
//! token, not a file that was touched or rewritten with the same content.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::Refresh;
use super::references::Newer;
use crate::context::method;
use crate::error::VaultError;
use crate::sources::path_of;
use keyward_base::id::OrgId;
use keyward_model::{FieldReference, LocalOrigin, References, Source};
use keyward_state::directory::{AppRecord, ConnectionRecord, View};

impl Refresh {
    /// The files that usable connections, and apps, have values in.
    pub fn source_files(&self) -> Vec<PathBuf> {
        let view = self.directory.view();
        let of_connections =
            view.referring_connections().flat_map(|it| files_of_connection(it, &view));
        let of_apps = view.apps().flat_map(|it| files(&it.org, &it.references, &view));
        let files: BTreeSet<PathBuf> = of_connections.chain(of_apps).collect();
        files.into_iter().collect()
    }

    /// Fetches values from files that changed while no gateway ran. Until then, and if the fetch fails, the last values
    /// are used.
    pub async fn use_files_at_start(&self) {
        let view = self.directory.view();
        for connection in view.referring_connections() {
            if !files_of_connection(connection, &view).is_empty() {
                self.use_values(connection).await;
            }
        }
    }

    /// Fetches values from the files in `changed` at once. Pauses after failures end, also those of apps with a secret
    /// in such a file.
    pub async fn use_changed_files(&self, changed: &[PathBuf]) {
        let view = self.directory.view();
        let has_changed = |files: Vec<PathBuf>| files.iter().any(|file| changed.contains(file));
        let of_files = |it: &&Arc<AppRecord>| has_changed(files(&it.org, &it.references, &view));
        for app in view.apps().filter(of_files) {
            if let Err(error) = self.use_changed_secret(app).await {
                tracing::warn!(app = app.name, %error, "a changed secret file is not used");
            }
        }
        for connection in view.referring_connections() {
            if has_changed(files_of_connection(connection, &view)) {
                self.end_pause_of_secret(connection).await;
                self.use_values(connection).await;
            }
        }
    }

    async fn use_values(&self, connection: &ConnectionRecord) {
        if let Err(error) = self.use_other_values(connection).await {
            tracing::warn!(
                connection = %connection.id, name = connection.name, %error,
                "a changed secret file is not used"
            );
        }
    }

    async fn use_other_values(&self, connection: &ConnectionRecord) -> Result<(), VaultError> {
        let known = self.cache.known(&connection.id);
        let has_failed = known.is_some_and(|cell| cell.backoff().is_of_secret());
        let catalogue = self.context.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let is_due = match self.newer_values(connection).await? {
            Newer::Same => has_failed,
            Newer::Other => true,
            // A token outlives its key, so the failure is ignored. For other values the fetch is repeated, which shows
            // the failure.
            Newer::Unknown => !auth.has_tokens(),
        };
        match is_due {
            true => self.fetch_newer(&connection.org, &connection.id).await,
            false => Ok(()),
        }
    }
}

fn files_of_connection(connection: &ConnectionRecord, view: &View) -> Vec<PathBuf> {
    match connection.facts.state.is_usable() {
        true => files(&connection.org, &connection.references, view),
        false => Vec::new(),
    }
}

fn files(org: &OrgId, references: &References, view: &View) -> Vec<PathBuf> {
    let file = |FieldReference { from, reference }: &FieldReference| {
        let source = view.find::<Source>(org, from)?;
        let (kind, settings) = source.spec.kind()?;
        match kind.local {
            Some(LocalOrigin::Folder) => path_of(&settings.text("folder")?, reference),
            _ => None,
        }
    };
    references.values().filter_map(file).collect()
}
