//! The usual drivers at a real server: what applications do in a session, and what the drivers show of a refusal.

use std::process::Command;

use super::stage::Stage;
use crate::stage::{installed, run, said};

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/programs/mysql");

/// Runs the program with a valid token and a wrong one.
async fn serve(program: &str, script: &str) {
    let stage = Stage::new().await;
    let at = stage.listener();
    let mut command = Command::new(installed(program));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("MYSQL_HOST", at.ip().to_string()).env("MYSQL_TCP_PORT", at.port().to_string());
    command.env("MYSQL_PWD", stage.lab.token("ci"));
    command.env("NODE_MODULES", installed("real-node/node_modules"));
    command.env("HOME", stage.lab.gateway.folder());
    command.arg(format!("{PROGRAMS}/{script}"));
    let output = run(command).await;
    let text = said(&output);
    assert!(output.status.success() && text.contains("answer: fine"), "{text}");
    assert!(text.contains("refused: "), "{text}");
    assert!(text.contains("the password is no valid token of an agent"), "{text}");
    assert!(text.contains("give the agent's token (kwa_…) as the password"), "{text}");
    assert!(text.contains("a session cannot change its user"), "{text}");
    stage.password.assert_absent("what the program said", text.as_bytes());
    let records = stage.finish().await;
    let refused = records.iter().filter(|record| record["code"] == "agent_unauthenticated").count();
    assert_eq!(refused, 1, "{records:?}");
    let completed = records.iter().filter(|record| record["outcome"] == "completed").count();
    assert_eq!(completed + refused, records.len(), "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pymysql_uses_a_database() {
    serve("real-venv/bin/python", "session.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql2_uses_a_database() {
    serve("real-node/node_modules/node24/bin/node", "session.mjs").await;
}
