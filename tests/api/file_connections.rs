//! Connections to files, in the configuration and by the API: what is refused, who may test one, and that no request uses one.

use serde_json::{Value, json};

use crate::admin_network::{ask_at, user_login};
use test_support::*;

const CONNECTION: &str = "{ name: db, provider: sqlite, settings: { read_only: true }, \
                          fields: { path: /srv/keyward-test/app.db } }";

async fn lab() -> Lab {
    let plan = Plan::api_key().no_agents().connection(CONNECTION).agent("bot", "db");
    plan.start(Origin::saying("fine")).await
}

#[tokio::test]
async fn a_declared_file_has_its_variables_and_no_placeholder() {
    let lab = lab().await;
    let shown = lab.gateway.api("GET", "/connections/db", "").await.is(200).json();
    let file = json!({ "path": "/srv/keyward-test/app.db", "read_only": true, "advisory": true });
    assert_eq!(
        [&shown["file"], &shown["kind"], &shown["hosts"]],
        [&file, &json!("file"), &json!([])]
    );
    let bindings = lab.gateway.api("GET", "/agents/bot/bindings", "").await.is(200).json();
    let env = json!({
        "DATABASE_URL": "sqlite:////srv/keyward-test/app.db?mode=ro",
        "SQLITE_URI": "file:/srv/keyward-test/app.db?mode=ro",
    });
    assert_eq!(bindings["items"][0]["env"], env);
    assert_eq!(bindings["items"][0]["placeholders"], json!({}));
    lab.finish().await;
}

#[tokio::test]
async fn no_request_uses_a_file() {
    let lab = lab().await;
    for target in ["/to/db/", "/to/db@api.acme.test/"] {
        let mut wire = lab.client().await;
        let token = lab.token("bot");
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        let answer = wire.ask(request).await;
        assert!((400..500).contains(&answer.head.status()), "{target}: {}", answer.text());
        assert!(!answer.text().contains("app.db"), "{target}: {}", answer.text());
    }
    for body in [json!({ "path": "/" }), json!({ "path": "https://api.acme.test/" })] {
        let answer = lab.gateway.api("POST", "/connections/db/request", &body.to_string()).await;
        assert!((400..500).contains(&answer.head.status()), "{body}: {}", answer.text());
    }
    assert!(lab.origin.received().is_empty());
    lab.finish().await;
}

#[tokio::test]
async fn only_admins_test_files_of_the_gateways_machine() {
    let mut lab = lab().await;
    let tested = |answer: Value| answer["message"].as_str().unwrap_or_default().to_owned();
    let answer = lab.gateway.api("POST", "/connections/db/test", "").await.is(200).json();
    assert!(tested(answer).contains("does not exist"));
    let login = user_login(&mut lab, "mel", "member").await;
    let mine = json!({ "name": "mine", "provider": "sqlite", "fields": { "path": "/etc/passwd" } });
    let add = "POST /api/v1/connections";
    ask_at(&lab, add, &login.fields(), &mine.to_string()).await.is(201);
    let test = "POST /api/v1/connections/mine/test";
    let answer = ask_at(&lab, test, &login.fields(), "{}").await.is(200).json();
    assert_eq!(answer["outcome"], "not_sent", "{answer}");
    assert!(tested(answer).starts_with("only an admin"));
    lab.finish().await;
}

#[tokio::test]
async fn an_own_provider_of_files_sets_no_variable_and_compares_no_beginning() {
    let lab = lab().await;
    let own = json!({
        "id": "own", "name": "Own", "hosts": [],
        "auth": [{ "id": "f", "kind": "file", "file": {
            "begins": "root:", "variables": { "OWN_URI": "file:{path}" },
        } }],
    });
    lab.gateway.api("POST", "/providers", &own.to_string()).await.is(201);
    let add = json!({ "name": "own", "provider": "own", "fields": { "path": "/etc/passwd" } });
    lab.gateway.api("POST", "/connections", &add.to_string()).await.is(201);
    let tested = lab.gateway.api("POST", "/connections/own/test", "").await.is(200).json();
    assert!(
        tested["message"].as_str().is_some_and(|it| it.contains("/etc/passwd exists")),
        "{tested}"
    );
    lab.gateway.api("POST", "/agents", &json!({ "name": "second" }).to_string()).await.is(201);
    let bind = json!({ "connection": "own" }).to_string();
    let bound = lab.gateway.api("POST", "/agents/second/bindings", &bind).await.is(201).json();
    assert_eq!(bound["env"], json!({}));
    lab.finish().await;
}

#[tokio::test]
async fn a_path_of_the_data_directory_or_of_another_form_is_refused_by_the_api() {
    let lab = lab().await;
    let own = lab.gateway.data().join("store").display().to_string();
    for (field, says) in [
        (json!(own), "leads to Keyward's own files"),
        (json!("app.db"), "must be absolute"),
        (json!("/srv/a\nb"), "line break"),
        (json!("/srv/a?b"), "which end a path"),
    ] {
        let body = json!({ "name": "x", "provider": "sqlite", "fields": { "path": field } });
        let answer = lab.gateway.api("POST", "/connections", &body.to_string()).await;
        assert_eq!(answer.head.status(), 422, "{}", answer.text());
        assert!(answer.text().contains(says), "{}", answer.text());
    }
    lab.finish().await;
}
