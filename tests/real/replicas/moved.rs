//! `keyward store copy` while the source is in use: by a gateway with the embedded store, and by a replica.

use std::path::PathBuf;

use super::*;

/// Configurations beside the data directory of a gateway.
struct Moving<'a> {
    folder: PathBuf,
    database: &'a Database,
}

impl Moving<'_> {
    fn write(&self, name: &str, store: &str) {
        let text = format!("master_key: {{ env: MASTER_KEY }}\n{store}\n");
        std::fs::write(self.folder.join(name), text).expect("a file");
    }

    /// Copies from the store of the data directory, or of another configuration; whether it did, and what it said.
    fn copies(&self, words: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.env_clear().env("KEYWARD_DATA", self.folder.join("data"));
        command.env("MASTER_KEY", MASTER_KEY).env("DATABASE_URL", self.database.url());
        command.current_dir(&self.folder).args(words);
        let output = command.output().expect("it runs");
        let told = said(&output);
        assert!(!told.contains(&self.database.password.text), "{told}");
        (output.status.success(), told)
    }
}

const TO_DATABASE: [&str; 6] = ["--config", "here.yaml", "store", "copy", "--to", "there.yaml"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_gateway_copies_its_store_into_an_empty_database() {
    let database = Database::start();
    let key = "master_key: { env: MASTER_KEY }";
    let plan = Plan::api_key().top(key).variable("MASTER_KEY", MASTER_KEY);
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.guard(database.password.clone());
    lab.add_agent("kept").await;
    let moving = Moving { folder: lab.gateway.folder().to_owned(), database: &database };
    moving.write("here.yaml", "");
    moving.write("there.yaml", STORE);
    moving.write("back.yaml", "store: { sled: { path: back } }");
    let before = call(&lab.gateway, "GET", "/export", &Value::Null).await;
    let copied = moving.copies(&TO_DATABASE);
    assert!(copied.0 && copied.1.contains("rows of the running gateway"), "{copied:?}");
    assert_eq!(ask_at(&lab, &lab.gateway, "ci").await.head.status(), 200, "it goes on");
    // Otherwise a restore would wait for the commands.
    let replicas =
        "SELECT count(*) FROM keyward_leases WHERE position('replica/'::bytea IN name) = 1";
    assert_eq!(database.server.sql("app", replicas), "0");
    let twice = moving.copies(&TO_DATABASE);
    assert_eq!(database.server.sql("app", replicas), "0");
    assert!(!twice.0 && twice.1.contains("the target is not empty"), "{twice:?}");
    // A change after the copy is in the source alone.
    lab.add_agent("late").await;
    lab.gateway.stop().await;
    let back = moving.copies(&["store", "copy", "--from", "there.yaml", "--to", "back.yaml"]);
    assert!(back.0 && back.1.contains("both stores are equal"), "{back:?}");
    let at = |name: &str| moving.folder.join("data").join(name);
    std::fs::rename(at("store"), at("before")).expect("it is closed");
    std::fs::rename(at("back"), at("store")).expect("it is closed");
    lab.gateway.restart().await;
    assert_eq!(call(&lab.gateway, "GET", "/export", &Value::Null).await, before);
    assert_eq!(ask_at(&lab, &lab.gateway, "ci").await.head.status(), 200);
    assert_eq!(ask_at(&lab, &lab.gateway, "kept").await.head.status(), 403, "its token works");
    assert_eq!(ask_at(&lab, &lab.gateway, "late").await.head.status(), 407);
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_copied_while_a_replica_uses_it() {
    let (database, lab) = Database::with_lab().await;
    let moving = Moving { folder: lab.gateway.folder().to_owned(), database: &database };
    moving.write("there.yaml", STORE);
    moving.write("back.yaml", "store: { sled: { path: back } }");
    let copied = moving.copies(&["store", "copy", "--from", "there.yaml", "--to", "back.yaml"]);
    assert!(copied.0 && copied.1.contains("both stores are equal"), "{copied:?}");
    assert_eq!(ask_at(&lab, &lab.gateway, "ci").await.head.status(), 200);
    lab.finish().await;
}
