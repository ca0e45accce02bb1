//! Stores whose writes fail or whose reads wait: what a client reads, and what the log has.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Barrier;
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use super::services::services_over;
use super::*;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{Row, RowRange, Store, StoreError, StoreWrapper, Table, Version, Write};
use keyward_vault::keys::KeyLocation;

/// A store in memory.
#[derive(Debug, Default)]
struct FailingStore {
    rows: MemoryStore,
    /// The error of each write and list.
    failure: Mutex<Option<fn() -> StoreError>>,
}

impl FailingStore {
    async fn lab() -> (Arc<Self>, Lab) {
        let (store, keyring) = (Arc::new(Self::default()), Arc::new(Keyring::ephemeral()));
        let deps = services_over(store.clone(), keyring, KeyLocation::Memory).await;
        (store, Lab::over(deps))
    }

    fn fail(&self, failure: Option<fn() -> StoreError>) {
        *self.failure.lock() = failure;
    }
}

#[async_trait::async_trait]
impl StoreWrapper for FailingStore {
    fn inner(&self) -> &dyn Store {
        &self.rows
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Version>, StoreError> {
        let failure = *self.failure.lock();
        match failure {
            Some(failure) => Err(failure()),
            None => self.rows.commit(writes).await,
        }
    }

    async fn list(&self, table: Table, range: RowRange<'_>) -> Result<Vec<Row>, StoreError> {
        let failure = *self.failure.lock();
        match failure {
            Some(failure) => Err(failure()),
            None => self.rows.list(table, range).await,
        }
    }
}

/// A store that answers a read of a grant only while two others are read too, once `together` is set.
#[derive(Debug, Default)]
struct ReadTogether {
    rows: MemoryStore,
    together: Mutex<Option<Arc<Barrier>>>,
}

#[async_trait::async_trait]
impl StoreWrapper for ReadTogether {
    fn inner(&self) -> &dyn Store {
        &self.rows
    }

    async fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StoreError> {
        let together = self.together.lock().clone();
        if let (Table::Grants, Some(together)) = (table, together) {
            together.wait().await;
        }
        self.rows.get(table, key).await
    }
}

fn lost() -> StoreError {
    StoreError::Io { action: "write a row", source: io::ErrorKind::TimedOut.into() }
}

fn unreached() -> StoreError {
    StoreError::Unreached { action: "write a row", source: io::ErrorKind::StorageFull.into() }
}

/// The errors in the log of a thread: their fields.
#[derive(Clone, Default)]
struct LoggedErrors(Arc<Mutex<Vec<Fields>>>);

#[derive(Clone, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for LoggedErrors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().push(fields);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn only_a_change_that_may_be_stored_is_called_so() {
    let (store, lab) = FailingStore::lab().await;
    for (failure, status, code, said) in [
        (
            lost as fn() -> StoreError,
            500,
            "store_failed",
            "the store failed: a change may or may not be stored",
        ),
        (
            unreached,
            503,
            "store_unavailable",
            "the store cannot be used, and the request was not carried out",
        ),
    ] {
        store.fail(Some(failure));
        let (answered, body) = lab.post("/api/v1/agents", json!({"name": "ci"})).await;
        assert_eq!(answered, status, "{body}");
        assert_eq!(
            (&body["error"]["code"], &body["error"]["message"]),
            (&json!(code), &json!(said))
        );
        store.fail(None);
        assert_eq!(lab.get("/api/v1/agents").await.1["items"], json!([]));
    }
}

/// A read changes nothing, also if the store fails while it answers.
#[tokio::test]
async fn a_read_that_fails_was_not_carried_out() {
    let (store, lab) = FailingStore::lab().await;
    assert_eq!(lab.get("/api/v1/keys").await.0, 200);
    for failure in [lost as fn() -> StoreError, unreached] {
        store.fail(Some(failure));
        let (answered, body) = lab.get("/api/v1/keys").await;
        assert_eq!(answered, 503, "{body}");
        assert_eq!(
            (&body["error"]["code"], &body["error"]["message"]),
            (
                &json!("store_unavailable"),
                &json!("the store cannot be used, and the request was not carried out")
            )
        );
    }
}

/// A database that does not answer costs its time limit once, not for each connection.
#[tokio::test]
async fn the_connections_of_a_list_are_read_at_the_same_time() {
    let store = Arc::new(ReadTogether::default());
    let keyring = Arc::new(Keyring::ephemeral());
    let lab = Lab::over(services_over(store.clone(), keyring, KeyLocation::Memory).await);
    let app = json!({
        "provider": "microsoft", "name": "hub", "client_id": "x", "variables": {"tenant": "acme"},
        "secrets": {"client_secret": CANARY},
    });
    let (status, made) = lab.post("/api/v1/apps", app).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    for name in ["a", "b", "c"] {
        let fields = json!({"refresh_token": CANARY});
        let new = json!({
            "provider": "microsoft", "name": name, "app": "hub", "fields": fields, "test": false,
        });
        let (status, made) = lab.post("/api/v1/connections", new).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
    }
    *store.together.lock() = Some(Arc::new(Barrier::new(3)));
    let listed = timeout(Duration::from_secs(10), lab.get("/api/v1/connections")).await;
    let (_, listed) = listed.expect("three are read at the same time");
    for connection in listed["items"].as_array().expect("a list") {
        assert!(connection["token"].is_object(), "{connection}");
    }
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(3), "{listed}");
}

/// The new key of a webhook is stored in a task of its own.
#[tokio::test]
async fn a_failure_in_a_task_of_a_request_is_logged_with_the_id_of_the_request() {
    let (store, lab) = FailingStore::lab().await;
    let hook = json!({"name": "ops", "url": "https://ops.example.com/events"});
    let (status, body) = lab.post("/api/v1/webhooks", hook).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let errors = LoggedErrors::default();
    let logging = tracing::subscriber::set_default(errors.clone());
    store.fail(Some(unreached));
    let (status, body) = lab.post("/api/v1/webhooks/ops/rotate", json!({})).await;
    drop(logging);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    let logged = errors.0.lock().clone();
    let failed = |fields: &&Fields| fields.0["message"] == "admin request failed";
    let failed: Vec<_> = logged.iter().filter(failed).map(|it| it.0.get("request")).collect();
    let id = body["error"]["request"].as_str().unwrap().to_owned();
    assert_eq!(failed, [Some(&id)]);
}
