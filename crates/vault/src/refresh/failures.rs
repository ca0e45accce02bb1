//! Stored failures of refreshes: a gateway that starts within a pause sends no request, and keeps the time of the
//! first failure and the count of unknown error codes. A row is written after a failed refresh, never by a request.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::backoff::{Backoff, StoredBackoff};
use crate::rows::{RowError, SealedRows};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::store::{Store, StoreError, Table, Version};

/// The content of a row.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FailureRow {
    #[serde(flatten)]
    pub(super) about: FailureSubject,
    pub(super) failures: StoredBackoff,
}

/// The grant and configuration that failures belong to. Failures of an older grant or another configuration are
/// obsolete.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FailureSubject {
    /// The version of the grant.
    pub generation: u64,
    /// See [`TokenContext::fingerprint`].
    #[serde(rename = "asked")]
    pub request_fingerprint: String,
}

/// The rows, by connection.
#[derive(Debug)]
pub(crate) struct FailureRows(SealedRows<FailureRow>);

impl FailureRows {
    pub(super) fn new(store: Arc<dyn Store>, keyring: Arc<Keyring>) -> Self {
        Self(SealedRows::new(store, keyring, Table::Refreshes, ""))
    }

    pub(super) async fn all(
        &self,
        org: &OrgId,
    ) -> Result<Vec<(String, FailureRow, Version)>, RowError> {
        self.0.all(org).await
    }

    /// The failures of this subject, by this replica or another.
    pub(crate) async fn of(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        about: &FailureSubject,
    ) -> Option<Backoff> {
        match self.0.get(org, id.as_str()).await {
            Ok(found) => {
                let found = found.map(|(row, _)| row).filter(|it| it.about == *about)?;
                Some(Backoff::read(found.failures))
            }
            Err(error) => {
                tracing::warn!(%error, "stored failures of refreshes cannot be read, and are ignored");
                None
            }
        }
    }

    pub(crate) async fn store(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        about: FailureSubject,
        failures: StoredBackoff,
    ) {
        let row = FailureRow { about, failures };
        match self.0.replace(org, id.as_str(), &row).await {
            Ok(_) | Err(RowError::Store(StoreError::Conflict { .. })) => {}
            Err(error) => tracing::warn!(%error, "a failed refresh is not remembered"),
        }
    }

    pub(crate) async fn delete(&self, org: &OrgId, id: &ConnectionId) {
        if let Err(error) = self.0.delete(org, id.as_str()).await {
            tracing::debug!(%error, "ended failures are deleted at the next start");
        }
    }
}
