//! The audit logs of replicas, verified against what they published in the store.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::*;

fn verify(database: &Database, gateway: &Gateway, logs: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.env_clear().args(["audit", "verify"]);
    command.env("KEYWARD_DATA", gateway.data()).env("DATABASE_URL", database.url());
    command.env("KEYWARD_CONFIG", gateway.folder().join("keyward.yaml"));
    for log in logs {
        command.arg("--log").arg(log);
    }
    command.output().expect("the binary was built")
}

/// Waits until the heads of so many chains are published.
async fn until_published(gateway: &Gateway, count: usize) -> Value {
    until_some("published chains", async || {
        let verified = call(gateway, "GET", "/audit/verify", &Value::Null).await;
        (verified["chains"].as_array().is_some_and(|chains| chains.len() == count))
            .then_some(verified)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_detects_a_shortened_an_altered_and_a_removed_log_of_a_replica() {
    let (database, lab) = Database::with_lab().await;
    let mut other = lab.gateway.replica().await;
    for _ in 0..3 {
        assert_eq!(ask_at(&lab, &lab.gateway, "ci").await.head.status(), 200);
        assert_eq!(ask_at(&lab, &other, "ci").await.head.status(), 200);
    }
    let verified = until_published(&lab.gateway, 2).await;
    let states = |verified: &Value| {
        let chains = verified["chains"].as_array().expect("a list").clone();
        let mut states: Vec<_> =
            chains.iter().map(|chain| chain["state"].as_str().expect("one").to_owned()).collect();
        states.sort();
        states
    };
    assert_eq!(
        (states(&verified), &verified["whole"]),
        (vec!["not_here".into(), "whole".into()], &json!(true))
    );
    // A replica that stops publishes what it has written by then.
    other.stop().await;
    let log = other.data().join("audit/audit.jsonl");
    let text = fs::read_to_string(&log).expect("a log");
    let lines: Vec<_> = text.lines().collect();
    let verified = call(&lab.gateway, "GET", "/audit/verify", &Value::Null).await;
    let chains = verified["chains"].as_array().expect("a list");
    let chain =
        chains.iter().find(|chain| chain["ended"] == true).expect("that of the stopped one");
    let last = chain["heads"].as_array().and_then(|heads| heads.last()).expect("a head");
    let last = usize::try_from(last["seq"].as_u64().expect("a number")).expect("small");
    assert!(last >= 2 && last <= lines.len(), "{chain}");
    let of = |logs: &[&Path]| {
        let output = verify(&database, &lab.gateway, logs);
        (output.status.code(), said(&output))
    };
    let (code, told) = of(&[&log]);
    assert_eq!((code, told.matches(" whole").count() >= 2), (Some(0), true), "{told}");
    // Without its last record, the rest still follows.
    let copy = other.folder().join("copy.jsonl");
    fs::write(&copy, lines[..last - 1].join("\n") + "\n").expect("a file");
    let name = chain["chain"].as_str().expect("a name");
    let (code, told) = of(&[&copy]);
    // A log of one record may have none that was published.
    let cut = told.contains("removed from the end") || told.contains("no log that was verified");
    assert!(code == Some(1) && cut && told.contains(name), "{told}");
    // An altered record breaks the chain of lines.
    fs::write(&copy, text.replacen("\"ci\"", "\"cx\"", 1)).expect("a file");
    let (code, told) = of(&[&copy]);
    assert!(code == Some(1) && told.contains("copy.jsonl:"), "{told}");
    // A removed log: the logs that are left have no record of its chain.
    let own = lab.gateway.data().join("audit/audit.jsonl");
    let (code, told) = of(&[&own]);
    assert!(
        code == Some(1) && told.contains(name) && told.contains("no log that was verified"),
        "{told}"
    );
    // The owner of the database sees no host and no hash, and cannot forge one.
    let forge = "UPDATE keyward_kept SET value = 'x'::bytea WHERE position('audit/' in encode(name, 'escape')) = 1";
    database.server.sql("app", forge);
    let refused = lab.gateway.api("GET", "/audit/verify", "").await;
    assert!(refused.head.status() >= 500, "{}", refused.text());
    lab.finish().await;
}
