//! The usual drivers at a real server: what applications do in a session, and what the drivers show of a refusal.

use super::stage::Stage;
use crate::database_stage::Driver;
use crate::stage::{run, said};

/// Runs the program with a valid URL and one with a wrong token.
async fn serve(interpreter: &str, script: &str) {
    let stage = Stage::new().await;
    let at = stage.listener();
    let url = |token: &str| format!("postgresql://main:{token}@{at}/main");
    let variables = [
        ("DATABASE_URL", url(stage.lab.token("ci"))),
        ("REFUSED_URL", url("kwa_wrong")),
        ("PGSSLMODE", "disable".to_owned()),
    ];
    let variables = &variables;
    assert_eq!(stage.serves(&Driver { interpreter, script, variables, says: &[] }).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psycopg_uses_a_database() {
    serve("real-venv/bin/python", "postgres/session.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asyncpg_uses_a_database() {
    serve("real-venv/bin/python", "postgres/session_async.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_postgres_uses_a_database() {
    serve("real-node/node_modules/node24/bin/node", "postgres/session.mjs").await;
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
