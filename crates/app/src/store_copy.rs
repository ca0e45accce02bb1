//! Copies a store into another one: the store of a configuration, with its rows sealed as they are, or what a running
//! gateway sends of its own. Before anything is written, the keys of the target's configuration open every row; after
//! it, the target is read and compared.

use std::sync::Arc;

use anyhow::{Context, ensure};

use super::keys;
use super::services::{Services, leave_store, open_store};
use super::store_check::place;
use crate::config::{Config, StoreChoice};
use keyward_backup::{BackupEntry, BackupKey, BackupReader};
use keyward_base::time::Clock;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::Directory;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{RowRange, Snapshot, Store, Table};

/// Rows that are written together.
const ROWS_AT_ONCE: usize = 500;

/// Copies the store of one configuration into the empty store of another, and returns the number of rows. The source
/// may be in use where it is a database: then the copy is of one point in time.
///
/// # Errors
/// When a store cannot be opened, the target's keys do not open the rows, the target is not empty, or differs afterwards.
pub async fn copy_store(from: &Config, to: &Config) -> anyhow::Result<usize> {
    for config in [from, to] {
        let is_kept = !matches!(config.store, StoreChoice::Memory);
        ensure!(
            is_kept,
            "a store in memory cannot be copied: set `store.sled` or `store.postgres`"
        );
    }
    ensure!(from.store != to.store, "both configurations name the same store");
    // Opening it would make one.
    ensure!(
        Services::are_stored(from),
        "there is no store at {}: name its configuration with --from, or its directory with --data",
        place(from).display()
    );
    let source = open_store(from).await.context("the source")?;
    let rows = source.snapshot().await;
    leave_store(&*source).await;
    let rows = rows?;
    let keyring = Arc::new(keys::read(to)?);
    fill(to, &rows, keyring).await
}

/// Copies what a running gateway sent as a backup into the empty store of a configuration, sealed with its keys, and
/// returns the number of rows.
///
/// # Errors
/// When the backup is not complete, the target cannot be opened, is not empty, or differs afterwards.
pub async fn copy_backup(backup: &[u8], opening: &BackupKey, to: &Config) -> anyhow::Result<usize> {
    let is_kept = !matches!(to.store, StoreChoice::Memory);
    ensure!(is_kept, "the new store is in memory: set `store.sled` or `store.postgres`");
    let (keyring, copy) = (Arc::new(keys::read(to)?), MemoryStore::new());
    let mut reader = BackupReader::open(backup, opening)?;
    while let Some(entry) = reader.next_entry()? {
        if let BackupEntry::Row(row) = entry {
            copy.load(vec![row.seal(&keyring.sealing().await)?]).await?;
        }
    }
    fill(to, &copy.snapshot().await?, keyring).await
}

/// Writes the rows into the empty store of a configuration, and compares it with them.
async fn fill(to: &Config, rows: &Snapshot, keyring: Arc<Keyring>) -> anyhow::Result<usize> {
    ensure!(
        !rows.rows().is_empty(),
        "there is nothing in the source: check the store of its configuration"
    );
    opens(rows, keyring)
        .await
        .context("the keys of the target's configuration do not open the store")?;
    let target = open_store(to).await.context("the target")?;
    let added = add(&*target, rows).await;
    leave_store(&*target).await;
    added.map(|()| rows.rows().len())
}

/// Adds the rows to an empty store, and compares it with them.
async fn add(target: &dyn Store, rows: &Snapshot) -> anyhow::Result<()> {
    for table in Table::ALL {
        let is_empty = target.list(table, RowRange::first(1)).await?.is_empty();
        ensure!(
            is_empty,
            "the target is not empty, a gateway or a command has used it: name an empty database or directory"
        );
    }
    for some in rows.rows().chunks(ROWS_AT_ONCE) {
        target.load(some.to_vec()).await?;
    }
    let copied = target.snapshot().await?;
    ensure!(copied == *rows, "the copy differs from the source: empty the target, and copy again");
    Ok(())
}

/// Opens a copy in memory.
async fn opens(rows: &Snapshot, keyring: Arc<Keyring>) -> anyhow::Result<()> {
    let copy = MemoryStore::new();
    copy.load(rows.rows().to_vec()).await?;
    let opened = Directory::open(Arc::new(copy), keyring, Clock::System).await?;
    // Also rows that are opened later: grants, keys of webhooks.
    for row in opened.snapshot().await?.opened() {
        row?;
    }
    Ok(())
}
