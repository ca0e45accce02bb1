//! The usual drivers at a real server: what applications do in a session, and what the drivers show of a refusal.

use super::stage::Stage;
use crate::database_stage::Driver;

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
