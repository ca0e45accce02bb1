//! Rules on statements and statements in the audit log, at a real server.

use std::process::Command;

use serde_json::Value;

use super::stage::Stage;
use crate::stage::{installed, run, said};

const TABLES: &str = "CREATE TABLE app.orders (a int); INSERT INTO app.orders VALUES (1), (2); \
    CREATE TABLE app.secret (a text); INSERT INTO app.secret VALUES ('hidden'); \
    CREATE SEQUENCE app.numbers; \
    CREATE DATABASE sales; CREATE TABLE sales.items (a int); INSERT INTO sales.items VALUES (7); \
    CREATE DATABASE private; CREATE TABLE private.orders AS SELECT * FROM app.secret; \
    CREATE TABLE private.secret AS SELECT * FROM app.secret; \
    CREATE PROCEDURE app.leave() SELECT * FROM app.secret; \
    CREATE FUNCTION app.peek() RETURNS TEXT READS SQL DATA RETURN (SELECT MAX(a) FROM app.secret); \
    GRANT ALL ON sales.* TO app@'%'; GRANT ALL ON private.* TO app@'%'";

async fn stage() -> Stage {
    let stage = Stage::new().await;
    stage.server.sql(TABLES);
    stage
}

fn program(stage: &Stage, interpreter: &str, script: &str) -> Command {
    let mut command = stage.command(installed(interpreter));
    let at = stage.listener();
    command.env("MYSQL_HOST", at.ip().to_string()).env("MYSQL_TCP_PORT", at.port().to_string());
    command.env("MYSQL_PWD", stage.lab.token("ruled"));
    command.env("NODE_MODULES", installed("real-node/node_modules"));
    command.arg(format!("{}/tests/real/programs/mysql/{script}", env!("CARGO_MANIFEST_DIR")));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_listed_statement_bypasses_the_rules_on_statements() {
    let stage = stage().await;
    let ways = include_str!("../../../crates/databases/src/rules/ways_around_mysql.sql");
    let list = stage.lab.gateway.folder().join("ways.sql");
    std::fs::write(&list, ways).expect("a file");
    let mut command = program(&stage, "real-venv/bin/python", "ways_around.py");
    command.arg(&list);
    let text = said(&run(command).await);
    let tried = ways.lines().filter(|line| !line.is_empty()).count();
    assert!(tried > 100, "{tried}");
    assert!(text.contains(&format!("{} statements refused", 2 * tried)), "{text}");
    assert!(!text.contains("hidden") && !text.contains("not refused"), "{text}");
    assert_eq!(text.matches("command: (1227").count(), 3, "{text}");
    assert!(text.contains("reads (Decimal('3'),)"), "{text}");
    assert_eq!(stage.server.sql("SELECT COUNT(*) FROM app.orders"), "2");
    assert_eq!(stage.server.sql("SELECT COUNT(*) FROM app.secret"), "1");
    // What is within the rules is served.
    assert_eq!(stage.served("ruled", "ruled", "SELECT SUM(a) FROM orders").await, "3");
    let with = "WITH secret AS (SELECT a FROM orders) SELECT COUNT(*) FROM secret";
    assert_eq!(stage.served("ruled", "ruled", with).await, "2");
    let several = "BEGIN; SELECT 1; SHOW VARIABLES LIKE 'port_x'; DESCRIBE orders; DESC orders a; \
                   SHOW KEYS FROM orders; SHOW CREATE TABLE orders; COMMIT";
    stage.served("ruled", "ruled", several).await;
    let refused = said(&stage.sql("ruled", "ruled", "SELECT * FROM secret").await);
    assert!(
        refused.contains(
            "ERROR 1227 (42000) at line 1: keyward: refused by the connection: secret is none of"
        ),
        "{refused}"
    );
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_of_mysql2_are_checked_and_recorded_without_their_literals() {
    let stage = stage().await;
    let interpreter = "real-node/node_modules/node24/bin/node";
    let output = run(program(&stage, interpreter, "ruled.mjs")).await;
    let text = said(&output);
    let expected = [
        "1227 keyward: refused by the connection: secret is none of the permitted tables",
        "1227 keyward: refused by the connection: secret is none of the permitted tables",
        "1227 keyward: refused by the connection: delete is none of the permitted statements",
        "sum 3",
        "bound 2",
        "items 7",
    ];
    assert_eq!(text.trim_end().lines().collect::<Vec<_>>(), expected);
    let records = stage.finish().await;
    let recorded: Vec<_> =
        records.iter().filter(|record| record.get("statement").is_some()).collect();
    let texts: Vec<_> = recorded.iter().filter_map(|record| record["statement"].as_str()).collect();
    let expected = [
        "select * from secret where a = ?",
        "select * from secret where a = ?",
        "select ?; delete from orders where a = ?",
        "select sum(a) as sum from orders",
        "select a from orders where a = ? and a < ?",
        "select i.a from sales.items i, orders limit ?",
    ];
    assert_eq!(texts, expected);
    let refused: Vec<_> = recorded.iter().map(|record| record["outcome"] == "refused").collect();
    assert_eq!(refused, [true, true, true, false, false, false]);
    let session = records.iter().find(|record| record.get("statement").is_none());
    let session = session.expect("a record of the session");
    for same in ["exchange", "agent", "connection", "target", "database_role"] {
        assert!(recorded.iter().all(|record| record[same] == session[same]), "{same}");
    }
    let all: String = records.iter().map(Value::to_string).collect();
    assert!(!all.contains("canary-") && !all.contains("471147114711"), "{all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frameworks_work_in_a_read_only_session() {
    let stage = stage().await;
    let mut command = program(&stage, "real-venv/bin/python", "frameworks.py");
    command.env("MYSQL_PWD", stage.lab.token("reader"));
    let text = said(&run(command).await);
    assert!(text.contains("answer: fine"), "{text}");
    stage.password.assert_absent("what the program said", text.as_bytes());
    // Rails and Sequelize ask for the columns of each table.
    let columns = stage.served("ruled", "ruled", "SHOW FULL FIELDS FROM orders").await;
    assert!(columns.starts_with("a\tint(11)"), "{columns}");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_changes_no_password_and_a_test_says_what_the_user_may_beyond_its_mode() {
    let stage = stage().await;
    for statement in [
        "SET PASSWORD = PASSWORD('own')",
        "SET @a = 1, PASSWORD = PASSWORD('own')",
        "ALTER USER CURRENT_USER() IDENTIFIED BY 'own'",
        "SELECT 1; /*!50000 SET PASSWORD = PASSWORD('own') */",
        "BEGIN NOT ATOMIC SET PASSWORD = PASSWORD('own'); END",
    ] {
        let refused = said(&stage.sql("ci", "main", statement).await);
        assert!(refused.contains("keyward: a session cannot change a password"), "{refused}");
    }
    let named = "SELECT 'SET PASSWORD = 1', @password FROM orders LIMIT 1";
    assert!(stage.served("ci", "main", named).await.starts_with("SET PASSWORD"));
    let tested = stage.lab.gateway.api("POST", "/connections/reports/test", "").await.json();
    let rights = tested["database"]["rights"].to_string();
    assert!(rights.contains("\"insert\""), "{tested}");
    stage.finish().await;
}
