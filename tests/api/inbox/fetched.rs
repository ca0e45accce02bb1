//! Services whose keys are fetched: a certificate of AWS SNS, and a key of Plaid by the credential of the hook's connection.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, SigningKey};
use rustls::ServerConfig;

use super::*;
use test_support::pki::pki;

const SNS: &str = "sns.eu-west-1.amazonaws.com";
const PAYPAL: &str = "api.paypal.com";
const PLAID: &str = "production.plaid.com";
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:orders";
const KEY_ID: &str = "6c5516e1-92dc-479e-a8ff-5a51992e0001";

/// A server of these names that answers each path, and 404 elsewhere.
pub(super) fn service(names: &[&str], path: &'static str, body: String) -> Origin {
    proving(pki().server(names), path, body)
}

/// The same with this certificate.
fn proving(tls: Arc<ServerConfig>, path: &'static str, body: String) -> Origin {
    Origin::serving(Some(tls), move |request| match request.head.target().split('?').next() {
        Some(asked) if asked == path => ok(&body),
        Some("/") => ok("<ConfirmSubscriptionResponse/>"),
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
    })
}

pub(super) fn reached(plan: Plan, name: &str, origin: &Origin) -> Plan {
    plan.resolve(&format!("{name}: \"{}\"", origin.addr)).allow(&origin.addr.to_string())
}

