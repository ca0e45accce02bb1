//! What must not reach a program.

use super::*;

/// Each is refused with 401, audited with its code, and shown with the hook; the program gets nothing.
#[tokio::test]
async fn a_request_without_the_signature_of_the_service_is_refused_and_audited() {
    let world = World::start(Plan::api_key()).await;
    let body = r#"{"zen":"one"}"#;
    let good = signed(SECRET, body);
    let signature = |value: &str| format!("X-Hub-Signature-256: sha256={value}\r\n");
    for (fields, body, code) in [
        (String::new(), body, "signature_missing"),
        (signature(&signed("another secret", body)), body, "signature_wrong"),
        (signature(&good), r#"{"zen":"two"}"#, "signature_wrong"),
        (signature("nonsense"), body, "signature_malformed"),
        (format!("X-Hub-Signature: sha1={good}\r\n"), body, "signature_missing"),
    ] {
        let answer = send(&world.lab, "/hooks/ci", &fields, body).await;
        assert_eq!(answer.head.status(), 401, "{fields}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "hook_refused");
        assert_eq!(world.hook().await["refused"]["code"], code, "{fields}");
    }
    assert_eq!(world.hook().await["waiting"], 0);
    assert_eq!(world.program.origin.received().len(), 0);
    let metrics = world.lab.gateway.metrics().await;
    for line in [
        "keyward_hook_requests_total{outcome=\"refused\"} 5",
        "keyward_hook_requests_total{outcome=\"stored\"} 0",
        "keyward_hook_refusals_total{code=\"signature_wrong\"} 2",
        "keyward_hook_refusals_total{code=\"signature_missing\"} 2",
        "keyward_hook_refusals_total{code=\"key_unavailable\"} 0",
        "keyward_hook_events_waiting 0",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
    }
    let records = world.lab.finish_with_changes().await;
    let refused = records.iter().filter(|it| it["change"]["action"] == "request refused");
    let codes: Vec<_> = refused.map(|it| it["code"].as_str().expect("a code")).collect();
    assert_eq!(codes.len(), 5, "{codes:?}");
    assert!(codes.contains(&"signature_wrong") && codes.contains(&"signature_missing"));
}

#[tokio::test]
async fn an_unknown_path_or_a_large_body_is_refused_before_the_signature_check() {
    let world = World::start(Plan::api_key()).await;
    let id = world.hook().await["id"].as_str().expect("an id").to_owned();
    for (path, status) in [
        ("/hooks/other".to_owned(), 404),
        (format!("/hooks/{id}"), 404),
        ("/hooks/acme/ci".to_owned(), 404),
        ("/hooks/ci/events".to_owned(), 404),
    ] {
        let answer = send(&world.lab, &path, "", "{}").await;
        assert_eq!(answer.head.status(), status, "{path}: {}", answer.text());
        assert!(answer.text().contains("/hooks/ORG/NAME"), "{path}: {}", answer.text());
    }
    let long = "x".repeat(4097);
    api(&world.lab, "PATCH", "/hooks/ci", json!({"body_max": 4096}), 200).await;
    assert_eq!(send(&world.lab, "/hooks/ci", "", &long).await.head.status(), 413);
    assert_eq!(world.hook().await["refused"], Value::Null);
    assert_eq!(send(&world.lab, "/hooks/ci", "", &long[1..]).await.head.status(), 401);
    world.lab.finish().await;
}

/// One body arrives slowly, and has nearly all the memory that an address can have.
#[tokio::test]
async fn unproved_bodies_have_one_budget_and_displace_nothing_that_is_proved() {
    const MIB: usize = 1024 * 1024;
    let total = format!("unproved_body_bytes_total: {}", 26 * MIB);
    let world = World::start(Plan::api_key().limit(&total)).await;
    let admin = world.lab.gateway.admin;
    let slow = async |bytes: usize| {
        let mut wire = Wire::to(admin).await;
        let head = format!("POST /hooks/ci HTTP/1.1\r\nHost: {admin}\r\nContent-Length: {bytes}");
        wire.send(format!("{head}\r\n\r\n{}", "x".repeat(bytes - 1))).await;
        wire
    };
    let mut first = slow(24 * MIB).await;
    let refused = until_some("the memory is used up", async || {
        let body = "y".repeat(2 * MIB);
        let answer = send(&world.lab, "/hooks/ci", "", &body).await;
        (answer.head.status() == 429).then_some(answer)
    })
    .await;
    assert_eq!(refused.json()["error"]["code"], "rate_limited", "{}", refused.text());
    assert!(refused.head.one("retry-after").is_some(), "{:?}", refused.head);
    assert_eq!(world.hook().await["waiting"], 0, "the API is as before");
    // A small event fits.
    world.push(r#"{"n":1}"#).await.is(200);
    first.send("x").await;
    first.answer("POST").await.is(401);
    let body = format!("\"{}\"", "z".repeat(8 * MIB));
    world.push(&body).await.is(200);
    world.lab.finish().await;
}

/// A flood at one hook hides no refusal at another.
#[tokio::test]
async fn each_hook_has_its_own_records_of_refused_requests() {
    let world = World::start(Plan::api_key()).await;
    let other = json!({"name": "other", "scheme": "github", "secret": SECRET});
    api(&world.lab, "POST", "/hooks", other, 201).await;
    for _ in 0..70 {
        send(&world.lab, "/hooks/ci", "", "{}").await.is(401);
    }
    send(&world.lab, "/hooks/other", "", "{}").await.is(401);
    let records = world.lab.finish_with_changes().await;
    let of = |name: &str| -> Vec<&Value> {
        let is_of = |it: &&Value| {
            it["change"]["action"] == "request refused" && it["change"]["name"] == name
        };
        records.iter().filter(is_of).collect()
    };
    assert_eq!(of("other").len(), 1);
    let counted: u64 = of("ci").iter().filter_map(|record| record["count"].as_u64()).sum();
    let own = of("ci").iter().filter(|record| record["count"].is_null()).count();
    assert_eq!(own as u64 + counted, 70, "{records:?}");
    for record in of("ci").iter().filter(|record| record["count"].is_u64()) {
        assert_eq!(record["code"], "signature_missing");
        let why = record["change"]["why"].as_str().expect("how many");
        assert!(why.starts_with(&format!("{} more until 2", record["count"])), "{why}");
    }
}

#[tokio::test]
async fn a_repeated_request_is_answered_and_delivered_once_also_after_a_restart() {
    // As GitHub signs, by a service that repeats requests by itself.
    let mut world = World::of(Plan::api_key(), "meta").await;
    let first = world.push(r#"{"n":1}"#).await;
    assert_eq!((first.head.status(), &first.json()["repeated"]), (200, &json!(false)));
    world.program.message(&world.key).await;
    world.standing("it is delivered", |hook| hook["waiting"] == 0).await;
    let again = world.push(r#"{"n":1}"#).await;
    assert_eq!((again.head.status(), &again.json()["repeated"]), (200, &json!(true)));
    world.lab.gateway.restart().await;
    assert_eq!(world.push(r#"{"n":1}"#).await.json()["repeated"], true);
    world.push(r#"{"n":2}"#).await;
    let next = world.program.message(&world.key).await;
    assert_eq!(next.text(), r#"{"n":2}"#);
    let records = world.lab.finish_with_changes().await;
    let repeated = records.iter().filter(|it| it["change"]["action"] == "request repeated");
    let repeated: Vec<_> = repeated.collect();
    assert_eq!(repeated.len(), 2, "{records:?}");
    for record in repeated {
        assert_eq!((&record["outcome"], &record["code"]), (&json!("refused"), &json!("repeated")));
        assert_eq!(record["change"]["name"], "ci");
    }
}

/// Stripe signs `TIME.BODY` within five minutes.
#[tokio::test]
async fn a_late_request_and_parts_in_another_order_are_refused_and_audited() {
    let lab = queue::queue("stripe", SECRET).await;
    let (body, now) = (r#"{"id":"evt_1"}"#, jiff::Timestamp::now().as_second());
    let hour_ago = now - 3_600;
    let fields = |time: i64, text: String| {
        format!("Stripe-Signature: t={time},v1={}\r\n", signed(SECRET, &text))
    };
    for (fields, code) in [
        (fields(hour_ago, format!("{hour_ago}.{body}")), "too_old"),
        (fields(now, format!("{hour_ago}.{body}")), "signature_wrong"),
        (fields(now, format!("{body}.{now}")), "signature_wrong"),
        (fields(now, body.to_owned()), "signature_wrong"),
    ] {
        let answer = send(&lab, "/hooks/q", &fields, body).await;
        assert_eq!(answer.head.status(), 401, "{fields}: {}", answer.text());
        let hook = api(&lab, "GET", "/hooks/q", Value::Null, 200).await;
        assert_eq!((&hook["refused"]["code"], &hook["waiting"]), (&json!(code), &json!(0)));
    }
    send(&lab, "/hooks/q", &fields(now, format!("{now}.{body}")), body).await.is(200);
    let records = lab.finish_with_changes().await;
    let refused = records.iter().filter(|it| it["change"]["action"] == "request refused");
    let codes: Vec<_> = refused.filter_map(|it| it["code"].as_str()).collect();
    assert_eq!(codes, ["too_old", "signature_wrong", "signature_wrong", "signature_wrong"]);
}

#[tokio::test]
async fn a_hook_with_an_invalid_scheme_secret_or_target_is_not_created() {
    let lab = Plan::api_key().no_agents().start(Origin::saying("fine")).await;
    for (hook, field) in [
        (json!({"name": "a", "scheme": "github"}), "secret"),
        (json!({"name": "a", "secret": "x"}), "scheme"),
        (json!({"name": "a", "scheme": "standard-webhooks", "secret": "no base64!"}), "secret"),
        (json!({"name": "a", "scheme": "github", "secret": "x", "to": "ftp://a.test"}), "to"),
        (json!({"name": "a", "connection": "none", "secret": "x"}), ""),
    ] {
        let answer = lab.gateway.api("POST", "/hooks", &hook.to_string()).await;
        let status = if field.is_empty() { 404 } else { 422 };
        assert_eq!(answer.head.status(), status, "{hook}: {}", answer.text());
        if !field.is_empty() {
            assert_eq!(answer.json()["error"]["field"], field, "{}", answer.text());
        }
    }
    let all = api(&lab, "GET", "/hooks", Value::Null, 200).await;
    assert_eq!(all["items"], json!([]), "nothing is left of them");
    lab.finish().await;
}
