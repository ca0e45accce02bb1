//! Grants that are read while the master key is rotated, that are stored twice, or that are lost.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::{in_memory, vault_over};
use crate::grant::Grant;
use crate::grants::record;
use crate::keys::{KeyLocation, MasterKeys};
use crate::*;
use keyward_base::id::{AppId, FlowId};
use keyward_base::secret::Secret;
use keyward_model::{
    BrokenReason, Connection, ConnectionSpec, ConnectionState, ManagedBy, Reference, Visibility,
};
use keyward_rules::inject::credential::RequiredConnection;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{Expect, Row, StoreError, StoreWrapper};

/// Rows in memory. A complete rotation of the master key runs between the next read of a grant and its result.
#[derive(Debug, Default)]
struct Slow {
    rows: MemoryStore,
    rotates: Mutex<Option<Arc<MasterKeys>>>,
}

#[async_trait::async_trait]
impl StoreWrapper for Slow {
    fn inner(&self) -> &dyn Store {
        &self.rows
    }

    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        let row = self.rows.get(table, key).await;
        if table == Table::Grants {
            let keys = self.rotates.lock().take();
            if let Some(keys) = keys {
                keys.rotate().await.expect("rotated");
            }
        }
        row
    }
}

fn fields() -> BTreeMap<String, Secret> {
    BTreeMap::from([("token".to_owned(), Secret::new("ghp_0123456789abcdefghij0123456789abcdef"))])
}

pub(super) fn new(provider: &str, auth: Option<&str>) -> NewConnection {
    NewConnection {
        org: OrgId::default_org(),
        spec: ConnectionSpec {
            name: "work".to_owned(),
            provider: provider.to_owned(),
            auth: auth.map(str::to_owned),
            ..ConnectionSpec::default()
        },
        owner: None,
        visibility: Visibility::Shared,
        managed_by: ManagedBy::Store,
    }
}

/// A gateway that crashed after it stored the grant stores it again; it must not overwrite newer tokens of that grant.
#[tokio::test]
async fn the_grant_of_a_consent_is_stored_once_and_replaces_no_newer_tokens() {
    let (_, vault) = in_memory().await;
    let draft = vault.lifecycle().add_draft(new("github", Some("oauth_app"))).await.unwrap();
    let (org, id) = (&draft.org, &draft.id);
    let tokens = |access: &str| {
        let tokens = crate::tests::scripted_server::tokens(access, Some("rt"));
        Grant::OAuth(crate::grant::oauth::OAuthGrant::of(tokens))
    };
    let connect = async |access: &str, consent: &FlowId| {
        let facts = Granted { consent: Some(consent.clone()), ..Granted::default() };
        vault.lifecycle().connect(org, id, tokens(access), facts).await.unwrap();
        let stored = vault.grants().stored(&draft).await.unwrap();
        (stored.version, stored.bytes)
    };
    let (first, second) = (FlowId::random(), FlowId::random());
    let (version, bytes) = connect("first", &first).await;
    assert_eq!(bytes, tokens("first").encode());
    let stored = vault.grants().stored(&draft).await.unwrap();
    let newer = stored.becomes(&draft, None, &tokens("refreshed").encode());
    vault.grants().write(org, id, newer, Some(version)).await.unwrap();
    assert_eq!(connect("first", &first).await.1, tokens("refreshed").encode());
    assert_eq!(connect("second", &second).await.1, tokens("second").encode());
}

/// Else, after a crash between the two rows or with an outdated view, a request would be sent with the previous client.
#[tokio::test]
async fn a_connection_gets_the_app_of_its_consent_before_a_request_is_sent() {
    let (_, vault) = in_memory().await;
    let draft = vault.lifecycle().add_draft(new("github", Some("oauth_app"))).await.unwrap();
    let (org, id) = (&draft.org, &draft.id);
    let (before, app) = (AppId::random(), AppId::random());
    let tokens = crate::tests::scripted_server::tokens("access", Some("refresh"));
    let grant = Grant::OAuth(crate::grant::oauth::OAuthGrant::of(tokens));
    let (consent, of) = (Some(FlowId::random()), Some(app.clone()));
    let facts = Granted { consent, app: of, ..Granted::default() };
    let connected = vault.lifecycle().connect(org, id, grant, facts).await.unwrap();
    assert_eq!(connected.app_id(), Some(&app));
    let behind = |record: &mut ConnectionRecord| record.app = Some(Reference::Id(before.clone()));
    vault.directory().change::<Connection>(org, id, behind).await.unwrap();
    vault.refresh().cache().forget(id);
    let wanted = RequiredConnection { connection: id.clone(), name: "work".into(), settings: None };
    // No server answers the request.
    vault.refresh().credential_in(org, Some(&wanted)).await.unwrap_err();
    assert_eq!(vault.context().connection(org, id).unwrap().app_id(), Some(&app));
}

