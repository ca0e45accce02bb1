//! The usual drivers at a real server: what applications do in a session, and what the drivers show of a refusal.

use std::process::Command;

use super::stage::Stage;
use crate::database_stage::Driver;
use crate::stage::{run, said, succeeded};

/// A listener for the server's own version of MariaDB.
const FOR_MARIADB: &str =
    "databases: [{ at: \"127.0.0.1:0\", protocol: mysql, server_version: 10.11.6-MariaDB }]";

/// Runs the program with a valid token and a wrong one.
async fn serve(stage: Stage, interpreter: &str, script: &str) {
    let at = stage.listener();
    let variables = [
        ("MYSQL_HOST", at.ip().to_string()),
        ("MYSQL_TCP_PORT", at.port().to_string()),
        ("MYSQL_PWD", stage.lab.token("ci").to_owned()),
    ];
    let (variables, says) = (&variables, &["a session cannot change its user"]);
    assert_eq!(stage.serves(&Driver { interpreter, script, variables, says }).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pymysql_uses_a_database() {
    Box::pin(serve(Stage::new().await, "real-venv/bin/python", "mysql/session.py")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql2_uses_a_database() {
    let stage = Stage::listening(FOR_MARIADB).await;
    Box::pin(serve(stage, "real-node/node_modules/node24/bin/node", "mysql/session.mjs")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlx_uses_a_database() {
    let stage = Stage::new().await;
    let url =
        |token: &str| format!("mysql://main:{token}@{}/main?ssl-mode=DISABLED", stage.listener());
    let variables =
        &[("DATABASE_URL", url(stage.lab.token("ci"))), ("REFUSED_URL", url("kwa_wrong"))];
    let says = &["rows: 900", "failed: true", "sessions: 3"];
    // Its source is an argument that it does not read.
    let (interpreter, script) = ("real-sqlx/debug/session", "sqlx/src/main.rs");
    assert_eq!(stage.serves(&Driver { interpreter, script, variables, says }).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_at_a_listener_for_mariadb_has_sequences() {
    let stage = Stage::listening(FOR_MARIADB).await;
    stage.server.sql("CREATE SEQUENCE app.numbers");
    for (agent, connection) in [("ci", "main"), ("reader", "reports")] {
        let mut command = dump(&stage, agent, connection);
        command.args(["--single-transaction", "app"]);
        let text = said(&succeeded(command).await);
        assert!(text.contains("CREATE SEQUENCE `numbers`"), "{text}");
    }
    stage.finish().await;
}

/// A dump of the tables that follow its arguments. The user names the connection, and the database is the server's.
fn dump(stage: &Stage, agent: &str, connection: &str) -> Command {
    let mut command = stage.command("mariadb-dump");
    command.env("MYSQL_PWD", stage.lab.token(agent));
    command.args(["--no-defaults", "--protocol=TCP", "-h", "127.0.0.1", "-u", connection]);
    command.args(["-P", &stage.listener().port().to_string()]);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_dumped_and_loaded() {
    let stage = Stage::new().await;
    let made = "CREATE TABLE dumped AS SELECT seq AS n, MD5(seq) AS b FROM seq_1_to_50000";
    stage.served("ci", "main", made).await;
    let sum = "SELECT COUNT(*), BIT_XOR(CRC32(CONCAT(n, b))) FROM app.dumped";
    let before = stage.server.sql(sum);
    let file = stage.lab.gateway.folder().join("dump.sql");
    let mut command = dump(&stage, "ci", "main");
    command.arg("--result-file").arg(&file).args(["app", "dumped"]);
    succeeded(command).await;
    stage.server.sql("DROP TABLE app.dumped");
    let mut load = stage.client(stage.lab.token("ci"), "main");
    load.stdin(std::fs::File::open(&file).expect("it was made"));
    succeeded(load).await;
    assert_eq!(stage.server.sql(sum), before);
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_in_a_read_only_session_works_only_without_locks() {
    let stage = Stage::new().await;
    stage.server.sql("CREATE VIEW app.seen AS SELECT a FROM app.t");
    let mut locks = dump(&stage, "reader", "reports");
    locks.arg("app");
    let refused = said(&run(locks).await);
    assert!(refused.contains("keyward: the connection is read-only"), "{refused}");
    let mut command = dump(&stage, "reader", "reports");
    command.args(["--single-transaction", "--triggers", "--events", "app"]);
    let text = said(&succeeded(command).await);
    assert!(text.contains("INSERT INTO `t` VALUES") && text.contains("VIEW `seen` AS"), "{text}");
    stage.finish().await;
}
