//! Rows of grants that are changed or removed while a response is awaited.

use std::time::Duration;
use tokio::time::Instant;

use super::*;
use crate::grants::record::GrantVerdict;
use keyward_rules::inject::credential::Write;
use keyward_state::directory::BrokenReason;

/// Two replicas. The first one awaits the response to a refresh for `after` milliseconds; the previous token has
/// expired.
async fn awaiting(after: u64) -> (Stage, Arc<World>) {
    let world = World::new(vec![Answer { after, what: What::Token(Some(3_600)) }]);
    let stage = Stage::new(world.clone(), Some(1)).await;
    passes(2_000).await;
    stage.want(0, 1);
    passes(100).await;
    assert_eq!(world.asked.load(SeqCst), 1);
    (stage, world)
}

/// The token of the response that [`awaiting`] awaits.
const AWAITED_TOKEN: &str = "access-0-1";

/// Checks that both replicas have this token, and that this number of requests was sent.
async fn all_have_it(stage: &Stage, world: &World, token: &str, requests: usize) {
    stage.ends().await;
    for (replica, vault) in stage.vaults.iter().enumerate() {
        let connection = &stage.connection;
        let credential =
            vault.refresh().credential_in(&connection.org, Some(&wanted(connection))).await;
        let credential = credential.unwrap().expect("a credential");
        let mut writes = credential.writes.iter().flat_map(|scope| &scope.what);
        let has_token =
            |write: &Write| write.value.expose_text().is_some_and(|text| text.ends_with(token));
        assert!(writes.any(has_token), "replica {replica} has another token than {token}");
    }
    assert_eq!(*world.wrong.lock(), Vec::<String>::new());
    assert_eq!(world.asked.load(SeqCst), requests);
}

#[tokio::test(start_paused = true)]
async fn a_response_is_stored_in_a_row_that_is_rewritten_during_the_refresh() {
    let (stage, world) = awaiting(5_000).await;
    stage.rewrite(0);
    stage.rewrite(1);
    all_have_it(&stage, &world, AWAITED_TOKEN, 1).await;
}

/// The other replica has sent the spent token, and the server does not end the grant for that. The write of the
/// response over the verdict may be reported as failed.
async fn a_response_replaces_the_verdict(is_reported_as_failed: bool) {
    let (stage, world) = awaiting(5_000).await;
    let (vault, connection) = (&stage.vaults[1], &stage.connection);
    let stored = vault.grants().stored(connection).await.unwrap();
    let verdict = GrantVerdict::new(BrokenReason::Revoked, Some("invalid_grant".to_owned()));
    vault.refresh().mark_broken(connection, &stored, verdict).await.unwrap();
    if is_reported_as_failed {
        stage.fails(1, true);
    }
    all_have_it(&stage, &world, AWAITED_TOKEN, 1).await;
    if is_reported_as_failed {
        assert_eq!(*stage.store.fails.lock(), (0, true), "it was reported as failed");
    }
    let view = stage.vaults[0].directory().view();
    let record = view.connection(&connection.org, &connection.id).cloned();
    assert_eq!(record.unwrap().facts.state, ConnectionState::Active);
}

#[tokio::test(start_paused = true)]
async fn a_response_replaces_the_verdict_on_the_token_that_it_came_from() {
    a_response_replaces_the_verdict(false).await;
}

/// The database stores the response, and its acknowledgement is lost.
#[tokio::test(start_paused = true)]
async fn a_response_stored_without_acknowledgement_also_replaces_the_verdict() {
    a_response_replaces_the_verdict(true).await;
}

/// A new secret is put in force while the refresh of the old one is awaited, and then rolled back.
#[tokio::test(start_paused = true)]
async fn a_rollback_restores_the_token_of_a_refresh_that_ended_after_the_rotation() {
    let (stage, world) = awaiting(5_000).await;
    let (vault, connection) = (&stage.vaults[0], &stage.connection);
    let (org, id) = (&connection.org, &connection.id);
    let given = world.consent(&stage.clock, None);
    let given = given.revocable().and_then(|it| it.refresh).expect("a refresh token");
    let fields = BTreeMap::from([("refresh_token".to_owned(), given)]);
    let kept = RotationTerms { old_for: Duration::from_secs(3_600), expires: None };
    vault.lifecycle().put_untested_in_force(org, id, fields, kept).await.unwrap();
    passes(10_000).await;
    assert!(vault.refresh().wait_for_flights(ENDED_WITHIN).await);
    vault.lifecycle().roll_back(org, id).await.unwrap();
    // The agent that waited got a token of the new secret.
    all_have_it(&stage, &world, AWAITED_TOKEN, 2).await;
}

