//! The state after a start or a change of the configuration: pauses go on, and rejected clients whose requests have changed
//! are tried again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Refresh;
use super::backoff::Backoff;
use super::cache::{Lookup, Trigger};
use super::failures::{FailureRow, FailureSubject};
use super::token_request::TokenContext;
use crate::error::VaultError;
use crate::grants::StoredGrant;
use crate::grants::record::GrantVerdict;
use keyward_base::id::{AppId, ConnectionId, OrgId};
use keyward_model::Connection;
use keyward_state::directory::{BrokenReason, ConnectionRecord, ConnectionState};
use keyward_state::store::Version;

impl Refresh {
    /// The subject of a refresh of the stored grant.
    pub(crate) async fn failure_subject(
        &self,
        token_context: &TokenContext,
        stored: &StoredGrant,
    ) -> Result<FailureSubject, VaultError> {
        let request_fingerprint = self.fingerprint_now(token_context).await?;
        Ok(FailureSubject { generation: stored.version.0, request_fingerprint })
    }

    /// The fingerprint of token requests, with the version of the app's secret. Each fetch of a secret by reference
    /// makes a new version of its row, which says nothing about the request.
    pub(crate) async fn fingerprint_now(
        &self,
        token_context: &TokenContext,
    ) -> Result<String, VaultError> {
        let secret = match token_context.app() {
            Some(app) if app.references.is_empty() => {
                self.grants.app_version(app).await?.unwrap_or_default()
            }
            _ => Version::default(),
        };
        Ok(token_context.fingerprint(secret))
    }

    /// Restores the state of the last process: pauses, alerts, and connections with a rejected client that
    /// may be tried again. Sends no request. Called after the configuration was applied.
    pub async fn resume(&self) {
        let view = self.directory.view();
        let orgs: BTreeSet<&OrgId> = view.connections().map(|it| &it.org).collect();
        for org in orgs {
            let all = match self.failures.all(org).await {
                Ok(all) => all,
                Err(error) => {
                    tracing::warn!(%error, "stored failures of refreshes cannot be read, and are ignored");
                    continue;
                }
            };
            for (id, row, _) in all {
                let id = ConnectionId::parse(&id).ok();
                let connection = id.as_ref().and_then(|id| view.connection(org, id));
                match connection {
                    Some(connection) => self.resumed(connection, row).await,
                    None => {
                        if let Some(id) = id {
                            self.failures.delete(org, &id).await;
                        }
                    }
                }
            }
        }
        self.retry_changed_clients().await;
    }

    async fn resumed(&self, connection: &Arc<ConnectionRecord>, row: FailureRow) {
        let still = async {
            let token_context = self.token_context(connection)?;
            let stored = self.grants.stored(connection).await?;
            Ok::<_, VaultError>((
                self.failure_subject(&token_context, &stored).await?,
                self.client_at_server(&token_context),
            ))
        };
        match still.await {
            Ok((about, asked)) if about == row.about => {
                let cell = self.cache.cell(&connection.org, &connection.id);
                let backoff = Backoff::read(row.failures);
                let now = self.clock.moment();
                if let Some(rest) = backoff.rest(now).filter(|_| backoff.last().whole_client) {
                    self.servers.pause_client(&asked, now, rest, &self.context.token_settings());
                }
                cell.adopt(backoff);
            }
            Ok(_) => self.failures.delete(&connection.org, &connection.id).await,
            Err(error) => {
                tracing::debug!(connection = %connection.id, %error, "nothing to resume");
            }
        }
    }

    /// Connections whose client was rejected, and whose token requests have changed since: the next refresh
    /// tries again. Unchanged ones stay as they are.
    pub async fn retry_changed_clients(&self) {
        let view = self.directory.view();
        let may_be = |state: &ConnectionState| match state {
            ConnectionState::Broken { reason, .. } => *reason == BrokenReason::ClientRejected,
            // The verdict is in the grant's row.
            ConnectionState::Paused => true,
            _ => false,
        };
        for connection in view.connections().filter(|it| may_be(&it.facts.state)) {
            match self.clear_verdict_if_changed(connection).await {
                Ok(true) => tracing::info!(
                    connection = %connection.id, name = connection.name,
                    "the token requests of a rejected client have changed: the next refresh tries again"
                ),
                Ok(false)
                | Err(VaultError::GrantMissing { .. } | VaultError::ConnectionMissing) => {}
                Err(error) => tracing::warn!(
                    connection = %connection.id, %error, "it cannot be tried again"
                ),
            }
        }
    }

