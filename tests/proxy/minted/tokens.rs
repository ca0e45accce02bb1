//! Tokens that the owner's key signs: one for many requests, or one for each.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::*;

/// Header and claims of the token in a request.
fn token(request: &Message) -> (Value, Value) {
    let field = request.head.one("authorization").expect("a credential");
    let token = field.strip_prefix("Bearer ").expect("a token");
    let part = |number: usize| {
        let part = token.split('.').nth(number).expect("three parts");
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
    };
    (part(0), part(1))
}

/// A lab whose connection `keyed` has this key, with a provider that describes its tokens so.
async fn lab(jwt: &str, key: &str) -> Lab {
    lab_with(jwt, key, |_| ok("fine")).await
}

/// The same, with an upstream that answers so.
async fn lab_with(jwt: &str, key: &str, answer: fn(&Message) -> String) -> Lab {
    let auth = format!(
        "{{ id: key, kind: signed_jwt, fields: [{{ name: key_id, secret: false }}, {{ name: private_key }}], jwt: {jwt} }}"
    );
    let plan = Plan::api_key().no_agents().provider(&format!(
        "{{ id: keyed, name: Keyed, hosts: [keyed.acme.test], auth: [{auth}] }}"
    ));
    let origin = Origin::answering_as(&["keyed.acme.test"], answer);
    let plan = plan.resolve(&format!("keyed.acme.test: \"{}\"", origin.addr));
    let mut lab = plan.start(origin).await;
    lab.add_agent("bot").await;
    lab.guard(Canary::of(key.to_owned()));
    let fields = json!({ "key_id": "K1", "private_key": key });
    let new = json!({ "provider": "keyed", "name": "keyed", "fields": fields }).to_string();
    lab.gateway.api("POST", "/connections", &new).await.is(201);
    let bind = json!({ "connection": "keyed" }).to_string();
    let bound = lab.gateway.api("POST", "/agents/bot/bindings", &bind).await;
    assert!((200..300).contains(&bound.head.status()), "{}", bound.text());
    lab
}

async fn ask(lab: &Lab, request: &str) -> Message {
    lab.ask_as("bot", "keyed.acme.test", request).await
}

#[tokio::test]
async fn a_token_is_signed_once_for_many_requests() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
    let jwt = "{ alg: ES256, kid: \"{key_id}\", iss: me, aud: you, ttl: 10m, claims: { jti: \"{nonce}\" } }";
    let mut lab = lab(jwt, &key).await;
    for path in ["GET /a", "GET /b?c=1"] {
        assert_eq!(ask(&lab, path).await.text(), "fine");
    }
    let received = lab.origin.received();
    assert_eq!(received[0].head.one("authorization"), received[1].head.one("authorization"));
    let (header, claims) = token(&received[0]);
    assert_eq!((&header["alg"], &header["kid"]), (&json!("ES256"), &json!("K1")));
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("me"), &json!("you")));
    let life = claims["exp"].as_i64().expect("a time") - claims["iat"].as_i64().expect("a time");
    assert_eq!(life, 600);
    lab.guard(Canary::of(received[0].head.one("authorization").expect("a token")[7..].to_owned()));
    lab.finish().await;
}

#[tokio::test]
async fn a_token_that_contains_method_and_path_is_signed_for_each_request() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
    let jwt = "{ ttl: 2m, header: { nonce: \"{nonce}\" }, claims: { nbf: \"{seconds}\", uri: \"{method} {request_host}{path}\" } }";
    let lab = lab(jwt, &key).await;
    let mut seen: Vec<Value> = Vec::new();
    for (request, uri) in
        [("GET /a?x=1", "GET keyed.acme.test/a"), ("DELETE /b/c", "DELETE keyed.acme.test/b/c")]
    {
        assert_eq!(ask(&lab, request).await.text(), "fine");
        let (header, claims) = token(&lab.origin.received().pop().expect("a request"));
        assert_eq!(claims["uri"], uri);
        assert!(claims["nbf"].is_i64() && !seen.contains(&header["nonce"]), "{claims}");
        seen.push(header["nonce"].clone());
    }
    lab.finish().await;
}

/// A service that prints the fields of a request. The token is valid for all of its host.
#[tokio::test]
async fn a_token_signed_for_one_request_is_masked_in_its_answer() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
    let jwt = "{ ttl: 1h, claims: { aud: \"https://{request_host}\" } }";
    let echo = |request: &Message| ok(request.head.one("authorization").expect("a credential"));
    let mut lab = lab_with(jwt, &key, echo).await;
    let answer = ask(&lab, "GET /debug").await;
    let sent = lab.origin.only().head.one("authorization").expect("a credential").to_owned();
    let token = sent.strip_prefix("Bearer ").expect("a token");
    assert_eq!(answer.text(), format!("Bearer {}", "*".repeat(token.len())));
    lab.guard(Canary::of(token.to_owned()));
    let records = lab.finish().await;
    let record = records.iter().find(|record| record["path"] == "/debug").expect("a record");
    assert_eq!(record["scrubbed"], 1, "{record}");
}

/// The token in the middle of a text, in the range that was asked for.
fn token_in_part(request: &Message) -> String {
    let token = &request.head.one("authorization").expect("a credential")["Bearer ".len()..];
    let text = format!("{}{token}{}", "x".repeat(5000), "y".repeat(5000));
    let range = request.head.one("range").and_then(|range| range.strip_prefix("bytes="));
    let (first, last) = range.and_then(|range| range.split_once('-')).expect("a range");
    let first: usize = first.parse().expect("a number");
    let last = last.parse::<usize>().expect("a number").min(text.len() - 1);
    let (part, total) = (&text[first..=last], text.len());
    format!(
        "HTTP/1.1 206 Part\r\nContent-Range: bytes {first}-{last}/{total}\r\n\
         Content-Length: {}\r\n\r\n{part}",
        part.len()
    )
}

/// It is longer than the key, by which the range was widened first.
#[tokio::test]
async fn a_token_signed_for_one_request_is_masked_in_answers_to_range_requests() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
    let (padding, host) = ("p".repeat(2000), "https://{request_host}");
    let jwt = format!("{{ ttl: 1h, claims: {{ pad: {padding}, aud: \"{host}\" }} }}");
    let mut lab = lab_with(&jwt, &key, token_in_part).await;
    for first in [5004, 7600] {
        let range = format!("Range: bytes={first}-{}", first + 7);
        let answer = ask(&lab, &format!("GET /\r\n{range}")).await;
        assert_eq!((answer.head.status(), &*answer.text()), (206, "********"), "{first}");
    }
    for received in lab.origin.received() {
        let sent = received.head.one("authorization").expect("a credential").to_owned();
        lab.guard(Canary::of(sent["Bearer ".len()..].to_owned()));
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_key_that_does_not_fit_the_algorithm_is_refused_when_the_connection_is_created() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
    let lab = lab("{ alg: ES256 }", &key).await;
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key").serialize_pem();
    for (given, said) in
        [("not-a-key-at-all", "is not a private key"), (&*rsa, "not of the required algorithm")]
    {
        let fields = json!({ "key_id": "K1", "private_key": given });
        let new = json!({ "provider": "keyed", "name": "other", "fields": fields }).to_string();
        let answer = lab.gateway.api("POST", "/connections", &new).await.is(422);
        assert!(
            answer.text().contains(said) && answer.text().contains("private_key"),
            "{}",
            answer.text()
        );
    }
    lab.finish().await;
}