/// An unfinished consent is not stored over its own tokens when a rollback has put them in force again.
#[tokio::test]
async fn a_rollback_puts_the_consent_of_the_old_secret_in_force_again() {
    let (_, vault) = in_memory().await;
    let draft = vault.lifecycle().add_draft(new("github", Some("oauth_app"))).await.unwrap();
    let (org, id) = (&draft.org, &draft.id);
    let tokens = || crate::tests::scripted_server::tokens("access", Some("refresh"));
    let grant = || Grant::OAuth(crate::grant::oauth::OAuthGrant::of(tokens()));
    let facts = Granted { consent: Some(FlowId::random()), ..Granted::default() };
    vault.lifecycle().connect(org, id, grant(), facts.clone()).await.unwrap();
    let token = Secret::new("gho_0123456789abcdefghij0123456789abcdef");
    let given = BTreeMap::from([("access_token".to_owned(), token)]);
    let kept = RotationTerms { old_for: Duration::from_secs(60), expires: None };
    vault.lifecycle().put_untested_in_force(org, id, given, kept).await.unwrap();
    assert_eq!(vault.grants().stored(&draft).await.unwrap().consent, None);
    vault.lifecycle().roll_back(org, id).await.unwrap();
    let stored = vault.grants().stored(&draft).await.unwrap();
    assert_eq!(stored.consent, facts.consent);
    vault.lifecycle().connect(org, id, grant(), facts).await.unwrap();
    assert_eq!(vault.grants().stored(&draft).await.unwrap().version, stored.version);
}

#[tokio::test]
async fn a_grant_that_is_read_during_a_rotation_of_the_master_key_is_read_again() {
    let slow = Arc::new(Slow::default());
    let store: Arc<dyn Store> = slow.clone();
    let keyring = Arc::new(Keyring::ephemeral());
    let keys = MasterKeys::new(store.clone(), keyring.clone(), KeyLocation::Memory).unwrap();
    let vault = vault_over(store, &keyring, Arc::new(Catalogue::built_in())).await;
    let org = OrgId::default_org();
    let connection = vault.lifecycle().add(new("github", None), fields()).await.unwrap();
    let before = keyring.current();
    *slow.rotates.lock() = Some(keys);
    let changed = vault.lifecycle().replace(&org, &connection.id, fields()).await;
    assert!(matches!(changed, Ok(false)), "{changed:?}");
    assert_ne!(keyring.current(), before, "it was rotated meanwhile");
}

