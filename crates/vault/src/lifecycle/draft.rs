//! Connections with a secret that is not tested yet. It is sealed, and only the activating test may use it.
//! [`Vault::open`](crate::Vault::open) resumes interrupted activations.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Lifecycle;
use super::add::NewConnection;
use crate::context::method;
use crate::error::VaultError;
use crate::grants::record::{GrantHeader, NewRow};
use crate::grants::{self, TRIES_MAX};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_base::secret::Secret;
use keyward_model::Connection;
use keyward_state::directory::{ConnectionRecord, ConnectionState, RemedyCause};

/// The failure of a draft whose test was interrupted.
const TEST_CUT: &str = "its test did not end";

/// Makes the new row from the stored one, if there is one.
type Rewrite<'a> = dyn Fn(Option<&grants::StoredGrant>) -> NewRow + Sync + 'a;

impl Lifecycle {
    /// Adds a connection as [`Lifecycle::add`] does, but as a draft until it is tested or [`Lifecycle::activate`]
    /// is called.
    ///
    /// # Errors
    /// As [`Lifecycle::add`].
    pub async fn add_untested(
        &self,
        new: NewConnection,
        fields: BTreeMap<String, Secret>,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        self.add_with(new, fields, true).await
    }

    /// Stores the secret of a draft, or replaces it. It stays a draft.
    ///
    /// # Errors
    /// When the connection is not a draft, the fields do not fit, or the store fails.
    pub async fn store_draft_secret(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        fields: BTreeMap<String, Secret>,
    ) -> Result<(), VaultError> {
        let connection = self.draft(org, id)?;
        let catalogue = self.context.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let grant = self.grant_of(auth, &connection.references, fields)?;
        let (given, bytes) = (grants::given(&grant), grant.encode());
        let row = || {
            let header = GrantHeader {
                given: given.clone(),
                untested: true,
                ..GrantHeader::of(&connection)
            };
            NewRow { header, grants: bytes.clone() }
        };
        self.rewrite(&connection, &|_| row()).await
    }

    /// Whether a draft has a secret.
    ///
    /// # Errors
    /// When the connection is not a draft, or its row cannot be read.
    pub async fn has_secret(&self, org: &OrgId, id: &ConnectionId) -> Result<bool, VaultError> {
        let connection = self.draft(org, id)?;
        Ok(self.grants.stored_if_any(&connection).await?.is_some())
    }

    /// Marks the test of a draft as running.
    ///
    /// # Errors
    /// When the connection is not a draft, or the store fails.
    pub async fn test_begins(
        &self,
        org: &OrgId,
        id: &ConnectionId,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        self.draft(org, id)?;
        let begun = |record: &mut ConnectionRecord| {
            if let ConnectionState::Draft { .. } = record.facts.state {
                record.facts.state = ConnectionState::Testing;
            }
        };
        Ok(self.directory.change::<Connection>(org, id, begun).await?)
    }

    /// Returns the connection to a draft, with the failure of its test.
    ///
    /// # Errors
    /// When there is no such connection, or the store fails.
    pub async fn test_failed(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        why: &str,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let failed = |record: &mut ConnectionRecord| {
            if let ConnectionState::Testing = record.facts.state {
                record.facts.state = ConnectionState::Draft { failure: Some(why.to_owned()) };
            }
        };
        Ok(self.directory.change::<Connection>(org, id, failed).await?)
    }

    /// Activates a draft.
    ///
    /// # Errors
    /// When it has no secret, or the store fails.
    pub async fn activate(
        &self,
        org: &OrgId,
        id: &ConnectionId,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let connection = self.context.connection(org, id)?;
        self.grants.stored(&connection).await?;
        self.rewrite(&connection, &|stored| {
            let (given, grants) =
                stored.map(|it| (it.given.clone(), it.bytes.clone())).unwrap_or_default();
            NewRow { header: GrantHeader { given, ..GrantHeader::of(&connection) }, grants }
        })
        .await?;
        self.refresh.sync_record(&connection).await
    }

    /// Marks tests as failed that a crash or a restart interrupted.
    pub(crate) async fn cut_tests(&self) -> Result<(), VaultError> {
        for connection in self.directory.view().connections() {
            if connection.facts.state != ConnectionState::Testing {
                continue;
            }
            // A connection with a tested secret is in this state until its next refresh, because its client was
            // rejected.
            if self.grants.stored_if_any(connection).await?.is_none_or(|stored| stored.untested) {
                self.test_failed(&connection.org, &connection.id, TEST_CUT).await?;
            }
        }
        Ok(())
    }

    fn draft(&self, org: &OrgId, id: &ConnectionId) -> Result<Arc<ConnectionRecord>, VaultError> {
        let connection = self.context.connection(org, id)?;
        match connection.facts.state {
            ConnectionState::Draft { .. } => Ok(connection),
            _ => Err(VaultError::NotADraft {
                connection: connection.name.clone(),
                remedy: self.context.remedy(&connection, RemedyCause::Credential),
            }),
        }
    }

    /// Replaces the row, or creates it; conflicts are retried.
    async fn rewrite(
        &self,
        connection: &ConnectionRecord,
        to: &Rewrite<'_>,
    ) -> Result<(), VaultError> {
        let (org, id) = (&connection.org, &connection.id);
        for _ in 0..TRIES_MAX {
            let stored = self.grants.stored_if_any(connection).await?;
            let over = stored.as_ref().map(|stored| stored.version);
            match self.grants.write(org, id, to(stored.as_ref()), over).await {
                Err(error) if grants::is_conflict(&error) => {}
                other => {
                    other?;
                    self.refresh.forget(id);
                    return Ok(());
                }
            }
        }
        Err(grants::overtaken(org, id))
    }
}
