//! Settings of sessions at a real server: rules on statements, roles, limits of answers, and statements in the
//! audit log.

use std::process::Command;

use serde_json::Value;

use super::stage::Stage;
use crate::stage::{installed, run, said, succeeded};

const TABLES: &str = "SET ROLE app; CREATE TABLE orders (a int); INSERT INTO orders VALUES (1), (2); \
    CREATE TABLE secret (a text); INSERT INTO secret VALUES ('hidden'); \
    CREATE SCHEMA sales; CREATE TABLE sales.items (a int); INSERT INTO sales.items VALUES (7); \
    CREATE SCHEMA private; CREATE TABLE private.orders AS SELECT * FROM secret; \
    CREATE FUNCTION leave() RETURNS text LANGUAGE sql AS $$ SELECT 'left' $$; \
    CREATE FUNCTION peek(text) RETURNS text LANGUAGE sql AS $$ SELECT max(a) FROM secret $$";

async fn stage(settings: &str) -> Stage {
    let stage = Stage::with_settings(settings).await;
    stage.server.sql("app", TABLES);
    stage
}

/// What a statement with parameters answers, by the extended protocol.
async fn extended(stage: &Stage, statement: &str, parameters: &[&str]) -> String {
    let code = "import os, sys, psycopg; session = psycopg.connect(os.environ['DATABASE_URL']); \
                print(*session.pgconn.exec_params(sys.argv[1].encode(), [it.encode() for it in sys.argv[2:]]).get_value(0, 0).decode().split())";
    let mut command = python(stage);
    command.args(["-c", code, statement]).args(parameters);
    let output = succeeded(command).await;
    said(&output).trim().to_owned()
}

