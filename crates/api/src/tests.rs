//! Tests of the routers over real sockets, with services in memory.

mod agents;
mod apps;
mod audit;
mod behind;
mod failing_store;
mod key_formats;
mod keys;
mod logins;
mod parameters;
mod patches;
mod rights;
mod rules;
mod services;
mod valid_rules;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tower::ServiceExt;

use super::{agents::runs::Peer, *};
use keyward_base::id::OrgId;
use keyward_model::{Agent, AgentFacts, AgentSpec};
use keyward_proxy::ListenerOwner;
use keyward_state::directory::ManagedBy;
use services::services;

const CANARY: &str = "ghp_canaryCANARYcanaryCANARYcanary123456";

/// Services in memory with the whole API. The clock stands at the epoch.
struct Lab {
    admin: Admin,
    router: Router,
    draining: watch::Sender<bool>,
}

impl Lab {
    async fn new() -> Self {
        Self::over(services().await)
    }

    fn over(deps: Deps) -> Self {
        let (draining, drained) = watch::channel(false);
        let owner =
            |org: &str| ListenerOwner { org: OrgId::named(org).unwrap(), agent: "ci".to_owned() };
        let locations = Locations {
            agents: [("default", 8090), ("acme", 8091)]
                .map(|(org, port)| (owner(org), format!("127.0.0.1:{port}")))
                .to_vec(),
            proxy: vec!["127.0.0.1:8080".to_owned()],
            databases: Vec::new(),
            metrics: None,
            hooks: None,
            admin: "127.0.0.1:8081".to_owned(),
            config: String::new(),
            data: "/data".to_owned(),
            ca: "/data/ca/ca.pem".to_owned(),
        };
        let (reloads, _) = Reloads::new(watch::channel(None).1);
        let admin = Admin::serving(deps, drained, locations, reloads);
        Self { router: socket_router(admin.clone()), admin, draining }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(Method::PATCH, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::DELETE, path, None).await
    }

    /// An agent `ci` and a connection `work` to GitHub.
    async fn stocked() -> Self {
        let lab = Self::new().await;
        let (status, _) = lab.post("/api/v1/agents", json!({"name": "ci"})).await;
        assert_eq!(status, StatusCode::CREATED);
        let work = json!({"provider": "github", "name": "work", "fields": {"token": CANARY}});
        let (status, _) = lab.post("/api/v1/connections", work).await;
        assert_eq!(status, StatusCode::CREATED);
        lab
    }
}

