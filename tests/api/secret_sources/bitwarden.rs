//! Bitwarden Secrets Manager: a service that encrypts as its documents say, and answers that must not be believed. `tests/real`
//! has a service in Python, with other cryptography.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::remote::{KEEPER, absent, gives, keeper, reached};
use super::*;
use test_support::origin::ok;

/// A secret that exists.
const ID: &str = "be8e0ad8-d545-4017-a55a-b02f014d4158";

/// Secrets whose values are wrong, each in a way of its own.
const WRONG: [&str; 4] = [
    "00000000-0000-0000-0000-000000000001",
    "00000000-0000-0000-0000-000000000002",
    "00000000-0000-0000-0000-000000000003",
    "00000000-0000-0000-0000-000000000004",
];

const CLIENT: &str = "ec2c1d46-6a4b-4751-a310-af9601317f2d";

const SOURCE: &str = "bitwarden: { api: KEEPER/api, identity: KEEPER/identity }";

/// A key of AES, then one of HMAC.
#[derive(Clone)]
struct Key([u8; 64]);

struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        64
    }
}

impl Key {
    /// That of an access token.
    fn of_token(token: &[u8; 16]) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"bitwarden-accesstoken");
        let mut bytes = [0; 64];
        let expanded = salt.extract(token);
        let expanded = expanded.expand(&[b"sm-access-token"], Length).expect("short");
        expanded.fill(&mut bytes).expect("short");
        Self(bytes)
    }

    fn encrypt(&self, text: &str) -> String {
        let key = UnboundCipherKey::new(&AES_256, &self.0[..32]).expect("a key");
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).expect("a key");
        let mut data = text.as_bytes().to_vec();
        let DecryptionContext::Iv128(iv) = key.encrypt(&mut data).expect("it encrypts") else {
            panic!("CBC has an IV");
        };
        let iv: &[u8; 16] = iv.as_ref();
        let authentication = hmac::Key::new(hmac::HMAC_SHA256, &self.0[32..]);
        let mac = hmac::sign(&authentication, &[iv.as_slice(), &data].concat());
        let [iv, data, mac] =
            [iv.as_slice(), &data, mac.as_ref()].map(|part| BASE64_STANDARD.encode(part));
        format!("2.{iv}|{data}|{mac}")
    }
}

/// A machine account's access token, and what the service knows of it.
#[derive(Clone)]
struct Account {
    secret: Canary,
    key: [u8; 16],
}

impl Account {
    fn new() -> Self {
        Self { secret: Canary::new("C2Ig"), key: *b"&/$%F1a895g67HlX" }
    }

    fn token(&self) -> Canary {
        self.token_with(&self.key)
    }

    fn token_with(&self, key: &[u8]) -> Canary {
        Canary::of(format!("0.{CLIENT}.{}:{}", self.secret.text, BASE64_STANDARD.encode(key)))
    }

    /// Answers a login; `None` for other requests and unknown tokens.
    fn login(&self, request: &Message, organisation: &Key, number: u8) -> Option<String> {
        if request.head.target() != "/identity/connect/token" {
            return None;
        }
        let form = format!(
            "grant_type=client_credentials&scope=api.secrets&client_id={CLIENT}&client_secret={}",
            self.secret.text
        );
        if request.text() != form {
            let body = r#"{"error":"invalid_client"}"#;
            let length = body.len();
            return Some(format!(
                "HTTP/1.1 400 Bad Request\r\nContent-Length: {length}\r\n\r\n{body}"
            ));
        }
        let payload = json!({ "encryptionKey": BASE64_STANDARD.encode(organisation.0) });
        let answer = json!({
            "access_token": format!("jwt-{number}"), "expires_in": 3600, "token_type": "Bearer",
            "scope": "api.secrets",
            "encrypted_payload": Key::of_token(&self.key).encrypt(&payload.to_string()),
        });
        Some(ok(&answer.to_string()))
    }
}

fn secret(id: &str, value: &str) -> String {
    ok(&json!({
        "object": "secret", "id": id, "organizationId": CLIENT, "key": "2.AAAA|AAAA|AAAA",
        "value": value, "note": "2.AAAA|AAAA|AAAA", "creationDate": "2026-01-02T03:04:05Z"
    })
    .to_string())
}

fn asked_with(request: &Message, number: u8) -> bool {
    request.head.one("authorization") == Some(&*format!("Bearer jwt-{number}"))
}

const CHANGED: &str =
    "the value cannot be decrypted: it was changed, or encrypted with another key";

