//! What a body names and what does not exist is refused with the field that names it, so that a form can show the refusal there.

use serde_json::{Value, json};

use test_support::api::{api, try_api};
use test_support::*;

#[tokio::test]
async fn a_name_that_does_not_exist_is_refused_with_its_field() {
    let lab = Plan::api_key().start(Origin::saying("fine")).await;
    let listener = |member: &str, name: &str| json!({ "name": "db", "protocol": "postgres", "at": "127.0.0.1:0", member: name });
    let of = |user: &str, provider: &str| json!({ "user": user, "providers": [provider] });
    api(&lab, "POST", "/users", json!({ "name": "42", "role": "end_user" }), 201).await;
    let fields = json!({ "api_key": "a-key" });
    let connection =
        json!({ "provider": "acme", "name": "new", "owner": "nope", "fields": fields });
    let app = json!({ "provider": "github", "auth": "oauth_app", "name": "new", "app": "nope" });
    let referred = json!({ "api_key": { "from": "nope", "ref": "key" } });
    let source = json!({ "provider": "acme", "name": "new", "fields": referred });
    for (method, path, body, field) in [
        ("POST", "/agents/ci/bindings", json!({ "connection": "nope" }), "connection"),
        ("POST", "/hooks", json!({ "name": "in", "connection": "nope" }), "connection"),
        ("POST", "/connect-sessions", json!({ "connection": "nope" }), "connection"),
        ("POST", "/database-listeners", listener("connection", "nope"), "connection"),
        ("POST", "/database-listeners", listener("agent", "nope"), "agent"),
        ("POST", "/agents", json!({ "name": "new", "owner": "nope" }), "owner"),
        ("POST", "/connections", connection, "owner"),
        ("POST", "/connections", app, "app"),
        ("POST", "/connections", source, "fields"),
        ("POST", "/connections", json!({ "provider": "nope", "fields": {} }), "provider"),
        ("POST", "/apps", json!({ "provider": "nope", "name": "a", "client_id": "x" }), "provider"),
        ("POST", "/hooks", json!({ "name": "in", "scheme": "nope", "secret": "x" }), "scheme"),
        ("POST", "/connect-sessions", of("42", "nope"), "providers"),
        ("POST", "/connect-sessions", of("nope", "acme"), "user"),
        ("POST", "/sessions", json!({ "agent": "nope" }), "agent"),
        ("POST", "/sessions", json!({ "agent": "ci", "user": "nope" }), "user"),
        ("POST", "/sessions", json!({ "agent": "ci", "connections": ["nope"] }), "connections"),
        ("POST", "/honeytokens", json!({ "name": "bait", "provider": "nope" }), "provider"),
    ] {
        let (status, answer) = try_api(&lab, method, path, &body).await;
        let error = &answer["error"];
        assert_eq!((status, &error["code"]), (404, &json!("not_found")), "{path}: {answer}");
        assert_eq!(error["field"], field, "{path}: {answer}");
    }
    let (_, answer) = try_api(&lab, "GET", "/agents/nope", &Value::Null).await;
    assert_eq!(answer["error"]["field"], Value::Null, "of a path: {answer}");
    lab.finish().await;
}
