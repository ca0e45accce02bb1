//! Services whose keys are public: the keys of Google for Pub/Sub, and a certificate of PayPal.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, PublicKeyData, SigningKey};

use super::fetched::{posted, reached, service};
use super::*;

const GOOGLE: &str = "www.googleapis.com";
const PUSHER: &str = "push@p.iam.gserviceaccount.com";
const PAYPAL: &str = "api.paypal.com";
const WEBHOOK: &str = "1JE4291016473214C";

fn rsa() -> KeyPair {
    KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key")
}

fn url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The code of the last refusal.
async fn refused(lab: &Lab) -> Value {
    api(lab, "GET", "/hooks/q", Value::Null, 200).await["refused"]["code"].clone()
}

/// A key in the form of Google's list: a number of 2048 bits in DER stands behind nine bytes.
fn jwk(key: &KeyPair) -> Value {
    let modulus = &key.der_bytes()[9..265];
    json!({ "kid": "k1", "kty": "RSA", "alg": "RS256", "use": "sig", "n": url(modulus), "e": "AQAB" })
}

/// The field with an OpenID Connect token.
fn bearer(key: &KeyPair, claims: &Value) -> String {
    let header = json!({ "alg": "RS256", "kid": "k1", "typ": "JWT" }).to_string();
    let signed = format!("{}.{}", url(header), url(claims.to_string()));
    let signature = key.sign(signed.as_bytes()).expect("a signature");
    format!("Authorization: Bearer {signed}.{}\r\n", url(signature))
}

#[tokio::test]
async fn pushes_of_pubsub_are_accepted_from_the_account_of_the_hook_and_for_its_url() {
    let (key, other) = (rsa(), rsa());
    let keys = json!({ "keys": [jwk(&key)] }).to_string();
    let google = service(&[GOOGLE], "/oauth2/v3/certs", keys);
    let plan = reached(Plan::api_key().no_agents(), GOOGLE, &google);
    let lab = plan.start(Origin::saying("fine")).await;
    let hook = json!({"name": "q", "scheme": "google-pubsub", "secret": PUSHER});
    let made = api(&lab, "POST", "/hooks", hook, 201).await;
    let audience = made["url"].as_str().expect("its URL");
    let now = Timestamp::now().as_second();
    let claims = |email: &str, aud: &str, at: i64| {
        json!({
            "iss": "https://accounts.google.com", "aud": aud, "email": email,
            "email_verified": true, "iat": at, "exp": at + 3600,
        })
    };
    let body = json!({"message": {"data": "cGFpZA==", "messageId": "m-1"}, "subscription": "s"});
    let body = body.to_string();
    let sound = claims(PUSHER, audience, now);
    for (fields, code) in [
        (String::new(), "signature_missing"),
        (bearer(&other, &sound), "signature_wrong"),
        // Google signs for every customer: another account, and a token for another receiver.
        (bearer(&key, &claims("x@evil.iam.gserviceaccount.com", audience, now)), "other_receiver"),
        (bearer(&key, &claims(PUSHER, "https://elsewhere.example/hooks/q", now)), "other_receiver"),
        (bearer(&key, &claims(PUSHER, audience, now - 7_200)), "too_old"),
    ] {
        let answer = posted(&lab, &fields, &body).await;
        assert_eq!((answer.head.status(), refused(&lab).await), (401, json!(code)));
    }
    assert_eq!(api(&lab, "GET", "/hooks/q", Value::Null, 200).await["waiting"], 0);
    let good = bearer(&key, &sound);
    let first = posted(&lab, &good, &body).await;
    assert_eq!(first.json()["repeated"], false, "{}", first.text());
    assert_eq!(posted(&lab, &good, &body).await.json()["repeated"], true);
    let events = api(&lab, "GET", "/hooks/q/events", Value::Null, 200).await;
    assert!(!events.to_string().to_lowercase().contains("authorization"), "{events}");
    assert_eq!(google.received().len(), 1, "the keys are kept");
    lab.finish_with_changes().await;
}

#[tokio::test]
async fn webhooks_of_paypal_are_accepted_by_the_certificate_at_its_host() {
    let (key, other) = (rsa(), rsa());
    let names = vec!["messageverificationcerts.paypal.com".to_owned()];
    let certificate = CertificateParams::new(names).expect("names").self_signed(&key);
    let pem = certificate.expect("a certificate").pem();
    let path = "/v1/notifications/certs/CERT-1";
    let paypal = service(&[PAYPAL], path, pem);
    let plan = reached(Plan::api_key().no_agents(), PAYPAL, &paypal);
    let lab = plan.start(Origin::saying("fine")).await;
    let hook = json!({"name": "q", "scheme": "paypal", "secret": WEBHOOK});
    api(&lab, "POST", "/hooks", hook, 201).await;
    let body = r#"{"event_type":"PAYMENT.SALE.COMPLETED","amount":"100"}"#;
    let fields = |key: &KeyPair, webhook: &str, host: &str, at: Timestamp| {
        let crc = crc32fast::hash(body.as_bytes());
        let signed = format!("t-1|{at}|{webhook}|{crc}");
        let signature = BASE64_STANDARD.encode(key.sign(signed.as_bytes()).expect("a signature"));
        format!(
            "PAYPAL-TRANSMISSION-ID: t-1\r\nPAYPAL-TRANSMISSION-TIME: {at}\r\nPAYPAL-AUTH-ALGO: SHA256withRSA\r\n\
             PAYPAL-CERT-URL: https://{host}{path}\r\nPAYPAL-TRANSMISSION-SIG: {signature}\r\n"
        )
    };
    let now = Timestamp::now();
    let good = fields(&key, WEBHOOK, PAYPAL, now);
    for (fields, body, code) in [
        (String::new(), body.to_owned(), "signature_missing"),
        (
            fields(&key, WEBHOOK, "api.paypal.com.attacker.example", now),
            body.to_owned(),
            "key_elsewhere",
        ),
        (fields(&other, WEBHOOK, PAYPAL, now), body.to_owned(), "signature_wrong"),
        (fields(&key, "2ABC", PAYPAL, now), body.to_owned(), "signature_wrong"),
        (good.clone(), body.replace("100", "900"), "signature_wrong"),
        (
            fields(&key, WEBHOOK, PAYPAL, now - SignedDuration::from_hours(24 * 4)),
            body.to_owned(),
            "too_old",
        ),
    ] {
        let answer = posted(&lab, &fields, &body).await;
        assert_eq!((answer.head.status(), refused(&lab).await), (401, json!(code)), "{fields}");
    }
    let first = posted(&lab, &good, body).await;
    assert_eq!(first.json()["repeated"], false, "{}", first.text());
    assert_eq!(posted(&lab, &good, body).await.json()["repeated"], true);
    assert_eq!(
        paypal.received().len(),
        1,
        "nothing is fetched from elsewhere, and the certificate is kept"
    );
    assert_eq!(api(&lab, "GET", "/hooks/q", Value::Null, 200).await["waiting"], 1);
    lab.finish_with_changes().await;
}
