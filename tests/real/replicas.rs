//! Two gateways on one PostgreSQL server: changes, tokens, a server that stops, and the way there and back.

mod chains;
mod checked;
pub(crate) mod cut;
mod delivery;
mod ended;
mod failover;
mod herd;
mod known;
mod lag;
mod limits;
mod master_keys;
mod moved;
mod operations;
mod outdated;
mod shared;
mod take_over;

use std::process::Command;

use serde_json::{Value, json};

use crate::postgres::server::{NAME, Server};
use crate::stage::said;
use test_support::authorization::Authorization;
use test_support::canary::{Canaries, Canary};
use test_support::gateway::Gateway;
use test_support::tokens::{api, method, plan_of, refresh_only, rules};
use test_support::wire::find;
use test_support::*;

pub(crate) const MASTER_KEY: &str =
    "6b65792d6f662d6f6e652d73746f72652d6f662d74776f2d7265706c69636173";

/// Keeps what a server and its user need.
pub(crate) struct Database {
    pub(crate) server: Server,
    pub(crate) password: Canary,
}

impl Database {
    pub(crate) fn start() -> Self {
        let password = Canary::new("pg");
        Self { server: Server::start(&password.text), password }
    }

    /// With a gateway on it, before an origin that says `fine`.
    pub(crate) async fn with_lab() -> (Self, Lab) {
        let database = Self::start();
        let lab = database.under(Plan::api_key()).start(Origin::saying("fine")).await;
        (database, lab)
    }

    /// In a network namespace.
    pub(crate) fn start_in(namespace: &str) -> Self {
        let password = Canary::new("pg");
        Self { server: Server::start_in(Some(namespace.to_owned()), &password.text), password }
    }

    pub(crate) fn url(&self) -> String {
        self.url_at("127.0.0.1")
    }

    /// By one of the server's addresses.
    pub(crate) fn url_at(&self, address: &str) -> String {
        let port = self.server.at.port();
        let password = &self.password.text;
        // The name is for the certificate; the address needs no resolver.
        format!(
            "postgres://app:{password}@{NAME}:{port}/app?hostaddr={address}&sslmode=verify-full"
        )
    }

    /// Looks for secrets in all tables: raw, in hex and in base64.
    pub(crate) fn assert_lacks(&self, secrets: impl IntoIterator<Item = Canary>) {
        let rows = self.server.rows("app");
        // What is no secret is found there, or this looks at nothing.
        assert!(find(&rows, b"org_default").is_some(), "{} bytes", rows.len());
        Canaries::new(secrets.into_iter().collect()).assert_absent("the database", &rows);
    }

    /// The same plan on this database.
    pub(crate) fn under(&self, plan: Plan) -> Plan {
        plan.top(STORE)
            .top("master_key: { env: MASTER_KEY }")
            .variable("MASTER_KEY", MASTER_KEY)
            .secret("DATABASE_PASSWORD", &self.password)
            .variable("DATABASE_URL", &self.url())
    }
}

const STORE: &str = "store: { postgres: { url: { env: DATABASE_URL }, trust: [origin-ca.pem], timeout: 2s, stale_max: 4s } }";

/// A request of an agent through one of the gateways.
async fn ask_at(lab: &Lab, gateway: &Gateway, agent: &str) -> Message {
    try_ask_at(lab, gateway, agent).await.expect("an answer")
}

/// As [`ask_at`]; `None` when the stream is cut, as by a change of what the agent may use.
async fn try_ask_at(lab: &Lab, gateway: &Gateway, agent: &str) -> Option<Message> {
    let mut wire = lab.client_at(gateway.proxy).await;
    let authorization = lab.authorization(agent);
    let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{authorization}\r\n");
    wire.try_send(connect).await.ok()?;
    let answer = wire.try_answer("CONNECT").await?;
    if answer.head.status() != 200 {
        return Some(answer);
    }
    let mut wire = lab.try_secure(wire, HOST).await.ok()?;
    wire.try_send(request_text("GET /a", HOST)).await.ok()?;
    wire.try_answer("GET").await
}

/// Waits until a gateway shows so many tokens of an agent: attempts with an unknown one are limited.
async fn until_tokens(gateway: &Gateway, agent: &str, count: usize) {
    until(&format!("{count} tokens of {agent}"), async || {
        let tokens = gateway.api("GET", &format!("/agents/{agent}/tokens"), "").await;
        let found = tokens.head.status() == 200;
        found && tokens.json()["items"].as_array().is_some_and(|all| all.len() == count)
    })
    .await;
}

