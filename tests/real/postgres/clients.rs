//! The usual drivers at a real server: what applications do in a session, and what the drivers show of a refusal.

use std::process::Command;

use super::stage::Stage;
use crate::stage::{installed, run, said};

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/programs/postgres");

/// Runs the program with a valid URL and one with a wrong token.
async fn serve(program: &str, script: &str) {
    let stage = Stage::new().await;
    let at = stage.listener();
    let url = |token: &str| format!("postgresql://main:{token}@{at}/main");
    let mut command = Command::new(installed(program));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("DATABASE_URL", url(stage.lab.token("ci"))).env("REFUSED_URL", url("kwa_wrong"));
    command.env("NODE_MODULES", installed("real-node/node_modules"));
    command.env("PGSSLMODE", "disable").env("HOME", stage.lab.gateway.folder());
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
    assert_eq!(refused, 1, "{records:?}");
    let completed = records.iter().filter(|record| record["outcome"] == "completed").count();
    assert_eq!(completed + refused, records.len(), "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psycopg_uses_a_database() {
    serve("real-venv/bin/python", "session.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asyncpg_uses_a_database() {
    serve("real-venv/bin/python", "session_async.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_postgres_uses_a_database() {
    serve("real-node/node_modules/node24/bin/node", "session.mjs").await;
}

/// psql reads and writes large objects by function calls of the protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_objects_are_files_of_a_session_and_none_of_a_read_only_one() {
    let stage = Stage::new().await;
    let folder = stage.lab.gateway.folder();
    let (given, got) = (folder.join("given"), folder.join("got"));
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    std::fs::write(&given, &bytes).expect("a file");
    let import = format!("\\lo_import '{}'", given.display());
    let mut imported = stage.psql(stage.lab.token("ci"), "main");
    imported.args(["-c", &import, "-c", "\\echo :LASTOID"]);
    let imported = run(imported).await;
    assert!(imported.status.success(), "{}", said(&imported));
    let oid = said(&imported).trim().to_owned();
    stage.served("ci", "main", &format!("\\lo_export {oid} '{}'", got.display())).await;
    assert_eq!(std::fs::read(&got).expect("psql wrote it"), bytes);
    let refused = stage.sql("reader", "reports", &import).await;
    assert!(!refused.status.success(), "{}", said(&refused));
    assert!(said(&refused).contains("functions are not called by message"), "{}", said(&refused));
    let count = "SELECT count(*) FROM pg_largeobject_metadata";
    assert_eq!(stage.server.sql("app", count), "1");
    stage.finish().await;
}
