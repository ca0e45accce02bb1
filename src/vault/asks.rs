//! What a grant gives by itself, and what it gives when an authorization server is asked.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::Failed;
use super::error::VaultError;
use super::fresh::{Held, Life};
use super::record::Verdict;
use super::servers::Asked;
use super::{Vault, method};
use crate::directory::ConnectionRecord;
use crate::grant::{Grant, MintContext};
use crate::store::Version;

/// Why a server gave nothing.
#[derive(Debug)]
#[expect(dead_code, reason = "none of the present kinds has anybody to ask")]
pub enum Fault {
    /// The grant is finished, until somebody acts.
    Dead(Verdict),
    /// It may give something later.
    Passing {
        /// What the pause depends on.
        failed: Failed,
        /// Nobody asks there as this client for so long.
        whole_client: Option<Duration>,
    },
}

impl Vault {
    /// The credential that a grant gives without asking anybody.
    pub(super) async fn held(
        &self,
        connection: &ConnectionRecord,
        grant: &Grant,
        version: Version,
    ) -> Result<Option<Held>, VaultError> {
        let catalogue = self.catalogue();
        let (provider, auth) = method(&catalogue, &connection.provider, Some(&connection.auth))?;
        let instance = provider.instantiate(auth, &connection.host_variables())?;
        let generation = version.0;
        let context =
            MintContext { connection: &connection.id, generation, instance: &instance, ask: None };
        let malformed = |source| VaultError::Mint { connection: connection.name.clone(), source };
        let Some(minted) = grant.ready(&context).map_err(malformed)? else { return Ok(None) };
        let (credential, at) = (Arc::new(minted.credential), self.clock.moment());
        let left = credential.expires.map(|ends| ends.duration_since(at.day()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        let life = left.map(|left| Life::new(left, left, None));
        Ok(Some(Held::new(credential, at, life)))
    }

    /// Whether the provider's file says that such an answer means 401.
    pub(super) fn expired(
        &self,
        _connection: &ConnectionRecord,
        _status: u16,
        _body: &[u8],
    ) -> bool {
        false
    }

    /// Whether somebody can be asked for a newer credential.
    pub(super) fn renews(&self, _grant: &Grant) -> bool {
        // None of the present kinds has anybody to ask.
        false
    }

    /// Who is asked for newer credentials.
    pub(super) fn asked(&self, _connection: &ConnectionRecord) -> Option<Asked> {
        None
    }

    /// Asks for the grant that follows this one.
    pub(super) async fn ask(
        &self,
        connection: &ConnectionRecord,
        _grant: &Grant,
        _version: Version,
    ) -> Result<Result<Grant, Fault>, VaultError> {
        Err(VaultError::NotRefreshable { connection: connection.name.clone() })
    }
}
