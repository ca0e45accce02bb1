//! Records whose write was made and reported as failed: they keep their secrets.

use std::collections::BTreeMap;

use super::faulty_store::{Fault, FaultyStore};
use super::simulation::CATALOGUE;
use crate::*;
use keyward_base::secret::Secret;
use keyward_model::{App, AppSpec};

fn new_app(name: &str) -> NewApp {
    let spec = AppSpec {
        name: name.to_owned(),
        provider: "acme".to_owned(),
        client_id: "client".to_owned(),
        ..AppSpec::default()
    };
    let (org, managed_by) = (OrgId::default_org(), ManagedBy::Store);
    NewApp { id: None, org, spec, registered: None, managed_by }
}

#[tokio::test]
async fn an_app_whose_write_was_reported_as_failed_keeps_its_secret() {
    let faulty = Arc::new(FaultyStore::default());
    let store: Arc<dyn Store> = faulty.clone();
    let (keyring, clock) = (Arc::new(Keyring::ephemeral()), Clock::System);
    let directory = Directory::open(store.clone(), keyring.clone(), clock.clone()).await.unwrap();
    let (directory, catalogue) = (Arc::new(directory), CATALOGUE.clone());
    let vault = Vault::open(store, keyring, directory.clone(), catalogue, clock).await.unwrap();
    let secrets = || BTreeMap::from([("client_secret".to_owned(), Secret::new("of-the-app"))]);
    // The write and its repetition.
    faulty.fail(Table::Apps, Fault::Lost(2));
    vault.add_app_of(new_app("one"), secrets()).await.unwrap_err();
    // The next change finds that the first one was made.
    vault.add_app_of(new_app("two"), secrets()).await.unwrap();
    let view = directory.view();
    let apps: Vec<_> = view.all::<App>(&OrgId::default_org()).collect();
    assert_eq!(apps.len(), 2);
    for app in apps {
        vault.own_secret(app).await.unwrap();
    }
}
