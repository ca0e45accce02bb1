//! The API on the admin listener, over the network: who may ask, how, and how often. `table.rs` tries every route.

mod table;

use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::login::Login;
use test_support::pki::pki;
use test_support::*;

const HTTPS_FOR: &str = "X-Forwarded-Proto: https\r\nX-Forwarded-For: ";

/// A request over TCP: the fields with their line ends.
pub(crate) async fn ask_at(lab: &Lab, line: &str, fields: &str, body: &str) -> Message {
    let own = lab.gateway.admin;
    let host = match fields.contains("Host: ") {
        true => String::new(),
        false => format!("Host: {own}\r\n"),
    };
    let mut wire = lab.client_at(own).await;
    wire.ask(request(line, &format!("{host}{fields}"), body)).await
}

fn request(line: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    )
}

/// A user with this role, and a token of theirs.
pub(crate) async fn user(lab: &mut Lab, name: &str, role: &str) -> String {
    let new = json!({"name": name, "role": role}).to_string();
    lab.gateway.api("POST", "/users", &new).await.is(201);
    let made = lab.gateway.api("POST", "/tokens", &json!({"user": name}).to_string()).await;
    let token = made.json()["token"].as_str().expect("shown once").to_owned();
    lab.guard(Canary::of(token.clone()));
    token
}

/// A simple lab, and the login of the admin `ann`.
pub(crate) async fn admin_lab() -> (Lab, Login) {
    let mut lab = Lab::simple().await;
    let login = user_login(&mut lab, "ann", "admin").await;
    (lab, login)
}

