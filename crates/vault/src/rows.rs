//! Sealed JSON rows other than grants: failed refreshes, flows, the outbox. Each is stored at `ORG/ID` with
//! its version inside, which detects an older value that was restored. The data path does not read them.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use keyward_base::id::OrgId;
use keyward_base::secret::Secret;
use keyward_state::crypto::envelope::{EnvelopeError, Place};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::store::{Expect, Row, RowRange, Store, StoreError, Table, Version};

/// Rows per page.
const PAGE: usize = 200;

/// Keys per page, without their rows.
const KEYS_PAGE: usize = 5_000;

/// Rows of one kind in one table; ids begin with `prefix`.
#[derive(Clone, Debug)]
pub struct SealedRows<T> {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    table: Table,
    prefix: &'static str,
    kind: PhantomData<fn() -> T>,
}

/// Why a row cannot be used. Names no content.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The store failed, or another write was first. Not transparent, so that it is found below this error.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// It cannot be opened or sealed.
    #[error("{table} row {key}: {source}")]
    Sealed { table: &'static str, key: String, source: EnvelopeError },
    /// Its content is malformed.
    #[error("{table} row {key} is malformed, or was replaced by an older one")]
    Malformed { table: &'static str, key: String },
}

/// Secret text in a sealed row; wiped on drop, never shown.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct SecretText(String);

/// A row without its record.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct RowKey {
    pub(crate) org: OrgId,
    pub(crate) id: String,
    pub(crate) version: Version,
}

#[derive(Serialize)]
struct WrittenRow<'a, T> {
    version: u64,
    record: &'a T,
}

#[derive(Deserialize)]
struct OpenedRow<T> {
    version: u64,
    record: T,
}

impl<T: Serialize + DeserializeOwned> SealedRows<T> {
    pub fn new(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        table: Table,
        prefix: &'static str,
    ) -> Self {
        Self { store, keyring, table, prefix, kind: PhantomData }
    }

    fn key(&self, org: &OrgId, id: &str) -> String {
        format!("{org}/{}{id}", self.prefix)
    }

    /// One record and its version.
    ///
    /// # Errors
    /// When the store fails, or the row does not open.
    pub async fn get(&self, org: &OrgId, id: &str) -> Result<Option<(T, Version)>, RowError> {
        let key = self.key(org, id);
        let mut before: Option<Row> = None;
        loop {
            let Some(row) = self.store.get(self.table, &key).await? else { return Ok(None) };
            match self.open(org, &row) {
                // A rotation of the master key re-wrapped the row meanwhile.
                Err(RowError::Sealed { source: EnvelopeError::UnknownKey(_), .. })
                    if before.as_ref() != Some(&row) =>
                {
                    before = Some(row);
                }
                opened => return opened.map(|record| Some((record, row.version))),
            }
        }
    }

    /// Writes a row, durably, over the version that was read, or as a new row.
    ///
    /// # Errors
    /// When another write was first, or the store fails.
    pub async fn put(
        &self,
        org: &OrgId,
        id: &str,
        record: &T,
        over: Option<Version>,
    ) -> Result<Version, RowError> {
        let key = self.key(org, id);
        let version = over.unwrap_or_default().next();
        let written = serde_json::to_vec(&WrittenRow { version: version.0, record });
        let plain = Zeroizing::new(written.map_err(|_| self.malformed(&key))?);
        let sealing = self.keyring.sealing().await;
        let place = Place { org, table: self.table.name(), key: &key };
        let sealed = sealing.seal(&place, &plain).map_err(|source| self.sealed(&key, source))?;
        let expect = over.map_or(Expect::Absent, Expect::Version);
        Ok(self.store.put(self.table, &key, &sealed, expect).await?)
    }

