//! Rows of grants: reads and opens them, seals and writes them over the version that was read, and removes orphans.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Vault;
use super::error::VaultError;
use super::record::{
    self, Dates, GrantHeader, GrantOrigin, GrantPurpose, GrantVerdict, NewRow, RecordError,
    RowPlace, SecondGrant,
};
use crate::grant::{Grant, MintError};
use keyward_base::id::{AppId, ConnectionId, FlowId, OrgId};
use keyward_state::crypto::envelope::EnvelopeError;
use keyward_state::directory::{ConnectionRecord, DirectoryError, Need};
use keyward_state::store::{Expect, Row, StoreError, Table, Version};

/// Rows per page when the table is swept.
const PAGE: usize = 5_000;

/// How often a write is retried after a conflict.
pub(super) const TRIES_MAX: usize = 32;

pub(super) struct StoredGrant {
    /// Its generation.
    pub version: Version,
    pub broken: Option<GrantVerdict>,
    /// The digest of the owner's fields that its tokens began with.
    pub given: Option<String>,
    /// The flow that its tokens began with.
    pub consent: Option<FlowId>,
    /// The app of that consent.
    pub app: Option<AppId>,
    /// Only a test may use it.
    pub untested: bool,
    /// Dates of its secret, once it was rotated.
    pub dates: Option<Dates>,
    /// Its client was rejected, and token requests have changed since.
    pub on_trial: bool,
    /// See [`GrantHeader::untestable`].
    pub untestable: bool,
    /// Its encoding.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The second grant during a rotation.
    pub other: Option<(SecondGrant, Zeroizing<Vec<u8>>)>,
}

impl StoredGrant {
    /// The decoded grant.
    pub fn grant(&self, vault: &Vault, connection: &ConnectionRecord) -> Result<Grant, VaultError> {
        Grant::decode(&self.bytes).map_err(|source| vault.unmintable(connection, source))
    }

    /// The decoded second grant.
    pub fn other_grant(
        &self,
        vault: &Vault,
        connection: &ConnectionRecord,
    ) -> Result<Option<Grant>, VaultError> {
        let other = self.other.as_ref().map(|(_, bytes)| Grant::decode(bytes));
        other.transpose().map_err(|source| vault.unmintable(connection, source))
    }

    /// Whether it is this grant, or has followed the fields with this digest.
    pub fn is_of(&self, given: Option<&str>, bytes: &[u8]) -> bool {
        let is_same = bool::from(self.bytes.as_slice().ct_eq(bytes));
        is_same || given.is_some() && given == self.given.as_deref()
    }

    /// How it came into its row.
    pub fn origin(&self) -> GrantOrigin {
        GrantOrigin {
            given: self.given.clone(),
            consent: self.consent.clone(),
            rotated: self.dates.as_ref().and_then(|dates| dates.rotated),
        }
    }

    /// The row that replaces it: newer tokens, or a verdict; everything else stays.
    pub fn becomes(
        &self,
        connection: &ConnectionRecord,
        broken: Option<GrantVerdict>,
        bytes: &[u8],
    ) -> NewRow {
        let (given, dates) = (self.given.clone(), self.dates.clone());
        let (untested, untestable) = (self.untested, self.untestable);
        let (consent, app) = (self.consent.clone(), self.app.clone());
        let header = GrantHeader {
            broken,
            given,
            consent,
            app,
            untested,
            untestable,
            dates,
            ..GrantHeader::of(connection)
        };
        let other = self.other.as_ref().map(|(beside, bytes)| (beside.clone(), bytes.as_slice()));
        header.beside(bytes, other)
    }
}

impl Vault {
    /// Seals a grant and stores it over the version that was read, or as a new row. Runs in its own task,
    /// because the guard for sealing must live until the row is on disk, even if the caller is dropped.
    /// Returns the stored version.
    pub(super) async fn write(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        row: NewRow,
        over: Option<Version>,
    ) -> Result<Version, VaultError> {
        let (store, keyring) = (Arc::clone(&self.store), Arc::clone(&self.keyring));
        let (org, id) = (org.clone(), id.clone());
        let work = tokio::spawn(async move {
            let sealing = keyring.sealing().await;
            let version = over.unwrap_or_default().next();
            let place = RowPlace { org: &org, id: &id, version };
            let sealed = record::seal(&sealing, &place, &row.header, &row.grants)?;
            let expect = over.map_or(Expect::Absent, Expect::Version);
            Ok(store.put(Table::Grants, &record::key(&org, &id), &sealed, expect).await?)
        });
        work.await.unwrap_or(Err(VaultError::Directory(DirectoryError::Interrupted)))
    }

