//! What an operator and the clients of the API see of replicas: their list, repeated requests, and a disaster drill.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::issuer::{Program, SECRET, World, client, code_method};
use crate::person;
use test_support::browser::Browser;
use test_support::process::{api_request, reserved_address};

/// One call with an `Idempotency-Key`.
async fn repeated(gateway: &Gateway, key: &str, body: &Value) -> Message {
    let socket = gateway.data().join("admin.sock");
    let stream = tokio::net::UnixStream::connect(socket).await.expect("the socket listens");
    let mut wire = Wire::over(stream, None, Default::default());
    let request = api_request("POST", "/agents", &body.to_string());
    let field = format!("\r\nIdempotency-Key: {key}\r\n");
    wire.send(request.replacen("\r\n", &field, 1)).await;
    wire.answer("POST").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_has_effect_once_whichever_replica_gets_it() {
    let (_database, lab) = Database::with_lab().await;
    let mut other = lab.gateway.replica().await;
    let first = repeated(&lab.gateway, "one", &json!({ "name": "a" })).await.is(201);
    let again = repeated(&other, "one", &json!({ "name": "a" })).await;
    assert_eq!(
        (again.head.status(), again.json()["id"].clone()),
        (201, first.json()["id"].clone())
    );
    assert_eq!(again.head.one("idempotency-replayed"), Some("true"));
    repeated(&other, "one", &json!({ "name": "b" })).await.is(422);
    // At both at once: one runs, and the others wait or get its answer.
    let body = json!({ "name": "crowd" });
    let asks = (0..8).map(|at| {
        let gateway = if at % 2 == 0 { &lab.gateway } else { &other };
        repeated(gateway, "many", &body)
    });
    let answers = futures_util::future::join_all(asks).await;
    let made: Vec<_> = answers.iter().filter(|it| it.head.status() == 201).collect();
    assert!(!made.is_empty());
    for answer in &answers {
        match answer.head.status() {
            201 => assert_eq!(answer.json()["id"], made[0].json()["id"]),
            status => assert_eq!(status, 409, "{}", answer.text()),
        }
    }
    let ran = made.iter().filter(|it| it.head.one("idempotency-replayed").is_none()).count();
    assert_eq!(ran, 1, "it ran once");
    other.stop().await;
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_contradicting_rules_that_two_replicas_get_at_once_one_is_refused() {
    let (_database, mut lab) = Database::with_lab().await;
    let mut other = lab.gateway.replica().await;
    for round in 0..5 {
        let (blind, sees) = (format!("blind-{round}"), format!("sees-{round}"));
        let host = format!("h{round}.test");
        let tunnel = json!({ "name": blind, "hosts": [host], "action": "tunnel" }).to_string();
        let deny = json!({ "name": sees, "hosts": [host], "methods": ["POST"], "action": "deny" });
        let deny = deny.to_string();
        let (one, two) = tokio::join!(
            lab.gateway.api("POST", "/rules", &tunnel),
            other.api("POST", "/rules", &deny)
        );
        let (added, refused) = if one.head.status() == 201 { (one, two) } else { (two, one) };
        added.is(201);
        let error = refused.is(422).json()["error"].clone();
        let contradiction = format!("`store:{blind}` tunnels hosts that rule `store:{sees}`");
        assert!(error["message"].to_string().contains(&contradiction), "{error}");
    }
    // A change at one is in force at both.
    lab.add_agent("late").await;
    until_tokens(&other, "late", 1).await;
    call(&lab.gateway, "POST", "/agents/late/bindings", &json!({ "connection": "acme" })).await;
    until_status(&lab, &other, "late", 200).await;
    call(&lab.gateway, "DELETE", "/agents/late/bindings/acme", &Value::Null).await;
    until_status(&lab, &other, "late", 403).await;
    other.stop().await;
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_listed_until_they_end() {
    let (database, lab) = Database::with_lab().await;
    let mut other = lab.gateway.replica().await;
    let until_listed = async |count: usize| {
        until_some("the list of replicas", async || {
            let all = call(&lab.gateway, "GET", "/replicas", &Value::Null).await;
            let items = all["items"].as_array().expect("a list").clone();
            (items.len() == count).then_some(items)
        })
        .await
    };
    let all = until_listed(2).await;
    let own: Vec<_> = all.iter().filter(|one| one["own"] == true).collect();
    assert_eq!(own.len(), 1, "{all:?}");
    assert_eq!(own[0]["admin"], lab.gateway.admin.to_string());
    for one in &all {
        assert_eq!((&one["state"], &one["config_differs"]), (&json!("ready"), &json!(false)));
        assert_eq!(one["version"], env!("CARGO_PKG_VERSION"));
    }
    let listed = keyward(&database, lab.gateway.folder(), "data", &["store", "replicas"]);
    assert!(listed.contains(&other.proxy.to_string()), "{listed}");
    let metrics = lab.gateway.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with("keyward_store_staleness_seconds "));
    let seconds: f64 =
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a metric");
    assert!((0.0..30.0).contains(&seconds), "{seconds}");
    // What still uses the store of a replica that ended does not keep it in the list.
    let services = other.running().services().clone();
    other.stop().await;
    assert_eq!(until_listed(1).await[0]["own"], true);
    drop(services);
    lab.finish().await;
}

/// Otherwise the next command or replica waits for 30 seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_without_a_gateway_leaves_no_start_lease() {
    let (database, lab) = Database::with_lab().await;
    let turns = "SELECT count(*) FROM keyward_leases WHERE name = 'start'";
    until("the end of the gateway's turn", async || database.server.sql("app", turns) == "0").await;
    let folder = lab.gateway.folder();
    let yaml = format!("master_key: {{ env: MASTER_KEY }}\n{STORE}\n");
    std::fs::write(folder.join("desk.yaml"), yaml).expect("a file");
    let command = |key: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.env_clear().current_dir(folder).env("KEYWARD_DATA", folder.join("desk"));
        command.env("MASTER_KEY", key).env("DATABASE_URL", database.url());
        command.args(["--config", "desk.yaml", "agent", "list"]);
        let output = command.stdin(std::process::Stdio::null()).output().expect("it runs");
        (output.status.success(), said(&output))
    };
    let listed = command(MASTER_KEY);
    assert!(listed.0 && listed.1.contains("ci"), "{listed:?}");
    let held = format!("{turns} AND until > now()");
    assert_eq!(database.server.sql("app", &held), "0", "after a command");
    let refused = command(&MASTER_KEY.replace('6', "7"));
    assert!(!refused.0 && refused.1.contains("another master key"), "{refused:?}");
    assert_eq!(database.server.sql("app", &held), "0", "after a command that failed");
    lab.finish().await;
}

