//! `listen.hooks`: a listener that takes the requests of services and has nothing else.

use super::*;

/// Where the URL of the hook leads.
fn address(url: &str) -> std::net::SocketAddr {
    let rest = url.split_once("://").expect("a URL").1;
    rest.split('/').next().and_then(|at| at.parse().ok()).unwrap_or_else(|| panic!("{url}"))
}

#[tokio::test]
async fn the_hooks_listener_accepts_webhooks_and_has_no_other_path() {
    let mut world = World::start(Plan::api_key().listen(r#"hooks: { at: "127.0.0.1:0" }"#)).await;
    let url = world.hook().await["url"].as_str().expect("a URL").to_owned();
    let at = address(&url);
    assert_ne!(at, world.lab.gateway.admin);
    let status = api(&world.lab, "GET", "/status", Value::Null, 200).await;
    assert_eq!(status["hooks"], url.trim_end_matches("/hooks/ci"));
    for path in ["/", "/api/v1", "/api/v1/hooks", "/healthz", "/ca.pem", "/login", "/metrics"] {
        let answer = send_to(at, path, "", "{}").await;
        assert_eq!(answer.head.status(), 404, "{path}: {}", answer.text());
    }
    let body = r#"{"zen":"one"}"#;
    send_to(at, "/hooks/ci", "", body).await.is(401);
    let fields = format!("X-Hub-Signature-256: sha256={}\r\n", signed(SECRET, body));
    send_to(at, "/hooks/ci", &fields, body).await.is(200);
    world.program.message(&world.key).await;
    world.standing("it is delivered", |hook| hook["waiting"] == 0).await;
    // The admin listener takes them as before: hooks that exist keep working.
    assert_eq!(world.push(r#"{"zen":"two"}"#).await.head.status(), 200);
    world.program.message(&world.key).await;
    world.standing("it is delivered", |hook| hook["waiting"] == 0).await;
    world.lab.finish().await;
}

#[tokio::test]
async fn the_url_of_a_hook_begins_with_the_configured_public_url() {
    let listen = r#"hooks: { at: "127.0.0.1:0", url: "https://hooks.acme.test/in/" }"#;
    let world = World::start(Plan::api_key().listen(listen)).await;
    assert_eq!(world.hook().await["url"], "https://hooks.acme.test/in/hooks/ci");
    world.lab.finish().await;
}

#[tokio::test]
async fn the_hooks_listener_serves_https_with_a_certificate_of_keywards_ca() {
    let listen = r#"hooks: { at: "127.0.0.1:0", tls: { names: [hooks.acme.test] } }"#;
    let world = World::start(Plan::api_key().listen(listen)).await;
    let url = world.hook().await["url"].as_str().expect("a URL").to_owned();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let trusted = world.lab.gateway.ca_pem.clone();
    let wire = Wire::to(address(&url)).await;
    let wire = world.lab.secure_trusting(&trusted, wire, "hooks.acme.test").await;
    let mut wire = wire.expect("a certificate of Keyward's CA");
    wire.send(
        "POST /hooks/ci HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    )
    .await;
    assert_eq!(wire.answer("POST").await.head.status(), 401);
    world.lab.finish().await;
}
