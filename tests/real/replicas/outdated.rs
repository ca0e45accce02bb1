//! A replica that runs while a newer program changes the tables, as after a pause in which that program did not see it; and
//! what `doctor` and `status` say of the view of the store.

use super::*;

pub(super) fn keyward(database: &Database, gateway: &Gateway, words: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.env_clear().args(words).env("KEYWARD_DATA", gateway.data());
    command.env("DATABASE_URL", database.url()).env("MASTER_KEY", MASTER_KEY);
    command.env("KEYWARD_CONFIG", gateway.folder().join("keyward.yaml"));
    let output = command.output().expect("the binary was built");
    (output.status.success(), said(&output))
}

async fn until_ready_is(lab: &Lab, status: u16, word: &str) {
    until(word, async || {
        let mut wire = lab.client_at(lab.gateway.admin).await;
        let port = lab.gateway.admin.port();
        wire.send(format!("GET /readyz HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n")).await;
        let answer = wire.answer("GET").await;
        (answer.head.status(), answer.json()["status"].as_str()) == (status, Some(word))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outdated_replica_is_not_ready_and_refuses_changes() {
    let (database, lab) = Database::with_lab().await;
    assert_eq!(ask_at(&lab, &lab.gateway, "ci").await.head.status(), 200);
    until_ready_is(&lab, 200, "ready").await;
    let oldest = "UPDATE keyward_schema SET oldest_program = 99 WHERE id = 1";
    database.server.sql("app", oldest);
    until_ready_is(&lab, 503, "outdated").await;
    let refused = lab.gateway.api("POST", "/agents", r#"{"name":"never"}"#).await;
    assert_eq!(refused.json()["error"]["code"], "store_unavailable", "{}", refused.text());
    assert_eq!(
        ask_at(&lab, &lab.gateway, "ci").await.head.status(),
        200,
        "it serves what it knows"
    );
    let (is_well, said) = keyward(&database, &lab.gateway, &["doctor"]);
    assert!(!is_well && said.contains("a newer version of Keyward changed the store"), "{said}");
    let (_, said) = keyward(&database, &lab.gateway, &["status"]);
    assert!(said.contains("update this gateway"), "{said}");
    database.server.sql("app", "UPDATE keyward_schema SET oldest_program = 1 WHERE id = 1");
    until_ready_is(&lab, 200, "ready").await;
    lab.gateway.api("POST", "/agents", r#"{"name":"again"}"#).await.is(201);
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_replicas_that_are_stale_or_whose_clocks_differ() {
    let (database, lab) = Database::with_lab().await;
    until("the list", async || {
        !call(&lab.gateway, "GET", "/replicas", &Value::Null).await["items"][0].is_null()
    })
    .await;
    let (is_well, told) = keyward(&database, &lab.gateway, &["doctor"]);
    assert!(is_well && told.contains("running replicas: 1"), "{told}");
    assert!(told.contains("are in force; the bound is 4s"), "{told}");
    let (_, told) = keyward(&database, &lab.gateway, &["status"]);
    assert!(told.contains("1 replica; changes until "), "{told}");
    // Another one announced itself with a slow clock and an old view.
    let about = json!({
        "host": "late", "version": "0.0.1", "proxy": "10.0.0.9:8080", "admin": "127.0.0.1:8081",
        "started": "2026-01-01T00:00:00Z", "config": "other", "lag_ms": 9_000, "status": "stale",
        "clock": "2026-01-01T00:00:00Z", "stale_max_ms": 4_000,
    });
    database.server.sql(
        "app",
        &format!(
            "INSERT INTO keyward_replicas (name, about, seen) VALUES ('replica/late', '{about}', now())"
        ),
    );
    let (is_well, told) = keyward(&database, &lab.gateway, &["doctor"]);
    assert!(!is_well, "{told}");
    for part in [
        "replica late at 10.0.0.9:8080 has had no changes of the store for 9s; the bound is 4s",
        "behind that of the database",
        "has another configuration file",
        "has version 0.0.1",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    database.server.stop();
    until_ready_is(&lab, 503, "stale").await;
    let (is_well, told) = keyward(&database, &lab.gateway, &["doctor"]);
    assert!(!is_well && told.contains("the bound is 4s, so it is not ready"), "{told}");
    database.server.run();
    until_ready_is(&lab, 200, "ready").await;
    lab.finish().await;
}
