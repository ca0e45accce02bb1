//! Client authentication (OAuth 4), as the server receives it.

use std::collections::BTreeMap;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use super::super::{ActingParty, Correction, TokenFailure, client_credentials};
use super::*;
use crate::tests::scripted_server::{Received, Server, client, json, public, secret};

const TOKEN: &str = r#"{"access_token":"at"}"#;

/// The request that the server receives from a client with this authentication method.
async fn received(method: &str, client: OAuthClient) -> Received {
    let mut server = Server::start(&[&json("200 OK", TOKEN)]).await;
    let oauth = server.oauth(&format!("grant: client_credentials, client_auth: {method}"));
    let variables = BTreeMap::new();
    client_credentials(&server.ask(&oauth, &client, &variables)).await.expect("tokens");
    server.received().await
}

fn named(id: &str, text: &str) -> OAuthClient {
    OAuthClient { id: id.to_owned(), ..client(text) }
}

/// The authentication methods that the request uses.
fn ways(request: &Received) -> Vec<&'static str> {
    let form = request.form();
    let ways = [
        ("authorization", request.fields.contains_key("authorization")),
        ("client_secret", form.contains_key("client_secret")),
        ("client_assertion", form.contains_key("client_assertion")),
    ];
    ways.into_iter().filter(|(_, used)| *used).map(|(way, _)| way).collect()
}

/// RFC 6749 §2.3.1; OAuth 4: characters that break naive code.
#[tokio::test]
async fn basic_form_encodes_the_client_id_and_the_secret_separately() {
    let request = received("basic", named("i:d", "a+b/c%d:e&f g")).await;
    let value = request.fields["authorization"].strip_prefix("Basic ").expect("Basic").to_owned();
    let plain = String::from_utf8(STANDARD.decode(value).expect("base64")).expect("text");
    assert_eq!(plain, "i%3Ad:a%2Bb%2Fc%25d%3Ae%26f%20g");
    assert_eq!(ways(&request), ["authorization"]);
    assert!(!request.form().contains_key("client_id"), "it is named once");
}

#[tokio::test]
async fn raw_basic_sends_id_and_secret_unencoded() {
    let request = received("basic_raw", named("id", "a+b/c%d")).await;
    assert_eq!(request.fields["authorization"], format!("Basic {}", STANDARD.encode("id:a+b/c%d")));
}

/// Stripe.
#[tokio::test]
async fn a_secret_may_be_sent_as_the_user_name() {
    let request = received("basic_secret_as_username", named("id", "sk_1")).await;
    assert_eq!(request.fields["authorization"], format!("Basic {}", STANDARD.encode("sk_1:")));
}

#[tokio::test]
async fn a_client_secret_in_the_body_is_sent_nowhere_else() {
    let request = received("body", named("id", "a+b/c%d:e&f g")).await;
    assert_eq!(ways(&request), ["client_secret"]);
    let form = request.form();
    assert_eq!((&*form["client_id"], &*form["client_secret"]), ("id", "a+b/c%d:e&f g"));
}

#[tokio::test]
async fn a_public_client_only_names_itself() {
    let request = received("none", named("id", "unused")).await;
    assert!(ways(&request).is_empty());
    assert_eq!(request.form()["client_id"], "id");
    assert!(!request.body.contains("unused"));
}

/// The claims of an assertion whose signature `key` verifies.
fn claims(assertion: &str, key: &DecodingKey, algorithm: Algorithm) -> (Value, Option<String>) {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let data = jsonwebtoken::decode::<Value>(assertion, key, &validation).expect("it verifies");
    (data.claims, data.header.kid)
}

/// OAuth 4: the audience is the issuer as a single string; 60 s; the client twice; a fresh `jti`.
fn is_assertion_of(claims: &Value, audience: &str) {
    assert_eq!((&claims["iss"], &claims["sub"]), (&"id".into(), &"id".into()));
    assert_eq!(claims["aud"], audience);
    let (from, to) = (claims["iat"].as_i64().expect("iat"), claims["exp"].as_i64().expect("exp"));
    assert_eq!((from, to - from), (crate::tests::scripted_server::noon().as_second(), 60));
    assert_eq!(claims["jti"].as_str().expect("jti").len(), 22);
}