/// A message of SNS.
fn message(kind: &str, key: &KeyPair, at: Timestamp) -> Value {
    let mut message = json!({
        "Type": kind, "MessageId": "m-1", "TopicArn": TOPIC, "Message": "paid 100", "Timestamp": at.to_string(),
        "SignatureVersion": "2", "SigningCertURL": format!("https://{SNS}/SimpleNotificationService-1.pem"),
    });
    let mut names = vec!["Message", "MessageId", "Timestamp", "TopicArn", "Type"];
    if kind != "Notification" {
        message["Token"] = json!("t");
        message["SubscribeURL"] =
            json!(format!("https://{SNS}/?Action=ConfirmSubscription&Token=t"));
        names =
            vec!["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];
    }
    let text = |name: &&str| format!("{name}\n{}\n", message[*name].as_str().expect("text"));
    let signed: String = names.iter().map(text).collect();
    let signature = key.sign(signed.as_bytes()).expect("a signature");
    message["Signature"] = json!(BASE64_STANDARD.encode(signature));
    message
}

pub(super) async fn posted(lab: &Lab, fields: &str, body: &str) -> Message {
    send(lab, "/hooks/q", fields, body).await
}

async fn refused(lab: &Lab, body: &Value) -> (u16, Value) {
    let answer = posted(lab, "", &body.to_string()).await;
    let hook = api(lab, "GET", "/hooks/q", Value::Null, 200).await;
    (answer.head.status(), hook["refused"]["code"].clone())
}

#[tokio::test]
async fn messages_of_sns_are_accepted_by_the_certificate_at_its_host_and_its_subscription_is_confirmed()
 {
    let (key, other) = (
        KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key"),
        KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key"),
    );
    let names = vec!["sns.amazonaws.com".to_owned()];
    let certificate = CertificateParams::new(names).expect("names").self_signed(&key);
    let pem = certificate.expect("a certificate").pem();
    let sns = service(&[SNS], "/SimpleNotificationService-1.pem", pem);
    let plan = reached(Plan::api_key().no_agents(), SNS, &sns);
    let lab = plan.start(Origin::saying("fine")).await;
    let hook = json!({"name": "q", "scheme": "aws-sns", "secret": TOPIC});
    api(&lab, "POST", "/hooks", hook, 201).await;
    let now = Timestamp::now();
    let mut elsewhere = message("Notification", &key, now);
    elsewhere["SigningCertURL"] = json!("https://attacker.example/SimpleNotificationService-1.pem");
    assert_eq!(refused(&lab, &elsewhere).await, (401, json!("key_elsewhere")));
    let mut missing = message("Notification", &key, now);
    missing["SigningCertURL"] = json!(format!("https://{SNS}/SimpleNotificationService-2.pem"));
    assert_eq!(refused(&lab, &missing).await, (503, json!("key_unavailable")));
    assert_eq!(sns.received().len(), 1, "nothing is fetched from elsewhere");
    // The certificate that it has fetched is kept for the messages that follow.
    let forged = message("Notification", &other, now);
    assert_eq!(refused(&lab, &forged).await, (401, json!("signature_wrong")));
    let confirmation = message("SubscriptionConfirmation", &key, now).to_string();
    assert_eq!(posted(&lab, "", &confirmation).await.head.status(), 200);
    let confirmed = sns.received().pop().expect("a request");
    assert_eq!(confirmed.head.target(), "/?Action=ConfirmSubscription&Token=t");
    let good = message("Notification", &key, now);
    let first = posted(&lab, "", &good.to_string()).await;
    assert_eq!(first.json()["repeated"], false, "{}", first.text());
    assert_eq!(posted(&lab, "", &good.to_string()).await.json()["repeated"], true);
    let mut altered = good.clone();
    altered["Message"] = json!("paid 900");
    let mut of_other = good.clone();
    of_other["TopicArn"] = json!(TOPIC.replace("orders", "others"));
    let late = now - jiff::SignedDuration::from_hours(2);
    for (body, code) in [
        (altered, "signature_wrong"),
        (of_other, "other_receiver"),
        (forged, "signature_wrong"),
        (message("Notification", &key, late), "too_old"),
    ] {
        assert_eq!(refused(&lab, &body).await, (401, json!(code)), "{body}");
    }
    let fetched = sns.received();
    let fetched = fetched.iter().filter(|it| it.head.target().ends_with("-1.pem"));
    assert_eq!(fetched.count(), 1, "the certificate is kept");
    assert_eq!(api(&lab, "GET", "/hooks/q", Value::Null, 200).await["waiting"], 1);
    let records = lab.finish_with_changes().await;
    let refused = records.iter().filter(|it| it["change"]["action"] == "request refused");
    assert_eq!(refused.count(), 7);
}

/// The certificate that signs messages comes without its issuer. What makes it that of SNS is TLS to the host of SNS: its
/// chain, its name and its time.
#[tokio::test]
async fn no_certificate_of_sns_is_fetched_from_a_host_with_an_invalid_tls_certificate() {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    let names = vec!["sns.amazonaws.com".to_owned()];
    let certificate = CertificateParams::new(names).expect("names").self_signed(&key);
    let pem = certificate.expect("a certificate").pem();
    for (tls, is_trusted) in [
        (pki().server(&[SNS]), false),
        (pki().server(&["sns.us-east-1.amazonaws.com"]), true),
        (pki().expired(SNS), true),
    ] {
        let sns = proving(tls, "/SimpleNotificationService-1.pem", pem.clone());
        let plan = reached(Plan::api_key().no_agents(), SNS, &sns);
        let plan = if is_trusted { plan } else { plan.untrusted() };
        let lab = plan.start(Origin::saying("fine")).await;
        let hook = json!({"name": "q", "scheme": "aws-sns", "secret": TOPIC});
        api(&lab, "POST", "/hooks", hook, 201).await;
        let good = message("Notification", &key, Timestamp::now());
        assert_eq!(refused(&lab, &good).await, (503, json!("key_unavailable")));
        assert!(sns.received().is_empty(), "not even the request");
        assert_eq!(api(&lab, "GET", "/hooks/q", Value::Null, 200).await["waiting"], 0);
        lab.finish_with_changes().await;
    }
}

/// Each forged webhook names another certificate of PayPal, which is not there.
#[tokio::test]
async fn forged_webhooks_of_paypal_leave_the_certificate_of_sns_to_be_fetched() {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    let names = vec!["sns.amazonaws.com".to_owned()];
    let certificate = CertificateParams::new(names).expect("names").self_signed(&key);
    let pem = certificate.expect("a certificate").pem();
    let sns = service(&[SNS], "/SimpleNotificationService-1.pem", pem);
    let paypal = service(&[PAYPAL], "/none", String::new());
    let plan = reached(Plan::api_key().no_agents(), SNS, &sns);
    let lab = reached(plan, PAYPAL, &paypal).start(Origin::saying("fine")).await;
    let hook = json!({"name": "q", "scheme": "aws-sns", "secret": TOPIC});
    api(&lab, "POST", "/hooks", hook, 201).await;
    let hook = json!({"name": "shop", "scheme": "paypal", "secret": "1JE4291016473214C"});
    api(&lab, "POST", "/hooks", hook, 201).await;
    for number in 0..60 {
        let place = format!("https://{PAYPAL}/v1/notifications/certs/CERT-{number}");
        let fields = format!("paypal-transmission-sig: AAAA\r\npaypal-cert-url: {place}\r\n");
        assert_eq!(send(&lab, "/hooks/shop", &fields, "{}").await.head.status(), 503);
    }
    let fetched = paypal.received().len();
    // One minute may end meanwhile.
    assert!((10..=20).contains(&fetched), "{fetched}");
    let good = message("Notification", &key, Timestamp::now());
    assert_eq!(posted(&lab, "", &good.to_string()).await.head.status(), 200);
    assert_eq!(api(&lab, "GET", "/hooks/q", Value::Null, 200).await["waiting"], 1);
    lab.finish_with_changes().await;
}

#[tokio::test]
async fn webhooks_of_plaid_are_verified_by_a_key_that_the_connection_fetches() {
    let random = SystemRandom::new();
    let pair = || {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expect("a key").as_ref())
            .expect("a key")
    };
    let (key, other) = (pair(), pair());
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let url = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let answer = json!({ "key": { "alg": "ES256", "crv": "P-256", "kty": "EC", "use": "sig", "kid": KEY_ID,
        "x": url(x), "y": url(y), "created_at": 1, "expired_at": null }, "request_id": "r" });
    let path = "/webhook_verification_key/get";
    let plaid = service(&[PLAID], path, answer.to_string());
    let plan = reached(Plan::api_key().no_agents(), PLAID, &plaid);
    let mut lab = plan.start(Origin::saying("fine")).await;
    let secret = Canary::new("plaid");
    lab.guard(secret.clone());
    let fields = json!({"client_id": "the-client", "secret": secret.text});
    let bank = json!({"provider": "plaid", "name": "bank", "fields": fields});
    api(&lab, "POST", "/connections", bank, 201).await;
    api(&lab, "POST", "/hooks", json!({"name": "q", "connection": "bank"}), 201).await;
    let now = Timestamp::now().as_second();
    let body = r#"{"webhook_type": "ITEM", "item_id": "100"}"#;
    let token = |key: &EcdsaKeyPair, at: i64| {
        let hash = digest(&SHA256, body.as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let header = json!({"alg": "ES256", "kid": KEY_ID, "typ": "JWT"}).to_string();
        let claims = json!({"iat": at, "request_body_sha256": hash}).to_string();
        let signed = format!("{}.{}", url(header.as_bytes()), url(claims.as_bytes()));
        let signature = key.sign(&random, signed.as_bytes()).expect("a signature");
        format!("Plaid-Verification: {signed}.{}\r\n", url(signature.as_ref()))
    };
    let good = token(&key, now);
    let first = posted(&lab, &good, body).await;
    assert_eq!(first.json()["repeated"], false, "{}", first.text());
    assert_eq!(posted(&lab, &good, body).await.json()["repeated"], true);
    let asked = plaid.only();
    assert_eq!((asked.head.method(), asked.head.target()), ("POST", path));
    assert_eq!(asked.head.one("plaid-client-id"), Some("the-client"));
    assert_eq!(asked.head.one("plaid-secret"), Some(&*secret.text));
    assert_eq!(asked.json(), json!({ "key_id": KEY_ID }));
    for (fields, body, code) in [
        (good.clone(), body.replace("100", "900"), "signature_wrong"),
        (token(&other, now), body.to_owned(), "signature_wrong"),
        (token(&key, now - 400), body.to_owned(), "too_old"),
        (String::new(), body.to_owned(), "signature_missing"),
    ] {
        assert_eq!(posted(&lab, &fields, &body).await.head.status(), 401, "{code}");
        let hook = api(&lab, "GET", "/hooks/q", Value::Null, 200).await;
        assert_eq!(hook["refused"]["code"], code);
    }
    assert_eq!(plaid.received().len(), 1, "the key is kept");
    let events = api(&lab, "GET", "/hooks/q/events", Value::Null, 200).await;
    assert!(!events.to_string().to_lowercase().contains("plaid-verification"), "{events}");
    let records = lab.finish_with_changes().await;
    assert!(records.iter().any(|it| it["connection"] == "bank" && it["outcome"] == "completed"));
}
