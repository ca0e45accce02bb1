//! The usual drivers at a real server: what applications do in a session, and what the drivers show of a refusal.

use super::stage::Stage;
use crate::database_stage::Driver;
use crate::stage::{installed, run, said, succeeded};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlx_uses_a_database() {
    // Its source is an argument that it does not read.
    serve("real-sqlx/debug/session", "sqlx/src/main.rs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_jdbc_driver_uses_a_database() {
    let stage = Stage::new().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/programs/postgres/Session.java");
    let mut command = stage.command("java");
    command.env("DATABASE_AT", stage.listener().to_string()).env("TOKEN", stage.lab.token("ci"));
    command.arg("-cp").arg(installed("real-postgres.jar")).arg(script);
    let output = run(command).await;
    let text = said(&output);
    assert!(output.status.success() && text.contains("answer: fine"), "{text}");
    for words in [
        "refused: 28P01",
        "keyward: the password is no valid token of an agent",
        "Hint: give the agent's token",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    stage.password.assert_absent("what the program said", text.as_bytes());
    let records = stage.finish().await;
    let completed = records.iter().filter(|record| record["outcome"] == "completed").count();
    assert_eq!((completed, records.len()), (1, 2), "{records:?}");
}

/// It sends many requests before it reads an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_postgres_uses_a_database() {
    let stage = Stage::new().await;
    let (at, token) = (stage.listener(), stage.lab.token("ci").to_owned());
    let mut config = tokio_postgres::Config::new();
    config.host(at.ip().to_string()).port(at.port()).user("main").dbname("main").password(token);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("a session");
    let driving = tokio::spawn(connection);
    let next = client.prepare("SELECT $1::int4 + 1").await.expect("a statement");
    let next = &next;
    let client = &client;
    let asked = (0..500_i32).map(async |number| {
        let row = client.query_one(next, &[&number]).await.expect("a row");
        assert_eq!(row.get::<_, i32>(0), number + 1);
    });
    futures_util::future::join_all(asked).await;
    let error = client.query_one("SELECT 1/0", &[]).await.expect_err("the server refuses");
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("22012"));
    assert_eq!(client.query_one("SELECT 1", &[]).await.expect("a row").get::<_, i32>(0), 1);
    config.password("kwa_wrong");
    let refused = config.connect(tokio_postgres::NoTls).await.err().expect("no session");
    let words = refused.as_db_error().expect("the listener's words").message().to_owned();
    assert_eq!(words, "keyward: the password is no valid token of an agent");
    driving.abort();
    drop(driving.await);
    stage.finish().await;
}

/// What it sends first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgadmin_begins_a_read_only_session() {
    let stage = Stage::new().await;
    let begins = "SELECT set_config('bytea_output','hex',false) FROM pg_show_all_settings() \
                  WHERE name = 'bytea_output'";
    assert_eq!(stage.served("reader", "reports", begins).await, "hex");
    stage.finish().await;
}

/// psql reads and writes large objects by function calls of the protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_objects_are_imported_and_exported_except_in_a_read_only_session() {
    let stage = Stage::new().await;
    let folder = stage.lab.gateway.folder();
    let (given, got) = (folder.join("given"), folder.join("got"));
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    std::fs::write(&given, &bytes).expect("a file");
    let import = format!("\\lo_import '{}'", given.display());
    let mut imported = stage.psql(stage.lab.token("ci"), "main");
    imported.args(["-c", &import, "-c", "\\echo :LASTOID"]);
    let imported = succeeded(imported).await;
    let oid = said(&imported).trim().to_owned();
    stage.served("ci", "main", &format!("\\lo_export {oid} '{}'", got.display())).await;
    assert_eq!(std::fs::read(&got).expect("psql wrote it"), bytes);
    let refused = stage.sql("reader", "reports", &import).await;
    assert!(!refused.status.success(), "{}", said(&refused));
    let reason = "messages that call functions are not permitted";
    assert!(said(&refused).contains(reason), "{}", said(&refused));
    let count = "SELECT count(*) FROM pg_largeobject_metadata";
    assert_eq!(stage.server.sql("app", count), "1");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_dumped_and_restored() {
    let stage = Stage::new().await;
    let made =
        "CREATE TABLE dumped AS SELECT n, md5(n::text) AS b FROM generate_series(1, 50000) n";
    stage.served("ci", "main", made).await;
    let sum = "SELECT count(*), md5(string_agg(b, '' ORDER BY n)) FROM dumped";
    let before = stage.server.sql("app", sum);
    let file = stage.lab.gateway.folder().join("dump");
    let file = file.to_str().expect("UTF-8");
    let at = stage.listener();
    for (program, arguments) in [
        ("pg_dump", ["--format=custom", "--table=dumped", "--file", file, "--dbname=main"]),
        ("pg_restore", ["--clean", "--if-exists", "--no-owner", "--dbname=main", file]),
    ] {
        let mut command = stage.command(installed(&format!("real-postgres/{program}")));
        command.env("PGHOST", at.ip().to_string()).env("PGPORT", at.port().to_string());
        command.env("PGUSER", "main").env("PGPASSWORD", stage.lab.token("ci")).args(arguments);
        let output = run(command).await;
        assert!(output.status.success(), "{program}: {}", said(&output));
        if program == "pg_dump" {
            stage.server.sql("app", "TRUNCATE dumped");
        }
    }
    assert_eq!(stage.server.sql("app", sum), before);
    stage.finish().await;
}