fn python(stage: &Stage) -> Command {
    let mut command = Command::new(installed("real-venv/bin/python"));
    let url = format!("postgresql://own:{}@{}/own", stage.lab.token("own"), stage.listener());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("DATABASE_URL", url);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_listed_statement_bypasses_the_rules_on_statements() {
    let stage = stage("{ statements: [select], tables: [orders, sales.*] }").await;
    let ways = include_str!("../../../crates/databases/src/rules/ways_around.sql");
    let list = stage.lab.gateway.folder().join("ways.sql");
    std::fs::write(&list, ways).expect("a file");
    let script =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/programs/postgres/ways_around.py");
    let mut command = python(&stage);
    command.arg(script).arg(&list);
    let text = said(&run(command).await);
    let tried = ways.lines().filter(|line| !line.is_empty()).count();
    assert!(tried > 60, "{tried}");
    assert!(text.contains(&format!("{} statements refused", 2 * tried)), "{text}");
    assert!(!text.contains("hidden"), "{text}");
    assert_eq!(stage.server.sql("app", "SELECT count(*) FROM orders"), "2");
    assert_eq!(stage.server.sql("app", "SELECT count(*) FROM secret"), "1");
    // What is within the rules is served, in both protocols.
    assert_eq!(stage.served("own", "own", "SELECT sum(a) FROM orders").await, "3");
    assert_eq!(stage.served("own", "own", "SELECT a FROM sales.items").await, "7");
    let with = "WITH secret AS (SELECT a FROM orders) SELECT count(*) FROM secret";
    assert_eq!(stage.served("own", "own", with).await, "2");
    assert_eq!(stage.served("own", "own", "\\copy orders TO STDOUT").await, "1\n2");
    let bound =
        extended(&stage, "SELECT a FROM orders WHERE a = $1 AND $2 <> ''", &["2", "x"]).await;
    assert_eq!(bound, "2");
    let symmetric = "SELECT count(*) FROM orders WHERE a BETWEEN SYMMETRIC 2 AND 1";
    assert_eq!(stage.served("own", "own", symmetric).await, "2");
    // With the path, a name leads to a schema in which it is permitted.
    let elsewhere = "SET search_path TO sales; SELECT count(*) FROM orders";
    let missing = said(&stage.sql("own", "own", elsewhere).await);
    assert!(missing.contains("\"orders\" does not exist"), "{missing}");
    let refused = said(&stage.sql("own", "own", "SELECT * FROM secret").await);
    assert!(refused.contains("keyward: refused by the connection: secret is none of"), "{refused}");
    assert!(refused.contains("(its settings statements, tables and functions)"), "{refused}");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_statement_rules_begins_with_its_role_and_cannot_leave_it() {
    let stage = stage("{ role: narrow, statements: [select] }").await;
    stage
        .server
        .sql("app", "CREATE ROLE narrow; GRANT narrow TO app; GRANT SELECT ON orders TO narrow");
    let who = "SELECT current_user || ' of ' || session_user";
    assert_eq!(stage.served("own", "own", who).await, "narrow of app");
    assert_eq!(stage.served("own", "own", "SELECT sum(a) FROM orders").await, "3");
    let denied = said(&stage.sql("own", "own", "SELECT * FROM secret").await);
    assert!(denied.contains("permission denied"), "the server refuses: {denied}");
    for leaves in
        ["SET ROLE NONE", "SET ROLE app", "RESET SESSION AUTHORIZATION", "SET role = 'app'"]
    {
        let refused = said(&stage.sql("own", "own", leaves).await);
        assert!(refused.contains("keyward: "), "{leaves}: {refused}");
    }
    let returning = ["RESET ROLE", "RESET ALL", "DISCARD ALL", "SET SESSION AUTHORIZATION DEFAULT"];
    for returns in returning {
        let mut command = stage.psql(stage.lab.token("own"), "own");
        command.args(["-v", "ON_ERROR_STOP=0", "-c", returns, "-c", who]);
        let text = said(&run(command).await);
        assert!(text.contains("narrow of app"), "{returns}: {text}");
    }
    stage.server.sql("app", "REVOKE narrow FROM app");
    let refused = stage.refused(stage.lab.token("own"), "own").await;
    assert!(refused.contains("keyward: ") && refused.contains("role"), "{refused}");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_calls_the_functions_of_its_connection_and_no_others_of_the_database() {
    let stage = stage("{ functions: [leave] }").await;
    assert_eq!(stage.served("own", "own", "SELECT leave(), upper('a')").await, "left|A");
    for text in ["SELECT peek('a')", "SELECT ('a'::text).peek", "SELECT x.peek FROM lower('a') x"] {
        // The server would call it.
        assert_eq!(stage.server.sql("app", text), "hidden", "{text}");
        let refused = said(&stage.sql("own", "own", text).await);
        let words = "peek is none of the permitted functions: add it to the setting functions";
        assert!(refused.contains(words) && !refused.contains("hidden"), "{text}: {refused}");
    }
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_above_its_limits_ends_the_session_with_a_message_and_a_hint() {
    let stage = stage("{ rows_max: 100, bytes_max: 100000 }").await;
    let rows = |count: u32| format!("SELECT generate_series(1, {count})");
    assert_eq!(stage.served("own", "own", &rows(100)).await.lines().count(), 100);
    let several = format!("{0}; {0}; {0}", rows(30));
    assert_eq!(stage.served("own", "own", &several).await.lines().count(), 90);
    for (text, says) in [
        (rows(101), "FATAL:  keyward: the answer has more than 100 rows"),
        (format!("{0}; {0}", rows(60)), "more than 100 rows"),
        ("COPY (SELECT generate_series(1, 101)) TO STDOUT".to_owned(), "more than 100 rows"),
        (
            "SELECT repeat('x', 100000)".to_owned(),
            "FATAL:  keyward: the answer has more than 100000 bytes",
        ),
    ] {
        let ended = said(&stage.sql("own", "own", &text).await);
        assert!(ended.contains(says) && ended.contains("HINT:  ask for "), "{text}: {ended}");
    }
    // Each request has its own count.
    let mut command = stage.psql(stage.lab.token("own"), "own");
    for _ in 0..5 {
        command.args(["-c", &rows(90)]);
    }
    let all = run(command).await;
    let rows = String::from_utf8_lossy(&all.stdout).lines().count();
    assert!(all.status.success() && rows == 450, "{rows}: {}", said(&all));
    let records = stage.finish().await;
    assert_eq!(records.iter().filter(|record| record["code"] == "denied").count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_recorded_without_their_literals() {
    let stage = stage("{ audit_statements: true, statements: [select, insert] }").await;
    stage
        .served("own", "own", "INSERT INTO secret VALUES ('canary-literal') -- canary-comment")
        .await;
    // A number so long that no hash, time or port in the records has it by chance.
    let bound = "SELECT count(*) FROM secret WHERE a = $1 AND 1 < 471147114711";
    assert_eq!(extended(&stage, bound, &["canary-literal"]).await, "1");
    let refused =
        said(&stage.sql("own", "own", "DELETE FROM secret WHERE a = 'canary-literal'").await);
    assert!(refused.contains("delete is none of the permitted statements"), "{refused}");
    let records = stage.finish().await;
    let recorded: Vec<_> =
        records.iter().filter(|record| record.get("statement").is_some()).collect();
    let texts: Vec<_> = recorded.iter().filter_map(|record| record["statement"].as_str()).collect();
    assert_eq!(
        texts,
        [
            "insert into secret values (?)",
            "select count(*) from secret where a = ? and ? < ?",
            "delete from secret where a = ?",
        ]
    );
    let outcomes: Vec<_> = recorded.iter().map(|record| &record["outcome"]).collect();
    assert_eq!(outcomes, ["completed", "completed", "refused"]);
    let sessions: Vec<_> =
        records.iter().filter(|record| record.get("statement").is_none()).collect();
    assert_eq!(sessions.len(), 3, "one record for each session");
    for (statement, session) in recorded.iter().zip(&sessions) {
        for same in ["exchange", "agent", "connection", "target", "database_role"] {
            assert_eq!(statement[same], session[same], "{same}");
        }
    }
    let all: String = records.iter().map(Value::to_string).collect();
    assert!(!all.contains("canary-") && !all.contains("471147114711"), "{all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frameworks_work_in_sessions_with_statement_rules_and_in_read_only_ones() {
    let rules = "{ statements: [select, insert, update, delete], tables: [orders, pg_catalog.*] }";
    for (settings, writes) in [(rules, true), ("{ read_only: true }", false)] {
        let stage = stage(settings).await;
        let mut command = python(&stage);
        if writes {
            command.env("WRITES", "1");
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/programs/postgres");
        command.arg(format!("{folder}/frameworks.py"));
        let text = said(&run(command).await);
        assert!(text.contains("answer: fine"), "{settings}: {text}");
        stage.password.assert_absent("what the program said", text.as_bytes());
        assert_eq!(stage.server.sql("app", "SELECT sum(a) FROM orders"), "3");
        stage.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_dumped_by_a_session_that_only_reads() {
    let stage = stage("{ read_only: true }").await;
    let at = stage.listener();
    let mut command = stage.command(installed("real-postgres/pg_dump"));
    command.env("PGHOST", at.ip().to_string()).env("PGPORT", at.port().to_string());
    command.env("PGUSER", "own").env("PGPASSWORD", stage.lab.token("own")).arg("--dbname=own");
    let text = said(&run(command).await);
    for words in ["COPY public.secret (a) FROM stdin;\nhidden\n", "database dump complete"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    stage.finish().await;
}

/// The server is asked itself. psql's `\\password` sends an `ALTER USER` with the hash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_changes_no_password_and_a_test_says_what_the_role_may_beyond_its_mode() {
    let stage = stage("{ read_only: true }").await;
    let hash = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'";
    let before = stage.server.sql("app", hash);
    for statement in ["ALTER USER app PASSWORD 'own'", "ALTER ROLE CURRENT_USER PASSWORD NULL"] {
        let refused = said(&stage.sql("ci", "main", statement).await);
        assert!(refused.contains("keyward: a session cannot change a password"), "{refused}");
    }
    assert_eq!(stage.server.sql("app", hash), before);
    assert_eq!(stage.served("ci", "main", "RESET ROLE; TABLE orders LIMIT 1").await, "1");
    stage.server.sql("app", "ALTER ROLE app CREATEROLE");
    let tested = stage.lab.gateway.api("POST", "/connections/own/test", "").await.json();
    let rights = tested["database"]["rights"].to_string();
    assert!(rights.contains("create roles") && rights.contains("write to "), "{tested}");
    let tested = stage.lab.gateway.api("POST", "/connections/main/test", "").await.json();
    assert_eq!(tested["database"]["rights"], serde_json::json!(["create roles"]), "{tested}");
    stage.server.sql("app", "CREATE EXTENSION dblink; GRANT pg_read_server_files TO app");
    let tested = stage.lab.gateway.api("POST", "/connections/main/test", "").await.json();
    let rights = tested["database"]["rights"].to_string();
    for right in ["use pg_read_server_files", "call dblink of dblink (runs statements at other"] {
        assert!(rights.contains(right), "{right}: {tested}");
    }
    // Only the server's own administrators may call it.
    assert!(!rights.contains("dblink_connect_u"), "{tested}");
    stage.finish().await;
}
