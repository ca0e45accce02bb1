//! Verdicts within the life of an access token, and refreshes that a crash has interrupted.

use std::time::Duration;

use super::*;
use crate::refresh::backoff::Backoff;
use keyward_state::directory::BrokenReason;

fn says(what: What) -> Answer {
    Answer { after: 5, what }
}

async fn ask(vault: &Vault, connection: &ConnectionRecord) -> Result<(), VaultError> {
    let credential =
        vault.refresh().credential_in(&connection.org, Some(&wanted(connection))).await;
    assert!(vault.refresh().wait_for_flights(Duration::from_secs(60)).await);
    credential.map(drop)
}

fn broken(vault: &Vault, connection: &ConnectionRecord) -> Option<BrokenReason> {
    let view = vault.directory().view();
    match &view.connection(&connection.org, &connection.id).unwrap().facts.state {
        ConnectionState::Broken { reason, .. } => Some(*reason),
        _ => None,
    }
}

/// oauth 9.live
#[tokio::test(start_paused = true)]
async fn a_verdict_on_the_client_within_the_buffer_leaves_the_token_in_use_to_its_end() {
    let world = World::new(vec![says(What::Rejected), says(What::Rejected)]);
    let stage = Stage::new(world.clone(), Some(3_600)).await;
    let (one, connection) = (&stage.vaults[0], &stage.connection);
    passes(3_400_000).await;
    ask(one, connection).await.expect("the token lives");
    assert_eq!(broken(one, connection), Some(BrokenReason::ClientRejected), "it alarms at once");
    let restarted = open(&stage.store, &stage.keyring, &stage.clock, &world).await;
    for vault in [one, &restarted] {
        for _ in 0..3 {
            ask(vault, connection).await.expect("the token lives");
        }
        let shown = vault
            .refresh()
            .status(&vault.context().connection(&connection.org, &connection.id).unwrap())
            .await;
        assert!(shown.expect("it is used").expires.is_some());
    }
    assert_eq!(world.asked.load(SeqCst), 1, "within the pause");
    passes(201_000).await;
    for vault in [one, &restarted] {
        let ended = ask(vault, connection).await.expect_err("the token has ended");
        assert!(matches!(ended.root(), VaultError::Broken { .. }), "{ended}");
        let now = vault.context().connection(&connection.org, &connection.id).unwrap();
        assert_eq!(now.facts.usable_until, None);
    }
    assert_eq!(world.asked.load(SeqCst), 2, "the pause had ended");
}

/// oauth 9.live: the API has refused the token too.
#[tokio::test(start_paused = true)]
async fn a_token_that_the_api_rejects_is_not_used_after_a_verdict_on_its_client() {
    let world = World::new(vec![says(What::Rejected)]);
    let stage = Stage::new(world.clone(), Some(3_600)).await;
    let (vault, connection) = (&stage.vaults[0], &stage.connection);
    let wants = wanted(connection);
    let stale =
        vault.refresh().credential_in(&connection.org, Some(&wants)).await.unwrap().unwrap();
    let refused = vault.refresh().renew(&stale).await.expect_err("the client is rejected");
    assert!(matches!(refused.root(), VaultError::Broken { .. }), "{refused}");
    assert!(ask(vault, connection).await.is_err());
    assert_eq!(world.asked.load(SeqCst), 1);
}

/// oauth 9.1: the grant itself has ended.
#[tokio::test(start_paused = true)]
async fn a_token_of_an_ended_grant_is_not_used_to_its_end() {
    let world = World::new(vec![says(What::Dead)]);
    let stage = Stage::new(world.clone(), Some(3_600)).await;
    let (vault, connection) = (&stage.vaults[0], &stage.connection);
    passes(3_400_000).await;
    ask(vault, connection).await.expect("the refresh runs beside it");
    assert_eq!(broken(vault, connection), Some(BrokenReason::Revoked));
    assert!(ask(vault, connection).await.is_err());
}

/// oauth 8.crash: the process that sent the token has ended before its answer.
#[tokio::test(start_paused = true)]
async fn a_refused_token_after_a_crash_within_its_refresh_is_a_lost_answer_and_not_revoked() {
    for has_crashed in [false, true] {
        let world = World::new(vec![says(What::Dead)]);
        let stage = Stage::new(world.clone(), Some(3_600)).await;
        let (vault, connection) = (&stage.vaults[0], &stage.connection);
        passes(7_200_000).await;
        if has_crashed {
            let context = vault.refresh().token_context(connection).unwrap();
            let stored = vault.grants().stored(connection).await.unwrap();
            let about = vault.refresh().failure_subject(&context, &stored).await.unwrap();
            let sent = Backoff::default().while_sent(stage.clock.moment());
            vault.refresh().failures().store(&connection.org, &connection.id, about, sent).await;
        }
        let later = open(&stage.store, &stage.keyring, &stage.clock, &world).await;
        later.refresh().resume().await;
        assert!(later.refresh().failing(connection).is_none(), "nothing has failed yet");
        assert!(ask(&later, connection).await.is_err());
        let reason = if has_crashed { BrokenReason::AnswerLost } else { BrokenReason::Revoked };
        assert_eq!(broken(&later, connection), Some(reason));
    }
}

/// oauth 8.crash: the mark is gone with the answer.
#[tokio::test(start_paused = true)]
async fn a_refresh_that_was_answered_leaves_no_mark_of_its_request() {
    let world = World::new(vec![says(What::Later(None)), says(What::Token(Some(3_600)))]);
    let stage = Stage::new(world.clone(), Some(3_600)).await;
    let (vault, connection) = (&stage.vaults[0], &stage.connection);
    passes(7_200_000).await;
    assert!(ask(vault, connection).await.is_err());
    passes(5_000).await;
    ask(vault, connection).await.expect("a token");
    let rows = stage.store.rows.list(Table::Refreshes, keyward_state::store::RowRange::first(10));
    assert!(rows.await.unwrap().is_empty());
}

/// oauth 11.ended
#[tokio::test(start_paused = true)]
async fn a_401_for_a_token_that_has_ended_since_is_no_rejection() {
    let world = World::new(vec![]);
    let stage = Stage::new(world.clone(), Some(60)).await;
    let (vault, connection) = (&stage.vaults[0], &stage.connection);
    let wants = wanted(connection);
    let stale =
        vault.refresh().credential_in(&connection.org, Some(&wants)).await.unwrap().unwrap();
    passes(61_000).await;
    vault.refresh().rejected_again(&stale);
    let newer = vault.refresh().renew(&stale).await.unwrap().expect("its end is no reason to wait");
    assert!(newer.generation > stale.generation);
    // A living one: the second 401 in a row.
    vault.refresh().rejected_again(&newer);
    assert!(vault.refresh().renew(&newer).await.unwrap().is_none());
}
