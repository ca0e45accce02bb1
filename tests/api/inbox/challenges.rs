//! Requests by which a service checks a URL or sends its secret, and what a person enters at the service.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;
use test_support::newcomer::Newcomer;

/// One request without a body from outside to the admin listener.
async fn ask(lab: &Lab, method: &str, path: &str) -> Message {
    let at = lab.gateway.admin;
    let mut wire = Wire::to(at).await;
    let port = at.port();
    wire.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
    ))
    .await;
    wire.answer(method).await
}

#[tokio::test]
async fn trellos_head_request_is_answered_and_that_to_another_hook_is_not() {
    let lab = queue::queue("github", SECRET).await;
    assert_eq!(ask(&lab, "HEAD", "/hooks/q").await.head.status(), 405);
    let hook = json!({"name": "cards", "scheme": "trello", "secret": SECRET});
    let made = api(&lab, "POST", "/hooks", hook, 201).await;
    assert_eq!(ask(&lab, "HEAD", "/hooks/cards").await.head.status(), 200);
    let body = r#"{"action":{"id":"1"}}"#;
    let url = made["url"].as_str().expect("a URL");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
    let tag = hmac::sign(&key, format!("{body}{url}").as_bytes());
    let fields = format!("X-Trello-Webhook: {}\r\n", BASE64_STANDARD.encode(tag.as_ref()));
    send(&lab, "/hooks/cards", &fields, body).await.is(200);
    lab.finish().await;
}

