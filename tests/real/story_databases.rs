//! Story E6: databases by connection string, read-only, separate for each environment. One program works with three of them
//! and knows no password.

use std::process::{Command, Stdio};

use crate::stage::{run, said};
use crate::{mysql, postgres, redis};
use test_support::canary::Canary;
use test_support::install::Install;
use test_support::*;

/// Runs the command line with the URL of a database in its environment.
async fn with_url(install: &Install, line: &str, url: &str) -> (Option<i32>, String) {
    let words: Vec<_> = line.split(' ').collect();
    let mut command: Command = install.keyward(&words);
    command.env("THE_URL", url).stdin(Stdio::null());
    let output = run(command).await;
    (output.status.code(), said(&output))
}

/// What a program does at each database: reads, and tries to write.
const ASKS: [(&str, &str); 3] = [
    ("psql -XqAtc 'SELECT a FROM story'", "psql -XqAtc 'INSERT INTO story VALUES (2)'"),
    (
        "mariadb --no-defaults -BNe 'SELECT a FROM t'",
        "mariadb --no-defaults -BNe 'INSERT INTO t VALUES (2)'",
    ),
    (
        "redis-cli -u \"$REDIS_URL\" --no-auth-warning GET a",
        "redis-cli -e -u \"$REDIS_URL\" --no-auth-warning SET a 2",
    ),
];

async fn reads_and_cannot_write(install: &Install, password: &Canary) {
    for (reads, writes) in ASKS {
        let program = |script: &str| {
            let words = ["run", "--quiet", "--agent", "dev-bot", "--", "sh", "-c", script];
            install.keyward(&words)
        };
        let read = run(program(&format!("{reads}; env"))).await;
        assert!(said(&read).starts_with("1\n"), "{reads}: {}", said(&read));
        password.assert_absent("what the program has", said(&read).as_bytes());
        let written = run(program(writes)).await;
        assert!(!written.status.success(), "{writes}: {}", said(&written));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_databases_are_added_by_url_read_only_and_kept_apart_by_environment() {
    let plan = Plan::api_key().no_agents();
    let password = Canary::new("databases");
    let sql = postgres::server::Server::start(&password.text);
    let (maria, cache) = (
        mysql::server::Server::start(&password.text),
        redis::server::Server::start(&password.text),
    );
    sql.sql("app", "CREATE TABLE story AS SELECT 1 AS a; GRANT ALL ON story TO app");
    cache.ask(&["SET", "a", "1"]);
    let secret = &password.text;
    let names = [
        (postgres::server::NAME, sql.at),
        (mysql::server::NAME, maria.at),
        (redis::server::NAME, cache.at),
    ];
    let [to_sql, to_maria, to_cache] = names.map(|(name, at)| format!("{name}:{}", at.port()));
    let urls = [
        ("postgres", format!("postgres://app:{secret}@{to_sql}/app")),
        ("mysql", format!("mysql://app:{secret}@{to_maria}/app")),
        ("redis", format!("rediss://app:{secret}@{to_cache}/0")),
    ];
    let reach = |plan: Plan, (name, at): (&str, std::net::SocketAddr)| {
        plan.resolve(&format!("{name}: \"{at}\"")).allow(&at.to_string())
    };
    let plan = names.into_iter().fold(plan, reach);
    let origin = Origin::saying("fine");
    let install = Install::new(&plan, &origin);
    let fine = async |line: String, url: &str| {
        let (code, text) = with_url(&install, &line, url).await;
        assert_eq!(code, Some(0), "{line}: {text}");
        password.assert_absent("what a command said", text.as_bytes());
    };
    fine("agent add dev-bot --env dev".to_owned(), "").await;
    for (provider, url) in &urls {
        for environment in ["dev", "production"] {
            let options = format!("--name {environment}-{provider} --env {environment}");
            let add = format!("connection add {provider} --secret-env url=THE_URL {options}");
            fine(format!("{add} --read-only"), url).await;
        }
        fine(format!("agent bind dev-bot dev-{provider}"), "").await;
        let bind = format!("agent bind dev-bot production-{provider}");
        let (code, text) = with_url(&install, &bind, "").await;
        assert!(code != Some(0) && text.contains("environment"), "{text}");
    }
    reads_and_cannot_write(&install, &password).await;
    assert_eq!(sql.sql("app", "SELECT string_agg(a::text, ',') FROM story"), "1");
    assert_eq!(maria.sql("SELECT group_concat(a) FROM app.t").trim(), "1");
    assert_eq!(cache.ask(&["GET", "a"]), "1");
}
