//! [`CandidateSecret`]: a new secret of a connection that is not in force yet, and its credential. If the current
//! grant cannot be read, the candidate replaces the row.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Lifecycle;
use crate::context::method;
use crate::error::{SPENT_TOKEN, VaultError};
use crate::grant::Grant;
use crate::grants::record::{Dates, GrantHeader, NewRow};
use crate::grants::{self, StoredGrant};
use crate::refresh::flights::STORE_AGAIN;
use keyward_rules::inject::credential::Credential;
use keyward_state::directory::{ConnectionRecord, RotationState};
use keyward_state::store::Version;

/// A new secret under test, sealed beside the one in force.
#[derive(Debug)]
pub struct CandidateSecret {
    /// Its credential, used only by the test.
    pub credential: Arc<Credential>,
    /// Its fields that are not secret.
    pub shown: BTreeMap<String, String>,
    pub(crate) connection: Arc<ConnectionRecord>,
    pub(crate) given: Option<String>,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// The grant in force cannot be read; the candidate is not stored yet.
    pub(crate) replaces_lost: bool,
    /// The server replaced the refresh token that was given.
    pub(crate) is_successor: bool,
}

impl CandidateSecret {
    /// What the person must know whose secret is abandoned; `None` if it can be given again.
    pub fn loss(&self) -> Option<&'static str> {
        self.is_successor.then_some(SPENT_TOKEN)
    }
}

impl Lifecycle {
    /// A new secret that replaces an unreadable one.
    pub(crate) async fn stage_lost(
        &self,
        connection: Arc<ConnectionRecord>,
        grant: &Grant,
    ) -> Result<CandidateSecret, VaultError> {
        let minted = self.refresh.minted(&connection, grant, Version::default()).await?;
        let is_successor = minted.replaces_token_of(grant);
        let bytes = minted.newer().unwrap_or_else(|| grant.encode());
        let catalogue = self.context.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let (shown, given) = (grant.shown_fields(auth), grants::given(grant));
        Ok(CandidateSecret {
            credential: minted.credential,
            shown,
            connection,
            given,
            bytes,
            replaces_lost: true,
            is_successor,
        })
    }

    /// Puts the secret in force over the unreadable row.
    ///
    /// # Errors
    /// When another secret was given meanwhile, or the store fails.
    pub(crate) async fn replace_lost(
        &self,
        connection: &Arc<ConnectionRecord>,
        given: Option<String>,
        bytes: Zeroizing<Vec<u8>>,
        expires: Option<Timestamp>,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let dates = Some(Dates { rotated: Some(self.clock.now()), expires });
        let header = GrantHeader { given, dates, ..GrantHeader::of(connection) };
        let row = NewRow { header, grants: bytes };
        while_the_store_fails(|| self.write_over_lost(connection, row.clone())).await?;
        self.refresh.forget(&connection.id);
        self.works_again(connection).await
    }

    async fn write_over_lost(
        &self,
        connection: &Arc<ConnectionRecord>,
        row: NewRow,
    ) -> Result<(), VaultError> {
        let overtaken = || VaultError::RotationOvertaken { connection: connection.name.clone() };
        if !self.grants.is_lost(connection).await? {
            let stored = self.grants.stored(connection).await?;
            return if stored.is_of(None, &row.grants) { Ok(()) } else { Err(overtaken()) };
        }
        let over = self.grants.replaced(connection).await?.version;
        match self.grants.write(&connection.org, &connection.id, row, over).await {
            Err(error) if grants::is_conflict(&error) => Err(overtaken()),
            written => written.map(drop),
        }
    }

    /// Wipes a new secret whose test failed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn abandon(&self, candidate: CandidateSecret) -> Result<(), VaultError> {
        match candidate.replaces_lost {
            true => Ok(()),
            false => self.drop_staged(&candidate.connection, &candidate.bytes).await,
        }
    }

    pub(crate) async fn or_drop_staged<T>(
        &self,
        connection: &Arc<ConnectionRecord>,
        bytes: &[u8],
        result: Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        if result.is_err() {
            self.drop_staged(connection, bytes).await?;
        }
        result
    }

    async fn drop_staged(
        &self,
        connection: &Arc<ConnectionRecord>,
        bytes: &[u8],
    ) -> Result<(), VaultError> {
        let put = |stored: &StoredGrant| {
            is_still(connection, stored, bytes)?;
            Ok(stored.header_for(connection).into_row(&stored.bytes, None))
        };
        match self.refresh.change(connection, &put).await {
            // Another secret is staged.
            Ok(_) | Err(VaultError::RotationOvertaken { .. }) => {}
            Err(error) => return Err(error),
        }
        self.refresh.sync_record(connection).await.map(drop)
    }
}

/// Retries a write whose data is lost if it fails: a token request may have spent the token that the data replaces. A
/// write that was reported as failed may have been made, so `write` must accept a row that already has its data.
///
/// # Errors
/// The last one, after three seconds.
pub(crate) async fn while_the_store_fails<T, F>(write: impl Fn() -> F) -> Result<T, VaultError>
where
    F: Future<Output = Result<T, VaultError>>,
{
    for pause in STORE_AGAIN {
        match write().await {
            Err(VaultError::Store(_)) => tokio::time::sleep(pause).await,
            other => return other,
        }
    }
    write().await
}

/// Whether the staged secret is still the same.
pub(crate) fn is_still(
    connection: &ConnectionRecord,
    stored: &StoredGrant,
    staged: &[u8],
) -> Result<(), VaultError> {
    match &stored.other {
        Some((second, bytes))
            if second.state == RotationState::Testing
                && bool::from(bytes.as_slice().ct_eq(staged)) =>
        {
            Ok(())
        }
        _ => Err(VaultError::RotationOvertaken { connection: connection.name.clone() }),
    }
}
