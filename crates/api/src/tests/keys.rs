//! Rotations of the master key on a store that another replica uses.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::services::services_over;
use super::*;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::crypto::source::KeySource;
use keyward_state::store::SharedStore;
use keyward_state::store::memory::MemoryReplica;
use keyward_vault::keys::KeyLocation;

/// A gateway, and another replica of its store.
struct Pair {
    lab: Lab,
    other: MemoryReplica,
}

impl Pair {
    async fn new(keyring: Arc<Keyring>, location: KeyLocation) -> Self {
        let own = MemoryReplica::first();
        let other = own.another();
        let lab = Lab::over(services_over(Arc::new(own), keyring, location).await);
        Self { lab, other }
    }

    /// A gateway whose rows have the key of the file `old`, and whose `master_key` names the file `new` before it. Also the
    /// ids of both.
    async fn between_keys(folder: &Path) -> (Self, [String; 2]) {
        let sources = ["new", "old"].map(|name| KeySource::File(folder.join(name)));
        for name in ["new", "old"] {
            KeySource::create_file(&folder.join(name)).unwrap();
        }
        let load = |sources: &[KeySource]| KeySource::load(sources, |_| None, &[]).unwrap();
        let keyring = Arc::new(load(&sources[1..]));
        let pair = Self::new(keyring.clone(), KeyLocation::External).await;
        keyring.replace(load(&sources)).await;
        let ids = keyring.keys().into_iter().map(|key| key.id.to_string());
        (pair, ids.collect::<Vec<_>>().try_into().unwrap())
    }

    /// What the other replica announces of itself.
    async fn announces(&self, keys: Option<&[&String]>) {
        let mut about = json!({
            "host": "keyward-2", "version": "0.0.9", "proxy": "10.0.0.2:8080",
            "admin": "127.0.0.1:8081", "started": "1970-01-01T00:00:00Z", "config": "c",
            "lag_ms": 0, "status": "ready",
        });
        if let Some(keys) = keys {
            about["keys"] = json!(keys);
        }
        self.other.announce(&about.to_string()).await.unwrap();
    }

    async fn rotate(&self) -> (StatusCode, Value) {
        self.lab.post("/api/v1/keys/rotate", json!({})).await
    }

    /// The message and the hint of a refused rotation.
    async fn refused(&self) -> (String, String) {
        let (status, body) = self.rotate().await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(body["error"]["code"], "refused");
        let text = |key: &str| body["error"][key].as_str().unwrap().to_owned();
        (text("message"), text("hint"))
    }

    /// How many rows have each key, the current one first.
    async fn rows(&self) -> Vec<u64> {
        let (_, keys) = self.lab.get("/api/v1/keys").await;
        let keys = keys["items"].as_array().unwrap();
        keys.iter().map(|key| key["rows"].as_u64().unwrap()).collect()
    }
}

#[tokio::test]
async fn a_rotation_to_a_key_that_a_running_replica_lacks_is_refused_and_moves_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let (pair, [new, old]) = Pair::between_keys(folder.path()).await;
    let before = pair.rows().await;
    assert!(before[0] == 0 && before[1] > 0, "{before:?}");
    pair.announces(Some(&[&old])).await;
    let (message, hint) = pair.refused().await;
    for part in ["keyward-2 at 10.0.0.2:8080", &new] {
        assert!(message.contains(part), "{message}");
    }
    assert!(hint.contains("add the key to `master_key` there"), "{hint}");
    assert_eq!(pair.rows().await, before);
    pair.announces(Some(&[&old, &new])).await;
    let (status, rotated) = pair.rotate().await;
    assert_eq!((status, &rotated["current"]), (StatusCode::OK, &json!(new)), "{rotated}");
    assert_eq!(pair.rows().await, [before[1], 0]);
}

#[tokio::test]
async fn a_replica_whose_version_announces_no_keys_is_named_until_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (pair, _) = Pair::between_keys(folder.path()).await;
    pair.announces(None).await;
    let (message, hint) = pair.refused().await;
    for part in ["keyward-2 at 10.0.0.2:8080", "version 0.0.9"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(hint.contains("upgrade or stop that replica"), "{hint}");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(21)).await;
    tokio::time::resume();
    let (status, rotated) = pair.rotate().await;
    assert_eq!(status, StatusCode::OK, "{rotated}");
}

#[tokio::test]
async fn no_new_key_is_made_beside_a_running_replica() {
    let pair = Pair::new(Arc::new(Keyring::ephemeral()), KeyLocation::Memory).await;
    let present = pair.lab.admin.deps().keys.ids()[0].to_string();
    pair.announces(Some(&[&present])).await;
    let (message, hint) = pair.refused().await;
    assert!(message.contains("keyward-2 at 10.0.0.2:8080"), "{message}");
    assert!(hint.contains("under `master_key` of every replica"), "{hint}");
    assert_eq!(pair.rows().await.len(), 1);
}

#[tokio::test]
async fn a_gateway_announces_the_ids_of_its_keys() {
    let pair = Pair::new(Arc::new(Keyring::ephemeral()), KeyLocation::Memory).await;
    let about = replicas::about(&pair.lab.admin, pair.lab.admin.locations().unwrap()).await;
    let present = pair.lab.admin.deps().keys.ids()[0].to_string();
    assert_eq!(about.keys, Some(vec![present]));
}
