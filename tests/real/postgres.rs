//! psql and psycopg at a real PostgreSQL server, through a listener for databases.

mod clients;
mod encrypted;
mod listeners;
mod rules;
pub(crate) mod server;
mod servers;
mod speed;
mod stage;

use std::process::Command;

use self::server::{NAME, Server};
use self::stage::Stage;
use crate::stage::{installed, run, said, succeeded};
use test_support::install::{Install, TOKEN_CI};
use test_support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_uses_a_database_with_its_token_and_never_has_the_password() {
    let stage = Stage::new().await;
    let who = "SELECT current_user, current_database(), current_setting('application_name'), \
               (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())";
    assert_eq!(stage.served("ci", "main", who).await, "app|app|ci/psql|t");
    assert_eq!(stage.served("ci", "plain", who).await, "app|app|ci/psql|f");
    let prepared = "PREPARE p AS SELECT $1::int + 1; EXECUTE p(41)";
    assert_eq!(stage.served("ci", "main", prepared).await, "42");
    let cursor = "BEGIN; DECLARE c CURSOR FOR SELECT generate_series(1, 9); FETCH 2 FROM c; COMMIT";
    assert_eq!(stage.served("ci", "main", cursor).await, "1\n2");
    let notified = stage.served("ci", "main", "LISTEN news; NOTIFY news, 'here'").await;
    assert!(notified.contains("\"news\" with payload \"here\""), "{notified}");
    let big = "SELECT repeat('x', 1048576) FROM generate_series(1, 100)";
    assert_eq!(stage.served("ci", "main", big).await.len(), 100 * (1 << 20) + 99);
    stage.served("ci", "main", "CREATE TABLE copied (a int, b text)").await;
    let file = stage.lab.gateway.folder().join("rows.csv");
    let rows: String = (0..200_000).map(|row| format!("{row},some text for row {row}\n")).collect();
    std::fs::write(&file, &rows).expect("a file");
    let from = format!("\\copy copied FROM '{}' CSV", file.display());
    stage.served("ci", "main", &from).await;
    let back = stage.served("ci", "main", "\\copy copied TO STDOUT CSV").await;
    assert_eq!(back, rows.trim_end());
    let port = stage.server.at.port();
    let records = stage.finish().await;
    assert_eq!(records.len(), 9);
    let first = &records[0];
    assert_eq!(first["target"], format!("postgres://{NAME}:{port}/app"));
    assert_eq!([&first["agent"], &first["connection"]], ["ci", "main"]);
    assert_eq!([&first["database_role"], &first["outcome"]], ["app", "completed"]);
    assert!(records[5]["bytes_out"].as_u64() > Some(100 << 20), "{}", records[5]);
    assert!(records[7]["bytes_in"].as_u64() > Some(6_000_000), "{}", records[7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_shows_the_message_of_each_refusal() {
    let mut stage = Stage::new().await;
    stage.lab.add_agent("guest").await;
    let url =
        format!("postgres://app:{}@{NAME}:{}/app", stage.password.text, stage.server.at.port());
    let new = format!(
        r#"{{"name":"stored","provider":"postgres","fields":{{"url":"{url}"}},"test":true}}"#
    );
    let added = stage.lab.gateway.api("POST", "/connections", &new).await;
    assert_eq!(added.json()["state"], "active", "{}", added.text());
    let bound = r#"{"connection":"stored"}"#;
    let bound = stage.lab.gateway.api("POST", "/agents/guest/bindings", bound).await;
    assert!(bound.head.status() < 300, "{}", bound.text());
    let token = |agent: &str| stage.lab.token(agent).to_owned();
    for (token, database, says) in [
        ("kwa_wrong".to_owned(), "main", "HINT:  give the agent's token (kwa_…) as the password"),
        ("x".repeat(5_000), "main", "the length of the message is out of bounds"),
        (token("ci"), "prod", "HINT:  name one as the database: copy, main, plain"),
        (token("ci"), "anybody", "the agent has several connections to databases"),
        (token("ci"), "reports", "the database is none of the agent's connections"),
        (token("stranger"), "main", "this agent has no connection to a database"),
    ] {
        let refused = stage.refused(&token, database).await;
        assert!(refused.contains("FATAL:  keyward: ") && refused.contains(says), "{refused}");
    }
    // One connection is used without its name, unless another one is named.
    assert_eq!(stage.served("reader", "anybody", "SELECT 1").await, "1");
    let api = &stage.lab.gateway;
    let guest = stage.lab.token("guest").to_owned();
    assert_eq!(stage.served("guest", "stored", "SELECT 1").await, "1");
    api.api("POST", "/connections/stored/pause", "").await.is(200);
    let refused = stage.refused(&guest, "stored").await;
    assert!(refused.contains("connection `stored` is paused"), "{refused}");
    let removed = api.api("DELETE", "/agents/guest", "").await;
    assert!(removed.head.status() < 300, "{}", removed.text());
    let refused = stage.refused(&guest, "stored").await;
    assert!(refused.contains("HINT:  give the agent's token"), "{refused}");
    let Stage { lab, server, .. } = stage;
    drop(server);
    // The gateway is up, the server is not.
    let at = lab.gateway.running().database_addrs()[0].at.tcp().expect("TCP");
    let mut command = Command::new("psql");
    command.env("PGPASSWORD", lab.token("ci")).args(["-h", "127.0.0.1", "-U", "x", "-d", "copy"]);
    let output = run({
        command.args(["-p", &at.port().to_string(), "-c", "SELECT 1"]);
        command
    });
    let refused = said(&output.await);
    assert!(refused.contains("code upstream_unreachable"), "{refused}");
    let records = lab.finish().await;
    let codes: Vec<_> = records.iter().filter_map(|record| record["code"].as_str()).collect();
    assert_eq!(codes[..3], ["agent_unauthenticated", "bad_request", "connection_missing"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_ends_an_open_session_at_once() {
    let client = |stage: &Stage, token: &str, number: usize| {
        let mut client = stage.psql(token, "main");
        client.args(["-c", &format!("SELECT pg_sleep(600 + {number})")]);
        client
    };
    let is_open = |server: &Server, number: usize| {
        let sleeping = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600 + {number})' AND wait_event = 'PgSleep'"
        );
        server.sql("app", &sleeping) == "1"
    };
    let stage = Stage::new().await;
    let words = "FATAL:  keyward: the agent's access was revoked or changed";
    stage.ends_sessions_when_revoked(client, is_open, words).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_ends_only_its_own_statement() {
    let stage = Stage::new().await;
    let sleeping = |name: &str| {
        format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND wait_event = 'PgSleep'"
        )
    };
    let until = async |stage: &Stage, sql: &str, wanted: &str| {
        until("the server's view of a session", async || stage.server.sql("app", sql) == wanted)
            .await;
    };
    // psql sends a cancel request at SIGINT, with the key that it got.
    let mut both = Vec::new();
    for _ in 0..2 {
        let mut command = stage.psql(stage.lab.token("ci"), "main");
        command.args(["-c", "SELECT pg_sleep(600)"]);
        command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        both.push(command.spawn().expect("psql"));
    }
    until(&stage, &sleeping("ci/psql"), "2").await;
    let id = rustix::process::Pid::from_child(&both[0]);
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("it runs");
    let cancelled = both.remove(0).wait_with_output().expect("it ends");
    assert!(said(&cancelled).contains("canceling statement due to user request"), "{cancelled:?}");
    assert_eq!(stage.server.sql("app", &sleeping("ci/psql")), "1");
    let mut other = both.remove(0);
    other.kill().expect("it runs");
    other.wait().expect("it ends");
    stage.finish().await;
}

/// Every line of the list is tried as a simple query and as a prepared statement; then the session is asked for its mode,
/// and tries to write by a function, which no check of statements can see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_makes_a_read_only_session_write() {
    let stage = Stage::new().await;
    let write = "CREATE FUNCTION write() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (2) RETURNING a'";
    stage.server.sql("app", &format!("SET ROLE app; {write}"));
    let leave = "CREATE FUNCTION leave() RETURNS text LANGUAGE sql AS \
                 $$ SELECT set_config('default_transaction_read_only', 'off', false) $$";
    stage.server.sql("app", &format!("SET ROLE app; {leave}"));
    let left = "SET ROLE app; BEGIN; INSERT INTO t VALUES (3); PREPARE TRANSACTION 'left'";
    stage.server.sql("app", left);
    let ways = include_str!("../../crates/databases/src/postgres/statements/ways_out.sql");
    let list = stage.lab.gateway.folder().join("ways.sql");
    std::fs::write(&list, ways).expect("a file");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/programs/postgres/ways_out.py");
    let mut command = Command::new(installed("real-venv/bin/python"));
    let at = stage.listener();
    let url = format!("postgresql://reports:{}@{at}/reports", stage.lab.token("reader"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("DATABASE_URL", url).arg(script).arg(&list);
    let text = said(&succeeded(command).await);
    assert_eq!(stage.server.sql("app", "SELECT count(*) FROM t"), "1", "{text}");
    let tried = ways.lines().filter(|line| !line.is_empty()).count();
    assert!(tried > 60, "{tried}");
    let created = "SELECT count(*) FROM pg_class WHERE relname = 'x'";
    assert_eq!(stage.server.sql("app", created), "0", "{text}");
    assert!(text.contains(&format!("{} statements refused", 2 * tried)), "{text}");
    // The second step creates the table that the first one names; both are tried.
    let mut steps = stage.psql(stage.lab.token("reader"), "reports");
    steps.args(["-v", "ON_ERROR_STOP=0"]);
    for step in ["PREPARE p AS SELECT 'written' AS a INTO x", "EXPLAIN ANALYZE EXECUTE p"] {
        steps.args(["-c", step]);
    }
    let steps = run(steps).await;
    assert_eq!(stage.server.sql("app", created), "0", "{}", said(&steps));
    assert!(said(&steps).contains("none with INTO"), "{}", said(&steps));
    // What a function of the database changes, the server reports, and the session ends.
    let left = stage.sql("reader", "reports", "SELECT leave()").await;
    assert!(!left.status.success(), "{}", said(&left));
    let both = stage.sql("reader", "reports", "SELECT leave(); SELECT write()").await;
    assert!(!both.status.success(), "{}", said(&both));
    assert_eq!(stage.server.sql("app", "SELECT count(*) FROM t"), "1");
    // Pools reset their sessions; the mode is what they return to.
    let mut reset = stage.psql(stage.lab.token("reader"), "reports");
    for statement in ["DISCARD ALL", "RESET ALL", "SHOW default_transaction_read_only"] {
        reset.args(["-c", statement]);
    }
    let reset = said(&run(reset).await);
    assert!(reset.starts_with("on"), "{reset}");
    let timeout = stage.served("reader", "reports", "SHOW statement_timeout").await;
    assert_eq!(timeout, "20s");
    let records = stage.finish().await;
    let denied = records.iter().filter(|record| record["code"] == "denied").count();
    assert_eq!(denied, 1, "the session that left its mode is recorded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_under_run_finds_its_database_by_the_usual_variables() {
    let plan = Plan::api_key().no_agents().agent("ci", "main");
    let server = Server::start(&plan.canary().text);
    let plan = plan
        .connection(&format!(
            "{{ name: main, provider: postgres, variables: {{ host: \"{NAME}:{}\", database: app }}, \
             fields: {{ username: app, password: {{ env: CANARY }} }} }}",
            server.at.port()
        ))
        .resolve(&format!("{NAME}: \"{}\"", server.at))
        .allow(&server.at.to_string());
    let canary = plan.canary().clone();
    let origin = Origin::answering(|_| ok("fine"));
    let install = Install::new(&plan, &origin);
    let asks = "SELECT current_user || ' at ' || current_database()";
    for script in
        [format!("psql -XqAtc \"{asks}\""), format!("psql -XqAt \"$DATABASE_URL\" -c \"{asks}\"")]
    {
        let command =
            install.keyward(&["run", "--quiet", "--agent", "ci", "--", "sh", "-c", &script]);
        let output = run(command).await;
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("app at app"),
            "{}",
            said(&output)
        );
        canary.assert_absent("what the program said", said(&output).as_bytes());
        assert!(!said(&output).contains(TOKEN_CI), "the run has a token of its own");
    }
    let tested = run(install.keyward(&["connection", "test", "main"])).await;
    let text = said(&tested);
    assert!(text.contains("PostgreSQL") && text.contains("role app, sessions may write"), "{text}");
    drop(server);
}
