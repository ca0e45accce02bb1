//! Requests to a replica that does not know yet what another one has changed, as behind a load balancer.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::services::services_over;
use super::*;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::store::memory::MemoryReplica;
use keyward_vault::keys::KeyLocation;

/// A replica, and one that takes over its changes only while a request waits for them.
struct BehindPair {
    first: Lab,
    second: Lab,
    following: BoxFuture<'static, ()>,
}

impl BehindPair {
    async fn new() -> Self {
        let (rows, keyring) = (MemoryReplica::first(), Arc::new(Keyring::ephemeral()));
        let (one, other) = (Arc::new(rows.another()), Arc::new(rows));
        let first = Lab::over(services_over(one, keyring.clone(), KeyLocation::Memory).await);
        let second = Lab::over(services_over(other, keyring, KeyLocation::Memory).await);
        let directory = second.admin.deps().directory.clone();
        let mut following = async move { directory.follow(&|_, _| {}).await }.boxed();
        assert!(futures_util::poll!(&mut following).is_pending(), "it follows");
        Self { first, second, following }
    }

    /// The answer of the replica that is behind.
    async fn late(&mut self, request: Request<Body>) -> (StatusCode, Value) {
        tokio::select! {
            biased;
            answer = answered(&self.second, request) => answer,
            () = &mut self.following => panic!("it follows no more"),
        }
    }
}

async fn answered(lab: &Lab, request: Request<Body>) -> (StatusCode, Value) {
    let answer = lab.router.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn request(method: Method, path: &str, body: &Value) -> Request<Body> {
    let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
    let request = request.header(header::CONTENT_TYPE, "application/json");
    request.body(Body::from(if body.is_null() { String::new() } else { body.to_string() })).unwrap()
}

fn with_field(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

#[tokio::test]
async fn a_change_that_names_what_another_replica_has_just_made_is_made() {
    let mut pair = BehindPair::new().await;
    let user = json!({"name": "ann", "role": "admin"});
    assert_eq!(pair.first.post("/api/v1/users", user).await.0, StatusCode::CREATED);
    let named = request(Method::POST, "/tokens", &json!({"user": "ann"}));
    let (status, token) = pair.late(named).await;
    assert_eq!(status, StatusCode::CREATED, "{token}");
    assert_eq!(pair.first.post("/api/v1/agents", json!({"name": "ci"})).await.0, 201);
    let in_path = request(Method::POST, "/agents/ci/tokens", &json!({"label": "main"}));
    let (status, token) = pair.late(in_path).await;
    assert_eq!((status, &token["label"]), (StatusCode::CREATED, &json!("main")), "{token}");
    let unknown = request(Method::POST, "/agents/cd/tokens", &json!({}));
    assert_eq!(pair.late(unknown).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_change_of_the_version_that_another_replica_has_just_made_is_not_stale() {
    let mut pair = BehindPair::new().await;
    let (_, made) = pair.first.post("/api/v1/agents", json!({"name": "ci"})).await;
    let known = request(Method::GET, "/agents/ci", &Value::Null);
    assert_eq!(pair.late(known).await.0, StatusCode::OK);
    let labels = json!({"labels": {"team": "build"}});
    let (_, changed) = pair.first.patch("/api/v1/agents/ci", labels).await;
    let change = |version: &Value| {
        let change = request(Method::PATCH, "/agents/ci", &json!({"environment": "dev"}));
        with_field(change, "if-match", version.as_str().unwrap())
    };
    let (status, answer) = pair.late(change(&changed["version"])).await;
    assert_eq!((status, &answer["environment"]), (StatusCode::OK, &json!("dev")), "{answer}");
    assert_eq!(answer["labels"]["team"], "build", "{answer}");
    assert_eq!(pair.late(change(&made["version"])).await.0, StatusCode::PRECONDITION_FAILED);
}

#[tokio::test]
async fn what_another_replica_has_just_removed_prevents_no_change() {
    let mut pair = BehindPair::new().await;
    pair.first.post("/api/v1/users", json!({"name": "cust", "role": "end_user"})).await;
    let fields = json!({"api_key": format!("sk-proj-{}", "a".repeat(40))});
    let owned = json!({"provider": "openai", "name": "own", "owner": "cust", "fields": fields});
    let (status, made) = pair.first.post("/api/v1/connections", owned.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let known = request(Method::GET, "/connections/own", &Value::Null);
    assert_eq!(pair.late(known).await.0, StatusCode::OK);
    assert_eq!(pair.first.delete("/api/v1/connections/own").await.0, StatusCode::OK);
    let (status, again) = pair.late(request(Method::POST, "/connections", &owned)).await;
    assert_eq!(status, StatusCode::CREATED, "the name is free: {again}");
    let removed = pair.late(request(Method::DELETE, "/connections/own", &Value::Null)).await;
    assert_eq!(removed.0, StatusCode::OK);
    let own = json!({"provider": "openai", "name": "last", "owner": "cust", "fields": fields});
    pair.first.post("/api/v1/connections", own).await;
    let known = request(Method::GET, "/connections/last", &Value::Null);
    assert_eq!(pair.late(known).await.0, StatusCode::OK);
    pair.first.delete("/api/v1/connections/last").await;
    let (status, answer) = pair.late(request(Method::DELETE, "/users/cust", &Value::Null)).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "they own nothing any more: {answer}");
}

#[tokio::test]
async fn an_organisation_that_another_replica_has_just_made_can_be_named() {
    let mut pair = BehindPair::new().await;
    assert_eq!(pair.first.post("/api/v1/orgs", json!({"name": "acme"})).await.0, 201);
    let user = request(Method::POST, "/users", &json!({"name": "ann", "role": "member"}));
    let (status, answer) = pair.late(with_field(user, "keyward-org", "acme")).await;
    assert_eq!((status, &answer["name"]), (StatusCode::CREATED, &json!("ann")), "{answer}");
}
