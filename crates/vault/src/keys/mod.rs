//! Reports which master key wraps which rows, and rotates the master key while the gateway serves. Keys and their
//! files are defined in `state::crypto`.
//!
//! The order of a rotation makes it safe to be killed at any point: the new key is durable in the key file before
//! anything is sealed under it, and the old one leaves the file after no row needs it.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;

use keyward_base::id::OrgId;
use keyward_state::crypto::envelope::{EnvelopeError, Place};
use keyward_state::crypto::key_file;
use keyward_state::crypto::keyring::{self, KeyId, KeyInfo, KeyOrigin, Keyring};
use keyward_state::crypto::source::KeyError;
use keyward_state::store::{Row, RowRange, Store, StoreError, Table};

/// Rows per page.
const PAGE: usize = 100;

/// Concurrent writes, which share a flush of the disk.
const TOGETHER: usize = 64;

/// Where the current key is stored; this decides who can create another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyLocation {
    /// In a key file of Keyward.
    KeyFile(PathBuf),
    /// Outside of Keyward, as the configuration says: an operator must add a new key there.
    External,
    /// In memory only.
    Memory,
}

/// The keyring with the store.
#[derive(Debug)]
pub struct MasterKeys {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    location: Mutex<KeyLocation>,
    /// Held during a rotation.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A key, and the rows that need it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyUse {
    pub id: KeyId,
    /// Its source; `None`: the key is missing, and its rows cannot be opened.
    pub origin: Option<KeyOrigin>,
    /// Whether it seals new rows.
    pub current: bool,
    /// Number of rows that it wraps.
    pub rows: u64,
}

/// The result of a rotation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RotationResult {
    /// The key that wraps all rows now.
    pub current: KeyInfo,
    /// Whether it was created by this rotation.
    pub made: bool,
    /// Removed keys.
    pub retired: Vec<KeyId>,
    /// Keys that no row needs, and that the configuration still names.
    pub unneeded: Vec<KeyInfo>,
    /// Number of re-wrapped rows.
    pub rewrapped: u64,
    /// Number of all rows.
    pub rows: u64,
}

impl MasterKeys {
    /// Uses the shared store and keyring. Removes temporary key files that a crash left.
    ///
    /// # Errors
    /// When a temporary file cannot be removed.
    pub fn new(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        location: KeyLocation,
    ) -> Result<Arc<Self>, KeyError> {
        if let KeyLocation::KeyFile(file) = &location {
            key_file::clean(file)?;
        }
        Ok(Arc::new(Self { store, keyring, location: location.into(), turn: Arc::default() }))
    }

