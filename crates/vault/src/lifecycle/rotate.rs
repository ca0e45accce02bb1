//! Rotates the secret of a connection. The new secret is sealed beside the old one in the same row, so that
//! one write activates it, and each request uses exactly one of them. The old one is kept for a rollback
//! until it is confirmed or expires. The caller tests the new one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Lifecycle;
use super::candidate::{CandidateSecret, is_still, while_the_store_fails};
use crate::context::method;
use crate::error::VaultError;
use crate::grant::Grant;
use crate::grants::record::{Dates, GrantHeader, NewRow, SecondGrant};
use crate::grants::{self, StoredGrant};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_base::secret::Secret;
use keyward_model::Connection;
use keyward_rules::provider::AuthKind;
use keyward_state::directory::{
    BrokenReason, ConnectionRecord, ConnectionState, RemedyCause, Rotation, RotationState,
};

/// A test takes seconds; a staged secret that is older was left by a crash.
const TESTED_WITHIN: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RotationTerms {
    /// How long the old secret is kept for a rollback; zero: it is wiped at once.
    pub old_for: Duration,
    /// When the new secret expires, as its owner says.
    pub expires: Option<Timestamp>,
}

/// A grant that replaces the one in force.
#[derive(Clone, Copy)]
struct Replacement<'a> {
    /// The digest of the given fields; see [`grants::given`].
    given: Option<&'a str>,
    /// The encoded grant.
    bytes: &'a [u8],
    kept: RotationTerms,
}

impl Lifecycle {
    /// Seals a new secret beside the one in force, which stays in force, and creates the credential for its
    /// test. Kinds with tokens send one token request.
    ///
    /// # Errors
    /// When the fields do not fit, equal the ones in force, or give no token; when the last rotation is
    /// open, or the connection uses consent.
    pub async fn stage(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        fields: BTreeMap<String, Secret>,
    ) -> Result<CandidateSecret, VaultError> {
        let (connection, grant) = self.another(org, id, fields)?;
        if self.grants.is_lost(&connection).await? {
            return self.stage_lost(connection, &grant).await;
        }
        let (given, mut bytes) = (grants::given(&grant), grant.encode());
        let now = self.clock.now();
        let until = now.checked_add(TESTED_WITHIN).unwrap_or(Timestamp::MAX);
        let state = RotationState::Testing;
        self.announce_rotation(&connection, Rotation { state, since: now, until }).await?;
        let second = || {
            let (given, dates) = (given.clone(), Dates::default());
            SecondGrant { state, since: now, until, given, consent: None, dates, at: 0 }
        };
        let put = |stored: &StoredGrant| {
            self.may_follow(&connection, stored, given.as_deref(), &bytes)?;
            let header = stored.header_for(&connection);
            Ok(header.into_row(&stored.bytes, Some((second(), &bytes))))
        };
        let staged = self.refresh.change(&connection, &put).await;
        let staged = self.or_restore_record(&connection, staged).await?;
        let minted = self.refresh.minted(&connection, &grant, staged.version).await;
        let minted = self.or_drop_staged(&connection, &bytes, minted).await?;
        let is_successor = minted.replaces_token_of(&grant);
        if let Some(newer) = minted.newer() {
            // The request may have spent the given token: the new one is stored before it is used.
            let before = std::mem::replace(&mut bytes, newer);
            let put = |stored: &StoredGrant| {
                is_still(&connection, stored, &before)
                    .or_else(|_| is_still(&connection, stored, &bytes))?;
                let header = stored.header_for(&connection);
                Ok(header.into_row(&stored.bytes, Some((second(), &bytes))))
            };
            while_the_store_fails(|| self.refresh.change(&connection, &put)).await?;
        }
        let catalogue = self.context.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        let shown = grant.shown_fields(auth);
        Ok(CandidateSecret {
            credential: minted.credential,
            shown,
            connection,
            given,
            bytes,
            replaces_lost: false,
            is_successor,
        })
    }

