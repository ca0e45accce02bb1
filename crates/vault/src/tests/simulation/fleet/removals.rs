//! A connection that one replica removes while another one refreshes it.

use tokio::sync::watch;

use super::*;
use crate::oauth::{FlowServices, Flows};
use crate::tests::simulation::server::numbers;
use keyward_state::store::RowRange;

/// Replica 1 awaits the response to a refresh, and replica 0 has removed the connection.
async fn removed_elsewhere(revoke: bool) -> (Fleet, RemovedConnection) {
    let answers = vec![Answer { after: 5_000, what: What::Token(Some(3_600)) }];
    let mut fleet = Fleet::new(answers, Some(1)).await;
    passes(2_000).await;
    fleet.want(1, 1);
    passes(100).await;
    assert_eq!(fleet.fleet.world.asked.load(SeqCst), 1);
    let (org, id) = (&fleet.connection.org, &fleet.connection.id);
    let removed = fleet.replicas[0].vault.lifecycle().disconnect(org, id, revoke).await.unwrap();
    (fleet, removed)
}

/// The rows of pending revocations after the response, before the first attempt.
async fn pending(fleet: &Fleet) -> usize {
    passes(6_000).await;
    assert!(fleet.replicas[1].vault.refresh().wait_for_flights(ENDED_WITHIN).await);
    fleet.replicas[0].link.list(Table::Outbox, RowRange::first(10)).await.unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn the_token_of_another_replica_s_refresh_is_to_be_revoked_too() {
    let (fleet, removed) = removed_elsewhere(true).await;
    assert_eq!(removed.grant.as_ref().map(numbers), Some((0, 0)));
    assert!(removed.late.is_none() && removed.is_awaited_elsewhere);
    passes(10_000).await;
    let orphans = fleet.replicas[1].vault.refresh().orphans().take();
    let grants: Vec<_> =
        orphans.iter().map(|orphan| numbers(&Grant::decode(&orphan.grant).unwrap())).collect();
    assert_eq!(grants, [(0, 1)]);
    assert_eq!(orphans[0].connection.id, fleet.connection.id);
    assert!(fleet.replicas[0].vault.refresh().orphans().take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_revocation_for_another_replica_is_stored_before_it_is_tried() {
    for revoke in [true, false] {
        let (fleet, removed) = removed_elsewhere(revoke).await;
        assert_eq!(removed.is_awaited_elsewhere, revoke);
        let Replica { vault, link, .. } = &fleet.replicas[1];
        let flows = Flows::new(FlowServices {
            store: link.clone(),
            keyring: fleet.keyring.clone(),
            vault: Arc::new(vault.clone()),
            caller: CALLER.clone(),
            settings: Default::default(),
            clock: vault.context().clock.clone(),
            public_url: "http://localhost:8081".to_owned(),
        });
        let (close, closes) = watch::channel(false);
        let job = tokio::spawn(async move { flows.revoke_orphans(closes).await });
        assert_eq!(pending(&fleet).await, usize::from(revoke));
        close.send_replace(true);
        job.await.unwrap();
    }
}