/// A load balancer may send the browser that comes back from the authorization server to another replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_that_began_at_one_replica_is_completed_at_the_other() {
    let database = Database::start();
    let public = format!("public_url: http://localhost:{}", reserved_address().port());
    let shared = |plan: Plan| database.under(plan).top(&public);
    let mut world = World::with(Program::OidcProvider, &code_method(), false, shared).await;
    let mut other = world.lab.gateway.replica().await;
    let secret = json!({ "client_secret": SECRET });
    let redirect = world.app("keyward", json!({ "secrets": secret })).await;
    let registered = client("keyward", &redirect, "client_secret_basic", secret);
    world.issuer.settle([registered], json!({}));
    let begun = world.connection("work", &json!({})).await;
    let mut browser = Browser::new(&world.lab.gateway);
    let url = browser.begin(begun["authorize_url"].as_str().expect("a page")).await;
    let back = person::consents(world.issuer.addr, &url).await;
    let mut elsewhere = Browser::at(other.admin);
    elsewhere.cookies = browser.cookies.clone();
    elsewhere.get(&back).await.is(303);
    until("the connection at the replica that began", async || {
        world.request("work").await.head.status() == 200
    })
    .await;
    other.stop().await;
    world.finish().await;
}

/// What the command line says, with this data directory of the folder.
fn keyward(database: &Database, folder: &Path, data: &str, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.env_clear().env("KEYWARD_DATA", folder.join(data)).env("MASTER_KEY", MASTER_KEY);
    command.env("DATABASE_URL", database.url()).current_dir(folder);
    command.stdin(std::process::Stdio::null());
    let output = command.args(words).output().expect("it runs");
    let told = said(&output);
    assert!(output.status.success(), "{words:?}: {told}");
    assert!(!told.contains(&database.password.text), "{told}");
    told
}

/// The database ends the session that inserts the fifth row.
const CRASH: &str = "CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    IF (SELECT count(*) FROM keyward_rows) > 3 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; \
    RETURN NEW; END $$; \
    CREATE TRIGGER crash BEFORE INSERT ON keyward_rows FOR EACH ROW EXECUTE FUNCTION crash()";

/// Leases cannot be ended once the rows are committed.
const LEASES_FAIL: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    IF (SELECT count(*) FROM keyward_rows) > 0 THEN RAISE EXCEPTION 'no lease ends'; END IF; \
    RETURN COALESCE(NEW, OLD); END $$; \
    CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON keyward_leases FOR EACH ROW EXECUTE FUNCTION refuse()";