/// The login of a new user.
pub(crate) async fn user_login(lab: &mut Lab, name: &str, role: &str) -> Login {
    user(lab, name, role).await;
    Login::of(lab, "default", name).await
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn code(answer: &Message) -> Value {
    answer.json()["error"]["code"].clone()
}

async fn lab(listen: &str) -> Lab {
    Plan::api_key().listen(listen).start(Origin::saying("fine")).await
}

#[tokio::test]
async fn a_token_in_cleartext_from_a_remote_client_is_refused_before_it_is_looked_up() {
    for (listen, fields) in [
        ("admin_proxies: [127.0.0.1]", "X-Forwarded-Proto: http\r\n"),
        ("admin_proxies: [127.0.0.1]", "X-Forwarded-For: 203.0.113.9\r\n"),
        ("admin_proxies: [127.0.0.1]", "X-Forwarded-Proto: https, http\r\n"),
        ("admin_proxies: [127.0.0.1]", "Forwarded: for=203.0.113.9;proto=http\r\n"),
        // A proxy on this machine that is not named.
        ("admin_proxies: [10.0.0.1]", "X-Forwarded-Proto: https\r\n"),
        ("admin_proxies: []", "X-Forwarded-For: 203.0.113.9\r\n"),
    ] {
        let mut lab = lab(listen).await;
        let token = user(&mut lab, "ann", "admin").await;
        for token in [&*token, "kwp_unknown"] {
            for line in ["GET /api/v1/agents", "POST /api/v1/agents", "GET /metrics"] {
                let fields = format!("{fields}{}", bearer(token));
                let answer = ask_at(&lab, line, &fields, "").await;
                assert_eq!(answer.head.status(), 403, "{line} {fields}: {}", answer.text());
                assert_eq!(code(&answer), "cleartext_refused");
                for key in ["listen.admin_tls", "listen.admin_proxies"] {
                    assert!(answer.text().contains(key), "{}", answer.text());
                }
            }
        }
        let tokens = lab.gateway.api("GET", "/tokens", "").await.json();
        assert_eq!(tokens["items"][0]["last_used"], Value::Null, "it was looked up");
        lab.finish().await;
    }
}

#[tokio::test]
async fn no_spelling_of_a_path_opens_the_api_without_a_token() {
    let lab = Lab::simple().await;
    for path in [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/api/v1//agents",
        "//api/v1/agents",
        "/API/v1/agents",
        "/%61pi/v1/agents",
        "/api%2Fv1%2Fagents",
        "/./api/v1/agents",
        "/healthz/../api/v1/agents",
        "/api/v1/agents?token=kwp_x",
        "/api/v1/agents;a",
        "/api/v2/agents",
    ] {
        for method in ["GET", "HEAD", "POST", "DELETE", "TRACE", "PROPFIND"] {
            let override_it = "X-HTTP-Method-Override: GET\r\nX-Original-URL: /api/v1/agents\r\n";
            let answer = ask_at(&lab, &format!("{method} {path}"), override_it, "").await;
            let status = answer.head.status();
            assert!([401, 404, 405].contains(&status), "{method} {path}: {status}");
            assert!(!answer.text().contains("\"ci\""), "{method} {path}: {}", answer.text());
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn every_path_is_refused_for_the_name_of_another_site() {
    let lab = Lab::simple().await;
    let port = lab.gateway.admin.port();
    for path in
        ["/", "/login", "/assets/console.css", "/agents", "/nothing", "/ca", "/healthz", "/api/v1"]
    {
        for accept in ["text/html", "*/*"] {
            let answer = async |host: &str| {
                let fields = format!("Host: {host}:{port}\r\nAccept: {accept}\r\n");
                ask_at(&lab, &format!("GET {path}"), &fields, "").await
            };
            let refused = answer("evil.example").await;
            assert_eq!(
                (refused.head.status(), code(&refused)),
                (421, json!("host_mismatch")),
                "{path}"
            );
            assert_ne!(answer("localhost").await.head.status(), 421, "{path}");
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn the_status_names_variables_of_secrets_over_the_socket_only() {
    let mut lab = Lab::simple().await;
    let token = bearer(&user(&mut lab, "ann", "admin").await);
    let here = lab.gateway.api_with(&token, ("GET", "/status"), "").await.is(200).json();
    let names = here["secret_variables"].as_array().expect("a list");
    assert!(names.contains(&json!("CANARY")), "{here}");
    let there = ask_at(&lab, "GET /api/v1/status", &token, "").await.is(200).json();
    assert_eq!((&there["status"], &there["secret_variables"]), (&json!("ready"), &Value::Null));
    lab.finish().await;
}

#[tokio::test]
async fn a_trusted_proxy_s_forwarded_client_is_rate_limited_and_recorded() {
    let plan = Plan::api_key().listen("admin_proxies: [127.0.0.1]");
    let plan = plan.limit("auth_failures_per_minute_max: 2");
    let mut lab = plan.start(Origin::saying("fine")).await;
    let token = user(&mut lab, "ann", "admin").await;
    let guess = async |client: &str| {
        let fields = format!("{HTTPS_FOR}198.51.100.1, {client}\r\n{}", bearer("kwp_guess"));
        ask_at(&lab, "GET /api/v1/agents", &fields, "").await
    };
    for status in [401, 401, 429] {
        guess("203.0.113.9").await.is(status);
    }
    let refused = guess("203.0.113.9").await;
    assert_eq!(code(&refused), "rate_limited");
    let wait: u64 = refused.head.one("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(guess("203.0.113.10").await.head.status(), 401, "another client");
    // Failures of other clients at the same address do not lock out a valid token.
    let fields = format!("{HTTPS_FOR}198.51.100.1, 203.0.113.9\r\n{}", bearer(&token));
    let made = ask_at(&lab, "POST /api/v1/agents", &fields, r#"{"name":"new-one"}"#).await.is(201);
    // A request without a token guesses nothing.
    let fields = format!("{HTTPS_FOR}203.0.113.9\r\n");
    assert_eq!(ask_at(&lab, "GET /api/v1/agents", &fields, "").await.head.status(), 401);
    let records = lab.finish_with_changes().await;
    let change = records.iter().find(|record| record["change"]["name"] == "new-one");
    let change = change.expect("a record");
    assert_eq!(change["change"]["from"], "203.0.113.9");
    assert_eq!(change["change"]["user"], "ann");
    assert_eq!(change["exchange"].as_str(), made.head.one("keyward-request"));
}

#[tokio::test]
async fn a_request_has_one_id_in_its_answer_its_error_and_its_record() {
    let mut lab = Lab::simple().await;
    let token = user(&mut lab, "ann", "auditor").await;
    let refused =
        ask_at(&lab, "POST /api/v1/agents", &bearer(&token), r#"{"name":"x"}"#).await.is(403);
    let id = refused.head.one("keyward-request").expect("an id").to_owned();
    assert_eq!(refused.json()["error"]["request"], *id);
    let others = [
        ask_at(&lab, "GET /api/v1/agents", "", "").await,
        ask_at(&lab, "GET /healthz", "", "").await,
        lab.gateway.api("GET", "/agents", "").await,
    ];
    for other in others {
        assert!(other.head.one("keyward-request").is_some_and(|other| other != id), "{other:?}");
    }
    let records = lab.finish_with_changes().await;
    let record = records.iter().find(|record| record["exchange"] == *id).expect("a record");
    assert_eq!(
        (&record["outcome"], &record["change"]["from"]),
        (&json!("refused"), &json!("127.0.0.1"))
    );
}

#[tokio::test]
async fn a_token_is_accepted_over_tls_only_and_a_reload_replaces_the_certificate() {
    let (first, second) = (pki().pair(&["localhost"]), pki().pair(&["other.test"]));
    let plan = Plan::api_key().listen("admin_tls: { cert: admin.pem, key: admin.key }");
    let plan = plan.file("admin.pem", &first.0).file("admin.key", &first.1);
    let mut lab = plan.start(Origin::saying("fine")).await;
    let token = user(&mut lab, "ann", "admin").await;
    let own = lab.gateway.admin;
    ask_at(&lab, "GET /api/v1/agents", &bearer(&token), "").await.is(400);
    let asked = async |name: &str, fields: &str| {
        let wire = lab.client_at(own).await;
        let mut wire = lab.secure_trusting(&pki().pem, wire, name).await?;
        let host = format!("Host: localhost:{}\r\n", own.port());
        wire.send(request("GET /api/v1/agents", &format!("{host}{fields}"), "")).await;
        Ok::<_, std::io::Error>(wire.answer("GET").await)
    };
    assert!(asked("other.test", "").await.is_err());
    assert_eq!(asked("localhost", "").await.expect("TLS").head.status(), 401);
    let answer = asked("localhost", &bearer(&token)).await.expect("TLS");
    assert_eq!(answer.head.status(), 200);
    assert_eq!(answer.json()["items"][0]["name"], "ci");
    let origin = format!("Origin: https://localhost:{}\r\n{}", own.port(), bearer(&token));
    assert_eq!(asked("localhost", &origin).await.expect("TLS").head.status(), 200);
    let status = lab.gateway.api("GET", "/status", "").await.json();
    assert_eq!(status["admin"], format!("https://{own}"));
    // A replaced certificate is used after a reload, and a broken one is not.
    let reload = async || {
        let asked = lab.gateway.running().reloads().reload();
        patiently("reloading", asked).await.expect("it runs").errors
    };
    let place = |(cert, key): (&str, &str)| {
        std::fs::write(lab.gateway.folder().join("admin.pem"), cert).expect("written");
        std::fs::write(lab.gateway.folder().join("admin.key"), key).expect("written");
    };
    place((&second.0, &first.1));
    assert!(reload().await.join("\n").contains("`listen.admin_tls`"));
    assert_eq!(asked("localhost", &bearer(&token)).await.expect("TLS").head.status(), 200);
    place((&second.0, &second.1));
    assert_eq!(reload().await, [""; 0]);
    assert!(asked("localhost", "").await.is_err());
    assert_eq!(asked("other.test", &bearer(&token)).await.expect("TLS").head.status(), 200);
    lab.finish().await;
}

#[tokio::test]
async fn an_unfinished_tls_handshake_delays_no_other_client_and_is_closed() {
    let plan = Plan::api_key().listen("admin_tls: {}").limit("handshake_timeout: 300ms");
    let lab = plan.start(Origin::saying("fine")).await;
    let mut silent = lab.client_at(lab.gateway.admin).await;
    silent.send(b"\x16\x03\x01").await;
    let wire = lab.client_at(lab.gateway.admin).await;
    // Keyward's own CA proves the address.
    let mut wire = lab.secure(wire, "127.0.0.1").await;
    let host = format!("Host: {}\r\n", lab.gateway.admin);
    wire.send(request("GET /healthz", &host, "")).await;
    assert_eq!(wire.answer("GET").await.head.status(), 200);
    silent.rest().await;
    lab.finish().await;
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_unless_admin_cors_lists_them() {
    let allowed = "https://console.example.com";
    let mut open = lab(&format!("admin_cors: [\"{allowed}\"]")).await;
    let mut closed = Lab::simple().await;
    let tokens = [user(&mut open, "ann", "admin").await, user(&mut closed, "ann", "admin").await];
    let cors = |answer: &Message| {
        let raw = String::from_utf8_lossy(&answer.head.raw).to_ascii_lowercase();
        raw.contains("access-control-")
    };
    let preflight =
        "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n";
    for (lab, token) in [&open, &closed].into_iter().zip(&tokens) {
        for origin in ["https://evil.example", "null", "http://console.example.com"] {
            let origin = format!("Origin: {origin}\r\n");
            let asked =
                ask_at(lab, "OPTIONS /api/v1/agents", &format!("{origin}{preflight}"), "").await;
            assert_eq!((asked.head.status(), cors(&asked)), (403, false), "{origin}");
            let with = format!("{origin}{}", bearer(token));
            let sent = ask_at(lab, "POST /api/v1/agents", &with, r#"{"name":"evil"}"#).await;
            assert_eq!((sent.head.status(), cors(&sent)), (403, false), "{origin}");
            assert_eq!(code(&sent), "cross_site_refused");
        }
    }
    let fields = format!("Origin: {allowed}\r\n{preflight}");
    let closed_preflight = ask_at(&closed, "OPTIONS /api/v1/agents", &fields, "").await;
    assert_eq!((closed_preflight.head.status(), cors(&closed_preflight)), (403, false));
    let asked = ask_at(&open, "OPTIONS /api/v1/agents", &fields, "").await.is(204);
    assert_eq!(asked.head.one("access-control-allow-origin"), Some(allowed));
    assert!(
        asked.head.one("access-control-allow-headers").expect("fields").contains("authorization")
    );
    assert!(!asked.head.has("access-control-allow-credentials"));
    let with = format!("Origin: {allowed}\r\n{}", bearer(&tokens[0]));
    let sent = ask_at(&open, "POST /api/v1/agents", &with, r#"{"name":"fine"}"#).await;
    assert_eq!(
        (sent.head.status(), sent.head.one("access-control-allow-origin")),
        (201, Some(allowed))
    );
    assert_eq!(sent.head.one("vary"), Some("Origin"));
    // The refusal of a request without a token can be read by the page too.
    let refused = ask_at(&open, "GET /api/v1/agents", &format!("Origin: {allowed}\r\n"), "").await;
    assert_eq!((refused.head.status(), cors(&refused)), (401, true));
    for lab in [open, closed] {
        let agents = lab.gateway.api("GET", "/agents", "").await.text();
        assert!(!agents.contains("evil"), "{agents}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_token_over_its_request_rate_gets_429_and_other_tokens_do_not() {
    let plan = Plan::api_key().limit("api_requests_per_minute_max: 3");
    let mut lab = plan.start(Origin::saying("fine")).await;
    let (one, other) = (user(&mut lab, "ann", "admin").await, user(&mut lab, "bob", "admin").await);
    for status in [200, 200, 200, 429] {
        ask_at(&lab, "GET /api/v1/agents", &bearer(&one), "").await.is(status);
    }
    let refused = ask_at(&lab, "GET /api/v1/agents", &bearer(&one), "").await;
    assert_eq!((code(&refused), refused.head.has("retry-after")), (json!("rate_limited"), true));
    assert_eq!(ask_at(&lab, "GET /api/v1/agents", &bearer(&other), "").await.head.status(), 200);
    lab.finish().await;
}

#[tokio::test]
async fn the_index_names_collections_that_exist() {
    let mut lab = Lab::simple().await;
    let token = user(&mut lab, "ann", "admin").await;
    let index = ask_at(&lab, "GET /api/v1", &bearer(&token), "").await.is(200).json();
    assert_eq!(index["version"], env!("CARGO_PKG_VERSION"));
    let collections = index["collections"].as_object().expect("an object");
    let more = [&index["caller"], &index["status"]];
    for path in collections.values().chain(more) {
        let path = path.as_str().expect("a path");
        let answer = ask_at(&lab, &format!("GET {path}"), &bearer(&token), "").await;
        assert_eq!(answer.head.status(), 200, "{path}: {}", answer.text());
    }
    // The other way round: each collection that can be read is there.
    for route in crate::people::routes::routes() {
        let name = route.path.trim_start_matches('/');
        let is_collection = !name.contains('/') && route.methods.contains(&"GET");
        if is_collection && name != "redirect-uri" {
            assert!(collections.contains_key(name), "{name} is missing");
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_post_repeated_with_its_idempotency_key_has_effect_once() {
    let mut lab = Lab::simple().await;
    let (one, other) = (user(&mut lab, "ann", "admin").await, user(&mut lab, "bob", "admin").await);
    let scopes = json!({"user": "ann", "scopes": ["audit:read"]}).to_string();
    let narrow = lab.gateway.api("POST", "/tokens", &scopes).await.json()["token"].clone();
    let narrow = narrow.as_str().expect("shown once").to_owned();
    lab.guard(Canary::of(narrow.clone()));
    let post = async |token: &str, key: &str, path: &str, body: &str| {
        let fields = format!("{}Idempotency-Key: {key}\r\n", bearer(token));
        ask_at(&lab, &format!("POST /api/v1{path}"), &fields, body).await
    };
    let long = "k".repeat(256);
    for malformed in ["", "a b", "\"\"", &long, "a\r\nIdempotency-Key: b"] {
        let answer = post(&one, malformed, "/agents", r#"{"name":"no"}"#).await;
        assert_eq!(answer.head.status(), 400, "{malformed}: {}", answer.text());
    }
    // A refused request leaves its key free.
    post(&one, "k1", "/agents", r#"{"name":"NO WAY"}"#).await.is(422);
    let first = post(&one, "k1", "/agents", r#"{"name":"once"}"#).await.is(201);
    let again = post(&one, "\"k1\"", "/agents", r#"{"name":"once"}"#).await;
    assert_eq!((again.head.status(), again.text()), (201, first.text()));
    assert_eq!(again.head.one("idempotency-replayed"), Some("true"));
    assert_ne!(again.head.one("keyward-request"), first.head.one("keyward-request"));
    for (path, body) in [("/agents", r#"{"name":"twice"}"#), ("/tokens", r#"{"name":"once"}"#)] {
        let reused = post(&one, "k1", path, body).await;
        assert_eq!((reused.head.status(), code(&reused)), (422, json!("idempotency_key_reused")));
    }
    // A key belongs to its token: the answer to one token is not given to another, also of the same user.
    let denied = post(&narrow, "k1", "/agents", r#"{"name":"once"}"#).await;
    assert_eq!((denied.head.status(), denied.head.one("idempotency-replayed")), (403, None));
    let taken = post(&other, "k1", "/agents", r#"{"name":"once"}"#).await;
    assert_eq!((taken.head.status(), code(&taken)), (409, json!("name_taken")));
    let first = post(&one, "k2", "/agents/once/tokens", "{}").await;
    let again = post(&one, "k2", "/agents/once/tokens", "{}").await;
    assert_eq!((first.head.status(), first.json()), (201, again.json()), "the same token");
    let listed = lab.gateway.api("GET", "/agents/once/tokens", "").await.json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    lab.finish().await;
}
