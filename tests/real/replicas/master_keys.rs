//! Rotation of the master key: first, every replica must have the new key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

const NEW_KEY: &str = "6e65772d6b65792d6f662d6f6e652d73746f72652d6f662d7265706c69636173";

/// Puts the key of a file before the present one, and reloads.
async fn give(gateway: &Gateway, key: &Path) {
    let file = gateway.folder().join("keyward.yaml");
    let yaml = fs::read_to_string(&file).expect("the configuration");
    let keys = format!("master_key: [{{ file: {} }}, {{ env: MASTER_KEY }}]", key.display());
    let changed = yaml.replace("master_key: { env: MASTER_KEY }", &keys);
    assert_ne!(changed, yaml);
    fs::write(&file, changed).expect("the configuration");
    gateway.api("POST", "/reload", "").await.is(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_of_the_master_key_is_refused_until_every_replica_has_the_new_key() {
    let (_database, lab) = Database::with_lab().await;
    let mut other = lab.gateway.replica().await;
    until("the list of replicas", async || {
        let all = call(&lab.gateway, "GET", "/replicas", &Value::Null).await;
        all["items"].as_array().is_some_and(|all| all.len() == 2)
    })
    .await;
    let key = lab.gateway.folder().join("new.key");
    fs::write(&key, NEW_KEY).expect("a key");
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("ours");
    give(&lab.gateway, &key).await;
    let rotate = async || lab.gateway.api("POST", "/keys/rotate", "{}").await;
    let refused = rotate().await.is(422).json();
    let message = refused["error"]["message"].as_str().expect("a message");
    assert!(message.contains(&other.proxy.to_string()), "{message}");
    let rows = async |gateway: &Gateway, place: usize| {
        call(gateway, "GET", "/keys", &Value::Null).await["items"][place]["rows"].as_u64()
    };
    assert!(rows(&lab.gateway, 1).await > Some(0), "rows have the old key");
    give(&other, &key).await;
    // It announces its keys every 5 seconds.
    until("the rotation", async || rotate().await.head.status() == 200).await;
    assert_eq!(rows(&other, 1).await, Some(0), "no row has the old key");
    assert_eq!(ask_at(&lab, &other, "ci").await.head.status(), 200);
    other.stop().await;
    lab.finish().await;
}