/// A source, a reference, and the error of its test.
const REFUSED: &[(&str, &str, &str)] = &[
    ("kept", WRONG[0], CHANGED),
    ("kept", WRONG[1], CHANGED),
    (
        "kept",
        WRONG[2],
        "the value cannot be decrypted: it is not of type 2 (AES-256-CBC, HMAC-SHA-256), the only one \
             that is supported",
    ),
    ("kept", WRONG[3], "the value cannot be decrypted: it has an unknown form"),
    ("kept", CLIENT, "it has no value of that reference"),
    (
        "kept",
        "API_KEY",
        "the reference must be the id of a secret, such as be8e0ad8-d545-4017-a55a-b02f014d4158, or ID#MEMBER",
    ),
    (
        "key",
        ID,
        "the login's answer cannot be decrypted: it was changed, or encrypted with another key",
    ),
    ("unknown", ID, "it answered 400 Bad Request (invalid_client)"),
    (
        "text",
        ID,
        "its credential `token` is no access token of Bitwarden: they have the form 0.ID.SECRET:KEY",
    ),
];

/// A text that is encrypted well, changed in ways that give no value, as [`WRONG`] names them.
fn changed(good: &str, value: &Canary) -> [String; 4] {
    let (rest, mac) = good.rsplit_once('|').expect("three parts");
    let flipped = if mac.starts_with('A') { "B" } else { "A" };
    [
        format!("{rest}|{flipped}{}", &mac[1..]),
        Key([4; 64]).encrypt(&value.text),
        good.replacen("2.", "7.", 1),
        value.text.clone(),
    ]
}

#[tokio::test]
async fn answers_that_are_changed_or_of_another_key_give_no_value() {
    let account = Account::new();
    let (token, value) = (account.token(), Canary::new("cnry"));
    let (other_key, unknown) = (account.token_with(&[7; 16]), Account::new().token());
    let organisation = Key([3; 64]);
    let good = organisation.encrypt(&value.text);
    let wrong = changed(&good, &value);
    let keeper = keeper(move |request: &Message| {
        if let Some(answer) = account.login(request, &organisation, 1) {
            return answer;
        }
        let id = request.head.target().strip_prefix("/api/secrets/").unwrap_or_default();
        match WRONG.iter().position(|it| *it == id) {
            _ if !asked_with(request, 1) => absent(),
            Some(at) => secret(id, &wrong[at]),
            None if id == ID => secret(id, &good),
            None => absent(),
        }
    });
    let source = SOURCE.replace("KEEPER", &format!("https://{KEEPER}"));
    let sources = [("kept", "TOKEN"), ("key", "KEY"), ("unknown", "UNKNOWN"), ("text", "TEXT")];
    let sources = sources.map(|(name, variable)| {
        format!(
            "  - {{ name: {name}, {source}, credentials: {{ token: {{ env: {variable} }} }} }}\n"
        )
    });
    let no_token = Canary::new("no-token-");
    let plan = reached(plan(ID).top(&format!("sources:\n{}", sources.concat())), &keeper)
        .secret("TOKEN", &token)
        .secret("KEY", &other_key)
        .secret("UNKNOWN", &unknown)
        .secret("TEXT", &no_token);
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.guard(value.clone());
    for &(source, reference, error) in REFUSED {
        let tested = json!({ "ref": reference });
        let tested = api(&lab, "POST", &format!("/sources/{source}/test"), tested, 200).await;
        assert_eq!(tested["tested"][0]["error"], error, "{source} {reference}");
    }
    assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*value.text));
    lab.finish().await;
}

#[tokio::test]
async fn bitwarden_is_logged_in_to_once_and_again_when_the_organisation_has_another_key() {
    let account = Account::new();
    let token = account.token();
    let (rounds, keys) = (Arc::new(AtomicU8::new(0)), [Key([1; 64]), Key([2; 64])]);
    let credentials = [("token", &token)];
    let reference = format!("{ID}#key");
    let sent = gives((SOURCE, &reference), &credentials, move |request, value| {
        // The organisation has its second key after the first request for the value.
        let round = rounds.load(Ordering::SeqCst);
        if let Some(answer) = account.login(request, &keys[usize::from(round.min(1))], round) {
            return answer;
        }
        if request.head.target() != format!("/api/secrets/{ID}") {
            return absent();
        }
        let key = &keys[usize::from(round.min(1))];
        rounds.store(1, Ordering::SeqCst);
        secret(ID, &key.encrypt(&json!({ "key": value }).to_string()))
    });
    let sent = sent.await;
    let (login, read) = ("POST /identity/connect/token", format!("GET /api/secrets/{ID}"));
    assert_eq!(sent, [login, &read, &read, login, &read]);
}
