//! Restores a backup into an empty database. All rows are added in one transaction, after a copy of them in memory was
//! opened as a gateway would, and after the CA was written; so a crash leaves the database empty, and the restore can be
//! repeated, or leaves everything restored.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::error::{RestoreError, Restored, failed};
use super::staging::{Batch, FillError, unprepared, unusable};
use crate::backups::{CA_CERT_PART, CA_KEY_PART};
use crate::config::Config;
use crate::folders::chown_created;
use crate::keys;
use crate::services::{StartLease, leave_store, open_store};
use keyward_backup::{BackupEntry, BackupKey, BackupPart, BackupReader};
use keyward_base::time::Clock;
use keyward_proxy::ca::authority::{Authority, CaFiles};
use keyward_state::directory::Directory;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{RowRange, Snapshot, Store, StoreError, Table};

/// Where the CA of the backup is until it is in its place, in the data directory.
const CA_FOLDER: &str = "restored-ca";

/// Opens the database of the configuration, if a backup can be restored into it. Makes its tables if they are missing.
pub(super) async fn target(config: &Config) -> Result<Arc<dyn Store>, RestoreError> {
    let store = open_store(config).await.map_err(failure)?;
    match is_free(&*store).await {
        Ok(()) => Ok(store),
        Err(error) => {
            leave_store(&*store).await;
            Err(error)
        }
    }
}

async fn is_free(store: &dyn Store) -> Result<(), RestoreError> {
    if let Some(shared) = store.shared()
        && !shared.is_alone().await.map_err(failure)?
    {
        return Err(RestoreError::ReplicasRun);
    }
    for table in Table::ALL {
        if !store.list(table, RowRange::first(1)).await.map_err(failure)?.is_empty() {
            return Err(RestoreError::NotEmpty);
        }
    }
    Ok(())
}

/// Restores the rows; and the CA, where this machine has none and `keeps_ca` is false: the replicas of a database have
/// one CA, which the restore of a machine must not change.
pub(super) async fn restore(
    config: &Config,
    file: &File,
    opening: &BackupKey,
    keeps_ca: bool,
) -> Result<Restored, FillError> {
    let keyring = Arc::new(keys::for_restore(config).map_err(unprepared)?);
    let (copy, mut parts) = (Arc::new(MemoryStore::new()), Vec::new());
    let mut reader = BackupReader::open(file, opening).map_err(FillError::Backup)?;
    let mut batch = Batch::new(&*copy, &keyring);
    while let Some(entry) = reader.next_entry().map_err(FillError::Backup)? {
        match entry {
            BackupEntry::Row(row) => batch.add(row).await?,
            BackupEntry::Part(part) => parts.push(part),
        }
    }
    batch.write().await?;
    let rows = copy.snapshot().await.map_err(|error| unprepared(error.into()))?;
    Directory::open(copy, keyring, Clock::System).await.map_err(unusable)?;
    let target = target(config).await.map_err(FillError::Restore)?;
    let restored = async {
        // Before the rows: a database with rows is refused, so what is missing then is not restored any more.
        let ca_replaced = !keeps_ca && install(config, &parts)?;
        add(&target, &rows).await?;
        Ok::<_, RestoreError>(Restored { kept: None, ca_replaced })
    };
    let restored = restored.await;
    leave_store(&*target).await;
    restored.map_err(FillError::Restore)
}

/// Adds all rows to the empty database, while no replica starts.
async fn add(target: &Arc<dyn Store>, rows: &Snapshot) -> Result<(), RestoreError> {
    let lease = StartLease::wait(target).await.map_err(failure)?;
    let added = match target.load(rows.rows().to_vec()).await {
        Ok(()) => Ok(()),
        Err(error) => after_failure(error, &**target, rows).await,
    };
    StartLease::release_if_held(lease).await;
    added
}

/// The answer to the commit may be lost, so the rows decide.
async fn after_failure(
    error: StoreError,
    target: &dyn Store,
    rows: &Snapshot,
) -> Result<(), RestoreError> {
    if !error.is_outcome_unknown() {
        return Err(failure(error));
    }
    match target.snapshot().await {
        Ok(found) if found == *rows => Ok(()),
        Ok(_) => Err(failure(error)),
        Err(_) => Err(RestoreError::Uncertain(error.to_string())),
    }
}

/// Writes the CA of the backup where there is none. Returns whether it did.
fn install(config: &Config, parts: &[BackupPart]) -> Result<bool, RestoreError> {
    let part = |name| parts.iter().find(|part| part.name == name);
    let (Some(cert), Some(key)) = (part(CA_CERT_PART), part(CA_KEY_PART)) else { return Ok(false) };
    let to = CaFiles { cert: config.ca.cert.clone(), key: config.ca.key.clone() };
    if Authority::is_made(&to.cert, &to.key).map_err(failure)? {
        return Ok(false);
    }
    let folder = config.data_dir.join(CA_FOLDER);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(failed("create", &folder))?;
    let from = CaFiles { cert: folder.join(CA_CERT_PART), key: folder.join(CA_KEY_PART) };
    let written = write(&from.cert, cert).and_then(|()| write(&from.key, key));
    let installed = written
        .map_err(failed("write", &folder))
        .and_then(|()| Authority::install(&from, &to, &folder).map_err(failure));
    // It has the CA's key.
    let removed = fs::remove_dir_all(&folder);
    installed?;
    removed.map_err(failed("remove", &folder))?;
    for file in [&to.cert, &to.key] {
        chown_created(&config.data_dir, file).map_err(failed("write", file))?;
    }
    Ok(true)
}

fn write(path: &Path, part: &BackupPart) -> std::io::Result<()> {
    // One of an interrupted restore, or a link that another user has put there, is not written to.
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&part.content)?;
    file.sync_all()
}

fn failure(error: impl Into<anyhow::Error>) -> RestoreError {
    RestoreError::Unprepared(format!("{:#}", error.into()))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use keyward_state::store::Expect;

    fn lost_answer() -> StoreError {
        StoreError::Io { action: "add rows", source: io::ErrorKind::ConnectionReset.into() }
    }

    #[tokio::test]
    async fn a_lost_answer_is_a_failure_unless_exactly_the_restored_rows_exist() {
        let (full, empty) = (MemoryStore::new(), MemoryStore::new());
        full.put(Table::Meta, "a", b"value", Expect::Absent).await.expect("put");
        let rows = full.snapshot().await.expect("read");
        let error = after_failure(lost_answer(), &empty, &rows).await.expect_err("nothing there");
        assert!(matches!(error, RestoreError::Unprepared(_)), "{error}");
        after_failure(lost_answer(), &full, &rows).await.expect("all rows are there");
        full.put(Table::Meta, "b", b"value", Expect::Absent).await.expect("put");
        after_failure(lost_answer(), &full, &rows).await.expect_err("others are there");
        let refused = StoreError::KeyRefused { table: "meta" };
        after_failure(refused, &empty, &rows).await.expect_err("it was not written");
    }
}