    /// Writes a row over the one that is there, also over one that cannot be opened.
    ///
    /// # Errors
    /// When another write was first, or the store fails.
    pub(crate) async fn replace(
        &self,
        org: &OrgId,
        id: &str,
        record: &T,
    ) -> Result<Version, RowError> {
        let over = match self.get(org, id).await {
            Err(RowError::Store(error)) => return Err(error.into()),
            Ok(found) => found.map(|(_, version)| version),
            Err(_) => {
                self.delete(org, id).await?;
                None
            }
        };
        self.put(org, id, record, over).await
    }

    /// Deletes and returns a row: only one of several callers gets it.
    ///
    /// # Errors
    /// When the store fails, or the row does not open.
    pub async fn take(&self, org: &OrgId, id: &str) -> Result<Option<T>, RowError> {
        let Some((record, version)) = self.get(org, id).await? else { return Ok(None) };
        let expect = Expect::Version(version);
        match self.store.delete(self.table, &self.key(org, id), expect).await {
            Ok(()) => Ok(Some(record)),
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a row, if it exists.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, org: &OrgId, id: &str) -> Result<(), RowError> {
        Ok(self.store.delete(self.table, &self.key(org, id), Expect::Any).await?)
    }

    /// Deletes this version of a row. Another version of it stays.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete_version(
        &self,
        org: &OrgId,
        id: &str,
        version: Version,
    ) -> Result<(), RowError> {
        let expect = Expect::Version(version);
        match self.store.delete(self.table, &self.key(org, id), expect).await {
            Err(StoreError::Conflict { .. }) => Ok(()),
            other => Ok(other?),
        }
    }

    /// All records of an org, with their ids and versions.
    ///
    /// # Errors
    /// When the store fails, or a row does not open.
    pub async fn all(&self, org: &OrgId) -> Result<Vec<(String, T, Version)>, RowError> {
        self.map_all(org, PAGE, |id, record, version| (id, record, version)).await
    }

    /// What `keep` keeps of each record of an org. At most `page` sealed rows are in memory at the same time, and one
    /// opened record.
    ///
    /// # Errors
    /// When the store fails, or a row does not open.
    pub async fn map_all<K>(
        &self,
        org: &OrgId,
        page: usize,
        keep: impl Fn(String, T, Version) -> K,
    ) -> Result<Vec<K>, RowError> {
        let start = self.key(org, "");
        let (mut kept, mut after) = (Vec::new(), None::<String>);
        loop {
            let range = RowRange { prefix: &start, after: after.as_deref(), limit: page };
            let rows = self.store.list(self.table, range).await?;
            let Some(last) = rows.last() else { return Ok(kept) };
            after = Some(last.key.clone());
            for row in rows {
                let id = row.key[start.len()..].to_owned();
                let found = match self.open(org, &row) {
                    // A rotation of the master key re-wrapped the row meanwhile.
                    Err(RowError::Sealed { source: EnvelopeError::UnknownKey(_), .. }) => {
                        self.get(org, &id).await?
                    }
                    opened => Some((opened?, row.version)),
                };
                kept.extend(found.map(|(record, version)| keep(id, record, version)));
            }
        }
    }

