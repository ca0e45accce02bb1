//! Follows authorization servers that change their endpoints or forget a client. The discovered endpoints are stored
//! with the app, unless a person configured them, and the metadata is read again when an endpoint is gone.

use std::collections::HashSet;
use std::sync::Arc;

use super::Flows;
use super::error::FlowError;
use crate::grant::oauth::Metadata;
use keyward_base::id::{ConnectionId, OrgId};
use keyward_state::directory::{AppRecord, AppUrls, ConnectionRecord};

/// Issuers whose endpoints one app keeps: a tenant each.
const ISSUERS_MAX: usize = 64;

/// Whether metadata is worth reading again after this code of a token endpoint: the client is not known
/// there, or nothing is (OAuth errors and `http_404`).
pub fn suggests_new_endpoints(code: &str) -> bool {
    matches!(code, "invalid_client" | "http_404" | "http_405")
}

impl Flows {
    /// Reads metadata anew whenever a refresh meets an endpoint that is not there any more. Works until it
    /// is dropped.
    pub async fn follow_moves(&self) {
        loop {
            // Each issuer once for all who failed there together.
            let mut read = HashSet::new();
            for (org, connection) in self.vault.changed_endpoints().await {
                match self.look_again(&org, &connection, &mut read).await {
                    Ok(true) => {
                        tracing::info!(%connection, "its authorization server has moved");
                    }
                    Ok(false) => {}
                    Err(error) => tracing::info!(
                        %connection, %error, "the endpoints of its authorization server could not be read again"
                    ),
                }
            }
        }
    }

    /// Whether the connection's endpoints are others now.
    async fn look_again(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        read: &mut HashSet<String>,
    ) -> Result<bool, FlowError> {
        let connection = self.directory().view().connection(org, id).cloned();
        let connection = connection.ok_or(FlowError::NoConnection)?;
        let found = connection.facts.discovered.as_ref().and_then(|found| found.issuer.clone());
        let moved = match found {
            None => false,
            Some(issuer) => {
                let metadata = self.read_again(&issuer, read).await?;
                let moved = self.vault.keep_found(&connection, &issuer, &metadata).await?;
                if moved {
                    self.vault.try_rejected_again().await;
                }
                moved
            }
        };
        match connection.app {
            Some(_) => Ok(self.app_moved(&connection, read).await? || moved),
            None => Ok(moved),
        }
    }

    /// The metadata of an issuer, read once for all who failed there together.
    async fn read_again(
        &self,
        issuer: &str,
        read: &mut HashSet<String>,
    ) -> Result<Arc<Metadata>, FlowError> {
        if read.insert(issuer.to_owned()) {
            self.vault.distrust_metadata(issuer);
        }
        self.metadata(issuer).await
    }

    /// Whether the endpoints of its app are others now.
    async fn app_moved(
        &self,
        connection: &ConnectionRecord,
        read: &mut HashSet<String>,
    ) -> Result<bool, FlowError> {
        let before = self.app_of(connection)?;
        let issuer = match &before.registered {
            Some(registered) => registered.issuer.clone(),
            None => match self.issuer_of(connection, &before)? {
                Some(issuer) if before.discovered.contains_key(&issuer) => issuer,
                // A person named the endpoints.
                _ => return Ok(false),
            },
        };
        let metadata = self.read_again(&issuer, read).await?;
        match before.registered {
            None => self.keep_endpoints(&before, &issuer, &metadata).await,
            Some(_) => self.keep_registered(&before, &metadata).await,
        }
    }

    /// What metadata says beside what a person said. Whether that is new.
    pub(super) async fn keep_endpoints(
        &self,
        app: &AppRecord,
        issuer: &str,
        metadata: &Metadata,
    ) -> Result<bool, FlowError> {
        let told = AppUrls { issuer: None, ..urls(metadata) };
        let known = app.discovered.get(issuer);
        if known == Some(&told) || known.is_none() && app.discovered.len() >= ISSUERS_MAX {
            return Ok(false);
        }
        let keep = |record: &mut AppRecord| {
            record.discovered.insert(issuer.to_owned(), told.clone());
        };
        self.directory().update_app(&app.org, &app.id, &keep).await?;
        self.vault.app_changed(&app.org, &app.id).await;
        Ok(true)
    }

    /// The endpoints of a client that registered itself: its secret goes where the same issuer says.
    async fn keep_registered(
        &self,
        app: &Arc<AppRecord>,
        metadata: &Metadata,
    ) -> Result<bool, FlowError> {
        let told = urls(metadata);
        if app.urls == told {
            return Ok(false);
        }
        let secret = self.vault.app_secret(app).await?;
        let set = |record: &mut AppRecord| record.urls.clone_from(&told);
        self.vault.change_app(&app.org, &app.id, &set, Some(secret)).await?;
        Ok(true)
    }
}

/// The endpoints that an issuer names.
pub(super) fn urls(metadata: &Metadata) -> AppUrls {
    AppUrls {
        issuer: Some(metadata.issuer.clone()),
        authorize: metadata.authorization_endpoint.clone(),
        token: metadata.token_endpoint.clone(),
        device: metadata.device_authorization_endpoint.clone(),
        revoke: metadata.revocation_endpoint.clone(),
    }
}