#[tokio::test]
async fn a_private_key_signs_an_assertion_for_the_issuer_alone() {
    let ec = rcgen::KeyPair::generate().expect("a key");
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let rsa = rsa.expect("a key");
    let ec_public = DecodingKey::from_ec_pem(ec.public_key_pem().as_bytes()).expect("a key");
    let rsa_public = DecodingKey::from_rsa_pem(rsa.public_key_pem().as_bytes()).expect("a key");
    for (key, theirs, algorithm) in
        [(ec, ec_public, Algorithm::ES256), (rsa, rsa_public, Algorithm::RS256)]
    {
        let private_key = Some(secret(&key.serialize_pem()));
        let client = OAuthClient {
            secret: AppSecret { private_key, ..AppSecret::default() },
            key_id: Some("k1".to_owned()),
            ..public()
        };
        let request = received("private_key_jwt", client).await;
        assert_eq!(ways(&request), ["client_assertion"]);
        let form = request.form();
        assert_eq!(form["client_assertion_type"], ASSERTION_TYPE);
        let (claims, key_id) = claims(&form["client_assertion"], &theirs, algorithm);
        is_assertion_of(&claims, "https://auth.acme.test");
        assert_eq!(key_id.as_deref(), Some("k1"));
    }
}

#[tokio::test]
async fn a_client_secret_signs_an_assertion_without_being_sent() {
    let request = received("client_secret_jwt", named("id", "s3cret-canary")).await;
    assert_eq!(ways(&request), ["client_assertion"]);
    assert!(!request.body.contains("canary"));
    let key = DecodingKey::from_secret(b"s3cret-canary");
    let (claims, _) = claims(&request.form()["client_assertion"], &key, Algorithm::HS256);
    is_assertion_of(&claims, "https://auth.acme.test");
}

/// The token endpoint is the audience only where no issuer is known.
#[tokio::test]
async fn without_an_issuer_the_audience_is_the_configured_token_endpoint() {
    let mut server = Server::start(&[&json("200 OK", TOKEN)]).await;
    let mut oauth = server.oauth("grant: client_credentials, client_auth: client_secret_jwt");
    oauth.issuer = None;
    let (client, variables) = (client("s3cret-canary"), BTreeMap::new());
    client_credentials(&server.ask(&oauth, &client, &variables)).await.expect("tokens");
    let form = server.received().await.form();
    let payload = form["client_assertion"].split('.').nth(1).expect("three parts");
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64")).expect("JSON");
    is_assertion_of(&claims, &server.url);
}

#[tokio::test]
async fn two_assertions_are_never_alike() {
    let one = received("client_secret_jwt", named("id", "s3cret-canary")).await.form();
    let two = received("client_secret_jwt", named("id", "s3cret-canary")).await.form();
    assert_ne!(one["client_assertion"], two["client_assertion"]);
}

#[tokio::test]
async fn a_client_that_cannot_authenticate_sends_no_request() {
    let key = |text: &str| AppSecret { private_key: Some(secret(text)), ..AppSecret::default() };
    let none = AppSecret::default;
    let both = AppSecret { certificate: Some(secret("no canary either")), ..key("no canary key") };
    for (method, secret, code) in [
        ("basic", none(), "client_secret_missing"),
        ("basic_secret_as_username", none(), "client_secret_missing"),
        ("client_secret_jwt", none(), "client_secret_missing"),
        ("private_key_jwt", none(), "private_key_missing"),
        ("private_key_jwt", key("no canary key"), "unusable_key"),
        ("mtls", key("no canary key"), "certificate_missing"),
        ("mtls", both, "unusable_certificate"),
    ] {
        let mut server = Server::start(&[&json("200 OK", TOKEN)]).await;
        let oauth = server.oauth(&format!("grant: client_credentials, client_auth: {method}"));
        let (client, variables) = (OAuthClient { secret, ..public() }, BTreeMap::new());
        let failure = client_credentials(&server.ask(&oauth, &client, &variables)).await;
        let failure = failure.expect_err("nothing to prove it with");
        let TokenFailure::Permanent { who, code: said, .. } = &failure else {
            panic!("{failure:?}")
        };
        assert_eq!((*who, said.as_str()), (ActingParty::Operator(Correction::Credentials), code));
        assert!(!format!("{failure:?} {failure}").contains("canary"));
        assert!(server.is_quiet());
    }
}

#[test]
fn debug_shows_no_secret() {
    assert!(!format!("{:?}", client("canary")).contains("canary"));
}