    /// The ids of an org's rows that begin with `start`. Their records are not read.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ids(&self, org: &OrgId, start: &str) -> Result<Vec<String>, RowError> {
        let before_id = self.key(org, "").len();
        let keys = self.keys_below(&self.key(org, start)).await?;
        Ok(keys.into_iter().map(|(key, _)| key[before_id..].to_owned()).collect())
    }

    /// The orgs that have records.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn orgs(&self) -> Result<BTreeSet<OrgId>, RowError> {
        Ok(self.keys().await?.into_iter().map(|key| key.org).collect())
    }

    /// The keys of the rows of all orgs. Their records are not read.
    pub(crate) async fn keys(&self) -> Result<Vec<RowKey>, RowError> {
        let keys = self.keys_below("").await?;
        Ok(keys.iter().filter_map(|(key, version)| self.row_key(key, *version)).collect())
    }

    /// The keys in the store that begin with `start`.
    async fn keys_below(&self, start: &str) -> Result<Vec<(String, Version)>, RowError> {
        let (mut keys, mut after) = (Vec::new(), None::<String>);
        loop {
            let range = RowRange { prefix: start, after: after.as_deref(), limit: KEYS_PAGE };
            let page = self.store.list_keys(self.table, range).await?;
            let Some((last, _)) = page.last() else { return Ok(keys) };
            after = Some(last.clone());
            keys.extend(page);
        }
    }

    /// `None`: a row of another kind.
    fn row_key(&self, key: &str, version: Version) -> Option<RowKey> {
        let (org, id) = key.split_once('/')?;
        let id = id.strip_prefix(self.prefix)?.to_owned();
        Some(RowKey { org: OrgId::parse(org).ok()?, id, version })
    }

    fn open(&self, org: &OrgId, row: &Row) -> Result<T, RowError> {
        let place = Place { org, table: self.table.name(), key: &row.key };
        let plain = self.keyring.open(&place, &row.value);
        let plain = plain.map_err(|source| self.sealed(&row.key, source))?;
        let opened: Result<OpenedRow<T>, _> = serde_json::from_slice(&plain);
        match opened {
            Ok(opened) if opened.version == row.version.0 => Ok(opened.record),
            _ => Err(self.malformed(&row.key)),
        }
    }

    fn sealed(&self, key: &str, source: EnvelopeError) -> RowError {
        RowError::Sealed { table: self.table.name(), key: key.to_owned(), source }
    }

    fn malformed(&self, key: &str) -> RowError {
        RowError::Malformed { table: self.table.name(), key: key.to_owned() }
    }
}

impl SecretText {
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub fn secret(&self) -> Secret {
        Secret::new(self.0.as_str())
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_state::store::memory::MemoryStore;

    fn rows(prefix: &'static str) -> SealedRows<String> {
        let (store, keyring) = (Arc::new(MemoryStore::new()), Arc::new(Keyring::ephemeral()));
        SealedRows::new(store, keyring, Table::Flows, prefix)
    }

    #[tokio::test]
    async fn of_many_callers_that_take_a_row_one_gets_it() {
        let (rows, org) = (rows("state-"), OrgId::default_org());
        rows.put(&org, "a", &"secret".to_owned(), None).await.unwrap();
        let takers = (0..8).map(|_| {
            let (rows, org) = (rows.clone(), org.clone());
            tokio::spawn(async move { rows.take(&org, "a").await.unwrap() })
        });
        let mut taken = 0;
        for taker in takers.collect::<Vec<_>>() {
            taken += usize::from(taker.await.unwrap().is_some());
        }
        assert_eq!(taken, 1);
        assert!(rows.get(&org, "a").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn orgs_lists_only_organisations_with_rows_of_its_own_prefix() {
        let (rows, org, other) = (rows("flow-"), OrgId::default_org(), OrgId::random());
        assert!(rows.orgs().await.unwrap().is_empty());
        let states = SealedRows::<String> { prefix: "state-", ..rows.clone() };
        states.put(&other, "a", &"secret".to_owned(), None).await.unwrap();
        for id in ["a", "b"] {
            rows.put(&org, id, &"secret".to_owned(), None).await.unwrap();
        }
        assert_eq!(rows.orgs().await.unwrap(), BTreeSet::from([org]));
    }

    #[tokio::test]
    async fn rows_are_sealed_and_an_older_one_put_back_is_noticed() {
        let (rows, org) = (rows("flow-"), OrgId::default_org());
        let first = rows.put(&org, "a", &"canary-text".to_owned(), None).await.unwrap();
        let old = rows.store.get(Table::Flows, "org_default/flow-a").await.unwrap().unwrap();
        assert!(!old.value.windows(6).any(|window| window == b"canary"));
        rows.put(&org, "a", &"newer".to_owned(), Some(first)).await.unwrap();
        let put = rows.store.put(Table::Flows, &old.key, &old.value, Expect::Any);
        put.await.unwrap();
        assert!(matches!(rows.get(&org, "a").await, Err(RowError::Malformed { .. })));
    }
}
