//! Signatures in the body, and signatures that do not cover exactly the body.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::*;

const KEY: &str = "key-0123456789abcdef";

fn mailgun(at: i64, token: &str) -> Value {
    let signature = hex(sha256(KEY.as_bytes(), format!("{at}{token}")));
    json!({
        "signature": { "timestamp": at.to_string(), "token": token, "signature": signature },
        "event-data": { "event": "delivered" },
    })
}

fn sent(body: &Value) -> Sent {
    Sent::post(body.to_string())
}

#[test]
fn mailguns_token_is_verified_and_identifies_the_event() {
    let body = mailgun(NOW, "a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0");
    let verified = sent(&body).verify("mailgun", &[KEY]).expect("verified");
    assert_eq!(verified.id, "a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0");
    assert_eq!(verified.sent, Some(Timestamp::from_second(NOW).unwrap()));
    assert!(!scheme("mailgun").signs_body());
    for (pointer, to, why) in [
        ("/signature/token", json!("another"), Rejection::SignatureWrong),
        ("/signature/token", json!(null), Rejection::HeaderMissing),
        ("/signature/timestamp", json!((NOW + 1).to_string()), Rejection::SignatureWrong),
        ("/signature/timestamp", json!("soon"), Rejection::TimeMalformed),
        ("/signature/timestamp", json!([NOW]), Rejection::TimeMalformed),
        ("/signature/signature", json!("00"), Rejection::SignatureWrong),
        ("/signature/signature", json!(""), Rejection::SignatureMalformed),
        ("/signature/signature", json!({}), Rejection::SignatureMissing),
        ("/signature", json!(null), Rejection::SignatureMissing),
    ] {
        let mut altered = body.clone();
        *altered.pointer_mut(pointer).expect("it is there") = to.clone();
        assert_eq!(sent(&altered).verify("mailgun", &[KEY]), Err(why), "{pointer}: {to}");
    }
    assert_eq!(sent(&body).verify("mailgun", &["other"]), Err(Rejection::SignatureWrong));
    assert_eq!(Sent::post("no JSON").verify("mailgun", &[KEY]), Err(Rejection::SignatureMissing));
    let day = 24 * 3600;
    assert_eq!(sent(&mailgun(NOW - day, "t")).verify("mailgun", &[KEY]), Err(Rejection::TooOld));
    assert_eq!(
        sent(&mailgun(NOW + day, "t")).verify("mailgun", &[KEY]),
        Err(Rejection::FromTheFuture)
    );
}

#[test]
fn every_notification_of_microsoft_graph_needs_the_client_state() {
    let good = json!({ "clientState": "state-1", "resource": "a" });
    let body = |items: &[&Value]| sent(&json!({ "value": items }));
    let one = body(&[&good]).verify("msgraph", &["state-1"]).expect("verified");
    assert!(body(&[&good, &good]).verify("msgraph", &["state-1"]).is_ok());
    let (bad, none) = (json!({ "clientState": "state-2" }), json!({ "resource": "a" }));
    for (items, why) in [
        (&[&good, &bad][..], Rejection::SignatureWrong),
        (&[&bad], Rejection::SignatureWrong),
        (&[&good, &none], Rejection::SignatureMissing),
        (&[], Rejection::BodyStrange),
    ] {
        assert_eq!(body(items).verify("msgraph", &["state-1"]), Err(why), "{items:?}");
    }
    let many = vec![&good; 1001];
    assert_eq!(body(&many).verify("msgraph", &["state-1"]), Err(Rejection::BodyStrange));
    assert_eq!(sent(&json!({})).verify("msgraph", &["state-1"]), Err(Rejection::SignatureMissing));
    // Two changes of one resource have the same bytes.
    let later = body(&[&good]).verify_at("msgraph", &["state-1"], NOW + 1).expect("verified");
    assert_ne!(one.id, later.id);
    assert!(scheme("msgraph").replay_window().is_zero());
}

