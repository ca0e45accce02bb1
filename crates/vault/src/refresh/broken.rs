//! Marks grants as broken. The verdict is written into the row of the grant, over the version that it is
//! about; the state of the connection's record follows from it. Only what a person gave can end for good.

use std::sync::Arc;

use super::Refresh;
use super::token_request::TokenContext;
use crate::error::VaultError;
use crate::grant::Grant;
use crate::grants::origin::Granted;
use crate::grants::record::GrantVerdict;
use crate::grants::{StoredGrant, TRIES_MAX, is_conflict};
use keyward_model::{Connection, Deadline, Reference};
use keyward_state::directory::{BrokenReason, ConnectionRecord, ConnectionState, Rotation};
use keyward_state::store::Version;

impl Refresh {
    /// Writes the verdict over the version that was read. Returns the new version.
    ///
    /// # Errors
    /// A conflict if the grant has changed; then no verdict is written.
    pub(crate) async fn mark_broken(
        &self,
        connection: &Arc<ConnectionRecord>,
        stored: &StoredGrant,
        verdict: GrantVerdict,
    ) -> Result<Version, VaultError> {
        let row = stored.becomes(connection, Some(verdict), &stored.bytes);
        let (org, id) = (&connection.org, &connection.id);
        let version = self.grants.write(org, id, row, Some(stored.version)).await?;
        if let Err(error) = self.sync_record(connection).await {
            // The feed of changes omits a replica's own changes.
            self.cache.forget(id);
            return Err(error);
        }
        Ok(version)
    }

