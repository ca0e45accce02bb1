//! New secrets of the connection: rotations by a person, and a configuration that names another secret.

use super::*;
use crate::tests::simulation::server::numbers;
use keyward_model::RotationState;

/// A new secret.
#[derive(Clone, Copy, Debug)]
pub(super) enum NewSecret {
    /// It is put in force after a test of `test` milliseconds; the previous one is kept for `keep` seconds.
    Tested { test: u64, keep: u64 },
    /// It is put in force at once; the previous one is kept for `keep` seconds.
    Untested { keep: u64 },
    /// Its test fails after `test` milliseconds.
    Failing { test: u64 },
}

/// The end of a rotation.
#[derive(Clone, Copy, Debug)]
pub(super) enum RotationEnd {
    Confirm,
    RollBack,
}

/// The secret that the configuration names when a replica reads it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Declared {
    /// A new one.
    New,
    /// The same as in the last configuration.
    Same,
}

impl Fleet {
    pub(super) fn rotate(&mut self, at: usize, new: NewSecret) {
        let (world, connection) = (self.fleet.world.clone(), self.connection.clone());
        let replica = &mut self.replicas[at];
        let (vault, link) = (replica.vault.clone(), replica.link.clone());
        replica.tasks.spawn(async move {
            link.running().await;
            let fields = pasted(&world.consent(&vault.context().clock, None));
            let rotated = vault.rotated(&connection, fields, new, &link).await;
            checked(&world, "rotating", rotated);
        });
    }

    pub(super) fn end_rotation(&mut self, at: usize, end: RotationEnd) {
        let (world, connection) = (self.fleet.world.clone(), self.connection.clone());
        let replica = &mut self.replicas[at];
        let (vault, link) = (replica.vault.clone(), replica.link.clone());
        replica.tasks.spawn(async move {
            link.running().await;
            let (org, id) = (&connection.org, &connection.id);
            let ended = match end {
                RotationEnd::Confirm => vault.lifecycle().confirm_rotation(org, id).await,
                RotationEnd::RollBack => vault.lifecycle().roll_back(org, id).await,
            };
            checked(&world, "ending a rotation", ended.map(drop));
        });
    }

    pub(super) fn declare(&mut self, at: usize, named: Declared) {
        let (fleet, connection) = (self.fleet.clone(), self.connection.clone());
        let replica = &mut self.replicas[at];
        let (vault, link) = (replica.vault.clone(), replica.link.clone());
        if matches!(named, Declared::New) || fleet.declared.lock().is_none() {
            *fleet.declared.lock() = Some(fleet.world.consent(&vault.context().clock, None));
        }
        replica.tasks.spawn(async move {
            link.running().await;
            let fields = fleet.declared.lock().as_ref().map(pasted).expect("set above");
            let replaced = vault.lifecycle().replace(&connection.org, &connection.id, fields).await;
            checked(&fleet.world, "reading the configuration", replaced.map(drop));
        });
    }

    /// Checks that the stored tokens are the newest of their grants.
    pub(super) async fn nothing_is_lost(&self) {
        let (world, vault) = (&self.fleet.world, &self.replicas[0].vault);
        let stored = vault.grants().stored(&self.connection).await.expect("a row");
        let kept = stored.other.as_ref().filter(|(it, _)| it.state == RotationState::Unconfirmed);
        let grants = [Some(&stored.bytes), kept.map(|(_, bytes)| bytes)];
        for bytes in grants.into_iter().flatten() {
            let (family, number) = numbers(&Grant::decode(bytes).expect("a grant"));
            let newest = world.rotated.lock()[&family];
            if newest != number && !self.fleet.is_taken_by_a_crash((family, number)) {
                world.is_wrong(format!("{family}-{number} is stored, and {newest} follows it"));
            }
        }
    }
}

impl Vault {
    async fn rotated(
        &self,
        connection: &ConnectionRecord,
        fields: BTreeMap<String, Secret>,
        new: NewSecret,
        link: &Link,
    ) -> Result<(), VaultError> {
        let (org, id) = (&connection.org, &connection.id);
        let terms = |keep| RotationTerms { old_for: Duration::from_secs(keep), expires: None };
        match new {
            NewSecret::Tested { test, keep } => {
                let candidate = self.lifecycle().stage(org, id, fields).await?;
                passes(test).await;
                link.running().await;
                self.lifecycle().put_in_force(candidate, terms(keep)).await.map(drop)
            }
            NewSecret::Untested { keep } => {
                self.lifecycle().put_untested_in_force(org, id, fields, terms(keep)).await.map(drop)
            }
            NewSecret::Failing { test } => {
                let candidate = self.lifecycle().stage(org, id, fields).await?;
                passes(test).await;
                link.running().await;
                self.lifecycle().abandon(candidate).await
            }
        }
    }
}

/// The fields of a new grant, as its owner gives them.
fn pasted(grant: &Grant) -> BTreeMap<String, Secret> {
    let refresh = grant.revocable().and_then(|it| it.refresh).expect("a refresh token");
    BTreeMap::from([("refresh_token".to_owned(), refresh)])
}

/// Checks that an action of a person or a file succeeded, was refused, or failed because of a fault of the schedule.
fn checked(world: &World, action: &str, done: Result<(), VaultError>) {
    let Err(error) = done else { return };
    let is_refusal = matches!(
        error.root(),
        VaultError::RotationOpen { .. }
            | VaultError::RotationOvertaken { .. }
            | VaultError::NoRotation { .. }
            | VaultError::CandidateRefused { .. }
            | VaultError::CandidateUnusable { .. }
            | VaultError::RefreshUnavailable { .. }
    );
    if !is_refusal && !is_of_store(&error) {
        world.is_wrong(format!("{action}: {error}"));
    }
}
