//! Rows of grants: reads and opens them, seals and writes them over the version that was read, and removes orphans.

pub(crate) mod apps;
pub(crate) mod origin;
pub(crate) mod record;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Deref;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use self::record::{
    GrantHeader, GrantOrigin, GrantPurpose, GrantVerdict, NewRow, OpenedGrant, RowPlace,
    SecondGrant,
};
use crate::context::{VaultContext, method};
use crate::error::{RecordError, VaultError};
use crate::grant::Grant;
use keyward_base::id::{AppId, ConnectionId, OrgId};
use keyward_base::opaque::OpaqueArc;
use keyward_base::time::Clock;
use keyward_state::crypto::envelope::EnvelopeError;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::{ConnectionRecord, Directory, DirectoryError, RemedyCause};
use keyward_state::store::{Expect, Row, RowRange, Store, StoreError, Table, Version};

/// Rows per page of the search for orphans.
const PAGE: usize = 5_000;

/// How often a write is retried after a conflict.
pub(crate) const TRIES_MAX: usize = 32;

/// The stored grants of connections and the secrets of apps, sealed. Owns the table of grants.
#[derive(Clone)]
pub struct Grants(OpaqueArc<GrantsParts>);

#[doc(hidden)]
pub struct GrantsParts {
    context: VaultContext,
    directory: Arc<Directory>,
    clock: Clock,
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
}

room!(Grants: GrantsParts);

pub(crate) struct StoredGrant {
    /// The version of the row, which is the generation of the credential.
    pub version: Version,
    /// The header, without the second grant.
    pub header: GrantHeader,
    /// Its encoding.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The second grant during a rotation.
    pub other: Option<(SecondGrant, Zeroizing<Vec<u8>>)>,
}

/// A row of a connection or an app that was opened.
pub(crate) struct UnsealedRow<H> {
    pub version: Version,
    pub header: H,
    /// The grants of a connection, or the secrets of an app.
    pub grants: Zeroizing<Vec<u8>>,
}

impl Deref for StoredGrant {
    type Target = GrantHeader;

    fn deref(&self) -> &GrantHeader {
        &self.header
    }
}

impl StoredGrant {
    /// The decoded grant.
    pub fn grant(
        &self,
        context: &VaultContext,
        connection: &ConnectionRecord,
    ) -> Result<Grant, VaultError> {
        Grant::decode(&self.bytes).map_err(|source| context.unmintable(connection, source))
    }

    /// The decoded second grant.
    pub fn other_grant(
        &self,
        context: &VaultContext,
        connection: &ConnectionRecord,
    ) -> Result<Option<Grant>, VaultError> {
        let other = self.other.as_ref().map(|(_, bytes)| Grant::decode(bytes));
        other.transpose().map_err(|source| context.unmintable(connection, source))
    }

    /// Whether it is this grant, or its tokens began with the fields of this digest.
    pub fn is_of(&self, given: Option<&str>, bytes: &[u8]) -> bool {
        let is_same = bool::from(self.bytes.as_slice().ct_eq(bytes));
        is_same || given.is_some() && given == self.given.as_deref()
    }

    pub fn origin(&self) -> GrantOrigin {
        GrantOrigin {
            given: self.given.clone(),
            consent: self.consent.clone(),
            rotated: self.dates.as_ref().and_then(|dates| dates.rotated),
        }
    }

    /// Its header, with the connection's current purpose and without the second grant.
    pub fn header_for(&self, connection: &ConnectionRecord) -> GrantHeader {
        let purpose = GrantPurpose::of(connection);
        GrantHeader { purpose, ..self.header.clone() }
    }

    /// The row that replaces it, with newer tokens or a verdict. Everything else stays.
    pub fn becomes(
        &self,
        connection: &ConnectionRecord,
        broken: Option<GrantVerdict>,
        bytes: &[u8],
    ) -> NewRow {
        let header = GrantHeader { broken, on_trial: false, ..self.header_for(connection) };
        let other = self.other.as_ref().map(|(second, bytes)| (second.clone(), bytes.as_slice()));
        header.into_row(bytes, other)
    }
}

