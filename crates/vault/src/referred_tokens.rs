//! Tokens that are minted from keys by reference: service accounts, apps of GitHub, signed tokens, sessions, roles.
//! Each mint fetches the key from the source, so that a rotated key is used at once. While the source is unavailable,
//! the last key is used, up to the source's `ttl` and `keep`. The server determines the lifetime of an issued token.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::Vault;
use super::backoff::FailureDetails;
use super::cache::CachedCredential;
use super::error::VaultError;
use super::record::GrantVerdict;
use super::source_values::digest_of;
use super::token_request::{RequestFailure, StoredGrants, TokenContext};
use crate::grant::{Fetched, Grant, Referred};
use keyward_model::References;
use keyward_state::directory::ConnectionRecord;

/// The pause after a server rejected a secret that was just fetched. A changed file or a manual refresh ends it.
pub(super) const REJECTED_PAUSE: Duration = Duration::from_secs(60);

impl Vault {
    /// The credential of the last token. It outlives the key that it was minted from.
    pub(super) fn held_token(
        &self,
        connection: &ConnectionRecord,
        token_context: &TokenContext,
        referred: &Referred,
        grants: StoredGrants<'_>,
    ) -> Result<Option<CachedCredential>, VaultError> {
        match referred.of(&digest_of(&connection.references)) {
            Some(Fetched { grant, .. }) => {
                self.held(connection, token_context, StoredGrants { grant, ..grants })
            }
            None => Ok(None),
        }
    }

    /// The grant with a newer token. Boxed, because [`Vault::ask`] calls this and is called by it.
    pub(super) fn minted_by_reference<'a>(
        &'a self,
        connection: &'a ConnectionRecord,
        token_context: &'a TokenContext,
        referred: &'a Referred,
    ) -> BoxFuture<'a, Result<Result<Grant, RequestFailure>, VaultError>> {
        Box::pin(async move {
            let last = referred.fetched(&digest_of(&connection.references), self.clock.now());
            let newer = self.fetched_now(connection, referred).await?;
            let Fetched { grant, facts } = match (&newer, last) {
                (Ok(newer), _) => newer,
                (Err(_), Some(last)) => last,
                (Err(_), None) => return Ok(newer.map(|it| Grant::Referred(referred.with(it)))),
            };
            Ok(match self.ask(connection, token_context, grant).await? {
                Ok(grant) => {
                    let fetched = Fetched { grant: Box::new(grant), facts: facts.clone() };
                    Ok(Grant::Referred(referred.with(fetched)))
                }
                Err(RequestFailure::Dead(verdict)) => {
                    Err(rejected(&connection.references, &verdict))
                }
                Err(passing) => Err(passing),
            })
        })
    }
}

/// A rejected key is a temporary failure of the connection, because the source may have another key soon.
pub(super) fn rejected(references: &References, verdict: &GrantVerdict) -> RequestFailure {
    let code = verdict.detail.clone().unwrap_or_else(|| verdict.reason.code().to_owned());
    let names: Vec<_> = references
        .values()
        .map(|it| format!("source `{}`, ref `{}`", it.from, it.reference))
        .collect();
    let message = format!("the server rejects the secret of {}: {code}", names.join(" and "));
    let failed = FailureDetails {
        code: Some(code),
        message: Some(message),
        retry_after: Some(REJECTED_PAUSE),
        rejected: true,
        ..FailureDetails::default()
    };
    RequestFailure::Temporary { failed: Box::new(failed), whole_client: None }
}
