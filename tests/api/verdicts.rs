//! Each verdict on a connection has a way to lift it with the same secret: the table of `docs/internals/verdicts.md`, played
//! at a token endpoint.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use test_support::tokens::set;
use test_support::*;

/// What the token endpoint and the API answer.
#[derive(Clone, Default)]
struct Service {
    /// Status and body of the token endpoint; `None`: a token.
    refusal: Arc<Mutex<Option<(u16, &'static str)>>>,
    /// Whether the API takes the token, or the key.
    refuses_token: Arc<Mutex<bool>>,
    asked: Arc<AtomicUsize>,
}

/// A kind of grant: its auth method, and the fields of the connection.
struct Kind {
    name: &'static str,
    method: String,
    fields: &'static str,
}

/// How a verdict is reached.
enum Refusal {
    /// The token endpoint answers with this.
    Answer(u16, &'static str),
    /// The token endpoint does not answer, and then refuses the token.
    Lost,
    /// The API refuses the credential.
    Api,
    /// The API refuses it in a test.
    Test,
}

const HOUR: Duration = Duration::from_secs(3_600);

fn answer(status: u16, body: &str) -> String {
    let head = "Content-Type: application/json\r\n";
    format!("HTTP/1.1 {status} X\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

impl Service {
    fn origin(&self) -> Origin {
        let service = self.clone();
        Origin::answering(move |request: &Message| {
            if request.head.target() != "/token" {
                let status = if *service.refuses_token.lock() { 401 } else { 200 };
                return answer(status, "{}");
            }
            let number = service.asked.fetch_add(1, SeqCst);
            match *service.refusal.lock() {
                // Less than its length: the stream ends within the answer.
                Some((0, _)) => {
                    "HTTP/1.1 200 X\r\nContent-Length: 99\r\nConnection: close\r\n\r\n{".to_owned()
                }
                Some((status, body)) => answer(status, body),
                None => {
                    let token = json!({ "access_token": format!("live-token-{number}"), "token": format!("live-token-{number}"),
                        "refresh_token": format!("refresh-token-{number}"), "token_type": "Bearer", "expires_in": 3600 });
                    answer(200, &token.to_string())
                }
            }
        })
    }
}

fn kinds() -> Vec<Kind> {
    let token = "token: \"https://api.acme.test/token\"";
    let oauth = |name, more: &str, fields| Kind {
        name,
        method: format!(
            "{{ id: oauth, kind: oauth2, {token}, client_auth: none, token_params: {{ client_id: me }}, {more} }}"
        ),
        fields,
    };
    let consent = "authorize: \"https://api.acme.test/authorize\"";
    let keyed = "{ private_key: { env: PEM } }";
    let login = "{ id: login, kind: session, fields: [{ name: user, secret: false }, { name: password }], login: { url: \
                 \"https://api.acme.test/token\", json: { user: \"{user}\", password: \"{password}\" } }, token_path: token, \
                 access_ttl: 30m }";
    vec![
        oauth("consent", consent, "{ refresh_token: { env: CANARY } }"),
        oauth("consent without refresh token", consent, "{ access_token: { env: CANARY } }"),
        oauth("token exchange", "grant: token_exchange", "{ subject_token: { env: CANARY } }"),
        oauth("client credentials", "grant: client_credentials", "{}"),
        oauth("JWT grant", "grant: jwt_bearer, jwt: { iss: robot }", keyed),
        Kind {
            name: "service account",
            method: format!("{{ id: oauth, kind: service_account, client_auth: none, {token} }}"),
            fields: "{ service_account: { env: KEY_FILE } }",
        },
        Kind {
            name: "app",
            method: format!("{{ id: oauth, kind: github_app, {token}, token_path: token }}"),
            fields: "{ app_id: { env: USER_NAME }, installation_id: { env: USER_NAME }, private_key: { env: PEM } }",
        },
        Kind {
            name: "login",
            method: login.to_owned(),
            fields: "{ user: { env: USER_NAME }, password: { env: CANARY } }",
        },
        Kind {
            name: "key",
            method: "{ id: key, kind: bearer }".to_owned(),
            fields: "{ token: { env: CANARY } }",
        },
    ]
}

const GRANT: Refusal =
    Refusal::Answer(400, r#"{"error":"invalid_grant","error_description":"why it is so"}"#);
const CLIENT: Refusal = Refusal::Answer(401, r#"{"error":"invalid_client"}"#);
const SCOPE: Refusal = Refusal::Answer(400, r#"{"error":"invalid_scope"}"#);
const CONSENT: Refusal = Refusal::Answer(400, r#"{"error":"consent_required"}"#);
const REVOKED: Refusal = Refusal::Answer(400, r#"{"error":"token_revoked"}"#);
const LOGIN: Refusal = Refusal::Answer(401, "{}");

/// Grant, what the service says, and how.
const PLAYED: &[(&str, &str, Refusal)] = &[
    ("consent", "`invalid_grant`", GRANT),
    ("consent", "`invalid_client`", CLIENT),
    ("consent", "nothing, then `invalid_grant`", Refusal::Lost),
    ("consent without refresh token", "401", Refusal::Api),
    ("token exchange", "`invalid_grant`", GRANT),
    ("client credentials", "`invalid_grant`", GRANT),
    ("client credentials", "`invalid_scope`", SCOPE),
    ("JWT grant", "`invalid_grant`", GRANT),
    ("JWT grant", "`consent_required`", CONSENT),
    ("service account", "`invalid_grant`", GRANT),
    ("app", "`token_revoked`", REVOKED),
    ("login", "401", LOGIN),
    ("key", "401", Refusal::Api),
    ("key", "401 to a test", Refusal::Test),
];

async fn start(kind: &Kind, service: &Service) -> Lab {
    // Slow to make.
    static RSA: LazyLock<String> =
        LazyLock::new(|| KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key").serialize_pem());
    let mut plan = Plan::new(&kind.method, kind.fields)
        .test("{ method: GET, url: \"https://api.acme.test/me\" }")
        .variable("USER_NAME", "7");
    plan = match kind.name {
        "app" => plan.variable("PEM", &RSA),
        "service account" => {
            let file = json!({ "type": "service_account", "project_id": "p", "private_key_id": "k",
                "private_key": *RSA, "client_email": "x@p.iam.gserviceaccount.com" });
            plan.variable("KEY_FILE", &file.to_string())
        }
        _ => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
            plan.variable("PEM", &key.serialize_pem())
        }
    };
    let lab = plan.start(service.origin()).await;
    set(&lab, |it| it.backoff_first = Duration::from_millis(20));
    lab
}

async fn state(lab: &Lab) -> Value {
    lab.gateway.api("GET", "/connections/acme", "").await.json()
}

async fn post(lab: &Lab, verb: &str) {
    drop(lab.gateway.api("POST", &format!("/connections/acme/{verb}"), "").await);
}

/// Breaks the connection. Returns the reason.
async fn breaks(lab: &Lab, service: &Service, refusal: &Refusal) -> String {
    match refusal {
        Refusal::Answer(status, body) => *service.refusal.lock() = Some((*status, body)),
        Refusal::Lost => {
            *service.refusal.lock() = Some((0, ""));
            lab.ask("GET /x").await.is(503);
            *service.refusal.lock() = Some((400, r#"{"error":"invalid_grant"}"#));
        }
        Refusal::Api | Refusal::Test => *service.refuses_token.lock() = true,
    }
    until("a verdict", async || {
        match refusal {
            Refusal::Test => post(lab, "test").await,
            Refusal::Api => drop(lab.ask("GET /x").await),
            Refusal::Answer(..) | Refusal::Lost => post(lab, "refresh").await,
        }
        state(lab).await["state"] == "broken"
    })
    .await;
    *service.refusal.lock() = None;
    *service.refuses_token.lock() = false;
    state(lab).await["reason"].as_str().expect("a reason").to_owned()
}

async fn is_lifted(lab: &Lab) -> bool {
    lab.ask("GET /x").await.head.status() == 200 && state(lab).await["state"] != "broken"
}

/// The row of the table that a gateway plays: `says_yes` if it is to end by itself.
async fn played(name: &str, said: &str, refusal: &Refusal, says_yes: bool) -> String {
    let kind = kinds().into_iter().find(|kind| kind.name == name).expect("a kind");
    let service = Service::default();
    let lab = start(&kind, &service).await;
    let soon = Duration::from_millis(20);
    set(&lab, |it| (it.rejected_backoff_first, it.rejected_backoff_max) = (soon, soon));
    let mut reason = breaks(&lab, &service, refusal).await;
    if says_yes {
        until(&format!("{name}, {said}: the end of the verdict"), async || is_lifted(&lab).await)
            .await;
        set(&lab, |it| (it.rejected_backoff_first, it.rejected_backoff_max) = (HOUR, HOUR));
        reason = breaks(&lab, &service, refusal).await;
    }
    let asked = service.asked.load(SeqCst);
    for _ in 0..3 {
        assert!(!is_lifted(&lab).await, "{name}, {said}: by itself, or within the pause");
    }
    assert_eq!(service.asked.load(SeqCst), asked, "{name}, {said}: nothing is sent");
    let mut command = "none";
    for verb in ["refresh", "test"] {
        post(&lab, verb).await;
        if is_lifted(&lab).await {
            command = verb;
            break;
        }
    }
    lab.finish().await;
    let by_itself = if says_yes { "yes" } else { "no" };
    format!("| {name} | {said} | `{reason}` | {by_itself} | `connection {command}` |")
}

/// oauth 9.lifted
#[tokio::test]
async fn every_verdict_is_lifted_as_the_page_says_with_the_same_secret() {
    let page = include_str!("../../docs/internals/verdicts.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(PLAYED.len(), rows.len());
    for ((name, said, refusal), row) in PLAYED.iter().zip(rows) {
        let found = played(name, said, refusal, row.contains("| yes |")).await;
        assert_eq!(found, row, "docs/internals/verdicts.md");
    }
}

/// oauth 9.said: the service's own words, for people and not for agents.
#[tokio::test]
async fn the_message_of_the_service_is_shown_on_the_connection_and_in_no_error() {
    let service = Service::default();
    let lab = start(&kinds()[4], &service).await;
    *service.refusal.lock() =
        Some((422, r#"{"message":"The permissions requested are not granted"}"#));
    let told = lab.ask("GET /x").await.is(503);
    assert!(!told.text().contains("permissions"), "{}", told.text());
    let shown = state(&lab).await;
    assert_eq!(
        shown["token"]["failing"]["said"], "The permissions requested are not granted",
        "{shown}"
    );
    *service.refusal.lock() =
        Some((400, r#"{"error":"invalid_grant","error_description":"Check your iat and exp"}"#));
    until("a verdict", async || lab.ask("GET /x").await.head.status() == 424).await;
    let shown = state(&lab).await;
    assert_eq!(
        (&shown["reason"], &shown["said"]),
        (&json!("client_rejected"), &json!("Check your iat and exp"))
    );
    let hint = shown["remedy"].as_str().expect("a remedy");
    assert!(hint.starts_with("once the cause of `invalid_grant` is gone, refresh it"), "{hint}");
    lab.finish().await;
}

/// oauth 9.clock: this machine is three hours behind the server, which takes assertions of its own time only.
#[tokio::test]
async fn an_assertion_is_dated_by_the_clock_of_its_service_after_one_refusal() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let origin = Origin::answering(move |request: &Message| {
        if request.head.target() != "/token" {
            return answer(200, "{}");
        }
        count.fetch_add(1, SeqCst);
        let there = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(3);
        let form = request.text();
        let signed = form.split('&').find_map(|pair| pair.strip_prefix("assertion="));
        let claims = signed.and_then(|it| it.split('.').nth(1)).expect("an assertion");
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64");
        let claims: Value = serde_json::from_slice(&claims).expect("JSON");
        let issued = claims["iat"].as_i64().expect("a time");
        match (issued - there.as_second()).abs() < 60 {
            true => answer(200, r#"{"access_token":"live-token-1","expires_in":3600}"#),
            false => {
                let body =
                    r#"{"error":"invalid_grant","error_description":"Check your iat and exp"}"#;
                let date = there.strftime("%a, %d %b %Y %H:%M:%S GMT");
                answer(400, body).replace("\r\n\r\n", &format!("\r\nDate: {date}\r\n\r\n"))
            }
        }
    });
    let kind = &kinds()[4];
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
    let lab = Plan::new(&kind.method, kind.fields).variable("PEM", &ec).start(origin).await;
    lab.ask("GET /x").await.is(200);
    assert_eq!(asked.load(SeqCst), 2, "refused once");
    let status = lab.gateway.api("GET", "/status", "").await.json();
    let told = status["faults"][0]["message"].as_str().unwrap_or_default();
    assert_eq!(told, "the clock of this machine is 3 h behind that of api.acme.test", "{status}");
    lab.finish().await;
}
