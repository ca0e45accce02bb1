//! Tests of signatures by published examples, and of what is refused.

use http::HeaderName;

use super::*;
use crate::inject::json_template::JsonTemplate;
use crate::inject::sign::hmac::{HmacAlgorithm, SignatureEncoding};
use crate::inject::sign::jwt::KeyEncoding;
use crate::inject::template::{Encoding, ValueTemplate};

/// 2017-07-12T02:41:59.559Z: the time of Binance's example.
const NOW: &str = "2017-07-12T02:41:59.559Z";

fn place(at: &Location, value: &str) -> Place {
    Place { at: at.clone(), value: ValueTemplate::parse(value, Encoding::Plain).unwrap() }
}

fn header(name: &'static str) -> Location {
    Location::Header(HeaderName::from_static(name))
}

fn query(name: &str) -> Location {
    Location::Query(name.into())
}

fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), Secret::from((*v).to_owned()))).collect()
}

fn hmac(message: &str) -> SigningScheme {
    SigningScheme::Hmac(HmacScheme {
        algorithm: HmacAlgorithm::Sha256,
        key: "secret".into(),
        key_encoding: KeyEncoding::Text,
        message: SignedMessage::parse(message).unwrap(),
        encoding: SignatureEncoding::Hex,
    })
}

fn jwt(encoding: KeyEncoding, id_ends_at: Option<char>) -> JwtTemplate {
    JwtTemplate {
        algorithm: Some(jsonwebtoken::Algorithm::HS256),
        key: "secret".into(),
        encoding,
        id_ends_at,
        key_id: None,
        header: Vec::new(),
        claims: JsonTemplate::parse(&serde_json::json!({ "aud": "/admin/" })).unwrap(),
        life: std::time::Duration::from_secs(300),
    }
}

struct Sent {
    target: Option<String>,
    fields: HeaderMap,
    token: Option<Secret>,
}

fn signer(scheme: SigningScheme, fields: BTreeMap<String, Secret>) -> RequestSigner {
    RequestSigner::new(Arc::new(scheme), fields, Vec::new())
}

fn sign(
    signer: &RequestSigner,
    places: &[Place],
    method: &str,
    target: &str,
    body: &str,
) -> Result<Sent, SignError> {
    let mut headers = HeaderMap::new();
    let request = UnsignedRequest {
        method,
        authority: "api.acme.test",
        target,
        fields: &mut headers,
        body: body.as_bytes(),
        now: NOW.parse().unwrap(),
    };
    let SignedParts { target, token } = signer.sign(places, request)?;
    Ok(Sent { target, fields: headers, token })
}

/// <https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security>: the same parameters are sent in
/// the query, in the body, and in both.
#[test]
fn the_examples_of_binance_are_signed_as_published() {
    let key =
        fields(&[("secret", "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j")]);
    let places =
        [place(&query("timestamp"), "{milliseconds}"), place(&query("signature"), "{signature}")];
    let order =
        "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000";
    let target = format!("/api/v3/order?{order}");
    let signer = signer(hmac("{query}{body}"), key);
    let sent = sign(&signer, &places, "POST", &target, "").unwrap();
    let signature = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71";
    let expected = format!("{target}&timestamp=1499827319559&signature={signature}");
    assert_eq!(sent.target, Some(expected));

    let body = format!("{order}&timestamp=1499827319559");
    let only = [place(&query("signature"), "{signature}")];
    let sent = sign(&signer, &only, "POST", "/api/v3/order", &body);
    let expected = format!("/api/v3/order?signature={signature}");
    assert_eq!(sent.unwrap().target, Some(expected));

    let (first, rest) = (
        "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC",
        "quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559",
    );
    let target = format!("/api/v3/order?{first}");
    let sent = sign(&signer, &only, "POST", &target, rest).unwrap();
    let signature = "0fd168b8ddb4876a0358a8d14d0c9f3da0e9b20c5d52b2a00fcf7d1c602f9a77";
    assert_eq!(sent.target, Some(format!("{target}&signature={signature}")));
}