    /// Puts a tested secret in force, atomically. Running requests end with the old one.
    ///
    /// # Errors
    /// When another one was given meanwhile, or the store fails.
    pub async fn put_in_force(
        &self,
        candidate: CandidateSecret,
        kept: RotationTerms,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let CandidateSecret { connection, given, bytes, replaces_lost, .. } = candidate;
        if replaces_lost {
            return self.replace_lost(&connection, given, bytes, kept.expires).await;
        }
        let put = |stored: &StoredGrant| {
            if stored.is_of(None, &bytes) {
                return Ok(stored.becomes(&connection, None, &bytes));
            }
            is_still(&connection, stored, &bytes)?;
            let given = given.as_deref();
            Ok(self.swapped(&connection, stored, Replacement { given, bytes: &bytes, kept }))
        };
        while_the_store_fails(|| self.refresh.change(&connection, &put)).await?;
        self.works_again(&connection).await
    }

    /// Puts an untested secret in force.
    ///
    /// # Errors
    /// As [`Lifecycle::stage`], but for tokens.
    pub async fn put_untested_in_force(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        fields: BTreeMap<String, Secret>,
        kept: RotationTerms,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let (connection, grant) = self.another(org, id, fields)?;
        let (given, bytes) = (grants::given(&grant), grant.encode());
        if self.grants.is_lost(&connection).await? {
            return self.replace_lost(&connection, given, bytes, kept.expires).await;
        }
        let now = self.clock.now();
        let until = now.checked_add(kept.old_for).unwrap_or(Timestamp::MAX);
        let state = RotationState::Unconfirmed;
        self.announce_rotation(&connection, Rotation { state, since: now, until }).await?;
        let put = |stored: &StoredGrant| {
            let given = given.as_deref();
            self.may_follow(&connection, stored, given, &bytes)?;
            Ok(self.swapped(&connection, stored, Replacement { given, bytes: &bytes, kept }))
        };
        let changed = self.refresh.change(&connection, &put).await;
        self.or_restore_record(&connection, changed).await?;
        self.works_again(&connection).await
    }

    /// Puts the configuration's secret in force if it differs. A confirmation of the old one is not
    /// required: the file decides.
    pub(crate) async fn put_declared(
        &self,
        connection: &Arc<ConnectionRecord>,
        grant: &Grant,
    ) -> Result<bool, VaultError> {
        let (given, bytes) = (grants::given(grant), grant.encode());
        if self.grants.is_lost(connection).await? {
            self.replace_lost(connection, given, bytes, connection.expires_at()).await?;
            return Ok(true);
        }
        let given = given.as_deref();
        if self.grants.stored(connection).await?.is_of(given, &bytes) {
            return Ok(false);
        }
        // No rollback for fetched values: the source defines them.
        let old_for = match grant {
            Grant::Referred(_) => Duration::ZERO,
            _ => self.rotation_settings().keep_old,
        };
        let kept = RotationTerms { old_for, expires: connection.expires_at() };
        let since = self.clock.now();
        let until = since.checked_add(old_for).unwrap_or(Timestamp::MAX);
        let state = RotationState::Unconfirmed;
        self.announce_rotation(connection, Rotation { state, since, until }).await?;
        let put = |stored: &StoredGrant| {
            if stored.is_of(given, &bytes) {
                return Err(VaultError::SameSecret { connection: connection.name.clone() });
            }
            // If the file names the previous secret again, the newest token of that secret is put in force.
            let before = old_of(connection, stored).ok();
            let before = before.filter(|(old, _)| given.is_some() && old.given.as_deref() == given);
            let bytes = before.map_or(bytes.as_slice(), |(_, bytes)| bytes);
            Ok(self.swapped(connection, stored, Replacement { given, bytes, kept }))
        };
        match self.refresh.change(connection, &put).await {
            // Another replica has applied the same file first.
            Err(VaultError::SameSecret { .. }) => {
                self.refresh.sync_record(connection).await?;
                return Ok(false);
            }
            changed => self.or_restore_record(connection, changed).await?,
        };
        self.works_again(connection).await?;
        let (id, name) = (&connection.id, &connection.name);
        tracing::info!(connection = %id, name, "the configuration names another secret: in force");
        Ok(true)
    }

