//! The verdict that a provider rejects a secret applies to that secret alone, and ends with a successful test.

use std::collections::BTreeMap;

use super::in_memory;
use super::rotation::new;
use crate::*;
use keyward_base::secret::Secret;
use keyward_model::ConnectionState;
use keyward_rules::inject::credential::{Credential, RequiredConnection};
use keyward_state::directory::BrokenReason;

/// A connection whose secret is a token.
struct World {
    vault: Vault,
    org: OrgId,
    id: ConnectionId,
}

fn fields(token: &str) -> BTreeMap<String, Secret> {
    BTreeMap::from([("token".to_owned(), Secret::new(token))])
}

impl World {
    async fn new(token: &str) -> Self {
        let (_, vault) = in_memory().await;
        let made = vault.lifecycle().add(new("github", None), fields(token)).await.unwrap();
        Self { vault, org: made.org.clone(), id: made.id.clone() }
    }

    async fn credential(&self) -> Arc<Credential> {
        let (connection, name) = (self.id.clone(), "work".into());
        let wanted = RequiredConnection { connection, name, settings: None };
        self.vault
            .refresh()
            .credential_in(&self.org, Some(&wanted))
            .await
            .unwrap()
            .expect("one is wanted")
    }

    fn state(&self) -> ConnectionState {
        self.vault.context().connection(&self.org, &self.id).unwrap().facts.state.clone()
    }
}

const OLD: &str = "ghp_0123456789abcdefghij0123456789abcdef";
const NEW: &str = "ghp_abcdefghij0123456789abcdef0123456789";

#[tokio::test]
async fn a_late_refusal_of_an_old_secret_does_not_break_the_new_one() {
    let world = World::new(OLD).await;
    let old = world.credential().await;
    assert!(world.vault.lifecycle().replace(&world.org, &world.id, fields(NEW)).await.unwrap());
    let new = world.credential().await;
    assert_ne!(old.generation, new.generation);
    world.vault.refresh().reject(&old).await.unwrap();
    assert_eq!(world.state(), ConnectionState::Active);
    world.vault.refresh().reject(&new).await.unwrap();
    let broken = world.state();
    let ConnectionState::Broken { reason, .. } = broken else { panic!("{broken:?}") };
    assert_eq!(reason, BrokenReason::Rejected);
}

#[tokio::test]
async fn a_test_that_accepts_the_secret_ends_the_verdict() {
    let world = World::new(OLD).await;
    let credential = world.credential().await;
    world.vault.refresh().reject(&credential).await.unwrap();
    assert!(world.vault.refresh().active_with_secret(&credential).is_none(), "it is rejected once");
    world.vault.refresh().accept(&world.org, &world.id).await.unwrap();
    assert_eq!(world.state(), ConnectionState::Active);
    let connection = world.vault.context().connection(&world.org, &world.id).unwrap();
    assert!(!world.vault.grants().is_untestable(&connection).await.unwrap(), "tests still decide");
    let credential = world.credential().await;
    world.vault.refresh().reject(&credential).await.unwrap();
    world.vault.refresh().ignore_test(&world.org, &world.id).await.unwrap();
    assert!(world.vault.grants().is_untestable(&connection).await.unwrap(), "a person has decided");
}
