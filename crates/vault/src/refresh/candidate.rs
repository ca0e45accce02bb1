//! Mints the credential of a grant that is not in force yet, for its test.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::Refresh;
use super::backoff::FailureDetails;
use super::cache::Trigger;
use super::endpoints::EndpointsUnknown;
use super::token_request::{RequestFailure, StoredGrants};
use crate::error::VaultError;
use crate::grant::Grant;
use keyward_rules::inject::credential::Credential;
use keyward_state::directory::ConnectionRecord;
use keyward_state::store::Version;

/// A credential for the test of a grant, and the newer grant if a token request was needed for it.
pub(crate) struct MintedCandidate {
    pub(crate) credential: Arc<Credential>,
    newer: Option<Grant>,
}

impl MintedCandidate {
    /// Whether the server replaced the refresh token of `given`.
    pub(crate) fn replaces_token_of(&self, given: &Grant) -> bool {
        let newer = self.newer.as_ref().and_then(Grant::tokens);
        newer
            .zip(given.tokens())
            .is_some_and(|(newer, given)| newer.replaces_refresh_token_of(given))
    }

    /// The newer grant, encoded.
    pub(crate) fn newer(&self) -> Option<Zeroizing<Vec<u8>>> {
        self.newer.as_ref().map(Grant::encode)
    }
}

impl Refresh {
    /// The credential of a staged grant.
    pub(crate) async fn minted(
        &self,
        connection: &Arc<ConnectionRecord>,
        grant: &Grant,
        version: Version,
    ) -> Result<MintedCandidate, VaultError> {
        let token_context = self.guarded_token_context(connection).await?;
        if let Some(held) =
            self.held(connection, &token_context, StoredGrants { grant, other: None, version })?
        {
            return Ok(MintedCandidate { credential: held.credential().clone(), newer: None });
        }
        let name = || connection.name.clone();
        match self.find_endpoints(connection, Trigger::Requested(0)).await? {
            None => {}
            Some(EndpointsUnknown::RequestFailure(fault)) => {
                return Err(fault.of_candidate(connection));
            }
            Some(EndpointsUnknown::Paused(rest)) => {
                let failed =
                    FailureDetails { retry_after: Some(rest), ..FailureDetails::default() };
                let failed = Box::new(failed);
                let fault = RequestFailure::Temporary { failed, whole_client: None };
                return Err(fault.of_candidate(connection));
            }
        }
        let discovered = self.context.connection(&connection.org, &connection.id)?;
        let token_context = self.guarded_token_context(&discovered).await?;
        let newer = self.ask(connection, &token_context, grant).await?;
        let newer = newer.map_err(|fault| fault.of_candidate(connection))?;
        if let Some(unusable) = newer.unusable_answer() {
            // Not revoked: the grant in force may share its access.
            return Err(VaultError::CandidateUnusable {
                connection: name(),
                why: unusable.to_string(),
            });
        }
        let held = self.held(
            connection,
            &token_context,
            StoredGrants { grant: &newer, other: None, version },
        )?;
        let held = held.ok_or_else(|| VaultError::NotRefreshable { connection: name() })?;
        Ok(MintedCandidate { credential: held.credential().clone(), newer: Some(newer) })
    }
}
