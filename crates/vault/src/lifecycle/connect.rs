//! Replaces or ends the grant of a connection on behalf of a person. A concurrent refresh does not
//! interfere.

use std::sync::Arc;

use super::Lifecycle;
use super::add::NewConnection;
use crate::context::method;
use crate::error::VaultError;
use crate::grant::Grant;
use crate::grants::origin::Granted;
use crate::grants::record::{GrantHeader, NewRow};
use crate::grants::{self, TRIES_MAX};
use crate::refresh::late::{self, LateAnswers};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_model::{Connection, ManagedBy};
use keyward_state::directory::{ConnectionRecord, ConnectionState};

/// A removed connection, for the revocation of its tokens at the provider.
#[derive(Debug)]
pub struct RemovedConnection {
    /// The record before its removal.
    pub connection: Arc<ConnectionRecord>,
    /// Its last grants, if they can be opened.
    pub grant: Option<Grant>,
    /// Results of running refreshes, if they must be revoked.
    pub late: Option<LateAnswers>,
    /// Whether another replica may be refreshing it. That replica revokes the result.
    pub is_awaited_elsewhere: bool,
}

impl Lifecycle {
    /// Stores the grant of a finished flow, and activates the connection. Id, bindings, placeholders and
    /// settings stay. The old grant is used until the new one is durable.
    ///
    /// # Errors
    /// When there is no such connection, another grant was stored meanwhile, or the store fails.
    pub async fn connect(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        grant: Grant,
        facts: Granted,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let connection = self.context.connection(org, id)?;
        let bytes = grant.encode();
        for _ in 0..TRIES_MAX {
            let old = self.grants.replaced(&connection).await?;
            if !facts.is_stored_in(&old) {
                if !facts.may_replace(&old) {
                    let connection = connection.name.clone();
                    return Err(VaultError::RotationOvertaken { connection });
                }
                let given = old.origin.and_then(|origin| origin.given);
                let (consent, app) = (facts.consent.clone(), facts.app.clone());
                let header = GrantHeader { given, consent, app, ..GrantHeader::of(&connection) };
                let row = NewRow { header, grants: bytes.clone() };
                match self.grants.write(org, id, row, old.version).await {
                    Err(error) if grants::is_conflict(&error) => continue,
                    other => other?,
                };
            }
            self.refresh.forget(id);
            let projected = self.refresh.sync_record_with(&connection, Some(&facts)).await;
            if projected.is_err() && self.context.connection(org, id).is_err() {
                // The connection was removed between the two writes: its grant is removed too.
                self.grants.delete(org, id).await?;
                return Err(VaultError::ConnectionMissing);
            }
            return projected;
        }
        Err(grants::overtaken(org, id))
    }

    /// Adds a connection that a flow will connect; it has no grant yet.
    ///
    /// # Errors
    /// As [`Lifecycle::add`], but for the fields.
    pub async fn add_draft(&self, new: NewConnection) -> Result<Arc<ConnectionRecord>, VaultError> {
        let catalogue = self.context.catalogue(&new.org);
        let (provider, auth) = method(&catalogue, &new.spec.provider, new.spec.auth.as_deref())?;
        provider.check_before_consent(auth, &new.spec.variables)?;
        super::add::fitting(provider, &new.spec.settings)?;
        let mut record = self.new_record(new, auth);
        record.facts.state = ConnectionState::Draft { failure: None };
        Ok(self.directory.add_record(record).await?)
    }

    /// Removes a connection with bindings, metadata and tokens, and ends its streams. Returns what must be
    /// revoked at the provider; with `revoke`, results of running refreshes are kept for revocation too.
    ///
    /// # Errors
    /// As [`Lifecycle::remove`].
    pub async fn disconnect(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        revoke: bool,
    ) -> Result<RemovedConnection, VaultError> {
        let connection = self.context.connection(org, id)?;
        // Before the row is deleted: a refresh that finds no row keeps its tokens for revocation.
        let late = revoke.then(|| self.refresh.collect_late(id));
        if revoke {
            // Other replicas must revoke the tokens that they still receive.
            self.directory.keep(&late::note_name(id), &[], late::WANTED_FOR).await?;
        }
        self.directory.remove::<Connection>(org, id, ManagedBy::Store).await?;
        self.refresh.remove(org, id).await;
        let grant = self.grants.take_grant(&connection).await?;
        let late = late.filter(LateAnswers::is_awaited);
        let may_be = revoke && late.is_none() && self.directory.is_shared();
        let is_awaited_elsewhere = may_be && self.refresh.may_be_refreshed(id).await;
        Ok(RemovedConnection { connection, grant, late, is_awaited_elsewhere })
    }
}
