//! New secrets that need a token request before they are in force: what their test request may use.

use super::*;
use crate::grant::AppSecret;
use keyward_model::AppSpec;

const CLIENT_SECRET: &str = "the-client-secret-of-the-app";

#[tokio::test(start_paused = true)]
async fn answers_to_the_test_of_a_new_secret_are_searched_for_the_app_s_client_secret() {
    let world = World::new(Vec::new());
    let stage = Stage::new(world.clone(), Some(3_600)).await;
    let vault = &stage.vaults[0];
    let spec = AppSpec {
        name: "app".to_owned(),
        provider: "acme".to_owned(),
        client_id: "client".to_owned(),
        ..AppSpec::default()
    };
    let new = NewApp {
        id: None,
        org: OrgId::default_org(),
        spec,
        registered: None,
        managed_by: ManagedBy::Store,
    };
    let secret =
        AppSecret { client_secret: Some(Secret::new(CLIENT_SECRET)), ..AppSecret::default() };
    let app = vault.add_app(new, secret).await.unwrap().id.clone();
    let grant = world.consent(&stage.clock, Some(3_600));
    let connection = add_named(vault, "with-app", Some(app), grant).await;
    let given = world.consent(&stage.clock, None);
    let refresh = given.revocable().and_then(|it| it.refresh).expect("a refresh token");
    let refresh = refresh.expose_text().expect("text").to_owned();
    let fields = BTreeMap::from([("refresh_token".to_owned(), Secret::from(refresh))]);
    let candidate = vault.stage(&connection.org, &connection.id, fields).await.unwrap();
    assert_eq!(world.asked.load(SeqCst), 1, "it takes asking");
    assert!(candidate.credential.needles.are_in(CLIENT_SECRET.as_bytes()));
    vault.abandon(candidate).await.unwrap();
}
