//! The store's own failover: the URL names a primary and its standby, which has every commit (synchronous replication).
//! The standby is promoted while gateways run, and none of them is started again.

use rustix::process::Signal;

use super::*;

/// A primary and its standby.
struct Pair {
    primary: Database,
    standby: Server,
}

impl Pair {
    async fn start() -> Self {
        let primary = Database::start();
        let standby = primary.server.standby();
        let server = &primary.server;
        server.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        server.sql("postgres", "SELECT pg_reload_conf()");
        let state = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        until("a standby that every commit waits for", async || {
            server.sql("postgres", state) == "1"
        })
        .await;
        Self { primary, standby }
    }

    /// Both, in this order, with more of the query.
    fn url(&self, [first, second]: [&Server; 2], more: &str) -> String {
        let (one, other) = (first.at.port(), second.at.port());
        let password = &self.primary.password.text;
        format!(
            "postgres://app:{password}@{NAME}:{one},{NAME}:{other}/app?hostaddr=127.0.0.1,127.0.0.1\
             &sslmode=verify-full{more}"
        )
    }

    /// How many rows the agents have at the server that was the standby.
    fn agents(&self) -> usize {
        let count = "SELECT count(*) FROM keyward_rows WHERE tbl = 'agents'";
        self.standby.sql("app", count).parse().expect("a number")
    }
}

async fn makes(gateway: &Gateway, name: &str) -> Message {
    gateway.api("POST", "/agents", &json!({ "name": name }).to_string()).await
}

async fn until_made(gateway: &Gateway, name: &str) {
    until(name, async || makes(gateway, name).await.head.status() == 201).await;
}

async fn until_known(gateway: &Gateway, name: &str) {
    let path = format!("/agents/{name}");
    until(name, async || gateway.api("GET", &path, "").await.head.status() == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_of_the_database_nothing_is_lost_and_everything_goes_on() {
    let pair = Pair::start().await;
    let authorization = Authorization::with(rules()).await;
    let refresh = refresh_only(&authorization);
    let origin = api(&authorization);
    // The standby comes first: it is no server to write to, yet.
    let url = pair.url([&pair.standby, &pair.primary.server], "&target_session_attrs=read-write");
    let plan = pair.primary.under(plan_of(&authorization, &refresh, &method("")));
    let lab = plan.variable("DATABASE_URL", &url).start(origin).await;
    let mut other = lab.gateway.replica().await;
    for gateway in [&lab.gateway, &other] {
        assert_eq!(ask_at(&lab, gateway, "ci").await.head.status(), 200);
    }
    assert_eq!(authorization.calls().len(), 1);
    assert_eq!(makes(&lab.gateway, "kept").await.head.status(), 201);
    let before = pair.agents();
    assert!(before >= 2, "the standby has the commits: {before}");
    // It knows then that the other one has stored a token, and reads it once more.
    until_known(&other, "kept").await;
    assert_eq!(ask_at(&lab, &other, "ci").await.head.status(), 200);
    pair.primary.server.stop();
    let refused = makes(&lab.gateway, "never").await;
    assert_eq!(refused.json()["error"]["code"], "store_unavailable", "{}", refused.text());
    assert_eq!(ask_at(&lab, &other, "ci").await.head.status(), 200, "warm traffic goes on");
    pair.standby.promote();
    until_made(&lab.gateway, "after").await;
    until_known(&other, "after").await;
    // A token that ended needs the store: its lease, and the answer.
    authorization.issuer().expire_all();
    for gateway in [&lab.gateway, &other] {
        until_status(&lab, gateway, "ci", 200).await;
    }
    assert_eq!(authorization.calls().len(), 2, "one refresh after the failover");
    assert_eq!(pair.agents(), before + 1);
    // One that knows nothing but the database.
    let mut third = lab.gateway.replica().await;
    for (name, status) in [("kept", 200), ("after", 200), ("never", 404)] {
        let shown = third.api("GET", &format!("/agents/{name}"), "").await;
        assert_eq!(shown.head.status(), status, "{name}: {}", shown.text());
    }
    assert_eq!(ask_at(&lab, &third, "ci").await.head.status(), 200);
    assert_eq!(authorization.calls().len(), 2, "the token was stored");
    third.stop().await;
    other.stop().await;
    lab.finish().await;
}

/// The machine of the primary is there, and its server does not answer: it accepts streams and is silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_does_not_answer_is_skipped_for_the_promoted_standby() {
    let pair = Pair::start().await;
    let url = pair.url([&pair.primary.server, &pair.standby], "");
    let plan = pair.primary.under(Plan::api_key()).variable("DATABASE_URL", &url);
    let lab = plan.start(Origin::saying("fine")).await;
    assert_eq!(makes(&lab.gateway, "kept").await.head.status(), 201);
    let before = pair.agents();
    pair.primary.server.signal(Signal::STOP);
    pair.standby.promote();
    until_made(&lab.gateway, "after").await;
    assert_eq!(pair.agents(), before + 1);
    let mut third = lab.gateway.replica().await;
    until_known(&third, "kept").await;
    until_known(&lab.gateway, "after").await;
    pair.primary.server.signal(Signal::CONT);
    third.stop().await;
    lab.finish().await;
}

/// An operator makes the sessions of the old primary read-only, and it goes on. Streams to it are open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_to_a_server_that_became_read_only_are_left_for_the_new_primary() {
    let pair = Pair::start().await;
    let url = pair.url([&pair.primary.server, &pair.standby], "");
    let plan = pair.primary.under(Plan::api_key()).variable("DATABASE_URL", &url);
    let lab = plan.start(Origin::saying("fine")).await;
    let mut other = lab.gateway.replica().await;
    assert_eq!(makes(&lab.gateway, "kept").await.head.status(), 201);
    until_known(&other, "kept").await;
    let old = &pair.primary.server;
    old.sql("postgres", "ALTER SYSTEM SET default_transaction_read_only = on");
    old.sql("postgres", "SELECT pg_reload_conf()");
    until("the server's settings", async || {
        old.sql("app", "SHOW default_transaction_read_only") == "on"
    })
    .await;
    let before = pair.agents();
    pair.standby.promote();
    until_made(&lab.gateway, "after").await;
    assert_eq!(pair.agents(), before + 1);
    until_known(&other, "after").await;
    until_made(&other, "other").await;
    until_known(&lab.gateway, "other").await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'keyward'";
    until("no stream to the old primary", async || old.sql("app", open) == "0").await;
    other.stop().await;
    lab.finish().await;
}