/// The drill of `docs/guides/replicas.md`. A database with rows, or with replicas, is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_database_is_restored_into_an_empty_one() {
    let (database, mut lab) = Database::with_lab().await;
    lab.add_agent("kept").await;
    let folder = lab.gateway.folder().to_owned();
    let write = |name: &str, text: &str| {
        let text = format!("master_key: {{ env: MASTER_KEY }}\n{text}\n");
        std::fs::write(folder.join(name), text).expect("a file");
    };
    write("there.yaml", STORE);
    std::fs::write(folder.join("words"), "a passphrase of a drill").expect("a file");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.join("words"), private).expect("ours");
    let restored = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.env_clear().current_dir(&folder).env("KEYWARD_DATA", folder.join("drill"));
        command.env("MASTER_KEY", MASTER_KEY).env("DATABASE_URL", database.url());
        command.args(["--config", "there.yaml", "restore", "k.age", "--passphrase-file", "words"]);
        let output = command.args(more).output().expect("it runs");
        (output.status.success(), said(&output))
    };
    keyward(&database, &folder, "data", &["backup", "k.age", "--passphrase-file", "words"]);
    let running = restored(&["--yes"]);
    assert!(!running.0 && running.1.contains("a replica uses the database"), "{running:?}");
    lab.gateway.stop().await;
    until("the end of its lease", async || {
        database.server.sql("app", "SELECT count(*) FROM keyward_leases WHERE until > now()") == "0"
    })
    .await;
    let full = restored(&["--yes"]);
    assert!(!full.0 && full.1.contains("the database is not empty"), "{full:?}");
    database.server.sql("postgres", "ALTER DATABASE app RENAME TO before");
    database.server.sql("postgres", "CREATE DATABASE app OWNER app");
    let rows = || database.server.sql("app", "SELECT count(*) FROM keyward_rows");
    let dry = restored(&["--dry-run"]);
    assert!(dry.0 && dry.1.contains("agents 2") && rows() == "0", "{dry:?}");
    // A crash before the end of the transaction: the database refuses the last row.
    database.server.sql("app", CRASH);
    let crashed = restored(&["--yes"]);
    assert!(!crashed.0 && rows() == "0", "{crashed:?}");
    database.server.sql("app", "DROP TRIGGER crash ON keyward_rows; DELETE FROM keyward_leases");
    database.server.sql("app", LEASES_FAIL);
    let done = restored(&["--yes"]);
    assert!(done.0 && done.1.contains("restored"), "{done:?}");
    let again = "DROP TRIGGER refuse ON keyward_leases; DELETE FROM keyward_leases";
    database.server.sql("app", again);
    assert!(
        folder.join("drill/ca").read_dir().is_ok_and(|mut all| all.next().is_some()),
        "{done:?}"
    );
    lab.gateway.restart().await;
    let kept = call(&lab.gateway, "GET", "/agents/kept", &Value::Null).await;
    assert_eq!(kept["name"], "kept");
    assert_eq!(ask_at(&lab, &lab.gateway, "kept").await.head.status(), 403, "its token works");
    assert_eq!(ask_at(&lab, &lab.gateway, "ci").await.head.status(), 200);
    std::fs::remove_file(folder.join("words")).expect("a file");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_url_in_the_file_of_the_database_is_a_warning_of_each_reload() {
    let database = Database::start();
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("url");
    let write = |url: &str| {
        fs::write(&file, url).expect("a file");
        fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("ours");
    };
    write(&database.url());
    let named = format!("{{ file: {} }}", file.display());
    let plan = Plan::api_key()
        .top(&STORE.replace("{ env: DATABASE_URL }", &named))
        .top("master_key: { env: MASTER_KEY }")
        .variable("MASTER_KEY", MASTER_KEY)
        .secret("DATABASE_PASSWORD", &database.password);
    let lab = plan.start(Origin::saying("fine")).await;
    let warnings = async || {
        let view = lab.gateway.api("POST", "/reload", "").await.is(200).json();
        view["warnings"].clone()
    };
    assert_eq!(warnings().await, json!([]));
    write(&format!("{}&application_name=another", database.url()));
    let waits = json!(["a change of `store.postgres.url` takes effect at the next start"]);
    assert_eq!(warnings().await, waits);
    assert_eq!(warnings().await, waits);
    assert_eq!(ask_at(&lab, &lab.gateway, "ci").await.text(), "fine");
    lab.finish().await;
}