/// Sends one request and returns the status and the raw response.
async fn raw<S: AsyncReadExt + AsyncWriteExt + Unpin>(mut stream: S, head: &str) -> (u16, String) {
    let request = format!("{head}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    (status, answer)
}

#[tokio::test]
async fn a_compressed_body_is_refused_and_changes_nothing() {
    let lab = Lab::new().await;
    for (coding, status) in [("gzip", 415), ("identity", 201)] {
        let request = Request::post("/api/v1/agents")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_ENCODING, coding)
            .body(Body::from(json!({"name": coding}).to_string()))
            .unwrap();
        let answer = lab.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{coding}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let said = body["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(said.contains("Content-Encoding"), status == 415, "{body}");
    }
    let (_, agents) = lab.get("/api/v1/agents").await;
    let names = agents["items"].as_array().unwrap().iter().map(|agent| &agent["name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["identity"]);
}

#[tokio::test]
async fn the_tcp_listener_serves_only_health_and_certificates() {
    let lab = Lab::stocked().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let names = OwnNames::new(addr.port(), Vec::new());
    let router = open_router(lab.admin.clone(), names, Router::new());
    let admin = lab.admin.clone();
    let serving = tokio::spawn(serve_network(vec![listener], None, admin, router, stopped));
    let own = format!("HTTP/1.1\r\nhost: localhost:{}", addr.port());
    let table = [
        (format!("GET /healthz {own}"), 200),
        (format!("HEAD /readyz {own}"), 200),
        (format!("GET /ca.pem {own}"), 200),
        (format!("GET /api/v1/agents {own}"), 404),
        (format!("GET /api/v1/audit {own}"), 404),
        // Pages are an argument of the router: what is served here is JSON.
        (format!("GET /ca {own}"), 404),
        (format!("GET /errors {own}"), 404),
        (format!("GET /oauth/start/x {own}"), 404),
        (format!("GET /metrics {own}"), 401),
        (format!("GET /metrics {own}\r\nauthorization: Bearer kwp_x"), 401),
        (format!("GET //healthz {own}"), 404),
        (format!("GET /healthz/ {own}"), 404),
        (format!("POST /healthz {own}"), 405),
        (format!("TRACE /healthz {own}"), 405),
        (format!("POST /healthz {own}\r\nx-http-method-override: GET"), 405),
        (format!("GET /healthz {own}\r\nhost: localhost:{}", addr.port()), 400),
        ("GET /healthz HTTP/1.1\r\nhost: evil.example".to_owned(), 421),
        (format!("GET /nope HTTP/1.1\r\nhost: evil.example:{}", addr.port()), 421),
        (
            format!(
                "GET /healthz HTTP/1.1\r\nhost: e\r\nx-forwarded-host: localhost:{}",
                addr.port()
            ),
            421,
        ),
        ("GET /healthz HTTP/1.0".to_owned(), 421),
    ];
    for (head, expected) in table {
        let (status, answer) = raw(TcpStream::connect(addr).await.unwrap(), &head).await;
        assert_eq!(status, expected, "{head}: {answer}");
        for field in ["nosniff", "no-store", "no-referrer", "frame-ancestors 'none'"] {
            assert!(answer.contains(field), "{head}: {answer}");
        }
        assert!(!answer.to_ascii_lowercase().contains("\r\nserver:"), "{answer}");
        assert!(!answer.contains("access-control-"), "{answer}");
    }
    stop.send_replace(true);
    serving.await.unwrap();
    assert!(TcpStream::connect(addr).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn an_idle_stream_does_not_delay_the_shutdown() {
    let lab = Lab::new().await;
    let dir = tempfile::tempdir().unwrap();
    let socket = AdminSocket::bind(dir.path()).await.unwrap();
    let path = socket.path().to_owned();
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(serve_socket(socket, lab.admin.clone(), stopped));
    let (status, _) =
        raw(UnixStream::connect(&path).await.unwrap(), "GET /api/v1/agents HTTP/1.1\r\nhost: x")
            .await;
    assert_eq!(status, 200);
    let idle = UnixStream::connect(&path).await.unwrap();
    stop.send_replace(true);
    serving.await.unwrap();
    drop(idle);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_draining_gateway_lives_but_is_not_ready() {
    let lab = Lab::new().await;
    assert_eq!(lab.get("/readyz").await.0, StatusCode::OK);
    lab.draining.send_replace(true);
    assert_eq!(lab.get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(lab.get("/healthz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_unknown_path_or_resource_is_a_404_with_a_code() {
    let lab = Lab::stocked().await;
    for path in [
        "/api/v1/agents/nobody",
        "/api/v1/agents/nobody/tokens",
        "/api/v1/agents/nobody/bindings",
        "/api/v1/connections/none",
        "/api/v1/providers/none",
        "/api/v1/nothing",
        "/api/v2/agents",
        "/",
    ] {
        let (status, body) = lab.get(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(body["error"]["code"], "not_found", "{path}");
    }
    for path in ["/api/v1/agents/ci/tokens/tok_none", "/api/v1/agents/ci/bindings/work"] {
        let (status, body) = lab.delete(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(body["error"]["code"], "not_found", "{path}");
    }
}

#[tokio::test]
async fn an_invalid_connection_is_a_422_that_names_the_field() {
    let lab = Lab::new().await;
    let table = [
        (json!({"provider": "github", "auth": "none", "name": "n"}), "auth"),
        (json!({"provider": "github", "name": "n", "fields": {}}), "fields"),
        (json!({"provider": "github", "name": "n", "fields": {"tokn": CANARY}}), "fields"),
        (json!({"provider": "github", "name": "n", "fields": {"token": "a\nb"}}), "fields"),
        (json!({"provider": "github", "name": "a b", "fields": {"token": CANARY}}), "name"),
        (json!({"provider": "shopify", "name": "n", "fields": {"api_key": "k"}}), "variables"),
    ];
    for (form, field) in table {
        let (status, body) = lab.post("/api/v1/connections", form.clone()).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{form}: {body}");
        assert_eq!(body["error"]["field"], field, "{form}: {body}");
        assert!(!body.to_string().contains("canary"), "{body}");
    }
    assert_eq!(lab.get("/api/v1/connections").await.1["items"], json!([]));
}

#[tokio::test]
async fn queries_of_the_audit_log_are_validated() {
    let lab = Lab::new().await;
    for (query, field) in [
        ("nope=1", Some("nope")),
        ("after=x", Some("after")),
        ("limit=0", Some("limit")),
        ("limit=1001", Some("limit")),
        ("since=yesterday", Some("since")),
        ("until=1", Some("until")),
        ("follow=true&until=1h", Some("until")),
        ("by=host", Some("by")),
    ] {
        let (status, body) = lab.get(&format!("/api/v1/audit?{query}")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{query}: {body}");
        assert_eq!(body["error"]["field"].as_str(), field, "{query}: {body}");
        assert!(!body.to_string().contains("yesterday"), "{body}");
    }
    for (query, field) in
        [("", Some("by")), ("by=path", Some("by")), ("by=host&limit=5", Some("limit"))]
    {
        let (status, body) = lab.get(&format!("/api/v1/audit/counts?{query}")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{query}: {body}");
        assert_eq!(body["error"]["field"].as_str(), field, "{query}: {body}");
    }
    let none = json!({"by": "host", "groups": [], "other": 0, "next": null});
    assert_eq!(lab.get("/api/v1/audit/counts?by=host").await, (StatusCode::OK, none));
    // This change leaves no record.
    assert_eq!(lab.get("/api/v1/audit?follow=true").await.0, StatusCode::NOT_FOUND);
    let empty = json!({"items": [], "next": null});
    assert_eq!(lab.get("/api/v1/audit").await, (StatusCode::OK, empty));
}

#[tokio::test]
async fn a_rule_test_reports_each_case_even_if_another_case_is_invalid() {
    let lab = Lab::stocked().await;
    lab.post("/api/v1/agents/ci/bindings", json!({"connection": "work"})).await;
    let url = "https://api.github.com/user";
    let (status, report) = lab
        .post("/api/v1/rules/test", json!({"cases": [
            {"agent": "ci", "request": "GETT", "expect": "deny"},
            {"agent": "nobody", "request": url, "expect": "deny"},
            {"agent": "ci", "request": url, "expect": "inject", "connection": "work", "rule": "binding"},
            {"agent": "ci", "request": url, "expect": "pass"},
        ]}))
        .await;
    assert_eq!(status, StatusCode::OK, "{report}");
    let of = |case: usize, key: &str| report["results"][case][key].clone();
    assert_eq!([0, 1, 2, 3].map(|case| of(case, "passed")), [false, false, true, false]);
    assert_eq!(of(0, "wrong"), json!(["url: must begin with https:// or http://"]));
    assert_eq!(of(1, "became"), Value::Null);
    assert_eq!(of(3, "wrong"), json!(["expected pass, got inject"]));
    assert!(!report.to_string().contains("canary"), "{report}");
    let wrong = json!({"cases": [{"agent": "ci", "request": url, "expect": "allow"}]});
    let (status, body) = lab.post("/api/v1/rules/test", wrong).await;
    assert_eq!(
        (status, &body["error"]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("cases[0].expect"))
    );
}

#[tokio::test]
async fn an_agent_of_the_configuration_file_is_not_deleted_through_the_api() {
    let lab = Lab::stocked().await;
    let (org, spec) = (OrgId::default_org(), AgentSpec::named("declared"));
    lab.admin
        .deps()
        .directory
        .add::<Agent>(&org, ManagedBy::File, spec, AgentFacts::default())
        .await
        .unwrap();
    let (status, body) = lab.delete("/api/v1/agents/declared").await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    assert_eq!(body["error"]["code"], "managed_by_file");
}

#[tokio::test]
async fn no_answer_contains_the_secret_of_a_connection() {
    let lab = Lab::new().await;
    let work = json!({"provider": "github", "name": "work", "fields": {"token": CANARY}});
    let mut answers = Vec::new();
    for (path, body, status) in [
        ("agents", json!({"name": "ci"}), StatusCode::CREATED),
        ("connections", work, StatusCode::CREATED),
        ("agents/ci/bindings", json!({"connection": "work"}), StatusCode::CREATED),
        ("rules/explain", json!({"agent": "ci", "url": "http://api.github.com/"}), StatusCode::OK),
    ] {
        answers.push((status, lab.post(&format!("/api/v1/{path}"), body).await));
    }
    for path in
        ["agents", "agents/ci", "agents/ci/bindings", "connections", "connections/work", "rules"]
    {
        answers.push((StatusCode::OK, lab.get(&format!("/api/v1/{path}")).await));
    }
    for (expected, (status, answer)) in answers {
        assert_eq!(status, expected, "{answer}");
        assert!(!answer.to_string().contains("canary"), "{answer}");
    }
}

#[tokio::test]
async fn a_token_is_valid_from_its_answer_until_its_expiry_or_revocation() {
    let lab = Lab::stocked().await;
    let (status, made) = lab.post("/api/v1/agents/ci/tokens", json!({"ttl": "1h"})).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(made["expires"], "1970-01-01T01:00:00Z");
    let token = made["token"].as_str().unwrap();
    let opens = |at: i64| {
        let now = jiff::Timestamp::from_second(at).unwrap();
        lab.admin.deps().directory.view().authenticate(token, now).is_some()
    };
    assert!(opens(3_599) && !opens(3_600));
    let id = made["id"].as_str().unwrap();
    let (status, _) = lab.delete(&format!("/api/v1/agents/ci/tokens/{id}")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(!opens(0));
    let shown = lab.get("/api/v1/agents/ci/tokens").await.1;
    assert!(!shown.to_string().contains(token));
}

#[tokio::test]
async fn a_binding_and_its_removal_are_in_force_when_they_are_answered() {
    let lab = Lab::stocked().await;
    let ask = json!({"agent": "ci", "url": "https://api.github.com/user"});
    let action = async || lab.post("/api/v1/rules/explain", ask.clone()).await.1["action"].clone();
    assert_eq!(action().await, "deny");
    lab.post("/api/v1/agents/ci/bindings", json!({"connection": "work"})).await;
    assert_eq!(action().await, "inject");
    let (status, _) = lab.delete("/api/v1/agents/ci/bindings/work").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(action().await, "deny");
    lab.post("/api/v1/agents/ci/bindings", json!({"connection": "work"})).await;
    let (_, removed) = lab.delete("/api/v1/connections/work").await;
    assert_eq!(removed, json!({"revoked_upstream": null}));
    assert_eq!(action().await, "deny");
}

#[tokio::test]
async fn rules_are_listed_in_the_order_in_which_they_decide() {
    let lab = Lab::stocked().await;
    lab.post("/api/v1/agents/ci/bindings", json!({"connection": "work"})).await;
    let rules = lab.get("/api/v1/rules").await.1;
    let of = |place: usize, key: &str| rules["items"][place][key].clone();
    assert_eq!((of(0, "use"), of(0, "agents")), (json!("work"), json!(["ci"])));
    assert_eq!((of(1, "id"), of(1, "action")), (json!("default"), json!("deny")));
    let first = lab.get("/api/v1/rules?limit=1").await.1;
    let next = first["next"].as_str().unwrap();
    let second = lab.get(&format!("/api/v1/rules?limit=1&after={next}")).await.1;
    assert_eq!(second["items"][0]["id"], "default");
    assert_eq!(second["next"], Value::Null);
}

#[tokio::test]
async fn an_agent_has_the_listeners_of_its_name_in_its_own_organisation() {
    let lab = Lab::new().await;
    for (name, expected) in [("ci", Some("127.0.0.1:8090")), ("other", None)] {
        lab.post("/api/v1/agents", json!({ "name": name })).await;
        let (_, agent) = lab.get(&format!("/api/v1/agents/{name}")).await;
        let found = agent["listeners"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert_eq!(found.first().and_then(Value::as_str), expected, "{agent}");
        assert!(found.len() <= 1, "{agent}");
    }
    let (_, status) = lab.get("/api/v1/status").await;
    let of = |index: usize| (&status["agents"][index]["org"], &status["agents"][index]["at"]);
    assert_eq!(of(0), (&"default".into(), &"127.0.0.1:8090".into()), "{status}");
    assert_eq!(of(1), (&"acme".into(), &"127.0.0.1:8091".into()), "{status}");
}

#[tokio::test]
async fn the_status_names_the_cause_of_a_failed_write_until_a_write_succeeds() {
    let lab = Lab::new().await;
    let health = &lab.admin.deps().metrics.health;
    health.store_failed("read", "a damaged row".to_owned());
    assert_eq!(lab.get("/api/v1/status").await.1.get("faults"), None);
    health.store_failed("write", "no storage space".to_owned());
    let (_, status) = lab.get("/api/v1/status").await;
    let message = status["faults"][0]["message"].as_str().unwrap();
    assert!(message.contains("store failed (no storage space):"), "{message}");
    health.store_written();
    assert_eq!(lab.get("/api/v1/status").await.1.get("faults"), None);
}

#[tokio::test]
async fn a_program_is_examined_only_if_its_process_is_known_and_a_refusal_leaves_no_token() {
    let lab = Lab::stocked().await;
    let before = lab.get("/api/v1/agents/ci").await.1["tokens"].clone();
    let run = async |peer: Option<u32>| {
        let body = json!({"agent": "ci", "label": "doctor 1", "examine": true}).to_string();
        let request = Request::post("/api/v1/runs").extension(Peer(peer));
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body)).unwrap();
        let answer = lab.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    for peer in [None, Some(0)] {
        let (status, body) = run(peer).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert!(body.contains("cannot determine the program of a stream"), "{body}");
    }
    // Only the data path is missing here. Processes are known on Linux alone.
    if cfg!(target_os = "linux") {
        let (status, body) = run(Some(std::process::id())).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
        assert!(body.contains("draining"), "{body}");
    }
    assert_eq!(lab.get("/api/v1/agents/ci").await.1["tokens"], before);
}

/// A gateway of `run` is gone when the browser comes back.
#[tokio::test]
async fn a_private_gateway_refuses_consents_and_names_the_remedy() {
    let lab = Lab::stocked().await;
    lab.admin.runs().make_private();
    for (path, body) in [
        ("/api/v1/connections/work/reconnect", json!({})),
        ("/api/v1/connections", json!({"provider": "mcp", "name": "m", "url": "https://a.test"})),
    ] {
        let (status, told) = lab.post(path, body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{told}");
        assert_eq!(told["error"]["hint"], "start a gateway that keeps running: keyward serve");
    }
    let (parts, ()) = Request::get("/?state=s&code=c").body(()).unwrap().into_parts();
    let request = PageRequest { admin: lab.admin.clone(), parts };
    let start = consents::start(&request, "x").await;
    assert!(matches!(start, Err(consents::ConsentRefusal::Private)));
    let callback = consents::callback(&request, "app_x").await;
    assert!(matches!(callback, Err(consents::ConsentRefusal::Private)));
}
