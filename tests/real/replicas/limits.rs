//! Rate limits and limits of failed logins of three replicas: each request counts at all of them, also while the database
//! is away and after a restart.

use super::*;

/// The sample of a metric without labels.
async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let text = gateway.metrics().await;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

async fn until_metric(gateway: &Gateway, name: &str, expected: u64) {
    until(&format!("{name} {expected}"), async || metric(gateway, name).await == expected).await;
}

const HEARD: &str = "keyward_shared_limit_requests_total";

/// The three replicas of a test.
pub(super) async fn three(database: &Database, plan: Plan) -> (Lab, [Gateway; 2]) {
    let lab = database.under(plan).start(Origin::saying("fine")).await;
    let others = [lab.gateway.replica().await, lab.gateway.replica().await];
    (lab, others)
}

pub(super) async fn finish(lab: Lab, others: [Gateway; 2]) {
    for mut other in others {
        other.stop().await;
    }
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_admit_as_many_requests_as_one() {
    let database = Database::start();
    let (lab, mut others) = three(&database, Plan::api_key().settings("{ rate_limit: 7/h }")).await;
    let mut admitted = [0; 3];
    for turn in 0..15 {
        let all = [&lab.gateway, &others[0], &others[1]];
        let answer = ask_at(&lab, all[turn % 3], "ci").await;
        match answer.head.status() {
            200 => admitted[turn % 3] += 1,
            status => {
                let code = answer.head.one("keyward-error");
                assert_eq!((status, code), (429, Some("rate_limited")), "{}", answer.text());
            }
        }
        let total: u64 = admitted.iter().sum();
        for (at, gateway) in all.iter().enumerate() {
            until_metric(gateway, HEARD, total - admitted[at]).await;
        }
    }
    assert_eq!(admitted, [3, 2, 2]);
    assert_eq!(lab.origin.received().len(), 7);
    // A restart forgets neither its own requests nor those of the others.
    others[0].restart().await;
    let refused = ask_at(&lab, &others[0], "ci").await;
    assert_eq!((refused.head.status(), lab.origin.received().len()), (429, 7));
    finish(lab, others).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_guessed_at_one_replica_are_limited_at_a_replica_that_saw_none() {
    let database = Database::start();
    let limited = Plan::api_key().limit("auth_failures_per_minute_max: 5");
    let (lab, others) = three(&database, limited).await;
    let guess = async |gateway: &Gateway| {
        let mut wire = lab.client_at(gateway.proxy).await;
        wire.send(format!(
            "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\
             Proxy-Authorization: Bearer kwa_guessed\r\n\r\n"
        ))
        .await;
        wire.answer("CONNECT").await.head.status()
    };
    let guess_api = async |gateway: &Gateway| {
        let mut wire = lab.client_at(gateway.admin).await;
        let port = gateway.admin.port();
        wire.send(format!(
            "GET /api/v1/agents HTTP/1.1\r\nHost: localhost:{port}\r\n\
             Authorization: Bearer kwp_guessed\r\n\r\n"
        ))
        .await;
        wire.answer("GET").await.head.status()
    };
    for _ in 0..5 {
        assert_eq!(guess(&lab.gateway).await, 407);
        assert_eq!(guess_api(&others[0]).await, 401);
    }
    until_metric(&others[1], HEARD, 10).await;
    assert_eq!(guess(&others[1]).await, 429, "its first one");
    assert_eq!(guess_api(&others[1]).await, 429, "its first one");
    until_metric(&lab.gateway, HEARD, 5).await;
    assert_eq!(guess_api(&lab.gateway).await, 429);
    // A right token is accepted in any case.
    assert_eq!(ask_at(&lab, &others[1], "ci").await.head.status(), 200);
    // The owner of the database reads neither addresses nor connections.
    let rows = "SELECT count(*) FROM keyward_kept WHERE name LIKE 'limits/%'::bytea \
                AND position('127.0.0.1'::bytea IN value) > 0";
    assert_eq!(database.server.sql("app", rows), "0");
    finish(lab, others).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_replicas_stay_within_the_limit_together() {
    const WEIGHT: &str = "keyward_shared_limit_weight";
    let database = Database::start();
    let (lab, others) = three(&database, Plan::api_key().settings("{ rate_limit: 15/h }")).await;
    let all = [&lab.gateway, &others[0], &others[1]];
    for gateway in all {
        until_metric(gateway, "keyward_replicas", 3).await;
        // The credential is in memory from here on.
        assert_eq!(ask_at(&lab, gateway, "ci").await.head.status(), 200);
    }
    for gateway in all {
        until_metric(gateway, HEARD, 2).await;
    }
    database.server.stop();
    let mut admitted = [0; 3];
    for (at, gateway) in all.into_iter().enumerate() {
        until_metric(gateway, WEIGHT, 3).await;
        while ask_at(&lab, gateway, "ci").await.head.status() == 200 {
            admitted[at] += 1;
        }
    }
    assert_eq!(admitted, [4; 3], "a third of what was left, of each");
    assert_eq!(lab.origin.received().len(), 15);
    database.server.run();
    for gateway in all {
        until_metric(gateway, WEIGHT, 1).await;
        assert_eq!(ask_at(&lab, gateway, "ci").await.head.status(), 429);
    }
    for gateway in all {
        until_metric(gateway, HEARD, 10).await;
        assert_eq!(ask_at(&lab, gateway, "ci").await.head.status(), 429);
    }
    finish(lab, others).await;
}
