//! Files that connections have values in. The caller notices when they change.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::Vault;
use super::sources::path_of;
use keyward_model::{FieldReference, Source, SourceKind};
use keyward_state::directory::{ConnectionRecord, View};

impl Vault {
    /// The files that usable connections have values in.
    pub fn source_files(&self) -> Vec<PathBuf> {
        let view = self.directory.view();
        let files: BTreeSet<PathBuf> = view.connections().flat_map(|it| files(it, &view)).collect();
        files.into_iter().collect()
    }

    /// Fetches the values of connections that have some in files. Their last values are used until that is done, and if it
    /// fails.
    pub async fn fetch_files_again(&self) {
        let view = self.directory.view();
        let wanted = |it: &&Arc<ConnectionRecord>| !files(it, &view).is_empty();
        for connection in view.connections().filter(wanted) {
            if let Err(error) = self.refresh_now(&connection.org, &connection.id).await {
                tracing::warn!(
                    connection = %connection.id, name = connection.name, %error,
                    "a changed secret file is not used"
                );
            }
        }
    }
}

fn files(connection: &ConnectionRecord, view: &View) -> Vec<PathBuf> {
    if !connection.facts.state.is_usable() {
        return Vec::new();
    }
    let file = |FieldReference { from, reference }: &FieldReference| {
        let source = view.find::<Source>(&connection.org, from)?;
        match source.spec.kind()? {
            SourceKind::File(file) => path_of(file, reference),
            _ => None,
        }
    };
    connection.references.values().filter_map(file).collect()
}