impl Grants {
    pub(crate) fn new(
        context: &VaultContext,
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
    ) -> Self {
        let (directory, clock) = (context.directory.clone(), context.clock.clone());
        let context = context.clone();
        Self(OpaqueArc::new(GrantsParts { context, directory, clock, store, keyring }))
    }

    /// Seals the grants of a connection or the secrets of an app, and stores them over the version that was read, or as a
    /// new row. Runs in its own task, because the guard for sealing must live until the row is on disk, even if the caller
    /// is dropped. Returns the stored version.
    pub(crate) async fn write<H: Serialize + Send + Sync + 'static>(
        &self,
        org: &OrgId,
        id: &(impl Display + Clone + Send + Sync + 'static),
        row: NewRow<H>,
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

    /// Reads and opens a row of a connection or an app, if there is one. A rotation of the master key may re-wrap the row
    /// between reading and opening, and drop the old key; then it is read again.
    pub(crate) async fn read<H: DeserializeOwned>(
        &self,
        org: &OrgId,
        id: &(dyn Display + Sync),
        sealed: impl Fn(RecordError) -> VaultError,
    ) -> Result<Option<UnsealedRow<H>>, VaultError> {
        let key = record::key(org, id);
        let mut before: Option<Row> = None;
        loop {
            let Some(row) = self.store.get(Table::Grants, &key).await? else { return Ok(None) };
            match record::unsealed(&self.keyring, org, id, &row) {
                Ok((header, grants)) => {
                    return Ok(Some(UnsealedRow { version: row.version, header, grants }));
                }
                Err(RecordError::Sealed(EnvelopeError::UnknownKey(_)))
                    if before.as_ref() != Some(&row) =>
                {
                    before = Some(row);
                }
                Err(source) => return Err(sealed(source)),
            }
        }
    }

    /// Reads and opens the row of a connection.
    pub(crate) async fn stored(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<StoredGrant, VaultError> {
        let missing = || VaultError::GrantMissing {
            connection: connection.name.clone(),
            remedy: self.context.remedy(connection, RemedyCause::Credential),
        };
        self.stored_if_any(connection).await?.ok_or_else(missing)
    }

    /// The grant; `None` if there is none, or it cannot be opened.
    pub(crate) async fn held_grant(&self, connection: &ConnectionRecord) -> Option<Grant> {
        self.stored(connection).await.ok()?.grant(&self.context, connection).ok()
    }

    /// Like [`Self::stored`], for a row that may not exist.
    pub(crate) async fn stored_if_any(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Option<StoredGrant>, VaultError> {
        let sealed = |source| VaultError::Sealed {
            connection: connection.name.clone(),
            source,
            remedy: self.context.remedy(connection, RemedyCause::Credential),
        };
        let row = self.read::<GrantHeader>(&connection.org, &connection.id, sealed).await?;
        let Some(UnsealedRow { version, header, grants }) = row else { return Ok(None) };
        let opened = OpenedGrant::of(header, grants, &GrantPurpose::of(connection));
        let OpenedGrant { mut header, grant: bytes, other } = opened.map_err(sealed)?;
        let other = header.second.take().zip(other);
        Ok(Some(StoredGrant { version, header, bytes, other }))
    }

    /// Deletes the row of a connection or an app.
    pub(crate) async fn delete(
        &self,
        org: &OrgId,
        id: &(dyn Display + Sync),
    ) -> Result<(), StoreError> {
        self.store.delete(Table::Grants, &record::key(org, id), Expect::Any).await
    }

    /// Deletes the grant's row. Returns the grant, if it can be opened.
    pub(crate) async fn take_grant(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Option<Grant>, VaultError> {
        let key = record::key(&connection.org, &connection.id);
        for _ in 0..TRIES_MAX {
            // A grant that cannot be opened cannot be revoked, but is deleted.
            let stored = self.stored_if_any(connection).await.ok().flatten();
            let Some(stored) = stored else { break };
            let expect = Expect::Version(stored.version);
            match self.store.delete(Table::Grants, &key, expect).await {
                Ok(()) => return Ok(stored.grant(&self.context, connection).ok()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.delete(&connection.org, &connection.id).await?;
        Ok(None)
    }

    /// Whether a person resumed the connection after its test was rejected, so that the test does not break it again.
    ///
    /// # Errors
    /// When the grant cannot be read.
    pub async fn is_untestable(&self, connection: &ConnectionRecord) -> Result<bool, VaultError> {
        Ok(self.stored(connection).await?.untestable)
    }

    /// The fields of a connection's grant that are not secret, such as an account's id.
    ///
    /// # Errors
    /// When there is no such connection, or its grant cannot be opened.
    pub async fn shown_fields(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<BTreeMap<String, String>, VaultError> {
        let catalogue = self.context.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        if auth.fields.iter().all(|field| field.secret) {
            return Ok(BTreeMap::new());
        }
        Ok(self.stored(connection).await?.grant(&self.context, connection)?.shown_fields(auth))
    }

    /// The account that a service account's key acts as, if it can be read.
    pub async fn account(&self, connection: &ConnectionRecord) -> Option<String> {
        let stored = self.stored_if_any(connection).await.ok()??;
        stored.grant(&self.context, connection).ok()?.account()
    }

    /// The stored grant of a connection, while its token is valid.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn live_grant(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Option<Grant>, VaultError> {
        let Some(stored) = self.stored_if_any(connection).await? else { return Ok(None) };
        let grant = stored.grant(&self.context, connection)?;
        let now = self.clock.now();
        let is_live = grant.tokens().is_some_and(|tokens| tokens.is_live(now));
        Ok(Some(grant).filter(|_| is_live && stored.broken.is_none()))
    }

    /// Whether the connection's grant is missing or cannot be opened.
    pub(crate) async fn is_lost(&self, connection: &ConnectionRecord) -> Result<bool, VaultError> {
        match self.stored_if_any(connection).await {
            Ok(stored) => Ok(stored.is_none()),
            Err(VaultError::Sealed { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The stored grant if its provider may revoke it. A grant that cannot be opened cannot be revoked.
    pub(crate) async fn revocable_grant(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Option<Grant>, VaultError> {
        let stored = match self.stored_if_any(connection).await {
            Err(VaultError::Sealed { .. }) => None,
            stored => stored?,
        };
        let grant = stored.and_then(|stored| stored.grant(&self.context, connection).ok());
        Ok(grant.filter(|grant| grant.revocable().is_some() || grant.oauth1_token().is_some()))
    }

    /// Removes grants without a connection, and secrets without an app.
    pub(crate) async fn sweep(&self) -> Result<(), StoreError> {
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
            let range = RowRange::after(after.as_deref(), PAGE);
            let page = self.store.list_keys(Table::Grants, range).await?;
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
pub(crate) fn given(grant: &Grant) -> Option<String> {
    matches!(grant, Grant::OAuth(_) | Grant::Referred(_))
        .then(|| HEXLOWER.encode(&Sha256::digest(grant.encode().as_slice())))
}

/// Whether another write changed the row first.
pub(crate) fn is_conflict(error: &VaultError) -> bool {
    matches!(error, VaultError::Store(StoreError::Conflict { .. }))
}

/// The error after too many conflicts.
pub(crate) fn overtaken(org: &OrgId, id: &ConnectionId) -> VaultError {
    let (table, key) = (Table::Grants.name(), record::key(org, id));
    VaultError::Store(StoreError::Conflict { table, key })
}
