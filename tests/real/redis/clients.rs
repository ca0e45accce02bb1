//! The usual clients at a real server: what applications do in a session, and what the clients show of a refusal.

use super::stage::Stage;
use crate::database_stage::Driver;

/// Runs the program with a valid URL and one with a wrong token.
async fn serve(interpreter: &str, script: &str) {
    let stage = Stage::new().await;
    let at = stage.listener();
    let url = |token: &str| format!("redis://main:{token}@{at}/0");
    let variables = [("REDIS_URL", url(stage.lab.token("ci"))), ("REFUSED_URL", url("kwa_wrong"))];
    let variables = &variables;
    assert!(stage.serves(&Driver { interpreter, script, variables, says: &[] }).await >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_py_uses_a_database() {
    serve("real-venv/bin/python", "redis/session.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ioredis_uses_a_database() {
    serve("real-node/node_modules/node24/bin/node", "redis/session.mjs").await;
}
