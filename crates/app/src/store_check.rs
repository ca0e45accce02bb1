//! Checks the store of a configuration, and rebuilds its indexes. A check changes nothing; a repair writes a copy of the
//! rows first, and is refused while a record cannot be read or another gateway uses the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};

use super::folders::kept_name;
use super::keys;
use super::services::{Services, StartLease, leave_store, open_store};
use crate::config::{Config, StoreChoice};
use keyward_base::time::Clock;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::StoreCheck;
use keyward_state::store::Store;
use keyward_state::store::sled::SledStore;

/// Rows that are written together.
const ROWS_AT_ONCE: usize = 500;

/// The result of a repair.
#[derive(Debug)]
pub struct RepairedStore {
    /// The number of index rows that were changed.
    pub changed: usize,
    /// The copy of the former rows; `None` if nothing had to be changed.
    pub copy: Option<PathBuf>,
    /// The check afterwards.
    pub check: StoreCheck,
}

/// An opened store with its keys.
struct CheckedStore {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
}

/// Checks all rows. In a database, other gateways may use the store meanwhile.
///
/// # Errors
/// When there is no store, another process has its files open, or the master key is not its own.
pub async fn check_store(config: &Config) -> anyhow::Result<StoreCheck> {
    let opened = CheckedStore::open(config).await?;
    let checked = opened.check().await;
    leave_store(&*opened.store).await;
    checked
}

/// Copies the rows into a new embedded store, and makes the index rows what the records say.
///
/// # Errors
/// As [`check_store`]; when a record cannot be read, or another gateway uses the store.
pub async fn repair_store(config: &Config) -> anyhow::Result<RepairedStore> {
    let opened = CheckedStore::open(config).await?;
    let repaired = opened.repair(config).await;
    leave_store(&*opened.store).await;
    repaired
}

impl CheckedStore {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let is_kept = !matches!(config.store, StoreChoice::Memory);
        ensure!(
            is_kept,
            "a store in memory has nothing to check: set `store.sled` or `store.postgres`"
        );
        ensure!(
            Services::are_stored(config),
            "there is no store at {}: name its configuration with --config, or its directory with --data",
            place(config).display()
        );
        let keyring = Arc::new(keys::read(config)?);
        Ok(Self { store: open_store(config).await?, keyring })
    }

    async fn check(&self) -> anyhow::Result<StoreCheck> {
        Ok(StoreCheck::run(&self.store, &self.keyring, &keyward_api::check_content).await?)
    }

    async fn repair(&self, config: &Config) -> anyhow::Result<RepairedStore> {
        let lease = self.alone().await?;
        let check = self.check().await?;
        let changes = check.repairable().map_err(|fault| {
            anyhow!(
                "nothing was changed: {} row {} {}, so its index rows are not known; {}",
                fault.table,
                fault.key,
                fault.problem,
                fault.remedy
            )
        })?;
        if changes == 0 {
            return Ok(RepairedStore { changed: 0, copy: None, check });
        }
        let copy = self.copy(config).await.context("nothing was changed: the copy failed")?;
        if let Some(lease) = &lease {
            lease.ensure_held().await.context("nothing was changed")?;
        }
        let changed = check.repair(&self.store, &self.keyring).await.with_context(|| {
            format!("the repair is not complete; a copy from before it is {}", copy.display())
        })?;
        Ok(RepairedStore { changed, copy: Some(copy), check: self.check().await? })
    }

    /// No gateway uses the store, and none starts until the lease is dropped.
    async fn alone(&self) -> anyhow::Result<Option<StartLease>> {
        let lease = StartLease::wait(&self.store).await?;
        if let Some(shared) = self.store.shared() {
            ensure!(
                shared.is_alone().await?,
                "gateways use this store: stop all of them, wait 20 seconds, and repair again"
            );
        }
        Ok(lease)
    }

    /// All rows that can be read, as they are sealed, in a directory that `store.sled.path` can name. Rows that cannot
    /// be read are index rows here.
    async fn copy(&self, config: &Config) -> anyhow::Result<PathBuf> {
        let store = place(config);
        let path = store.with_file_name(kept_name(&store, "repair", Clock::System.now()));
        let copy = SledStore::open(&path).await?;
        let scan = self.store.scan().await?;
        for some in scan.rows.chunks(ROWS_AT_ONCE) {
            copy.load(some.to_vec()).await?;
        }
        let copied = copy.scan().await?;
        ensure!(copied.rows == scan.rows, "{} differs from the store", path.display());
        Ok(path)
    }
}

/// The path of the embedded store, beside which copies are made; for a database, a path in the data directory.
pub(super) fn place(config: &Config) -> PathBuf {
    match &config.store {
        StoreChoice::Sled { path } => path.clone(),
        _ => Path::new(&config.data_dir).join("store"),
    }
}
