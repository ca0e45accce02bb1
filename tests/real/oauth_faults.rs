//! Faults in front of a third-party server: `oidc-provider`, which rotates refresh tokens and ends a grant whose
//! refresh token arrives twice. The test checks the server's own log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::issuer::{Program, SECRET, World, client, code_method};
use crate::relay::Relay;
use test_support::authorization::Fault;
use test_support::*;

/// Short pauses, no rest for a server that fails, and a second for an answer.
const OFTEN: &str = "oauth: { backoff_first: 50ms, backoff_jitter_percent: 0, \
                     circuit_failures_max: 1000000, exchange_timeout: 1s, answer_timeout: 1s }";

/// Connections `c0`, `c1` … as long as there are rows, each with a refresh token of its own.
async fn world(rows: usize) -> World {
    let often = |plan: Plan| plan.top(OFTEN);
    let mut world = World::with(Program::OidcProvider, &code_method(), true, often).await;
    let redirect = world.app("keyward", json!({ "secrets": { "client_secret": SECRET } })).await;
    let secret = json!({ "client_secret": SECRET });
    world.issuer.settle([client("keyward", &redirect, "client_secret_basic", secret)], json!({}));
    for row in 0..rows {
        let token = world.issued("keyward")["refresh_token"].clone();
        let fields = json!({ "refresh_token": token });
        world.connection(&format!("c{row}"), &json!({ "fields": fields })).await;
    }
    world
}

fn relay(world: &World) -> &Relay {
    world.relay.as_ref().expect("it has one")
}

/// A refresh that somebody asks for while this goes wrong.
async fn fails(world: &World, name: &str, fault: &Fault, label: &str) {
    relay(world).fail_next(fault);
    let path = format!("/connections/{name}/refresh");
    let before = relay(world).calls().len();
    let failed = world.try_api("POST", &path, &json!({})).await;
    assert!(failed.head.status() >= 400, "{label}: {}", failed.text());
    assert_eq!(relay(world).calls().len(), before + 1, "{label}: asked once");
}

/// Asks for a refresh until it is answered otherwise than with a pause; that answer.
async fn asked_after_the_pause(world: &World, name: &str) -> Message {
    let path = format!("/connections/{name}/refresh");
    let before = relay(world).calls().len();
    until_some("the end of a pause", async || {
        let answer = world.try_api("POST", &path, &json!({})).await;
        (relay(world).calls().len() > before).then_some(answer)
    })
    .await
}

/// What passes by itself, none of which the server ever sees.
fn passing() -> Vec<(&'static str, Fault)> {
    let elsewhere = format!("https://{STRANGER}/token");
    let huge = json!({ "access_token": "at-made-up", "padding": "x".repeat(300 * 1024) });
    let bomb = json!({ "access_token": "at-made-up", "padding": "x".repeat(64 * 1024 * 1024) });
    let cut = r#"{"access_token":"at-made-up","expires_in":3600,"refresh_tok"#;
    vec![
        ("500", Fault::status(500, "", "oops")),
        ("502 in HTML", Fault::bad_gateway()),
        ("503", Fault::status(503, "", "")),
        ("silence", Fault::HangsBefore),
        ("reset", Fault::ResetBefore),
        ("too much", Fault::json(200, &huge)),
        ("gzip", Fault::gzipped(&bomb)),
        ("redirect", Fault::redirect(&elsewhere)),
        ("half a document", Fault::status(200, "", cut)),
    ]
}

/// oauth 9.3, 8.10: and the rotation goes on, with no refresh token used twice.
#[tokio::test]
async fn temporary_faults_before_oidc_provider_break_no_connection_and_lose_no_token() {
    let rows = passing();
    let world = world(rows.len()).await;
    for (row, (label, fault)) in rows.iter().enumerate() {
        let name = format!("c{row}");
        relay(&world).fail_next(fault);
        let refused = world.request(&name).await;
        assert_eq!(refused.refusal(), (503, Some("refresh_unavailable")), "{label}");
        assert!(refused.head.has("retry-after"), "{label}");
        assert!(!refused.text().contains("<h1>"), "{label}: {}", refused.text());
        until(label, async || world.request(&name).await.head.status() == 200).await;
        // There is a token now: it is used while the next one cannot be had.
        let (old, _) = world.works(&name).await;
        fails(&world, &name, fault, label).await;
        assert_eq!(world.shown(&name).await["token"]["failing"]["count"], 1, "{label}");
        assert_eq!(world.works(&name).await.0, old, "{label}");
        let healed = asked_after_the_pause(&world, &name).await;
        assert_eq!(healed.head.status(), 200, "{label}: {}", healed.text());
        assert_ne!(world.works(&name).await.0, old, "{label}");
        let shown = world.shown(&name).await;
        assert_eq!((&shown["state"], &shown["token"]["failing"]), (&json!("active"), &Value::Null));
    }
    // By refresh token: how often it was sent, and how often the server saw it.
    let mut uses: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for call in relay(&world).calls() {
        let (sent, seen) = uses.entry(call.form["refresh_token"].clone()).or_default();
        (*sent, *seen) = (*sent + 1, *seen + usize::from(call.reply.is_some()));
    }
    assert_eq!(uses.len(), 2 * rows.len());
    assert!(uses.values().all(|counted| *counted == (2, 1)), "{:?}", uses.values());
    assert_eq!(world.issuer.log("rotated").len(), 2 * rows.len());
    assert_eq!(world.issuer.log("refused"), Vec::<Value>::new());
    world.finish().await;
}