/// The body of ClickUp is that of its documentation.
#[test]
fn two_changes_with_the_same_body_are_two_events_of_clickup_and_attio() {
    let folder = json!({
        "event": "folderUpdated", "folder_id": "96772212",
        "webhook_id": "7fa3ec74-69a8-4530-a251-8a13730bd204",
    });
    let record = json!({
        "webhook_id": "23e42eaf-323a-41da-b5bb-fd67eebda553",
        "events": [{
            "event_type": "record.updated",
            "id": { "workspace_id": "14beef7a", "object_id": "97052eb9", "record_id": "bf071e1f" },
            "actor": { "type": "workspace-member", "id": "50cf242c" },
        }],
    });
    for (id, header, body) in
        [("clickup", "X-Signature", folder), ("attio", "Attio-Signature", record)]
    {
        let body = body.to_string();
        let sent = Sent::post(body.clone()).with(header, &hex(sha256(KEY.as_bytes(), body)));
        let first = sent.verify(id, &[KEY]).expect("verified");
        let later = sent.verify_at(id, &[KEY], NOW + 1).expect("verified");
        assert_ne!(first.id, later.id, "{id}");
        assert!(scheme(id).replay_window().is_zero(), "{id}");
    }
}

fn adyen_item(key: &[u8], value: u32) -> Value {
    let signed = format!("psp-1::Merchant:order-1:{value}:EUR:AUTHORISATION:true");
    json!({ "NotificationRequestItem": {
        "pspReference": "psp-1", "merchantAccountCode": "Merchant", "merchantReference": "order-1",
        "amount": { "value": value, "currency": "EUR" }, "eventCode": "AUTHORISATION", "success": "true",
        "additionalData": { "hmacSignature": base64(sha256(key, signed)) },
    }})
}

#[test]
fn every_item_of_adyen_must_be_signed() {
    let (key, other) = ([7; 32], [8; 32]);
    let secret = hex(key);
    let body = |items: &[Value]| sent(&json!({ "live": "true", "notificationItems": items }));
    let verify = |items: &[Value]| body(items).verify("adyen", &[&secret]);
    let first = verify(&[adyen_item(&key, 1)]).expect("verified");
    assert_eq!(verify(&[adyen_item(&key, 1)]).expect("verified").id, first.id);
    assert_ne!(verify(&[adyen_item(&key, 2)]).expect("verified").id, first.id);
    let mixed = [adyen_item(&key, 1), adyen_item(&other, 2)];
    assert_eq!(verify(&mixed), Err(Rejection::SignatureWrong));
    for (name, to) in [("pspReference", "psp-2"), ("success", "false"), ("eventCode", "REFUND")] {
        let mut item = adyen_item(&key, 1);
        item["NotificationRequestItem"][name] = json!(to);
        assert_eq!(verify(&[item]), Err(Rejection::SignatureWrong), "{name}");
    }
    let mut item = adyen_item(&key, 1);
    item["NotificationRequestItem"]["amount"]["value"] = json!(900);
    assert_eq!(verify(&[item]), Err(Rejection::SignatureWrong));
}

fn twilio(url: &str, signed: &str) -> Sent {
    let sent = Sent::post("").with("X-Twilio-Signature", &base64(sha1(KEY.as_bytes(), signed)));
    Sent { url: url.to_owned(), ..sent }
}

fn form(body: &str, signed: &str) -> Result<VerifiedRequest, Rejection> {
    let mut sent = twilio(URL, &format!("{URL}{signed}"));
    sent.body = body.as_bytes().to_vec();
    let kind = "application/x-www-form-urlencoded; charset=utf-8";
    sent.with("Content-Type", kind).verify("twilio", &[KEY])
}

#[test]
fn twilios_forms_are_signed_sorted_and_decoded() {
    for (body, signed) in [
        ("To=%2B1&From=%2B2&Body=a+b%26c", "Bodya b&cFrom+2To+1"),
        ("b=2&a=1", "a1b2"),
        ("a=2&a=1&a=2", "a1a2"),
        ("a=&b=", "ab"),
        ("B=1&a=2", "B1a2"),
        ("a=%C3%BC", "aü"),
        ("", ""),
    ] {
        assert!(form(body, signed).is_ok(), "{body}");
    }
    for (body, signed) in [("b=2&a=1", "b2a1"), ("a=1", "a2"), ("a=1&b=2", "a1"), ("a=1", "")] {
        assert_eq!(form(body, signed), Err(Rejection::SignatureWrong), "{body}");
    }
    // Both would be decoded to the same character.
    assert_eq!(form("a=%FF", "a\u{fffd}"), Err(Rejection::BodyStrange));
}

