//! New secrets that need a token request before they are in force.

use super::*;
use crate::grant::AppSecret;

const CLIENT_SECRET: &str = "the-client-secret-of-the-app";

#[tokio::test(start_paused = true)]
async fn answers_to_the_test_of_a_new_secret_are_searched_for_the_app_s_client_secret() {
    let world = World::new(Vec::new());
    let stage = Stage::new(world.clone(), Some(3_600)).await;
    let vault = &stage.vaults[0];
    let new = new_app("app", TokenOptions::default());
    let secret =
        AppSecret { client_secret: Some(Secret::new(CLIENT_SECRET)), ..AppSecret::default() };
    let app = vault.lifecycle().add_app(new, secret).await.unwrap().id.clone();
    let grant = world.consent(&stage.clock, Some(3_600));
    let connection = add_named(vault, "with-app", Some(app), grant).await;
    let given = world.consent(&stage.clock, None);
    let refresh = given.revocable().and_then(|it| it.refresh).expect("a refresh token");
    let refresh = refresh.expose_text().expect("text").to_owned();
    let fields = BTreeMap::from([("refresh_token".to_owned(), Secret::from(refresh))]);
    let candidate = vault.lifecycle().stage(&connection.org, &connection.id, fields).await.unwrap();
    assert_eq!(world.asked.load(SeqCst), 1, "it takes asking");
    assert!(candidate.credential.needles.are_in(CLIENT_SECRET.as_bytes()));
    vault.lifecycle().abandon(candidate).await.unwrap();
}

/// The request for the first token has spent the given token, so the newer one must be stored.
#[tokio::test(start_paused = true)]
async fn a_new_secret_survives_a_store_that_fails_for_a_while() {
    for after in [false, true] {
        let world = World::new(vec![Answer { after: 1_000, what: What::Token(Some(3_600)) }]);
        let stage = Stage::new(world.clone(), Some(3_600)).await;
        let (vault, connection) = (&stage.vaults[0], &stage.connection);
        let fields = pasted(&stage, &world);
        let full = async {
            passes(500).await;
            stage.fails(3, after);
        };
        let staged = vault.lifecycle().stage(&connection.org, &connection.id, fields);
        let candidate = tokio::join!(full, staged).1.unwrap();
        stage.fails(3, after);
        let kept = RotationTerms { old_for: Duration::ZERO, expires: None };
        let bytes = candidate.bytes.clone();
        vault.lifecycle().put_in_force(candidate, kept).await.unwrap();
        let row = vault.grants().stored(connection).await.unwrap();
        assert!(row.bytes == bytes && row.other.is_none() && row.broken.is_none(), "{after}");
        let now = vault
            .refresh()
            .credential_in(&connection.org, Some(&wanted(connection)))
            .await
            .unwrap();
        got(&world, &stage.clock, now, &stage.last[0]);
        assert_eq!(*world.wrong.lock(), Vec::<String>::new());
        assert_eq!(world.asked.load(SeqCst), 1);
    }
}

/// The fields of a new grant.
fn pasted(stage: &Stage, world: &World) -> BTreeMap<String, Secret> {
    let grant = world.consent(&stage.clock, None);
    let refresh = grant.revocable().and_then(|it| it.refresh).expect("a refresh token");
    BTreeMap::from([("refresh_token".to_owned(), refresh)])
}

/// A newer token of it is in force; the server would revoke the whole grant if it received the old one.
#[tokio::test(start_paused = true)]
async fn a_token_that_was_given_before_is_not_sent_again() {
    let answer = Answer { after: 100, what: What::Token(Some(3_600)) };
    let world = World::new(vec![answer; 3]);
    let stage = Stage::new(world.clone(), Some(3_600)).await;
    let (vault, connection) = (&stage.vaults[0], &stage.connection);
    let (org, id) = (&connection.org, &connection.id);
    let fields = pasted(&stage, &world);
    let kept = || RotationTerms { old_for: Duration::ZERO, expires: None };
    let candidate = vault.lifecycle().stage(org, id, fields.clone()).await.unwrap();
    vault.lifecycle().put_in_force(candidate, kept()).await.unwrap();
    vault.refresh().refresh_now(org, id).await.unwrap();
    let requests = world.asked.load(SeqCst);
    let staged = vault.lifecycle().stage(org, id, fields.clone()).await.map(drop).unwrap_err();
    assert!(matches!(staged, VaultError::SameSecret { .. }), "{staged}");
    let put = vault
        .lifecycle()
        .put_untested_in_force(org, id, fields, kept())
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(put, VaultError::SameSecret { .. }), "{put}");
    assert_eq!(world.asked.load(SeqCst), requests);
    let record = vault.directory().view().connection(org, id).cloned().unwrap();
    assert_eq!((&record.facts.state, &record.facts.rotation), (&ConnectionState::Active, &None));
}

/// Two replicas read the same configuration, and the token that it names is used in between.
#[tokio::test(start_paused = true)]
async fn a_file_that_two_replicas_read_puts_its_token_in_force_once() {
    let world = World::new(Vec::new());
    let stage = Stage::new(world.clone(), Some(3_600)).await;
    let connection = &stage.connection;
    let before = stage.vaults[0].grants().stored(connection).await.unwrap();
    let named = pasted(&stage, &world);
    let reload = |it: usize| {
        stage.vaults[it].lifecycle().replace(&connection.org, &connection.id, named.clone())
    };
    let (first, second) = tokio::join!(reload(0), reload(1));
    assert_ne!(first.unwrap(), second.unwrap());
    let now = stage.vaults[0].grants().stored(connection).await.unwrap();
    let (_, kept) = now.other.expect("the secret before is kept for a rollback");
    assert_eq!(kept, before.bytes);
}

/// The previous secret has newer tokens: the token that the file names is spent.
#[tokio::test(start_paused = true)]
async fn a_file_that_restores_the_previous_secret_gets_its_newest_token() {
    let world = World::new(Vec::new());
    let stage = Stage::new(world.clone(), Some(3_600)).await;
    let (vault, connection) = (&stage.vaults[0], &stage.connection);
    let (org, id) = (&connection.org, &connection.id);
    let (first, second) = (pasted(&stage, &world), pasted(&stage, &world));
    let reload =
        |fields: &BTreeMap<String, Secret>| vault.lifecycle().replace(org, id, fields.clone());
    assert!(reload(&first).await.unwrap());
    vault.refresh().refresh_now(org, id).await.unwrap();
    let newest = vault.grants().stored(connection).await.unwrap();
    assert!(reload(&second).await.unwrap());
    assert!(reload(&first).await.unwrap());
    let now = vault.grants().stored(connection).await.unwrap();
    assert!(now.bytes == newest.bytes && now.given == newest.given);
    assert!(!reload(&first).await.unwrap(), "it is in force");
    assert_eq!(*world.wrong.lock(), Vec::<String>::new());
}
