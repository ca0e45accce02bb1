//! Replicas that are killed, and a server that is restarted while a replica starts.

use std::sync::Arc;

use super::*;
use test_support::install::TOKEN_CI;
use test_support::process::Served;

/// How often the server is restarted, each time later in a start.
const MOMENTS: u32 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_starts_while_the_server_is_restarted_waits_for_it() {
    let (database, lab) = Database::with_lab().await;
    let database = Arc::new(database);
    for moment in 0..MOMENTS {
        let restarted = database.clone();
        let restart = tokio::task::spawn_blocking(move || {
            // Some moment of the start, which has no signs of its own.
            let rest = 0.06 * f64::from(moment);
            restarted.server.sql("postgres", &format!("SELECT pg_sleep({rest})"));
            restarted.server.stop();
            restarted.server.run();
        });
        let mut replica = lab.gateway.replica().await;
        restart.await.expect("it ends");
        assert_eq!(ask_at(&lab, &replica, "ci").await.head.status(), 200, "{moment}");
        replica.stop().await;
    }
    lab.finish().await;
}

/// The request of the killed process is not answered. A server within its time of grace would answer the same token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_started_again_after_a_kill_ends_the_lease_of_its_last_process() {
    let database = Database::start();
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let origin = api(&authorization);
    let refresh = pair.refresh.clone().expect("one");
    let plan = plan_of(&authorization, &pair, &method(""))
        .top(STORE)
        .top("master_key: { env: MASTER_KEY }")
        .top("oauth: { lease: 10m, exchange_timeout: 5m, wait_timeout: 1s }");
    let variables = [
        ("DATABASE_URL", &*database.url()),
        ("DATABASE_PASSWORD", &*database.password.text),
        ("MASTER_KEY", MASTER_KEY),
        ("REFRESH", &*refresh),
        ("TOKEN_CI", TOKEN_CI),
    ];
    let mut served = Served::start_quietly(&plan, &origin, &variables);
    let _gate = authorization.hold_next();
    let mut agent = Wire::to(served.proxy).await;
    agent.ask(absolute("GET /", HOST, TOKEN_CI)).await.is(503);
    authorization.asked(1).await;
    served.kill();
    served.restart();
    // Without an end of the lease, no request is sent for ten minutes.
    let mut agent = Wire::to(served.proxy).await;
    agent.ask(absolute("GET /", HOST, TOKEN_CI)).await;
    authorization.asked(2).await;
}
