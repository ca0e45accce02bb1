//! ID tokens that are forged, for another client, or expired are refused. `tests/api/sign_in_oidc.rs` tests the complete
//! flow.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use jiff::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::id_token::{IdTokenExpectations, IdTokenFault, verify};
use crate::grant::oauth::{ExpectedClaims, IdTokenError};
use keyward_base::secret::Secret;

/// The signing key of an issuer: P-256.
struct Signer {
    pair: EcdsaKeyPair,
    kid: &'static str,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { pair, kid }
    }

    fn jwk(&self, more: Value) -> Jwk {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
        let mut jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.kid});
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(jwk).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let text =
            format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", BASE64.encode(signature))
    }

    fn header(&self) -> Value {
        json!({"alg": "ES256", "kid": self.kid})
    }
}

fn expected() -> IdTokenExpectations<'static> {
    let now = Timestamp::UNIX_EPOCH + Duration::from_secs(1_000);
    let claims = ExpectedClaims { issuer: "https://a.test", client_id: "id", now };
    IdTokenExpectations { claims, nonce: "n-1" }
}

fn good() -> Value {
    json!({"iss": "https://a.test", "aud": "id", "sub": "1", "nonce": "n-1", "iat": 990, "exp": 1_300})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

fn verified(token: &str, keys: &[Jwk]) -> Result<String, IdTokenFault> {
    verify(&Secret::from(token.to_owned()), keys, &expected()).map(|verified| verified.subject)
}

#[test]
fn claims_of_another_sign_in_issuer_client_or_time_are_refused_although_they_are_signed() {
    let signer = Signer::new("1");
    let keys = [signer.jwk(json!({}))];
    for (claims, fault) in [
        (with("nonce", json!("n-2")), IdTokenFault::Nonce),
        (with("nonce", Value::Null), IdTokenFault::Nonce),
        (with("nonce", json!(["n-1"])), IdTokenFault::Nonce),
        (with("iss", json!("https://a.test/")), IdTokenFault::Claims(IdTokenError::Issuer)),
        (with("aud", json!("other")), IdTokenFault::Claims(IdTokenError::Audience)),
        (with("aud", json!(["id", "other"])), IdTokenFault::Claims(IdTokenError::Audience)),
        (with("azp", json!("other")), IdTokenFault::Claims(IdTokenError::AuthorizedParty)),
        (with("exp", json!(700)), IdTokenFault::Claims(IdTokenError::Expired)),
        (with("exp", Value::Null), IdTokenFault::Claims(IdTokenError::Malformed)),
        (with("sub", json!("")), IdTokenFault::Claims(IdTokenError::Malformed)),
        (with("iat", json!(1_301)), IdTokenFault::Issued),
        (with("iat", Value::Null), IdTokenFault::Issued),
    ] {
        let token = signer.sign(&signer.header(), &claims);
        assert_eq!(verified(&token, &keys), Err(fault), "{claims}");
    }
    let token = signer.sign(&signer.header(), &good());
    assert_eq!(verified(&token, &keys).as_deref(), Ok("1"));
}

#[test]
fn a_token_that_the_issuer_did_not_sign_is_refused() {
    let (signer, other) = (Signer::new("1"), Signer::new("1"));
    let keys = [signer.jwk(json!({}))];
    let good_token = signer.sign(&signer.header(), &good());
    let unsigned = |alg: &str| {
        let header = BASE64.encode(json!({"alg": alg}).to_string());
        format!("{header}.{}.", BASE64.encode(good().to_string()))
    };
    let shared = |secret: &[u8]| {
        let header = Header::new(Algorithm::HS256);
        jsonwebtoken::encode(&header, &good(), &EncodingKey::from_secret(secret)).unwrap()
    };
    let public = signer.pair.public_key().as_ref();
    let (head, rest) = good_token.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let changed = BASE64.encode(with("sub", json!("2")).to_string());
    for (token, fault) in [
        (unsigned("none"), IdTokenFault::Algorithm),
        (unsigned("None"), IdTokenFault::Algorithm),
        (unsigned("ES256"), IdTokenFault::Signature),
        (shared(b"client secret"), IdTokenFault::Algorithm),
        // An HMAC whose secret is the public key.
        (shared(public), IdTokenFault::Algorithm),
        (other.sign(&other.header(), &good()), IdTokenFault::Signature),
        (signer.sign(&json!({"alg": "ES256", "kid": "2"}), &good()), IdTokenFault::UnknownKey),
        (signer.sign(&json!({"alg": "RS256", "kid": "1"}), &good()), IdTokenFault::UnknownKey),
        (format!("{head}.{changed}.{signature}"), IdTokenFault::Signature),
        (String::new(), IdTokenFault::Malformed),
        ("a.b".to_owned(), IdTokenFault::Malformed),
    ] {
        assert_eq!(verified(&token, &keys), Err(fault), "{token}");
    }
    assert_eq!(verified(&good_token, &[]), Err(IdTokenFault::UnknownKey));
    for unfit in [json!({"use": "enc"}), json!({"alg": "ES384"})] {
        assert_eq!(verified(&good_token, &[signer.jwk(unfit)]), Err(IdTokenFault::UnknownKey));
    }
}

#[test]
fn the_signing_key_is_found_among_several_with_or_without_a_key_id() {
    let (signer, other) = (Signer::new("2"), Signer::new("1"));
    let keys = [other.jwk(json!({})), signer.jwk(json!({"use": "sig", "alg": "ES256"}))];
    let token = signer.sign(&signer.header(), &good());
    assert_eq!(verified(&token, &keys).as_deref(), Ok("1"));
    let token = signer.sign(&json!({"alg": "ES256"}), &good());
    assert_eq!(verified(&token, &keys).as_deref(), Ok("1"));
}