/// What loses the answer after the server has rotated.
fn losing() -> Vec<(&'static str, Fault)> {
    vec![
        ("reset", Fault::ResetAfter),
        ("silence", Fault::HangsAfter),
        ("the stream ends", Fault::ClosesAfter),
        ("half an answer", Fault::Truncates),
        ("a byte at a time", Fault::Drips(Duration::from_millis(50))),
        ("too much", Fault::huge(300 * 1024)),
        ("gzip", Fault::gzip_bomb(64 * 1024 * 1024)),
    ]
}

/// oauth 8.10, 2.reconnect: the server takes the second use for a theft.
#[tokio::test]
async fn a_lost_token_answer_of_oidc_provider_ends_the_grant_until_a_reconnect() {
    let rows = losing();
    let world = world(rows.len()).await;
    for (row, (label, fault)) in rows.iter().enumerate() {
        let name = format!("c{row}");
        let (old, _) = world.works(&name).await;
        fails(&world, &name, fault, label).await;
        assert_eq!(world.works(&name).await.0, old, "{label}: the old one is still good");
        let answer = asked_after_the_pause(&world, &name).await;
        assert!(answer.head.status() >= 400, "{label}: {}", answer.text());
        let calls = relay(&world).calls();
        let last: Vec<_> = calls.iter().rev().take(2).map(|it| &it.form["refresh_token"]).collect();
        assert_eq!(last[0], last[1], "{label}: the same one again");
        let refused = world.issuer.log("refused");
        assert_eq!(refused.len(), row + 1, "{label}");
        let detail = refused[row]["detail"].as_str().expect("words");
        assert!(detail.contains("refresh token already used"), "{label}: {detail}");
        for _ in 0..2 {
            world.is_broken(&name, "answer_lost", "invalid_grant").await;
        }
        assert_eq!(relay(&world).calls().len(), calls.len(), "{label}: nobody asks any more");
        assert_eq!(world.issuer.about(&old).await["active"], false, "{label}: nor is it of use");
        let before = world.shown(&name).await["id"].clone();
        let path = format!("/connections/{name}/reconnect");
        let begun = world.api("POST", &path, &json!({})).await;
        world.consented(&begun).await;
        world.works(&name).await;
        world.refreshes(&name).await;
        world.works(&name).await;
        assert_eq!(world.shown(&name).await["id"], before, "{label}");
    }
    assert_eq!(world.issuer.log("revoked").len(), rows.len());
    world.finish().await;
}

/// oauth 10.3, 10.2: in both notations; nobody asks before, and the next one after it is answered.
#[tokio::test]
async fn a_retry_after_before_oidc_provider_is_respected() {
    let world = world(1).await;
    let rfc9110 = jiff::fmt::rfc2822::DateTimePrinter::new();
    for (round, dated) in [false, true].into_iter().enumerate() {
        let at = Timestamp::now() + Duration::from_secs(3);
        let date = rfc9110.timestamp_to_rfc9110_string(&at).expect("a date");
        let fault = Fault::too_many(if dated { &date } else { "1" });
        let began = Instant::now();
        if dated {
            fails(&world, "c0", &fault, &date).await;
        } else {
            relay(&world).fail_next(&fault);
            let refused = world.request("c0").await;
            assert_eq!(refused.head.one("keyward-error"), Some("refresh_unavailable"));
            assert_eq!(refused.head.one("retry-after"), Some("1"));
        }
        asked_after_the_pause(&world, "c0").await.is(200);
        let least = if dated { 1900 } else { 900 };
        assert!(began.elapsed() > Duration::from_millis(least), "{:?}", began.elapsed());
        assert_eq!(relay(&world).calls().len(), 2 * (round + 1), "nobody asked meanwhile");
    }
    assert_eq!(world.issuer.log("rotated").len(), 2);
    assert_eq!(world.issuer.log("refused"), Vec::<Value>::new());
    world.finish().await;
}