async fn until_status(lab: &Lab, gateway: &Gateway, agent: &str, status: u16) {
    until(&format!("{status} for {agent}"), async || {
        try_ask_at(lab, gateway, agent).await.is_some_and(|it| it.head.status() == status)
    })
    .await;
}

async fn call(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Value {
    gateway.api_json(method, path, body).await.done(path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_at_one_replica_is_in_force_at_the_other() {
    let (database, mut lab) = Database::with_lab().await;
    let mut other = lab.gateway.replica().await;
    assert_eq!(ask_at(&lab, &other, "ci").await.head.status(), 200);
    lab.add_agent("late").await;
    let bind = json!({ "connection": "acme" });
    until_tokens(&other, "late", 1).await;
    assert_eq!(ask_at(&lab, &other, "late").await.head.status(), 403);
    call(&other, "POST", "/agents/late/bindings", &bind).await;
    until_status(&lab, &lab.gateway, "late", 200).await;
    until_status(&lab, &other, "late", 200).await;
    // The same name at both: one of them gets it.
    let (one, two) = (r#"{"name":"twin"}"#, r#"{"name":"twin"}"#);
    let both =
        tokio::join!(lab.gateway.api("POST", "/agents", one), other.api("POST", "/agents", two));
    let mut both = [both.0.head.status(), both.1.head.status()];
    both.sort_unstable();
    assert_eq!(both, [201, 409]);
    // A token that is revoked at one opens nothing at the other.
    let tokens = call(&lab.gateway, "GET", "/agents/late/tokens", &Value::Null).await;
    let token = tokens["items"][0]["id"].as_str().expect("a token");
    call(&lab.gateway, "DELETE", &format!("/agents/late/tokens/{token}"), &Value::Null).await;
    until_tokens(&other, "late", 0).await;
    assert_eq!(ask_at(&lab, &other, "late").await.head.status(), 407);
    let rows = database.server.sql("app", "SELECT count(*) > 5 FROM keyward_rows");
    assert_eq!(rows, "t");
    // Who owns the database owns no secret, and no name.
    let found = format!(
        "SELECT count(*) FROM keyward_rows WHERE position('{}'::bytea IN value) > 0 OR position('late'::bytea IN value) > 0",
        lab.canary.text
    );
    assert_eq!(database.server.sql("app", &found), "0");
    other.stop().await;
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_that_need_a_token_one_refreshes_it() {
    let database = Database::start();
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let origin = api(&authorization);
    let plan = plan_of(&authorization, &pair, &method(""));
    let lab = database.under(plan).start(origin).await;
    let mut other = lab.gateway.replica().await;
    for round in 1..=5 {
        let asks = (0..16).map(|at| {
            let gateway = if at % 2 == 0 { &lab.gateway } else { &other };
            ask_at(&lab, gateway, "ci")
        });
        for answer in futures_util::future::join_all(asks).await {
            assert_eq!(answer.head.status(), 200, "{}", answer.text());
        }
        assert_eq!(authorization.calls().len(), round, "one refresh a round");
        authorization.issuer().expire_all();
    }
    other.stop().await;
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_database_a_replica_serves_what_it_knows_and_refuses_changes() {
    let database = Database::start();
    let origin = Origin::saying("fine");
    let second = "{ name: cold, provider: acme, fields: { api_key: { env: CANARY } } }";
    let plan = Plan::api_key().connection(second).agent("waits", "cold");
    let lab = database.under(plan).start(origin).await;
    let mut other = lab.gateway.replica().await;
    for gateway in [&lab.gateway, &other] {
        assert_eq!(ask_at(&lab, gateway, "ci").await.head.status(), 200);
    }
    database.server.stop();
    let cold = ask_at(&lab, &other, "waits").await;
    assert_eq!((cold.head.status(), cold.head.one("retry-after")), (503, Some("1")));
    assert_eq!(cold.head.one("keyward-error"), Some("refresh_unavailable"));
    let refused = lab.gateway.api("POST", "/agents", r#"{"name":"never"}"#).await.is(503);
    assert_eq!(refused.json()["error"]["code"], "store_unavailable");
    assert_eq!(refused.head.one("retry-after"), Some("1"));
    let hint = refused.json()["error"]["hint"].to_string();
    assert!(hint.contains("its database is reached"), "{hint}");
    for gateway in [&lab.gateway, &other] {
        assert_eq!(ask_at(&lab, gateway, "ci").await.head.status(), 200, "warm traffic goes on");
    }
    database.server.run();
    until("the store", async || {
        lab.gateway.api("POST", "/agents", r#"{"name":"again"}"#).await.head.status() == 201
    })
    .await;
    until("the other replica", async || {
        other.api("GET", "/agents/again", "").await.head.status() == 200
    })
    .await;
    until_status(&lab, &other, "waits", 200).await;
    other.stop().await;
    lab.finish().await;
}

/// The replica has nothing to write after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_can_be_written_again_is_no_fault_of_an_idle_replica() {
    let (database, lab) = Database::with_lab().await;
    let faults = async || {
        let status = call(&lab.gateway, "GET", "/status", &Value::Null).await;
        let faults = status["faults"].as_array().cloned().unwrap_or_default();
        faults.into_iter().map(|fault| fault["part"].clone()).collect::<Vec<_>>()
    };
    assert!(faults().await.is_empty());
    database.server.stop();
    let refused = lab.gateway.api("POST", "/agents", r#"{"name":"never"}"#).await.is(503);
    assert_eq!(refused.json()["error"]["code"], "store_unavailable");
    assert_eq!(faults().await, [json!("store")]);
    database.server.run();
    until("a store without faults", async || faults().await.is_empty()).await;
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_starts_before_its_database_serves_once_it_answers() {
    let (database, lab) = Database::with_lab().await;
    database.server.stop();
    let answers = async { database.server.run() };
    let (mut other, ()) = tokio::join!(lab.gateway.replica(), answers);
    assert_eq!(ask_at(&lab, &other, "ci").await.head.status(), 200);
    other.stop().await;
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_cannot_read_its_database_becomes_stale_and_not_ready() {
    let (database, lab) = Database::with_lab().await;
    let ready = async || {
        let mut wire = lab.client_at(lab.gateway.admin).await;
        let port = lab.gateway.admin.port();
        wire.send(format!("GET /readyz HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n")).await;
        let answer = wire.answer("GET").await;
        (answer.head.status(), answer.json()["status"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(ready().await, (200, "ready".to_owned()));
    database.server.stop();
    until("stale", async || ready().await == (503, "stale".to_owned())).await;
    database.server.run();
    until("ready", async || ready().await == (200, "ready".to_owned())).await;
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_moves_to_a_database_and_back_with_all_that_is_in_it() {
    let database = Database::start();
    let origin = Origin::saying("fine");
    let key = "master_key: { env: MASTER_KEY }";
    let plan = Plan::api_key().top(key).variable("MASTER_KEY", MASTER_KEY);
    let mut lab = plan.start(origin).await;
    lab.guard(database.password.clone());
    lab.add_agent("kept").await;
    let before = call(&lab.gateway, "GET", "/export", &Value::Null).await;
    let folder = lab.gateway.folder().to_owned();
    let write = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).expect("a file");
        folder.join(name).display().to_string()
    };
    let here = write("here.yaml", format!("{key}\n"));
    let there = write("there.yaml", format!("{key}\n{STORE}\n"));
    let back = write("back.yaml", format!("{key}\nstore: {{ sled: {{ path: back }} }}\n"));
    let wrong = write("wrong.yaml", format!("master_key: {{ env: OTHER_KEY }}\n{STORE}\n"));
    let copy = |from: &str, to: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.env_clear().env("KEYWARD_DATA", folder.join("data"));
        command.env("MASTER_KEY", MASTER_KEY).env("OTHER_KEY", MASTER_KEY.replace('6', "7"));
        command.env("DATABASE_URL", database.url());
        let output = command.args(["store", "copy", "--from", from, "--to", to]).output();
        let output = output.expect("it runs");
        (output.status.success(), said(&output))
    };
    let running = copy(&here, &there);
    assert!(!running.0 && running.1.contains("locked by process"), "{running:?}");
    lab.gateway.stop().await;
    let unopened = copy(&here, &wrong);
    assert!(!unopened.0 && unopened.1.contains("do not open the store"), "{unopened:?}");
    let copied = copy(&here, &there);
    assert!(copied.0 && copied.1.contains("both stores are equal"), "{copied:?}");
    let twice = copy(&here, &there);
    assert!(!twice.0 && twice.1.contains("the target is not empty"), "{twice:?}");
    let returned = copy(&there, &back);
    assert!(returned.0, "{returned:?}");
    for text in [&running.1, &unopened.1, &copied.1, &twice.1, &returned.1] {
        assert!(!text.contains(&database.password.text), "{text}");
    }
    std::fs::rename(folder.join("data/store"), folder.join("data/before")).expect("it is closed");
    std::fs::rename(folder.join("data/back"), folder.join("data/store")).expect("it is closed");
    lab.gateway.restart().await;
    let after = call(&lab.gateway, "GET", "/export", &Value::Null).await;
    assert_eq!(after, before);
    assert_eq!(ask_at(&lab, &lab.gateway, "ci").await.head.status(), 200);
    lab.finish().await;
}
