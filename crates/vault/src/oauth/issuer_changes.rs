//! Follows authorization servers that change their endpoints or forget a client. The discovered endpoints are stored
//! with the app, unless a person configured them, and the metadata is read again when an endpoint is missing.

use std::collections::HashSet;
use std::sync::Arc;

use super::Flows;
use super::error::FlowError;
use crate::grant::oauth::{Metadata, TokenFailure};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_model::{App, AppUrls};
use keyward_state::directory::{AppRecord, ConnectionRecord};

/// Most issuers per app, one per tenant.
const ISSUERS_MAX: usize = 64;

/// The remedy for a registered client that its server rejects.
pub(super) const CLIENT_FORGOTTEN: &str = "the server does not know the client that Keyward registered there \
                                any more: start again, and Keyward registers a new one";

/// Whether metadata must be read again after this error code: the client or the endpoint is unknown (OAuth
/// errors and `http_404`).
pub fn suggests_new_endpoints(code: &str) -> bool {
    matches!(code, "invalid_client" | "http_404" | "http_405")
}

impl Flows {
    /// Reads metadata again when a refresh finds an endpoint missing. Runs until it is dropped.
    pub async fn follow_moves(&self) {
        loop {
            // Each issuer is read once for all connections that failed together.
            let mut read = HashSet::new();
            for (org, connection) in self.vault.changed_endpoints().await {
                match self.update_endpoints(&org, &connection, &mut read).await {
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

    /// Updates the endpoints of a connection. Returns whether they changed.
    async fn update_endpoints(
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
                    self.vault.retry_changed_clients().await;
                }
                moved
            }
        };
        match connection.app {
            Some(_) => Ok(self.app_moved(&connection, read).await? || moved),
            None => Ok(moved),
        }
    }

    /// The metadata of an issuer, read once for all connections that failed together.
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

    /// Updates the endpoints of an app. Returns whether they changed.
    async fn app_moved(
        &self,
        connection: &ConnectionRecord,
        read: &mut HashSet<String>,
    ) -> Result<bool, FlowError> {
        let before = self.app_of(connection)?;
        let issuer = match &before.facts.registered {
            Some(registered) => registered.issuer.clone(),
            None => match self.issuer_of(connection, &before)? {
                Some(issuer) if before.facts.discovered.contains_key(&issuer) => issuer,
                // A person configured the endpoints.
                _ => return Ok(false),
            },
        };
        let metadata = self.read_again(&issuer, read).await?;
        let metadata = metadata.for_client(self.vault.client_auth(connection)?);
        match before.facts.registered {
            None => self.keep_endpoints(&before, &issuer, &metadata).await,
            Some(_) => self.keep_registered(&before, &metadata).await,
        }
    }

    /// Why the server refused a request of a consent. If it rejects a client that Keyward registered, the registration
    /// ends: the next consent registers a new client.
    pub(super) async fn refused_request(
        &self,
        app: &AppRecord,
        failure: &TokenFailure,
    ) -> FlowError {
        if app.facts.registered.is_none() || !failure.is_of_invalid_client() {
            return FlowError::Server(failure.to_string());
        }
        self.end_registration(app).await;
        FlowError::Server(format!("{failure}: {CLIENT_FORGOTTEN}"))
    }

    /// Ends the registration of a client that its server does not know, so that the next consent registers another one.
    pub(super) async fn end_registration(&self, app: &AppRecord) {
        let now = self.clock.now();
        let end = |record: &mut AppRecord| {
            if let Some(registered) = &mut record.facts.registered {
                registered.expires = Some(registered.expires.map_or(now, |ends| ends.min(now)));
            }
        };
        if let Err(error) = self.directory().change::<App>(&app.org, &app.id, end).await {
            tracing::warn!(app = %app.id, %error, "a rejected registration is not ended");
        }
    }

    /// Stores the metadata's endpoints that are not configured. Returns whether they changed.
    pub(super) async fn keep_endpoints(
        &self,
        app: &AppRecord,
        issuer: &str,
        metadata: &Metadata,
    ) -> Result<bool, FlowError> {
        let told = AppUrls { issuer: None, ..urls(metadata) };
        let known = app.facts.discovered.get(issuer);
        if known == Some(&told) || known.is_none() && app.facts.discovered.len() >= ISSUERS_MAX {
            return Ok(false);
        }
        let keep = |record: &mut AppRecord| {
            record.facts.discovered.insert(issuer.to_owned(), told.clone());
        };
        self.directory().change::<App>(&app.org, &app.id, keep).await?;
        self.vault.app_changed(&app.org, &app.id).await;
        Ok(true)
    }

    /// Updates the endpoints of a registered client. Its secret is sent only to endpoints of the same
    /// issuer.
    async fn keep_registered(
        &self,
        app: &Arc<AppRecord>,
        metadata: &Metadata,
    ) -> Result<bool, FlowError> {
        let told = urls(metadata);
        if app.urls == told {
            return Ok(false);
        }
        let secret = self.vault.own_secret(app).await?;
        let set = |record: &mut AppRecord| -> Result<(), FlowError> {
            record.spec.urls.clone_from(&told);
            Ok(())
        };
        self.vault.change_app(&app.org, &app.id, &set, Some(secret)).await?;
        Ok(true)
    }
}

/// The endpoints in an issuer's metadata.
pub(super) fn urls(metadata: &Metadata) -> AppUrls {
    AppUrls {
        issuer: Some(metadata.issuer.clone()),
        authorize: metadata.authorization_endpoint.clone(),
        token: metadata.token_endpoint.clone(),
        device: metadata.device_authorization_endpoint.clone(),
        revoke: metadata.revocation_endpoint.clone(),
    }
}
