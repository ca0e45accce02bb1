//! Records whose write was made and reported as failed: they keep their secrets.

use std::collections::BTreeMap;

use super::faulty_store::{Fault, FaultyStore};
use super::simulation::{CATALOGUE, new_app};
use super::vault_over;
use crate::*;
use keyward_base::secret::Secret;
use keyward_model::{App, TokenOptions};

#[tokio::test]
async fn an_app_whose_write_was_reported_as_failed_keeps_its_secret() {
    let faulty = Arc::new(FaultyStore::default());
    let store: Arc<dyn Store> = faulty.clone();
    let vault = vault_over(store, &Arc::new(Keyring::ephemeral()), CATALOGUE.clone()).await;
    let secrets = || BTreeMap::from([("client_secret".to_owned(), Secret::new("of-the-app"))]);
    // The write and its repetition.
    faulty.fail(Table::Apps, Fault::Lost(2));
    vault
        .lifecycle()
        .add_app_of(new_app("one", TokenOptions::default()), secrets())
        .await
        .unwrap_err();
    // The next change finds that the first one was made.
    vault.lifecycle().add_app_of(new_app("two", TokenOptions::default()), secrets()).await.unwrap();
    let view = vault.directory().view();
    let apps: Vec<_> = view.all::<App>(&OrgId::default_org()).collect();
    assert_eq!(apps.len(), 2);
    for app in apps {
        vault.grants().own_secret(app).await.unwrap();
    }
}

/// Its remedy would be another secret.
#[tokio::test]
async fn a_store_that_is_away_is_no_problem_of_an_app() {
    let faulty = Arc::new(FaultyStore::default());
    let store: Arc<dyn Store> = faulty.clone();
    let vault = vault_over(store, &Arc::new(Keyring::ephemeral()), CATALOGUE.clone()).await;
    let secrets = BTreeMap::from([("client_secret".to_owned(), Secret::new("of-the-app"))]);
    let app = vault
        .lifecycle()
        .add_app_of(new_app("one", TokenOptions::default()), secrets)
        .await
        .unwrap();
    faulty.fail(Table::Grants, Fault::Away);
    assert!(matches!(vault.refresh().last_secret(&app).await, Err(VaultError::Store(_))));
    assert!(vault.refresh().app_problem(&app).await.is_none());
}