#[test]
fn twilio_bodies_that_are_no_forms_are_signed_by_their_hash_in_the_url() {
    let body = r#"{"a":1}"#;
    let hash = hex(digest(&SHA256, body.as_bytes()));
    let url = format!("{URL}&bodySHA256={hash}");
    let with = |body: &str, kind: &str| {
        let sent = Sent { body: body.into(), ..twilio(&url, &url) };
        sent.with("Content-Type", kind).verify("twilio", &[KEY])
    };
    assert!(with(body, "application/json").is_ok());
    for (body, kind) in [
        (r#"{"a":2}"#, "application/json"),
        ("", "application/json"),
        ("a=1", "application/x-www-form-urlencoded"),
    ] {
        assert_eq!(with(body, kind), Err(Rejection::SignatureWrong), "{body}");
    }
    // The signature of a request without a body says nothing of one that has one.
    let added = Sent { body: body.into(), ..twilio(URL, URL) };
    assert!(twilio(URL, URL).verify("twilio", &[KEY]).is_ok());
    assert_eq!(added.clone().verify("twilio", &[KEY]), Err(Rejection::BodyStrange));
    let added = added.with("Content-Type", "application/json");
    assert_eq!(added.verify("twilio", &[KEY]), Err(Rejection::BodyStrange));
}

#[test]
fn twilios_url_may_have_the_default_port() {
    let with_port = URL.replace("example/", "example:443/");
    assert!(twilio(URL, &with_port).verify("twilio", &[KEY]).is_ok());
    assert!(twilio(&with_port, URL).verify("twilio", &[KEY]).is_ok());
    let other = URL.replace("example/", "example:8443/");
    for (url, signed) in
        [(URL, other.as_str()), (other.as_str(), URL), (URL, "https://hooks.example/in/b?b=1")]
    {
        assert_eq!(twilio(url, signed).verify("twilio", &[KEY]), Err(Rejection::SignatureWrong));
    }
}

#[test]
fn hubspot_signs_the_method_and_the_decoded_url() {
    let at = (NOW * 1000).to_string();
    let decoded = "https://hooks.example/in?to=https://b.example/x%20y";
    let mut sent = Sent::post("{}").with("X-HubSpot-Request-Timestamp", &at).with(
        "X-HubSpot-Signature-v3",
        &base64(sha256(KEY.as_bytes(), format!("POST{decoded}{{}}{at}"))),
    );
    sent.url = "https://hooks.example/in?to=https%3A%2F%2Fb.example%2Fx%20y".to_owned();
    assert!(sent.verify("hubspot-v3", &[KEY]).is_ok());
    sent.method = Method::PUT;
    assert_eq!(sent.verify("hubspot-v3", &[KEY]), Err(Rejection::SignatureWrong));
    sent.method = Method::POST;
    sent.url.push('z');
    assert_eq!(sent.verify("hubspot-v3", &[KEY]), Err(Rejection::SignatureWrong));
}

#[test]
fn google_messages_and_telegram_updates_are_identified_by_their_numbers() {
    let sent = |number: &str| {
        let sent = Sent::post("").with("X-Goog-Channel-Token", KEY);
        sent.with("X-Goog-Channel-ID", "channel-1").with("X-Goog-Message-Number", number)
    };
    let id = |number| sent(number).verify("google-channel", &[KEY]).expect("verified").id;
    assert_eq!(id("1"), "channel-1.1");
    assert_eq!(id("2"), "channel-1.2");
    let update = |id: u64| {
        let sent = Sent::post(format!(r#"{{"update_id":{id}}}"#));
        sent.with("X-Telegram-Bot-Api-Secret-Token", KEY).verify("telegram", &[KEY])
    };
    assert_eq!(update(10_000).expect("verified").id, "10000");
}