    /// Wipes the old secret, which ends the rollback period.
    ///
    /// # Errors
    /// When none is kept, or the store fails.
    pub async fn confirm_rotation(
        &self,
        org: &OrgId,
        id: &ConnectionId,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let connection = self.context.connection(org, id)?;
        let put = |stored: &StoredGrant| {
            old_of(&connection, stored)?;
            Ok(stored.header_for(&connection).into_row(&stored.bytes, None))
        };
        self.refresh.change(&connection, &put).await?;
        self.refresh.sync_record(&connection).await
    }

    /// Puts the old secret in force again, atomically, and wipes the new one.
    ///
    /// # Errors
    /// When none is kept, or the store fails.
    pub async fn roll_back(
        &self,
        org: &OrgId,
        id: &ConnectionId,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        let connection = self.context.connection(org, id)?;
        let put = |stored: &StoredGrant| {
            let (second, bytes) = old_of(&connection, stored)?;
            let (given, dates) = (second.given.clone(), Some(second.dates.clone()));
            let consent = second.consent.clone();
            let header = GrantHeader { given, consent, dates, ..GrantHeader::of(&connection) };
            Ok(header.into_row(bytes, None))
        };
        self.refresh.change(&connection, &put).await?;
        self.refresh.sync_record(&connection).await
    }

