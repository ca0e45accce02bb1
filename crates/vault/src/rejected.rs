//! Secrets that their provider rejects, such as revoked API keys: the verdict, its end, and the test request that
//! decides it. `keyward-proxy` counts the refusals of traffic and sends the test request.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::VaultError;
use super::grants::{StoredGrant, is_conflict};
use super::record::GrantVerdict;
use super::{Vault, method};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_rules::inject::credential::Credential;
use keyward_rules::provider::{TestRequest, TestRequestError};
use keyward_state::directory::{BrokenReason, ConnectionRecord, ConnectionState, RemedyCause};

/// The stored detail of the verdict: the status of the answers.
const REFUSED: &str = "401";

impl Vault {
    /// The connection of a credential, if it is active and its secret is not a token that is renewed.
    pub fn active_with_secret(&self, credential: &Credential) -> Option<Arc<ConnectionRecord>> {
        let cell = self.cache.known(&credential.connection)?;
        let connection = self.connection(&cell.org, &credential.connection).ok()?;
        let catalogue = self.catalogue(&connection.org);
        let (_, auth) =
            method(&catalogue, &connection.provider, connection.auth.as_deref()).ok()?;
        let is_active = connection.facts.state == ConnectionState::Active;
        (is_active && !auth.has_tokens()).then_some(connection)
    }

    /// Whether a person resumed the connection after its test was rejected, so that the test does not break it again.
    ///
    /// # Errors
    /// When the grant cannot be read.
    pub async fn is_untestable(&self, connection: &ConnectionRecord) -> Result<bool, VaultError> {
        Ok(self.stored(connection).await?.untestable)
    }

    /// The provider's test request for a connection; `None` if it has none. `shown`: the fields that are not
    /// secret; by default those of the stored grant.
    ///
    /// # Errors
    /// When the declared request cannot be built.
    pub async fn test_request(
        &self,
        connection: &ConnectionRecord,
        shown: Option<BTreeMap<String, String>>,
    ) -> Result<Option<TestRequest>, TestRequestError> {
        let catalogue = self.catalogue(&connection.org);
        let Some(provider) = catalogue.get(&connection.provider) else { return Ok(None) };
        let Some(auth) = provider.auth(connection.auth.as_deref()) else { return Ok(None) };
        if provider.test(auth).is_none() {
            return Ok(None);
        }
        // A grant that does not open is a result of the test, not an internal error.
        let shown = match shown {
            Some(shown) => shown,
            None => self.shown_fields(connection).await.unwrap_or_default(),
        };
        provider.test_request(auth, &connection.host_variables(), &shown)
    }

    /// Marks the connection of `refused` as broken, unless its secret has changed since.
    ///
    /// # Errors
    /// When the grant cannot be read, or the store fails.
    pub async fn reject(&self, refused: &Credential) -> Result<(), VaultError> {
        let Some(connection) = self.active_with_secret(refused) else { return Ok(()) };
        let stored = self.stored(&connection).await?;
        if stored.broken.is_some() {
            // After a crash, the record may differ from the verdict in the row.
            return self.sync_record(&connection).await.map(drop);
        }
        if stored.version.0 != refused.generation {
            return Ok(());
        }
        let reason = BrokenReason::Rejected;
        let verdict = GrantVerdict::new(reason, Some(REFUSED.to_owned()));
        match self.mark_broken(&connection, &stored, verdict).await {
            Err(error) if is_conflict(&error) => return Ok(()),
            other => other?,
        };
        let remedy =
            self.remedy(&connection, RemedyCause::Broken { reason, detail: Some(REFUSED) });
        tracing::warn!(
            connection = %connection.id, name = connection.name, provider = connection.provider,
            reason = reason.code(), remedy, "a connection is broken: its provider rejects its secret"
        );
        Ok(())
    }

    /// Ends the verdict that the secret is rejected, because a test has accepted it.
    ///
    /// # Errors
    /// When there is no such connection, or the store fails.
    pub async fn accept(&self, org: &OrgId, id: &ConnectionId) -> Result<(), VaultError> {
        self.end_rejection(org, id, false).await
    }

    /// Ends the verdict because a person uses the secret although its test is rejected. From now on the test does not
    /// break the connection.
    ///
    /// # Errors
    /// As [`Vault::accept`].
    pub async fn ignore_test(&self, org: &OrgId, id: &ConnectionId) -> Result<(), VaultError> {
        self.end_rejection(org, id, true).await
    }

    async fn end_rejection(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        untestable: bool,
    ) -> Result<(), VaultError> {
        let connection = self.connection(org, id)?;
        let put = |stored: &StoredGrant| {
            let verdict = stored.broken.clone().filter(GrantVerdict::prevents_test);
            let mut row = stored.becomes(&connection, verdict, &stored.bytes);
            row.header.on_trial = stored.on_trial;
            row.header.untestable |= untestable;
            Ok(row)
        };
        self.change(&connection, &put).await?;
        self.sync_record(&connection).await.map(drop)
    }
}