/// ccxt and python-binance send an order as a form with their own time and signature. Binance refuses a parameter that is given
/// twice (-1101).
#[test]
fn a_form_loses_the_agents_own_time_and_signature_and_nothing_else() {
    let places =
        [place(&query("timestamp"), "{milliseconds}"), place(&query("signature"), "{signature}")];
    let signer = signer(hmac("{query}{body}"), fields(&[("secret", "k")]));
    let rest = |kind: &'static str, places: &[Place], body: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let form = signer.form_without_agents_signature(places, &headers, body.as_bytes());
        form.map(|form| String::from_utf8(form.to_vec()).unwrap())
    };
    const FORM: &str = "application/x-www-form-urlencoded";
    assert_eq!(rest(FORM, &places, "side=BUY&signatures=2"), None);
    assert_eq!(rest("application/json", &places, "timestamp=1"), None);
    assert_eq!(rest(FORM, &[], "timestamp=1"), None);
    let sent = "timestamp=1&side=BUY&note=%26timestamp%3D1&%73ignature=ab&Signature=cd";
    assert_eq!(rest(FORM, &places, sent).as_deref(), Some("side=BUY&note=%26timestamp%3D1"));
}

/// RFC 4231 §4.3 (test case 2), and RFC 2202 §3 (test case 2) for SHA-1.
#[test]
fn each_hmac_algorithm_gives_the_result_of_the_rfc_test_case() {
    let cases = [
        (HmacAlgorithm::Sha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (HmacAlgorithm::Sha256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (
            HmacAlgorithm::Sha384,
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
        ),
        (
            HmacAlgorithm::Sha512,
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        ),
    ];
    for (algorithm, expected) in cases {
        assert_eq!(
            HEXLOWER.encode(&algorithm.sign(b"Jefe", b"what do ya want for nothing?")),
            expected
        );
    }
}

/// <https://docs.x.com/resources/fundamentals/authentication/oauth-1-0a/creating-a-signature>
#[test]
fn the_example_of_x_is_signed_as_published() {
    let secrets = fields(&[
        ("consumer_key", "xvz1evFS4wEEPTGEFPHBog"),
        ("consumer_secret", "kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw"),
        ("token", "370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb"),
        ("token_secret", "LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE"),
    ]);
    let mut headers = HeaderMap::new();
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(http::header::CONTENT_TYPE, form);
    let request = RequestParts {
        method: "POST",
        authority: "api.twitter.com",
        target: "/1.1/statuses/update.json?include_entities=true",
        headers: &headers,
        body: b"status=Hello%20Ladies%20%2b%20Gentlemen%2c%20a%20signed%20OAuth%20request%21",
    };
    let values = MessageValues {
        fields: &secrets,
        request: Some(request),
        now: Timestamp::from_second(1_318_622_958).unwrap(),
        nonce: "kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg",
        signature: "",
    };
    let scheme = OAuth1Scheme { algorithm: HmacAlgorithm::Sha1, has_realm: false };
    let header = scheme.sign(&values).unwrap();
    assert!(header.contains("oauth_signature=\"hCtSmYh%2BiHYCEqBWrE7C7hYmtUk%3D\""), "{header}");
    assert!(header.starts_with("OAuth oauth_consumer_key=\"xvz1evFS4wEEPTGEFPHBog\", "));
    assert!(!header.contains("kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw"), "{header}");
}

#[test]
fn values_that_a_signature_covers_are_written_before_it() {
    let places =
        [place(&header("x-sign"), "v1 {signature}"), place(&header("x-time"), "{seconds}")];
    let with_time = signer(hmac("{header:x-time}"), fields(&[("secret", "k")]));
    let sent = sign(&with_time, &places, "GET", "/", "").unwrap();
    assert_eq!(sent.fields["x-time"], "1499827319");
    let tag = HmacAlgorithm::Sha256.sign(b"k", b"1499827319");
    assert_eq!(sent.fields["x-sign"], format!("v1 {}", HEXLOWER.encode(&tag)));
    assert!(sent.fields["x-sign"].is_sensitive());
}

#[test]
fn without_a_signature_placement_nothing_is_signed_and_no_body_is_needed() {
    let places = [place(&header("x-key"), "{name}")];
    let secrets = fields(&[("name", "n")]);
    let signer = signer(hmac("{body}"), secrets);
    let sent = sign(&signer, &places, "GET", "/", "").unwrap();
    assert!(sent.fields.is_empty() && sent.target.is_none());
    assert!(!signer.needs_body(&places, &HeaderMap::new()));
    let signed = [place(&header("x-sign"), "{signature}")];
    assert!(signer.needs_body(&signed, &HeaderMap::new()));
}

/// An answer is searched for it.
#[test]
fn the_token_of_a_request_is_returned_and_a_signature_is_not() {
    let places = [place(&header("authorization"), "Bearer {access_token}")];
    let secrets = fields(&[("secret", "00ff10")]);
    let token = signer(SigningScheme::Jwt(jwt(KeyEncoding::Hex, None)), secrets.clone());
    let sent = sign(&token, &places, "GET", "/", "").unwrap();
    let returned = sent.token.expect("a token");
    let written = format!("Bearer {}", returned.expose_text().unwrap());
    assert_eq!(sent.fields["authorization"], written);
    let places = [place(&header("x-sign"), "{signature}")];
    let sent = sign(&signer(hmac("{path}"), secrets), &places, "GET", "/", "").unwrap();
    assert!(sent.token.is_none());
}

#[test]
fn a_missing_field_and_a_key_of_another_encoding_are_errors() {
    let places = [place(&header("x-sign"), "{signature}")];
    let missing = sign(&signer(hmac("x"), fields(&[])), &places, "GET", "/", "");
    assert_eq!(missing.err(), Some(SignError::FieldMissing));
    let SigningScheme::Hmac(scheme) = hmac("x") else { unreachable!() };
    for encoding in [KeyEncoding::Base64, KeyEncoding::Hex] {
        let scheme = SigningScheme::Hmac(HmacScheme { key_encoding: encoding, ..scheme.clone() });
        let signer = signer(scheme, fields(&[("secret", "k!")]));
        let wrong = sign(&signer, &places, "GET", "/", "");
        assert_eq!(wrong.err(), Some(SignError::Key));
    }
}

/// Ghost's own example: id and secret in one text, hexadecimal, HS256.
#[test]
fn a_token_carries_the_key_id_that_precedes_the_key() {
    let template = jwt(KeyEncoding::Hex, Some(':'));
    let now = NOW.parse().unwrap();
    let secrets = fields(&[("secret", "6470f1a2b3c4d5e6f7a8b9c0:00ff10")]);
    let values = MessageValues { fields: &secrets, request: None, now, nonce: "", signature: "" };
    let token = template.sign(&values).unwrap();
    let key = jsonwebtoken::DecodingKey::from_secret(&[0, 255, 16]);
    let mut checks = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    checks.set_audience(&["/admin/"]);
    checks.validate_exp = false;
    let text = token.expose_text().unwrap();
    let read = jsonwebtoken::decode::<serde_json::Value>(text, &key, &checks).unwrap();
    assert_eq!(read.header.kid.as_deref(), Some("6470f1a2b3c4d5e6f7a8b9c0"));
    assert_eq!(read.claims["exp"], 1_499_827_619);
    for wrong in ["00ff10", "id:0", "id:zz"] {
        let secrets = fields(&[("secret", wrong)]);
        let values = MessageValues { fields: &secrets, ..values };
        assert_eq!(template.sign(&values).err(), Some(SignError::Key), "{wrong}");
    }
}
