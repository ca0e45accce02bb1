//! Leases end with the replica that holds them.

use super::*;

const LONG: Duration = Duration::from_secs(3_600);

async fn is_free(store: &PostgresStore, name: &str) -> bool {
    store.lease(name, LONG).await.unwrap().is_some()
}

#[tokio::test]
async fn a_lease_ends_with_its_replica_and_a_marker_of_a_single_use_does_not() {
    let (one, other) = two().await;
    let held = one.lease("a", LONG).await.unwrap().expect("it is free");
    assert!(one.claim_once("once/a", LONG).await.unwrap());
    assert!(!is_free(&other, "a").await && !is_free(&one, "a").await);
    other.end_replica("no-replica").await.unwrap();
    assert!(!is_free(&other, "a").await);
    other.end_replica(&one.own_name()).await.unwrap();
    let taken = other.lease("a", LONG).await.unwrap().expect("its holder has ended");
    assert!(!one.renew_lease(&held, LONG).await.unwrap());
    assert!(!other.claim_once("once/a", LONG).await.unwrap());
    drop(held);
    assert!(!is_free(&other, "a").await, "a late release does not end the next holder's lease");
    drop(taken);
}

/// The presence of a slow replica has expired, and it renews its lease before another one asks.
#[tokio::test]
async fn a_replica_that_renews_its_lease_is_present() {
    let server = Server::shared();
    let database = server.database();
    let (one, other) = (server.open_in(&database).await, server.open_in(&database).await);
    let held = one.lease("a", LONG).await.unwrap().expect("it is free");
    let silent =
        "UPDATE keyward_leases SET until = now() WHERE name < 'replica0' AND name > 'replica/'";
    server.sql(&database, silent);
    assert!(one.renew_lease(&held, LONG).await.unwrap());
    assert!(!is_free(&other, "a").await);
    server.sql(&database, silent);
    assert!(is_free(&other, "a").await);
}

/// A replica of an earlier version knows nothing of the replica of a lease.
#[tokio::test]
async fn a_lease_that_a_replica_of_an_earlier_version_took_lasts_for_its_time() {
    let server = Server::shared();
    let database = server.database();
    let (one, other) = (server.open_in(&database).await, server.open_in(&database).await);
    one.lease("a", Duration::ZERO).await.unwrap().expect("it is free").keep_until_expiry();
    server.sql(
        &database,
        "UPDATE keyward_leases SET holder = 7, until = now() + interval '1 hour' WHERE name = 'a'",
    );
    other.end_replica(&one.own_name()).await.unwrap();
    assert!(!is_free(&other, "a").await);
}