/// The owner reconnects while the response to a refresh of the previous grant is awaited.
#[tokio::test(start_paused = true)]
async fn a_late_response_does_not_replace_a_new_consent() {
    let (stage, world) = awaiting(5_000).await;
    stage.connect(1, Some(3_600));
    passes(1_000).await;
    let stored = stage.vaults[1].grants().stored(&stage.connection).await.unwrap();
    passes(10_000).await;
    all_have_it(&stage, &world, "access-1-0", 1).await;
    let now = stage.vaults[1].grants().stored(&stage.connection).await.unwrap();
    assert_eq!((now.version, now.bytes), (stored.version, stored.bytes));
}

/// A database with an asynchronous standby fails over, and loses the row of the last refresh.
#[tokio::test(start_paused = true)]
async fn a_response_is_stored_over_a_row_that_a_failover_has_reverted() {
    let token = |after, life| Answer { after, what: What::Token(Some(life)) };
    let world = World::new(vec![token(5, 1), token(5_000, 3_600)]);
    let stage = Stage::new(world.clone(), Some(1)).await;
    let key = record::key(&stage.connection.org, &stage.connection.id);
    let before = stage.store.rows.get(Table::Grants, &key).await.unwrap().expect("a row");
    passes(2_000).await;
    stage.want(0, 1);
    passes(2_000).await;
    stage.want(0, 1);
    passes(100).await;
    assert_eq!(world.asked.load(SeqCst), 2);
    stage.store.rows.delete(Table::Grants, &key, Expect::Any).await.unwrap();
    stage.store.rows.load(vec![(Table::Grants, before)]).await.unwrap();
    stage.store.newest.lock().clear();
    stage.ends().await;
    let (vault, wanted) = (&stage.vaults[1], wanted(&stage.connection));
    let credential = vault.refresh().credential_in(&stage.connection.org, Some(&wanted)).await;
    assert!(credential.is_ok());
    assert_eq!(*world.wrong.lock(), Vec::<String>::new());
    assert_eq!(world.asked.load(SeqCst), 2);
}

/// The configuration was reloaded while it waited, and it is decided again.
#[tokio::test(start_paused = true)]
async fn a_request_that_has_waited_before_waits_no_longer_in_all() {
    let (stage, _world) = awaiting(60_000).await;
    let (vault, began) = (&stage.vaults[0], Instant::now());
    let (wanted, before) = (wanted(&stage.connection), Duration::from_secs(19));
    let since = began - before;
    let refused =
        vault.refresh().credential_since(&stage.connection.org, Some(&wanted), since).await;
    assert!(matches!(&refused, Err(VaultError::RefreshUnavailable { .. })), "{refused:?}");
    assert_eq!(began.elapsed() + before, vault.token_settings().wait_timeout);
}

/// The connection is removed at the replica that awaits the response, or at another one whose removal is not known
/// there yet.
#[tokio::test(start_paused = true)]
async fn the_response_for_a_removed_connection_is_not_stored() {
    for at in 0..2 {
        let (stage, world) = awaiting(5_000).await;
        let (org, id) = (&stage.connection.org, &stage.connection.id);
        stage.vaults[at].lifecycle().disconnect(org, id, false).await.unwrap();
        stage.rewrite(1 - at);
        passes(10_000).await;
        assert!(stage.vaults[0].refresh().wait_for_flights(ENDED_WITHIN).await);
        let row = stage.store.rows.get(Table::Grants, &record::key(org, id)).await.unwrap();
        assert!(row.is_none(), "removed at {at}");
        assert_eq!(world.asked.load(SeqCst), 1);
    }
}
