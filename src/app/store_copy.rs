//! Copies a store into another one, row by row, sealed as they are. Before anything is written, the keys of the target's
//! configuration open every row; after it, the target is read and compared.

use std::sync::Arc;

use anyhow::{Context, ensure};

use super::keys;
use super::services::open_store;
use crate::config::{Config, StoreChoice};
use keyward_base::time::Clock;
use keyward_state::directory::Directory;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{Snapshot, Store, Table};

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
    let source = open_store(from).await.context("the source")?;
    let rows = source.snapshot().await?;
    ensure!(
        !rows.rows().is_empty(),
        "there is nothing in the source: check the store of its configuration"
    );
    opens(&rows, to)
        .await
        .context("the keys of the target's configuration do not open the store")?;
    let target = open_store(to).await.context("the target")?;
    for table in Table::ALL {
        let is_empty = target.list(table, "", None, 1).await?.is_empty();
        ensure!(is_empty, "the target is not empty: name an empty database or directory");
    }
    for some in rows.rows().chunks(ROWS_AT_ONCE) {
        target.load(some.to_vec()).await?;
    }
    let copied = target.snapshot().await?;
    ensure!(copied == rows, "the copy differs from the source: empty the target, and copy again");
    Ok(rows.rows().len())
}

/// Opens a copy in memory.
async fn opens(rows: &Snapshot, to: &Config) -> anyhow::Result<()> {
    let copy = MemoryStore::new();
    copy.load(rows.rows().to_vec()).await?;
    let keyring = Arc::new(keys::read(to)?);
    let opened = Directory::open(Arc::new(copy), keyring, Clock::System).await?;
    // Also rows that are opened later: grants, keys of webhooks.
    for row in opened.snapshot().await?.opened() {
        row?;
    }
    Ok(())
}