    /// All keys: the current one first, then the others, then missing keys that rows need.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub async fn uses(&self) -> Result<Vec<KeyUse>, KeysError> {
        let mut rows: BTreeMap<KeyId, u64> = BTreeMap::new();
        for table in Table::ALL {
            let mut pages = RowPages::of(&*self.store, table);
            while let Some(page) = pages.next().await? {
                for row in page {
                    let id = keyring::wrapped_by(&row.value)
                        .map_err(|source| KeysError::sealed(table, &row, source))?;
                    *rows.entry(id).or_default() += 1;
                }
            }
        }
        let keys = self.keyring.keys().into_iter().enumerate();
        let mut uses: Vec<KeyUse> = keys
            .map(|(place, KeyInfo { id, origin })| KeyUse {
                id,
                origin: Some(origin),
                current: place == 0,
                rows: rows.remove(&id).unwrap_or(0),
            })
            .collect();
        let missing = |(id, rows)| KeyUse { id, origin: None, current: false, rows };
        uses.extend(rows.into_iter().map(missing));
        Ok(uses)
    }

    /// Wraps every row with the current key. For a key file of Keyward, a new key is created first, and the
    /// old ones are destroyed at the end; an interrupted rotation is finished instead. Continues if the
    /// caller is dropped.
    ///
    /// # Errors
    /// `Busy`, `NothingOlder`, or an error of the disk. After any failure the store can be opened, and the
    /// rotation can be finished.
    pub async fn rotate(self: &Arc<Self>) -> Result<RotationResult, KeysError> {
        let turn = Arc::clone(&self.turn).try_lock_owned().map_err(|_| KeysError::Busy)?;
        let this = Arc::clone(self);
        let work = tokio::spawn(async move {
            let _turn = turn;
            this.rotate_now().await
        });
        work.await.unwrap_or(Err(KeysError::Interrupted))
    }

    /// Finishes a rotation that a crash interrupted.
    ///
    /// # Errors
    /// As [`MasterKeys::rotate`].
    pub async fn finish(self: &Arc<Self>) -> Result<Option<RotationResult>, KeysError> {
        match self.location() {
            KeyLocation::KeyFile(_) if self.keyring.keys().len() > 1 => {
                self.rotate().await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Checks that every row can be opened with these keys.
    ///
    /// # Errors
    /// `StillNeeded` when a row needs a key that is not among them.
    pub async fn check(&self, keys: &Keyring) -> Result<(), KeysError> {
        let given = keys.keys();
        let is_given = |id: KeyId| given.iter().any(|key| key.id == id);
        // Rows written meanwhile are sealed with the current key, which wraps rows already.
        let uses = self.uses().await?;
        match uses.iter().find(|key| key.rows > 0 && !is_given(key.id)) {
            Some(key) => Err(KeysError::StillNeeded(key.id)),
            None => Ok(()),
        }
    }

    /// Adopts the keys of a changed configuration.
    ///
    /// # Errors
    /// As [`MasterKeys::check`]; then nothing changes.
    pub async fn replace(&self, keys: Keyring, location: KeyLocation) -> Result<(), KeysError> {
        let _turn = self.turn.try_lock().map_err(|_| KeysError::Busy)?;
        self.check(&keys).await?;
        self.keyring.replace(keys).await;
        *self.location.lock() = location;
        tracing::info!(current = %self.keyring.current(), "the master keys were read again");
        Ok(())
    }

    fn location(&self) -> KeyLocation {
        self.location.lock().clone()
    }

    /// The keys that this process has: each opens the rows that it wraps.
    pub fn ids(&self) -> Vec<KeyId> {
        self.keyring.keys().into_iter().map(|key| key.id).collect()
    }

    /// The key that a rotation would wrap every row with; `None`: it would create one.
    ///
    /// # Errors
    /// `NothingOlder`.
    pub fn next_current(&self) -> Result<Option<KeyId>, KeysError> {
        let current = self.current();
        match (self.ids().len() > 1, self.location()) {
            (true, _) => Ok(Some(current.id)),
            (false, KeyLocation::KeyFile(_) | KeyLocation::Memory) => Ok(None),
            (false, KeyLocation::External) => Err(KeysError::NothingOlder(current.origin)),
        }
    }

    async fn rotate_now(&self) -> Result<RotationResult, KeysError> {
        let location = self.location();
        let file = match &location {
            KeyLocation::KeyFile(file) => Some(file.clone()),
            KeyLocation::Memory | KeyLocation::External => None,
        };
        let made = self.next_current()?.is_none();
        if made {
            let (keyring, file) = (Arc::clone(&self.keyring), file.clone());
            let next = blocking(move || keyring.next(file.as_deref())).await?;
            self.keyring.make_current(next).await;
        }
        let rewrapped = self.rewrap().await?;
        // No row can have been added under an older key; a key that is still needed stays.
        let uses = self.uses().await?;
        if let Some(needed) = uses.iter().find(|key| !key.current && key.rows > 0) {
            return Err(KeysError::StillNeeded(needed.id));
        }
        let retired = match location {
            KeyLocation::External => Vec::new(),
            KeyLocation::KeyFile(_) | KeyLocation::Memory => {
                let keyring = Arc::clone(&self.keyring);
                blocking(move || keyring.retire(file.as_deref())).await?
            }
        };
        let unneeded = self.keyring.keys().into_iter().skip(1).collect();
        let rows = uses.iter().map(|key| key.rows).sum();
        let current = self.current();
        let retired_keys: Vec<_> = retired.iter().map(ToString::to_string).collect();
        tracing::info!(id = "key_rotated", current = %current.id, rewrapped, ?retired_keys, "every row is wrapped by one key");
        Ok(RotationResult { current, made, retired, unneeded, rewrapped, rows })
    }

    fn current(&self) -> KeyInfo {
        self.keyring.keys().swap_remove(0)
    }

    /// Wraps every row with the current key. Returns the number of re-wrapped rows.
    async fn rewrap(&self) -> Result<u64, KeysError> {
        let mut moved = 0;
        for table in Table::ALL {
            let mut pages = RowPages::of(&*self.store, table);
            while let Some(page) = pages.next().await? {
                let moves = page.into_iter().map(|row| self.rewrap_row(table, row));
                let moves = stream::iter(moves).buffer_unordered(TOGETHER);
                moved += moves.try_fold(0, async |sum, one| Ok(sum + u64::from(one))).await?;
            }
        }
        Ok(moved)
    }

    /// Re-wraps one row. A row that another writer changes meanwhile is read again; that writer used the new key.
    async fn rewrap_row(&self, table: Table, mut row: Row) -> Result<bool, KeysError> {
        loop {
            let org = row.key.split_once('/').and_then(|(org, _)| OrgId::parse(org).ok());
            let org = org.ok_or_else(|| KeysError::key(table, &row))?;
            let place = Place { org: &org, table: table.name(), key: &row.key };
            let moved = self.keyring.rewrap(&place, &row.value);
            let moved = moved.map_err(|source| KeysError::sealed(table, &row, source))?;
            let Some(moved) = moved else { return Ok(false) };
            match self.store.reseal(table, &row, &moved).await {
                Ok(()) => return Ok(true),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let Some(now) = self.store.get(table, &row.key).await? else { return Ok(false) };
            row = now;
        }
    }
}

/// The rows of a table, page by page. Concurrently added or deleted rows may be missing or included.
struct RowPages<'a> {
    store: &'a dyn Store,
    table: Table,
    after: Option<String>,
}

impl<'a> RowPages<'a> {
    fn of(store: &'a dyn Store, table: Table) -> Self {
        Self { store, table, after: None }
    }

    async fn next(&mut self) -> Result<Option<Vec<Row>>, StoreError> {
        let range = RowRange::after(self.after.as_deref(), PAGE);
        let page = self.store.list(self.table, range).await?;
        self.after = page.last().map(|row| row.key.clone());
        Ok(Some(page).filter(|page| !page.is_empty()))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyError> + Send + 'static,
) -> Result<T, KeysError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| KeysError::Interrupted)?;
    Ok(done?)
}

/// Why a rotation failed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Another rotation is running.
    #[error("a rotation of the master key is already running")]
    Busy,
    /// The configuration names one key, so only its owner can create another.
    #[error("`master_key` names one key, and it wraps every row: there is nothing to rotate")]
    NothingOlder(KeyOrigin),
    /// A row that the available keys cannot open, or that is damaged.
    #[error("{table} row {key} cannot be re-wrapped, so the old key stays: {source}")]
    Sealed { table: &'static str, key: String, source: EnvelopeError },
    /// A row key that cannot be parsed.
    #[error("{table} row {key} has a malformed key, so the old master key stays")]
    Key { table: &'static str, key: String },
    /// A key cannot be removed yet.
    #[error("master key {0} still wraps rows: keep it in the list and run `keyward key rotate`")]
    StillNeeded(KeyId),
    #[error(transparent)]
    File(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process is ending.
    #[error("the rotation was interrupted: it is finished at the next start")]
    Interrupted,
}

impl KeysError {
    fn sealed(table: Table, row: &Row, source: EnvelopeError) -> Self {
        Self::Sealed { table: table.name(), key: row.key.clone(), source }
    }

    fn key(table: Table, row: &Row) -> Self {
        Self::Key { table: table.name(), key: row.key.clone() }
    }

    /// The remedy, unless the message has it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Busy => Some("`keyward key list` shows how far it is".to_owned()),
            Self::NothingOlder(present) => Some(format!(
                "put a new key before it, `master_key: [{}, {}]`, {}, then rotate",
                present.like(),
                present.yaml(),
                match present {
                    // The environment of a process does not change.
                    KeyOrigin::Env(_) => "restart",
                    _ => "`keyward reload`",
                }
            )),
            Self::Sealed { source: EnvelopeError::UnknownKey(_), .. } => {
                Some("`keyward key list` shows which keys rows need".to_owned())
            }
            _ => None,
        }
    }
}