    /// Tries a rejected client again, if that is due. The current request does not wait.
    pub fn retry_rejected(&self, org: &OrgId, name: &str) {
        let view = self.directory.view_guard();
        let Some(connection) = view.find_connection(org, name) else { return };
        let rejected = |state: &ConnectionState| match state {
            ConnectionState::Broken { reason, .. } => *reason == BrokenReason::ClientRejected,
            _ => false,
        };
        let cell = self.cache.cell(&connection.org, &connection.id);
        if !rejected(&connection.facts.state) || cell.is_quiet(self.clock.moment()) {
            return;
        }
        let why = Trigger::Rejected(cell.generation());
        if let Lookup::Begin(ticket) =
            cell.lookup(why, None, &self.clock, &self.context.token_settings())
        {
            self.begin_flight(connection, why, ticket);
        }
    }

    /// Has the next request try a rejected client again, or a token that cannot be refreshed, on behalf of a person.
    /// Returns whether the connection had such a verdict.
    ///
    /// # Errors
    /// When there is no such connection, or the store fails.
    pub async fn try_again(&self, org: &OrgId, id: &ConnectionId) -> Result<bool, VaultError> {
        let connection = self.context.connection(org, id)?;
        let Some(stored) = self.grants.stored_if_any(&connection).await? else { return Ok(false) };
        use BrokenReason::{ClientRejected, NoRefreshToken};
        let is_tried = |it: &GrantVerdict| matches!(it.reason, ClientRejected | NoRefreshToken);
        match stored.broken.as_ref().is_some_and(is_tried) {
            true => self.clear_verdict(&connection, &stored).await,
            false => Ok(false),
        }
    }

    /// Like [`Self::try_again`], for all connections of an app. Returns the connections.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn try_app_again(
        &self,
        org: &OrgId,
        app: &AppId,
    ) -> Result<Vec<Arc<ConnectionRecord>>, VaultError> {
        let view = self.directory.view();
        let of_app = |it: &&Arc<ConnectionRecord>| it.app_id() == Some(app);
        let mut tried = Vec::new();
        for connection in view.all::<Connection>(org).filter(of_app) {
            // Already marked to be tried again.
            let is_on_trial = connection.facts.state == ConnectionState::Testing;
            if self.try_again(org, &connection.id).await? || is_on_trial {
                tried.push(connection.clone());
            }
        }
        Ok(tried)
    }

    /// Whether token requests differ from those whose fingerprint is `asked`. If so, the verdict is
    /// obsolete, and the next request tries again.
    pub(crate) async fn requests_changed(
        &self,
        connection: &ConnectionRecord,
        asked: Option<&String>,
    ) -> Result<bool, VaultError> {
        let Some(asked) = asked else { return Ok(false) };
        Ok(self.fingerprint_now(&self.token_context(connection)?).await? != *asked)
    }

    /// Removes the verdict if token requests have changed.
    pub(crate) async fn clear_verdict_if_changed(
        &self,
        connection: &Arc<ConnectionRecord>,
    ) -> Result<bool, VaultError> {
        let Some(stored) = self.grants.stored_if_any(connection).await? else { return Ok(false) };
        let rejected = stored.broken.as_ref();
        let rejected = rejected.filter(|it| it.reason == BrokenReason::ClientRejected);
        let Some(verdict) = rejected else { return Ok(false) };
        let now = self.fingerprint_now(&self.token_context(connection)?).await?;
        if verdict.request_fingerprint.as_ref() == Some(&now) {
            return Ok(false);
        }
        self.clear_verdict(connection, &stored).await
    }
}