/// The owner can give the grant again if its row is missing or cannot be opened; the connection stays unchanged.
#[tokio::test]
async fn a_missing_or_damaged_grant_can_be_replaced_on_the_same_connection() {
    let (store, vault) = in_memory().await;
    let connection = vault.lifecycle().add(new("github", None), fields()).await.unwrap();
    let (org, id) = (connection.org.clone(), connection.id.clone());
    let wanted = RequiredConnection { connection: id.clone(), name: "work".into(), settings: None };
    let kept = || RotationTerms { old_for: Duration::from_secs(60), expires: None };
    let key = record::key(&org, &id);
    for damage in ["gone", "sealed otherwise"] {
        match damage {
            "gone" => store.delete(Table::Grants, &key, Expect::Any).await.unwrap(),
            _ => {
                let row = store.get(Table::Grants, &key).await.unwrap().unwrap();
                let value = row.value.iter().map(|byte| byte ^ 1).collect::<Vec<_>>();
                store.reseal(Table::Grants, &row, &value).await.unwrap();
            }
        }
        vault.refresh().cache().forget(&id);
        let lost = vault.refresh().credential_in(&org, Some(&wanted)).await.unwrap_err();
        let hint = lost.hint().unwrap_or_default();
        assert!(hint.contains("`keyward connection rotate work`"), "{damage}: {lost}: {hint}");
        let candidate = vault.lifecycle().stage(&org, &id, fields()).await.unwrap();
        vault.lifecycle().abandon(candidate).await.unwrap();
        assert!(
            vault.refresh().credential_in(&org, Some(&wanted)).await.is_err(),
            "{damage}: not yet"
        );
        let candidate = vault.lifecycle().stage(&org, &id, fields()).await.unwrap();
        let now = vault.lifecycle().put_in_force(candidate, kept()).await.unwrap();
        assert_eq!((&now.id, &now.facts.state), (&id, &ConnectionState::Active), "{damage}");
        assert!(
            vault.refresh().credential_in(&org, Some(&wanted)).await.unwrap().is_some(),
            "{damage}"
        );
    }
    // A secret of the configuration file is stored again without a person.
    store.delete(Table::Grants, &key, Expect::Any).await.unwrap();
    assert!(vault.lifecycle().replace(&org, &id, fields()).await.unwrap());
    assert!(vault.refresh().credential_in(&org, Some(&wanted)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_new_secret_reactivates_a_connection_broken_by_a_missing_store_key() {
    let (_, vault) = in_memory().await;
    let connection = vault.lifecycle().add(new("github", None), fields()).await.unwrap();
    let (org, id) = (&connection.org, &connection.id);
    let state = ConnectionState::Broken { reason: BrokenReason::StoreKeyMissing, detail: None };
    let marked = vault.directory().change::<Connection>(org, id, |record| {
        record.facts.state = state.clone();
    });
    marked.await.unwrap();
    let token = Secret::new("ghp_abcdefghij0123456789abcdefghij012345");
    let given = BTreeMap::from([("token".to_owned(), token)]);
    let kept = RotationTerms { old_for: Duration::from_secs(60), expires: None };
    let now = vault.lifecycle().put_untested_in_force(org, id, given, kept).await.unwrap();
    assert_eq!(now.facts.state, ConnectionState::Active);
}

#[tokio::test]
async fn holds_is_true_only_for_the_values_that_are_in_force() {
    let (store, vault) = in_memory().await;
    let named = |provider: &str, auth: &str, name: &str| {
        let mut new = new(provider, Some(auth));
        name.clone_into(&mut new.spec.name);
        new
    };
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, Secret> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect()
    };
    let draft = vault.lifecycle().add_draft(named("github", "oauth_app", "draft")).await.unwrap();
    let own = vault.lifecycle().add(named("github", "pat", "work"), fields()).await.unwrap();
    let other = map(&[("token", "ghp_9876543210abcdefghij0123456789abcdef")]);
    let token = map(&[("access_token", "gho_0123456789abcdefghij0123456789abcdef")]);
    assert!(!vault.lifecycle().holds(&own, other.clone()).await.unwrap());
    assert!(!vault.lifecycle().holds(&own, map(&[])).await.unwrap(), "no value");
    assert!(
        !vault.lifecycle().holds(&own, map(&[("nothing", "x")])).await.unwrap(),
        "no such field"
    );
    assert!(!vault.lifecycle().holds(&draft, token).await.unwrap(), "a draft");
    assert!(vault.lifecycle().holds(&own, fields()).await.unwrap());
    // The old secret is kept for a rollback, and is not in force.
    let kept = RotationTerms { old_for: Duration::from_secs(60), expires: None };
    let org = own.org.clone();
    vault.lifecycle().put_untested_in_force(&org, &own.id, other.clone(), kept).await.unwrap();
    assert!(vault.lifecycle().holds(&own, other.clone()).await.unwrap());
    assert!(!vault.lifecycle().holds(&own, fields()).await.unwrap(), "the one before");
    // A field that was not given is not compared.
    let id = ("access_key_id", "AKIAIOSFODNN7EXAMPLE");
    let secret = ("secret_access_key", "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");
    let longer = map(&[id, secret, ("session_token", "an-optional-session-token")]);
    let aws = vault.lifecycle().add(named("aws", "access_key", "aws"), longer).await.unwrap();
    assert!(vault.lifecycle().holds(&aws, map(&[id, secret])).await.unwrap());
    assert!(
        !vault
            .lifecycle()
            .holds(&aws, map(&[("access_key_id", "AKIAIOSFODNN7EXAMPLF"), secret]))
            .await
            .unwrap()
    );
    store.delete(Table::Grants, &record::key(&org, &own.id), Expect::Any).await.unwrap();
    assert!(!vault.lifecycle().holds(&own, other).await.unwrap(), "a lost grant");
}