/// Intercom checks the URL by a HEAD request, and WooCommerce by a form that it does not sign.
#[tokio::test]
async fn the_url_checks_of_intercom_and_woocommerce_are_answered_and_stored_as_no_event() {
    let lab = queue::queue("hub-signature-sha1", SECRET).await;
    assert_eq!(ask(&lab, "HEAD", "/hooks/q").await.head.status(), 200);
    let hook = json!({"name": "shop", "scheme": "woocommerce", "secret": SECRET});
    api(&lab, "POST", "/hooks", hook, 201).await;
    let answer = send(&lab, "/hooks/shop", "", "webhook_id=42").await;
    assert_eq!((answer.head.status(), answer.text()), (200, String::new()));
    let event = r#"{"id":727,"status":"processing"}"#;
    for body in ["webhook_id=42&id=727", event] {
        assert_eq!(send(&lab, "/hooks/shop", "", body).await.head.status(), 401, "{body}");
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = BASE64_STANDARD.encode(hmac::sign(&key, event.as_bytes()).as_ref());
    let fields = format!("X-WC-Webhook-Signature: {signature}\r\n");
    send(&lab, "/hooks/shop", &fields, event).await.is(200);
    let events = api(&lab, "GET", "/hooks/shop/events", Value::Null, 200).await;
    assert_eq!(events["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(events["items"][0]["body"], event);
    lab.finish().await;
}

/// Meta sends back the verify token that a person entered beside the URL.
#[tokio::test]
async fn metas_challenge_is_answered_only_with_the_verify_token_that_is_shown() {
    let lab = queue::queue("meta", SECRET).await;
    let path = |token: &str| {
        format!("/hooks/q?hub.mode=subscribe&hub.verify_token={token}&hub.challenge=1158201444")
    };
    let refused = ask(&lab, "GET", &path("another")).await.is(401);
    assert!(!refused.text().contains("1158201444"));
    let hook = api(&lab, "GET", "/hooks/q", Value::Null, 200).await;
    let token = hook["verify_token"].as_str().expect("it is shown");
    let answer = ask(&lab, "GET", &path(token)).await;
    assert_eq!((answer.head.status(), answer.text()), (200, "1158201444".to_owned()));
    let body = r#"{"entry":[]}"#;
    let fields = format!("X-Hub-Signature-256: sha256={}\r\n", signed(SECRET, body));
    assert_eq!(send(&lab, "/hooks/q", &fields, body).await.head.status(), 200);
    let other = json!({"name": "other", "scheme": "github", "secret": SECRET});
    let other = api(&lab, "POST", "/hooks", other, 201).await;
    assert_eq!(other["verify_token"], Value::Null, "GitHub asks for none");
    lab.finish().await;
}

/// Notion sends its token, and sends events after a person entered the token there.
#[tokio::test]
async fn notions_token_is_shown_until_the_first_event_and_each_time_is_audited() {
    let mut lab = Plan::api_key().no_agents().start(Origin::saying("fine")).await;
    let token = "secret_verification-token-canary-0123456789";
    lab.guard(Canary::of(token.to_owned()));
    let hook = json!({"name": "q", "scheme": "notion"});
    api(&lab, "POST", "/hooks", hook, 201).await;
    let none = api(&lab, "POST", "/hooks/q/reveal", json!({}), 422).await;
    assert_eq!(none["error"]["message"], "the service has not sent the secret of this hook yet");
    let handed = |token: &str| json!({ "verification_token": token }).to_string();
    for _ in 0..2 {
        send(&lab, "/hooks/q", "", &handed(token)).await.is(200);
    }
    assert_eq!(send(&lab, "/hooks/q", "", &handed("another")).await.head.status(), 401);
    let shown = api(&lab, "GET", "/hooks/q", Value::Null, 200).await;
    assert_eq!((&shown["has_secret"], &shown["can_reveal"]), (&json!(true), &json!(true)));
    let revealed = api(&lab, "POST", "/hooks/q/reveal", json!({}), 200).await;
    assert_eq!(revealed, json!({ "secret": token }));
    let body = r#"{"id":"evt-1","type":"page.created"}"#;
    let fields = format!("X-Notion-Signature: sha256={}\r\n", signed(token, body));
    assert_eq!(send(&lab, "/hooks/q", &fields, body).await.head.status(), 200);
    let ended = api(&lab, "POST", "/hooks/q/reveal", json!({}), 422).await;
    assert_eq!(ended["error"]["message"], "the secret of this hook is not shown");
    let shown = api(&lab, "GET", "/hooks/q", Value::Null, 200).await;
    assert_eq!((&shown["waiting"], &shown["can_reveal"]), (&json!(1), &Value::Null));
    let records = lab.finish_with_changes().await;
    let reveals = records.iter().filter(|it| it["change"]["action"] == "reveal");
    let outcomes: Vec<_> = reveals.map(|it| it["outcome"].as_str().expect("one")).collect();
    assert_eq!(outcomes, ["refused", "completed", "refused"]);
}

/// Discord's ping of a webhook events URL has type 0; its events have type 1, which is a ping elsewhere.
#[tokio::test]
async fn an_event_of_discord_is_stored_and_its_ping_is_not() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).expect("a seed");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lab = queue::queue("ed25519-discord", &hex(pair.public_key().as_ref())).await;
    let time = jiff::Timestamp::now().as_second();
    let fields = |body: &str| {
        let signature = hex(pair.sign(format!("{time}{body}").as_bytes()).as_ref());
        format!("X-Signature-Timestamp: {time}\r\nX-Signature-Ed25519: {signature}\r\n")
    };
    let (ping, event) = (r#"{"type":0}"#, r#"{"type":1,"event":{"type":"ENTITLEMENT_CREATE"}}"#);
    assert_eq!(send(&lab, "/hooks/q", &fields(event), ping).await.head.status(), 401);
    let answer = send(&lab, "/hooks/q", &fields(ping), ping).await;
    assert_eq!((answer.head.status(), answer.text()), (204, String::new()));
    assert_eq!(answer.head.one("content-type"), Some("application/json"));
    for _ in 0..2 {
        let answer = send(&lab, "/hooks/q", &fields(event), event).await;
        assert_eq!((answer.head.status(), answer.text()), (204, String::new()), "also repeated");
    }
    let events = api(&lab, "GET", "/hooks/q/events", Value::Null, 200).await;
    assert_eq!(events["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(events["items"][0]["body"], event);
    lab.finish().await;
}

/// Xero checks the URL by events with a valid and with a wrong signature, and refuses an answer that has a body.
#[tokio::test]
async fn events_of_xero_are_answered_and_refused_without_a_body() {
    let lab = queue::queue("xero", SECRET).await;
    let body =
        r#"{"events":[],"firstEventSequence":0,"lastEventSequence":0,"entropy":"FMLHZNKCVK"}"#;
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let right = BASE64_STANDARD.encode(hmac::sign(&key, body.as_bytes()).as_ref());
    let wrong = BASE64_STANDARD.encode(hmac::sign(&key, b"another body").as_ref());
    for (signature, status) in [(&wrong, 401), (&right, 200), (&right, 200)] {
        let fields = format!("x-xero-signature: {signature}\r\n");
        let answer = send(&lab, "/hooks/q", &fields, body).await;
        assert_eq!((answer.head.status(), answer.text()), (status, String::new()));
        assert_eq!(answer.head.one("content-type"), None);
    }
    let hook = api(&lab, "GET", "/hooks/q", Value::Null, 200).await;
    assert_eq!(
        (&hook["waiting"], &hook["refused"]["code"]),
        (&json!(1), &json!("signature_wrong"))
    );
    let airtable =
        json!({"name": "base", "scheme": "airtable", "secret": BASE64_STANDARD.encode(SECRET)});
    api(&lab, "POST", "/hooks", airtable, 201).await;
    let fields = format!("X-Airtable-Content-MAC: hmac-sha256={}\r\n", signed(SECRET, body));
    let answer = send(&lab, "/hooks/base", &fields, body).await;
    assert_eq!((answer.head.status(), answer.text()), (200, String::new()));
    lab.finish().await;
}

#[test]
fn an_operator_reads_the_verify_token_after_hook_add_and_in_hook_show() {
    let mut person = Newcomer::new();
    person.pastes("keyward hook add pages --scheme meta --secret-stdin", SECRET);
    person.types("keyward hook show pages");
    let token = &signed(SECRET, "keyward webhook verify token")[..32];
    let text = person.transcript();
    assert_eq!(text.matches(token).count(), 2, "{text}");
}

#[test]
fn hook_add_accepts_an_empty_secret_for_a_service_that_sends_its_own() {
    let mut person = Newcomer::new();
    person.types("keyward init");
    person.walks("keyward hook add notes --scheme notion", |terminal| {
        terminal.asks("signing secret of the service", "\r");
    });
    let text = person.transcript();
    assert!(text.contains("hook notes added") && !text.contains("(exit"), "{text}");
}
