//! The usual drivers at a real server: what applications do in a session, and what the drivers show of a refusal.

use super::stage::Stage;
use crate::database_stage::Driver;
use crate::stage::{run, said};

/// Runs the program with a valid token and a wrong one.
async fn serve(interpreter: &str, script: &str) {
    let stage = Stage::new().await;
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
    serve("real-venv/bin/python", "mysql/session.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql2_uses_a_database() {
    serve("real-node/node_modules/node24/bin/node", "mysql/session.mjs").await;
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
async fn a_database_is_dumped_and_loaded() {
    let stage = Stage::new().await;
    let made = "CREATE TABLE dumped AS SELECT seq AS n, MD5(seq) AS b FROM seq_1_to_50000";
    stage.served("ci", "main", made).await;
    let sum = "SELECT COUNT(*), BIT_XOR(CRC32(CONCAT(n, b))) FROM app.dumped";
    let before = stage.server.sql(sum);
    let file = stage.lab.gateway.folder().join("dump.sql");
    let (at, token) = (stage.listener(), stage.lab.token("ci"));
    let mut dump = stage.command("mariadb-dump");
    dump.env("MYSQL_PWD", token).args(["--no-defaults", "--protocol=TCP", "-h", "127.0.0.1"]);
    dump.args(["-P", &at.port().to_string(), "-u", "main", "--result-file"]).arg(&file);
    // The user names the connection, and the database is the server's.
    let output = run({
        dump.args(["app", "dumped"]);
        dump
    });
    let output = output.await;
    assert!(output.status.success(), "{}", said(&output));
    stage.server.sql("DROP TABLE app.dumped");
    let mut load = stage.client(token, "main");
    load.stdin(std::fs::File::open(&file).expect("it was made"));
    let output = run(load).await;
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(stage.server.sql(sum), before);
    stage.finish().await;
}
