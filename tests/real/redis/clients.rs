//! The usual clients at a real server: what applications do in a session, and what the clients show of a refusal.

use std::process::Command;

use super::stage::Stage;
use crate::stage::{installed, run, said};

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/programs/redis");

/// Runs the program with a valid URL and one with a wrong token.
async fn serve(program: &str, script: &str) {
    let stage = Stage::new().await;
    let at = stage.listener();
    let url = |token: &str| format!("redis://main:{token}@{at}/0");
    let mut command = Command::new(installed(program));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("REDIS_URL", url(stage.lab.token("ci"))).env("REFUSED_URL", url("kwa_wrong"));
    command.env("NODE_MODULES", installed("real-node/node_modules"));
    command.env("HOME", stage.lab.gateway.folder());
    command.arg(format!("{PROGRAMS}/{script}"));
    let output = run(command).await;
    let text = said(&output);
    assert!(output.status.success() && text.contains("answer: fine"), "{text}");
    assert!(text.contains("refused: "), "{text}");
    assert!(text.contains("the password is no valid token of an agent"), "{text}");
    assert!(text.contains("give the agent's token (kwa_…) as the password"), "{text}");
    stage.password.assert_absent("what the program said", text.as_bytes());
    let records = stage.finish().await;
    let refused = records.iter().filter(|record| record["code"] == "agent_unauthenticated").count();
    assert!(refused >= 1, "{records:?}");
    let completed = records.iter().filter(|record| record["outcome"] == "completed").count();
    assert_eq!(completed + refused, records.len(), "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_py_uses_a_database() {
    serve("real-venv/bin/python", "session.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ioredis_uses_a_database() {
    serve("real-node/node_modules/node24/bin/node", "session.mjs").await;
}
