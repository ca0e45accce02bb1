//! A service account of Google by the catalogue's own entries: the key file is all that is needed, and what
//! signs leaves only as signatures.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use test_support::authorization::{Authorization, answer};
use test_support::canary::Canary;
use test_support::tokens::rules;
use test_support::*;

const TOKENS: &str = "oauth2.googleapis.com";
const ACCOUNTS: &str = "iamcredentials.googleapis.com";
const MAIL: &str = "gmail.googleapis.com";
const SHEETS: &str = "sheets.googleapis.com";
const ROBOT: &str = "robot@project.iam.gserviceaccount.com";

/// Google, as far as it takes part: tokens, and two services.
async fn google() -> (Authorization, Lab) {
    let server = Authorization::named(&[TOKENS, ACCOUNTS], rules()).await;
    let issuer = server.issuer().clone();
    let services =
        Origin::answering_as(&[MAIL, SHEETS], move |request| issuer.api(request, "fine"));
    let (tokens, apis) = (server.addr(), services.addr);
    let mut plan = Plan::api_key().allow(&tokens.to_string());
    for (host, addr) in [(TOKENS, tokens), (ACCOUNTS, tokens), (MAIL, apis), (SHEETS, apis)] {
        plan = plan.resolve(&format!("{host}: \"{addr}\""));
    }
    let mut lab = plan.start(services).await;
    lab.add_agent("bot").await;
    (server, lab)
}

fn key_file(key: &KeyPair) -> String {
    let file = json!({
        "type": "service_account", "project_id": "project", "private_key_id": "k1",
        "private_key": key.serialize_pem(), "client_email": ROBOT,
        "token_uri": "https://evil.test/token",
    });
    serde_json::to_string_pretty(&file).expect("JSON")
}

async fn connect(lab: &Lab, provider: &str, fields: Value) {
    let new = json!({ "provider": provider, "auth": "service_account", "name": provider,
                      "fields": fields });
    lab.gateway.api("POST", "/connections", &new.to_string()).await.is(201);
    let bind = json!({ "connection": provider }).to_string();
    let bound = lab.gateway.api("POST", "/agents/bot/bindings", &bind).await;
    assert!((200..300).contains(&bound.head.status()), "{}", bound.text());
}

/// The account of a connection, as people see it.
async fn account(lab: &Lab, connection: &str) -> Value {
    lab.gateway.api("GET", &format!("/connections/{connection}"), "").await.json()["account"]
        .clone()
}

async fn ask(lab: &Lab, host: &str, path: &str) -> Message {
    lab.ask_as("bot", host, &format!("GET {path}")).await
}

/// The same, refused.
async fn refused(lab: &Lab, method: &str, path: &str, body: &Value) -> String {
    lab.gateway.api(method, path, &body.to_string()).await.is(422).text()
}

/// What the server was asked with.
fn claims(assertion: &str) -> Value {
    let payload = assertion.split('.').nth(1).expect("three parts");
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[tokio::test]
async fn a_key_file_of_google_reads_a_user_s_mail() {
    let (server, mut lab) = google().await;
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    lab.guard(Canary::of(key.serialize_pem()));
    let wrong = json!({ "provider": "gmail", "auth": "service_account", "name": "wrong",
                        "fields": { "service_account": "{\"type\":\"authorized_user\"}" } });
    let said = refused(&lab, "POST", "/connections", &wrong).await;
    assert!(said.contains("give the JSON file as downloaded"), "{said}");
    let fields = json!({ "service_account": key_file(&key), "subject": "user@acme.test" });
    connect(&lab, "gmail", fields).await;
    assert_eq!(account(&lab, "gmail").await, "user@acme.test");
    for _ in 0..2 {
        assert_eq!(ask(&lab, MAIL, "/gmail/v1/users/me/profile").await.text(), "fine");
    }
    let call = server.only_call();
    let told = claims(&call.form["assertion"]);
    let modify = "https://www.googleapis.com/auth/gmail.modify";
    assert_eq!([&told["iss"], &told["sub"], &told["scope"]], [ROBOT, "user@acme.test", modify]);
    assert_eq!(told["aud"], "https://oauth2.googleapis.com/token", "and not what the file says");
    assert!(!call.head.has("authorization") && !call.form.contains_key("client_id"));
    // Nobody consents to it, and no app is missing.
    let said = refused(&lab, "POST", "/connections/gmail/reconnect", &json!({})).await;
    assert!(said.contains("keyward connection rotate gmail"), "{said}");
    // Another service on a host of Google's is none of this connection's.
    assert_eq!(ask(&lab, SHEETS, "/v4/spreadsheets/x").await.head.status(), 403);
    connect(&lab, "firestore", json!({ "service_account": key_file(&key) })).await;
    assert_eq!(account(&lab, "firestore").await, ROBOT);
    let issued = call.issued.expect("tokens").access;
    assert_eq!(lab.origin.received().len(), 2);
    for request in lab.origin.received() {
        assert_eq!(request.head.one("authorization"), Some(&*format!("Bearer {issued}")));
    }
    lab.guard(Canary::of(issued));
    lab.finish().await;
}

#[tokio::test]
async fn a_key_file_of_google_acts_as_another_account() {
    let (server, mut lab) = google().await;
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    let other = server.issuer().issue().access;
    let said = json!({ "accessToken": other, "expireTime": "2100-01-01T00:00:00Z" });
    let at = "/v1/projects/-/serviceAccounts/other%40project.test:generateAccessToken";
    server.issuer().script(at, answer(200, &said));
    let fields = json!({ "service_account": key_file(&key), "impersonate": "other@project.test" });
    connect(&lab, "google-sheets", fields).await;
    assert_eq!(ask(&lab, SHEETS, "/v4/spreadsheets/x").await.text(), "fine");
    let call = server.only_call();
    let told = claims(&call.form["assertion"]);
    assert_eq!(told["scope"], "https://www.googleapis.com/auth/cloud-platform");
    assert!(told.get("sub").is_none());
    let own = call.issued.expect("tokens").access;
    let asked = server.origin.received().pop().expect("a request");
    assert_eq!((asked.head.method(), asked.head.target()), ("POST", at));
    assert_eq!(asked.head.one("authorization"), Some(&*format!("Bearer {own}")));
    assert_eq!(asked.json()["scope"], json!(["https://www.googleapis.com/auth/spreadsheets"]));
    let field = format!("Bearer {other}");
    assert_eq!(lab.origin.only().head.one("authorization"), Some(&*field));
    for secret in [key.serialize_pem(), own, other] {
        lab.guard(Canary::of(secret));
    }
    lab.finish().await;
}