    /// Wipes expired secrets: old ones after an unconfirmed rotation, new ones whose test never ended.
    /// Returns their connections.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn wipe_overdue(&self) -> Result<Vec<Arc<ConnectionRecord>>, VaultError> {
        let now = self.clock.now();
        let over = |rotation: &Rotation| rotation.until <= now;
        self.wipe_where(&over).await
    }

    /// Wipes new secrets whose test was interrupted by a crash.
    pub(crate) async fn wipe_untested(&self) -> Result<(), VaultError> {
        let staged = |rotation: &Rotation| rotation.state == RotationState::Testing;
        self.wipe_where(&staged).await.map(drop)
    }

    async fn wipe_where(
        &self,
        is_it: &(dyn Fn(&Rotation) -> bool + Sync),
    ) -> Result<Vec<Arc<ConnectionRecord>>, VaultError> {
        let mut wiped = Vec::new();
        let view = self.directory.view();
        for connection in view.dated_connections() {
            let Some(rotation) = connection.facts.rotation.as_ref().filter(|it| is_it(it)) else {
                continue;
            };
            let put = |stored: &StoredGrant| match &stored.other {
                Some((second, _)) if second.since == rotation.since => {
                    Ok(stored.header_for(connection).into_row(&stored.bytes, None))
                }
                _ => Err(VaultError::NoRotation { connection: connection.name.clone() }),
            };
            match self.refresh.change(connection, &put).await {
                Ok(_) => wiped.push(self.refresh.sync_record(connection).await?),
                Err(VaultError::NoRotation { .. }) => {
                    drop(self.refresh.sync_record(connection).await?)
                }
                // The grant cannot be opened; its next use reports that.
                Err(VaultError::Sealed { .. } | VaultError::GrantMissing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(wiped)
    }

    /// The connection, and a new grant from the owner's fields.
    fn another(
        &self,
        org: &OrgId,
        id: &ConnectionId,
        fields: BTreeMap<String, Secret>,
    ) -> Result<(Arc<ConnectionRecord>, Grant), VaultError> {
        let connection = self.context.connection(org, id)?;
        let name = || connection.name.clone();
        let catalogue = self.context.catalogue(&connection.org);
        let (_, auth) = method(&catalogue, &connection.provider, connection.auth.as_deref())?;
        if !connection.references.is_empty() {
            return Err(VaultError::Referred { connection: name() });
        }
        if auth.kind == AuthKind::Oauth2 && fields.is_empty() {
            let remedy = self.context.remedy(&connection, RemedyCause::Credential);
            return Err(VaultError::NotRotatable { connection: name(), remedy });
        }
        if let ConnectionState::Draft { .. } = connection.facts.state {
            let remedy = self.context.remedy(&connection, RemedyCause::Use);
            return Err(VaultError::Draft { connection: name(), remedy });
        }
        let grant = self.grant_of(auth, &connection.references, fields)?;
        Ok((connection, grant))
    }

    /// Whether a rotation may begin. A token that was given before is refused although a newer one has replaced it,
    /// because it may be spent.
    fn may_follow(
        &self,
        connection: &ConnectionRecord,
        stored: &StoredGrant,
        given: Option<&str>,
        bytes: &[u8],
    ) -> Result<(), VaultError> {
        let name = || connection.name.clone();
        let open = |(second, _): &(SecondGrant, _)| second.state == RotationState::Unconfirmed;
        if stored.other.as_ref().is_some_and(open) {
            return Err(VaultError::RotationOpen { connection: name() });
        }
        // A broken grant may be given again, because its owner may have restored it at the provider.
        let given = given.filter(|_| stored.broken.is_none());
        match stored.is_of(given, bytes) {
            true => Err(VaultError::SameSecret { connection: name() }),
            false => Ok(()),
        }
    }

    /// Stores the rotation in the record before the grant's row is written, so that the next start checks
    /// it after a crash.
    async fn announce_rotation(
        &self,
        connection: &ConnectionRecord,
        rotation: Rotation,
    ) -> Result<(), VaultError> {
        let foretold = |record: &mut ConnectionRecord| {
            // A pending rotation stays; the new one is then refused.
            record.facts.rotation.get_or_insert_with(|| rotation.clone());
        };
        let (org, id) = (&connection.org, &connection.id);
        self.directory.change::<Connection>(org, id, foretold).await?;
        Ok(())
    }

    /// The row with the new secret in force.
    fn swapped(
        &self,
        connection: &ConnectionRecord,
        stored: &StoredGrant,
        replacement: Replacement<'_>,
    ) -> NewRow {
        let Replacement { given, bytes, kept } = replacement;
        let now = self.clock.now();
        let old = SecondGrant {
            state: RotationState::Unconfirmed,
            since: now,
            until: now.checked_add(kept.old_for).unwrap_or(Timestamp::MAX),
            given: stored.given.clone(),
            consent: stored.consent.clone(),
            dates: Dates { rotated: connection.facts.rotated, expires: connection.expires_at() },
            at: 0,
        };
        let dates = Some(Dates { rotated: Some(now), expires: kept.expires });
        // A broken grant is not kept for a rollback.
        let keeps = !kept.old_for.is_zero() && stored.broken.is_none();
        let other = keeps.then_some((old, stored.bytes.as_slice()));
        let given = given.map(str::to_owned);
        GrantHeader { given, dates, ..GrantHeader::of(connection) }.into_row(bytes, other)
    }

    /// Restores the record after a refused rotation.
    async fn or_restore_record<T>(
        &self,
        connection: &ConnectionRecord,
        result: Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        if result.is_err() {
            self.refresh.sync_record(connection).await?;
        }
        result
    }

    /// Ends a broken state that the old secret caused.
    pub(crate) async fn works_again(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<Arc<ConnectionRecord>, VaultError> {
        self.refresh.sync_record(connection).await?;
        let repaired = |record: &mut ConnectionRecord| {
            if let ConnectionState::Broken { reason: BrokenReason::TestFailed, .. } =
                record.facts.state
            {
                record.facts.state = ConnectionState::Active;
            }
        };
        let (org, id) = (&connection.org, &connection.id);
        Ok(self.directory.change::<Connection>(org, id, repaired).await?)
    }
}

/// The old secret that is kept.
fn old_of<'a>(
    connection: &ConnectionRecord,
    stored: &'a StoredGrant,
) -> Result<(&'a SecondGrant, &'a [u8]), VaultError> {
    match &stored.other {
        Some((second, bytes)) if second.state == RotationState::Unconfirmed => Ok((second, bytes)),
        _ => Err(VaultError::NoRotation { connection: connection.name.clone() }),
    }
}