    /// Reads and opens a row. A rotation of the master key may re-wrap the row between reading and opening,
    /// and drop the old key; then it is read again.
    pub(super) async fn stored(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<StoredGrant, VaultError> {
        let missing = || VaultError::GrantMissing {
            connection: connection.name.clone(),
            remedy: self.remedy(connection, Need::Credential),
        };
        self.stored_if_any(connection).await?.ok_or_else(missing)
    }

    /// The same for a row that may not exist.
    pub(super) async fn stored_if_any(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Option<StoredGrant>, VaultError> {
        let (purpose, key) =
            (GrantPurpose::of(connection), record::key(&connection.org, &connection.id));
        let mut before: Option<Row> = None;
        loop {
            let Some(row) = self.store.get(Table::Grants, &key).await? else { return Ok(None) };
            match record::open(&self.keyring, connection, &purpose, &row) {
                Ok(opened) => {
                    let GrantHeader {
                        broken,
                        given,
                        consent,
                        app,
                        untested,
                        dates,
                        beside,
                        on_trial,
                        untestable,
                        ..
                    } = opened.header;
                    let (version, bytes) = (row.version, opened.grant);
                    let other = beside.zip(opened.other);
                    return Ok(Some(StoredGrant {
                        version,
                        broken,
                        given,
                        consent,
                        app,
                        untested,
                        dates,
                        on_trial,
                        untestable,
                        bytes,
                        other,
                    }));
                }
                Err(RecordError::Sealed(EnvelopeError::UnknownKey(_)))
                    if before.as_ref() != Some(&row) =>
                {
                    before = Some(row);
                }
                Err(source) => {
                    let remedy = self.remedy(connection, Need::Credential);
                    let connection = connection.name.clone();
                    return Err(VaultError::Sealed { connection, source, remedy });
                }
            }
        }
    }

    /// The error for a grant that can be opened, but gives no credential.
    pub(super) fn unmintable(
        &self,
        connection: &ConnectionRecord,
        source: MintError,
    ) -> VaultError {
        let remedy = self.remedy(connection, Need::Credential);
        VaultError::Mint { connection: connection.name.clone(), source, remedy }
    }

    /// Removes grants without a connection, and secrets without an app.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        let view = self.directory.view();
        let is_known = |key: &str| {
            let Some((org, id)) = key.split_once('/') else { return false };
            let Ok(org) = OrgId::parse(org) else { return false };
            let connection =
                ConnectionId::parse(id).is_ok_and(|id| view.connection(&org, &id).is_some());
            connection || AppId::parse(id).is_ok_and(|id| view.app(&org, &id).is_some())
        };
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list_keys(Table::Grants, "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, version) in page.iter().filter(|(key, _)| !is_known(key)) {
                tracing::warn!(key, "removed a grant that no connection or app names");
                self.store.delete(Table::Grants, key, Expect::Version(*version)).await?;
            }
        }
    }
}

/// The digest of given fields; `None` for kinds whose stored form never changes by itself.
pub(super) fn given(grant: &Grant) -> Option<String> {
    let hash =
        |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    matches!(grant, Grant::OAuth(_) | Grant::Referred(_)).then(|| hash(&grant.encode()))
}

/// Whether another write was first.
pub(super) fn is_conflict(error: &VaultError) -> bool {
    matches!(error, VaultError::Store(StoreError::Conflict { .. }))
}

/// The error after too many conflicts.
pub(super) fn overtaken(org: &OrgId, id: &ConnectionId) -> VaultError {
    let (table, key) = (Table::Grants.name(), record::key(org, id));
    VaultError::Store(StoreError::Conflict { table, key })
}