    /// Removes the verdict of the provider, so that the next request decides: the configuration has changed, or a person
    /// asks for it. Returns whether this call removed it.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn clear_verdict(
        &self,
        connection: &Arc<ConnectionRecord>,
        stored: &StoredGrant,
    ) -> Result<bool, VaultError> {
        let mut row = stored.becomes(connection, None, &stored.bytes);
        let verdict = stored.broken.as_ref();
        row.header.on_trial = verdict.is_some_and(|it| it.reason == BrokenReason::ClientRejected);
        let over = Some(stored.version);
        match self.grants.write(&connection.org, &connection.id, row, over).await {
            Err(error) if is_conflict(&error) => return Ok(false),
            other => other?,
        };
        self.cache.forget(&connection.id);
        self.sync_record(connection).await?;
        Ok(true)
    }

    /// Updates the state of the connection's record from its grant.
    pub(crate) async fn sync_record(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        self.sync_record_with(connection, None).await
    }

    /// Like [`Self::sync_record`], with the facts of a flow. Two rows cannot be written atomically, so the grant is read
    /// again afterwards: the last writer has seen the last grant.
    pub(crate) async fn sync_record_with(
        &self,
        connection: &ConnectionRecord,
        facts: Option<&Granted>,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let catalogue = self.context.catalogue(&connection.org);
        let answered = facts.map(|facts| &facts.captured);
        let captured = catalogue.get(&connection.provider).zip(answered);
        let captured = captured.map(|(provider, answered)| provider.captured(answered));
        let captured = captured.unwrap_or_default();
        let mut stored = self.grants.stored(connection).await?;
        for _ in 0..TRIES_MAX {
            let change = |record: &mut ConnectionRecord| {
                record.facts.state = projected(&record.facts.state, &stored);
                let verdict = stored.broken.as_ref();
                record.facts.said = verdict.and_then(|verdict| verdict.said.clone());
                let usable_until = verdict.and_then(|verdict| verdict.usable_until);
                record.facts.usable_until = usable_until.filter(|end| self.clock.now() < *end);
                rotation(record, &stored);
                if let Some(app) = &stored.app {
                    record.app = Some(Reference::Id(app.clone()));
                }
                if let Some(facts) = facts {
                    record.facts.granted.clone_from(&facts.scopes);
                    record.facts.account =
                        facts.account.as_ref().map(|account| account.name.clone());
                    record.facts.account_id =
                        facts.account.as_ref().map(|account| account.id.clone());
                    // A test result applies to the previous grant.
                    record.facts.whose = None;
                    record.facts.captured.clone_from(&captured);
                    record.facts.ends = facts.ends;
                }
            };
            let (org, id) = (&connection.org, &connection.id);
            let record = self.directory.change::<Connection>(org, id, change).await?;
            let again = self.grants.stored(connection).await?;
            if again.version == stored.version {
                return Ok(record);
            }
            stored = again;
        }
        Err(crate::grants::overtaken(&connection.org, &connection.id))
    }

    /// Stores the facts of a refresh response beside its tokens: scopes, the end of the grant, and host
    /// variables, which the provider's file restricts to its own domain.
    pub(crate) async fn follow_answer(
        &self,
        connection: &ConnectionRecord,
        newer: &Grant,
    ) -> Result<(), VaultError> {
        let Some(tokens) = newer.tokens() else { return Ok(()) };
        let facts = tokens.facts();
        let catalogue = self.context.catalogue(&connection.org);
        let Some(provider) = catalogue.get(&connection.provider) else { return Ok(()) };
        for name in provider.not_captured(&facts.captured) {
            tracing::warn!(
                connection = %connection.id, variable = name,
                "a token's answer names a host that is not the provider's: it is not taken"
            );
        }
        let taken = provider.captured(&facts.captured);
        let has_moved =
            taken.iter().any(|(name, value)| connection.facts.captured.get(name) != Some(value));
        let change = |record: &mut ConnectionRecord| {
            record.facts.captured.extend(taken.clone());
            // RFC 6749 §5.1: without `scope` the scopes are unchanged.
            if let Some(scopes) = &facts.scope {
                record.facts.granted.clone_from(scopes);
            }
            record.facts.ends = facts.refresh_expires;
        };
        self.directory.change::<Connection>(&connection.org, &connection.id, change).await?;
        if has_moved {
            tracing::info!(connection = %connection.id, "the provider has moved the account's host");
        }
        Ok(())
    }

    /// Updates records whose state a crash left different from their grants.
    pub(crate) async fn settle(&self) -> Result<(), VaultError> {
        let view = self.directory.view();
        let rotates = |it: &ConnectionRecord| it.facts.rotation.is_some();
        for connection in view.connections().filter(|it| follows(&it.facts.state) || rotates(it)) {
            match self.sync_record(connection).await {
                Err(VaultError::GrantMissing { .. } | VaultError::Sealed { .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Copies the rotation from the grant's row to the record. If the secret was rotated since, copies its dates too; else
/// the expiry that the owner set stays.
fn rotation(record: &mut ConnectionRecord, stored: &StoredGrant) {
    record.facts.rotation = stored.other.as_ref().map(|(second, _)| Rotation {
        state: second.state,
        since: second.since,
        until: second.until,
    });
    let rotated = record.facts.rotated;
    if let Some(dates) = stored.dates.as_ref().filter(|dates| dates.rotated != rotated) {
        record.facts.rotated = dates.rotated;
        record.expires = dates.expires.map(Deadline::At);
    }
}

/// Whether the state depends on the grant, not on a person's action or a test.
fn follows(state: &ConnectionState) -> bool {
    match state {
        ConnectionState::Broken { reason, .. } => *reason != BrokenReason::TestFailed,
        ConnectionState::Draft { .. } | ConnectionState::Testing => true,
        ConnectionState::Active | ConnectionState::Paused => false,
    }
}

/// The state for a grant. A paused connection stays paused, and an untested one stays a draft.
fn projected(state: &ConnectionState, stored: &StoredGrant) -> ConnectionState {
    match (state, stored.broken.as_ref()) {
        (ConnectionState::Paused, _) => ConnectionState::Paused,
        (_, Some(verdict)) => {
            ConnectionState::Broken { reason: verdict.reason, detail: verdict.detail.clone() }
        }
        (state, None) if stored.on_trial && follows(state) => ConnectionState::Testing,
        (state, None) if follows(state) && !stored.untested => ConnectionState::Active,
        (state, None) => state.clone(),
    }
}

impl TokenContext {
    /// The verdict on a grant. Without the consent of a person nothing ends for good: the clock, the right or the consent
    /// that is missing may come, so that it is retried like a rejected client. Many services lock an account after a few
    /// logins, so a login is retried after the longest pause.
    pub fn judged(&self, grant: &Grant, verdict: GrantVerdict) -> GrantVerdict {
        let tokens = grant.tokens().zip(self.oauth());
        let tokens = tokens.filter(|(tokens, oauth)| !tokens.is_of_person(oauth));
        match (verdict.reason, tokens) {
            (BrokenReason::Revoked, Some((tokens, _))) => GrantVerdict {
                reason: BrokenReason::ClientRejected,
                tries: if tokens.is_session() { u32::MAX } else { 0 },
                ..verdict
            },
            _ => verdict,
        }
    }
}
