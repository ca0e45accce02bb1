//! Sign-in with a passkey, by an authenticator of our own: what a challenge is for, and what is refused. The real
//! browser is in `tests/real/console/passkey.rs`; `keyward-state` tests what a signature must be of.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::admin_network::user;
use test_support::login::{Login, unseen_at};
use test_support::*;

/// Present, verified, and with a credential.
const REGISTERED: u8 = 0x45;
/// Present and verified.
const SIGNED: u8 = 0x05;

/// A device with a key.
struct Device {
    key: EcdsaKeyPair,
    id: Vec<u8>,
    handle: String,
    count: u32,
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn client_data(lab: &Lab, r#type: &str, challenge: &Value) -> Vec<u8> {
    let origin = format!("http://localhost:{}", lab.gateway.admin.port());
    let data =
        json!({"type": r#type, "challenge": challenge, "origin": origin, "crossOrigin": false});
    data.to_string().into_bytes()
}

fn data(flags: u8, count: u32) -> Vec<u8> {
    let mut data = Sha256::digest("localhost").to_vec();
    data.push(flags);
    data.extend(count.to_be_bytes());
    data
}

impl Device {
    fn new(id: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
        Self { key, id: id.as_bytes().to_vec(), handle: String::new(), count: 1 }
    }

    /// What it gives for a registration.
    fn credential(&mut self, lab: &Lab, options: &Value) -> Value {
        self.handle = options["user"]["id"].as_str().expect("an id").to_owned();
        let mut data = data(REGISTERED, self.count);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.id.len()).expect("a short one").to_be_bytes());
        data.extend(&self.id);
        data.extend(b"\xa5 a key");
        let key: PublicKeyX509Der<'_> = self.key.public_key().as_der().expect("a key");
        json!({"id": encoded(&self.id), "type": "public-key", "response": {
            "clientDataJSON": encoded(client_data(lab, "webauthn.create", &options["challenge"])),
            "authenticatorData": encoded(data), "publicKeyAlgorithm": -7,
            "publicKey": encoded(key.as_ref()), "transports": ["internal"],
        }})
    }

    /// What it gives for a sign-in.
    fn assertion(&mut self, lab: &Lab, challenge: &Value) -> Value {
        self.count += 1;
        let client = client_data(lab, "webauthn.get", challenge);
        let data = data(SIGNED, self.count);
        let mut signed = data.clone();
        signed.extend_from_slice(&Sha256::digest(&client));
        let signature = self.key.sign(&SystemRandom::new(), &signed).expect("a signature");
        json!({"id": encoded(&self.id), "response": {
            "clientDataJSON": encoded(client), "authenticatorData": encoded(data),
            "signature": encoded(signature.as_ref()), "userHandle": self.handle,
        }})
    }

    async fn signs_in(&mut self, lab: &Lab) -> Message {
        let challenge = challenge(lab).await;
        let assertion = self.assertion(lab, &challenge);
        gives(lab, &assertion).await
    }
}

/// A request at the host name, to which passkeys belong.
async fn named(lab: &Lab, line: &str, fields: &str, body: &Value) -> Message {
    let host = format!("Host: localhost:{}\r\n{fields}", lab.gateway.admin.port());
    unseen_at(lab, line, &host, &body.to_string()).await
}

async fn challenge(lab: &Lab) -> Value {
    let made = named(lab, "POST /api/v1/session/challenge", "", &json!({})).await.is(200).json();
    assert_eq!(
        (&made["rpId"], &made["userVerification"]),
        (&json!("localhost"), &json!("required"))
    );
    made["challenge"].clone()
}

async fn gives(lab: &Lab, passkey: &Value) -> Message {
    named(lab, "POST /api/v1/session", "", &json!({"passkey": passkey})).await
}

async fn options(lab: &Lab, by: &Login) -> Value {
    let line = "POST /api/v1/session/passkeys/challenge";
    named(lab, line, &by.fields(), &json!({})).await.is(200).json()
}

async fn adds(lab: &Lab, by: &Login, credential: Value) -> Message {
    let body = json!({"name": "laptop", "credential": credential});
    named(lab, "POST /api/v1/session/passkeys", &by.fields(), &body).await
}

fn code(answer: &Message) -> (u16, Value) {
    (answer.head.status(), answer.json()["error"]["code"].clone())
}

async fn lab_with(top: &str) -> Lab {
    let mut lab = Plan::api_key().top(top).start(Origin::saying("fine")).await;
    for (name, role) in [("ann", "admin"), ("bob", "member")] {
        user(&mut lab, name, role).await;
    }
    lab
}

fn refused() -> (u16, Value) {
    (401, json!("unauthenticated"))
}

#[tokio::test]
async fn a_passkey_signs_in_once_for_each_challenge_and_not_as_another() {
    let mut lab = lab_with("").await;
    let (ann, bob) =
        (Login::of(&mut lab, "default", "ann").await, Login::of(&mut lab, "default", "bob").await);
    let mut device = Device::new("the device of bob");
    assert_eq!(code(&device.signs_in(&lab).await), refused(), "not registered");
    let asked = options(&lab, &bob).await;
    assert_eq!((&asked["user"]["name"], &asked["attestation"]), (&json!("bob"), &json!("none")));
    let credential = device.credential(&lab, &asked);
    let of_ann = adds(&lab, &ann, credential.clone()).await;
    assert_eq!(code(&of_ann), (422, json!("invalid_field")), "a challenge is for one user");
    adds(&lab, &bob, credential.clone()).await.is(201);
    assert_eq!(adds(&lab, &bob, credential).await.head.status(), 422, "a challenge works once");
    let asked = options(&lab, &ann).await;
    let stolen = device.credential(&lab, &asked);
    assert_eq!(adds(&lab, &ann, stolen).await.head.status(), 422, "it is bob's");
    let asked = options(&lab, &bob).await;
    assert_eq!(asked["excludeCredentials"][0]["id"], encoded(&device.id));
    device.handle = asked["user"]["id"].as_str().expect("an id").to_owned();

    let for_registration = device.assertion(&lab, &asked["challenge"]);
    assert_eq!(code(&gives(&lab, &for_registration).await), refused());
    let mut as_ann = {
        let challenge = challenge(&lab).await;
        device.assertion(&lab, &challenge)
    };
    as_ann["response"]["userHandle"] = json!(encoded("usr_00000000000000000000"));
    assert_eq!(code(&gives(&lab, &as_ann).await), refused());
    let made_up = device.assertion(&lab, &json!(encoded([7; 56])));
    assert_eq!(code(&gives(&lab, &made_up).await), refused());
    let mut other = Device::new("the device of bob");
    (other.handle, other.count) = (device.handle.clone(), 90);
    assert_eq!(code(&other.signs_in(&lab).await), refused(), "another key");

    let challenge = challenge(&lab).await;
    let assertion = device.assertion(&lab, &challenge);
    let answer = gives(&lab, &assertion).await.is(200);
    let login = Login::in_answer(&mut lab, &answer);
    assert_eq!(
        (&answer.json()["user"], &answer.json()["method"]),
        (&json!("bob"), &json!("passkey"))
    );
    assert_eq!(code(&gives(&lab, &assertion).await), refused(), "it was used");
    let again = device.assertion(&lab, &challenge);
    assert_eq!(code(&gives(&lab, &again).await), refused(), "the challenge was used");
    device.count = 1;
    assert_eq!(code(&device.signs_in(&lab).await), refused(), "a copy of the device");
    let records = lab.finish_with_changes().await;
    let signed_in = records.iter().find(|it| it["change"]["id"] == login.id.as_str());
    assert_eq!(signed_in.expect("a record")["change"]["why"], "by passkey");
}

#[tokio::test]
async fn passkeys_are_named_listed_and_removed_by_their_user_and_all_at_once_by_an_admin() {
    let mut lab = lab_with("").await;
    let (ann, bob) =
        (Login::of(&mut lab, "default", "ann").await, Login::of(&mut lab, "default", "bob").await);
    let mut device = Device::new("the device of bob");
    let asked = options(&lab, &bob).await;
    let credential = device.credential(&lab, &asked);
    let added = adds(&lab, &bob, credential).await.json();
    let path = format!("/api/v1/session/passkeys/{}", added["id"].as_str().expect("an id"));
    let line = |method: &str| format!("{method} {path}");
    let body = json!({"name": "phone"});
    assert_eq!(named(&lab, &line("PATCH"), &ann.fields(), &body).await.head.status(), 404);
    assert_eq!(named(&lab, &line("DELETE"), &ann.fields(), &json!({})).await.head.status(), 404);
    for bad in ["", "a\nb", &"x".repeat(65)] {
        let answer = named(&lab, &line("PATCH"), &bob.fields(), &json!({"name": bad})).await;
        assert_eq!(code(&answer), (422, json!("invalid_field")), "{bad}");
    }
    assert_eq!(named(&lab, &line("PATCH"), &bob.fields(), &body).await.head.status(), 200);
    let list = named(&lab, "GET /api/v1/session/passkeys", &bob.cookie(), &json!({})).await.json();
    assert_eq!(
        (&list["items"][0]["name"], list["items"].as_array().map(Vec::len)),
        (&json!("phone"), Some(1))
    );
    for hidden in ["credential", "public_key", "count"] {
        assert!(list["items"][0].get(hidden).is_none(), "{list}");
    }
    assert_eq!(device.signs_in(&lab).await.head.status(), 200);
    lab.gateway.api("PATCH", "/users/bob", r#"{"paused":true}"#).await.is(200);
    assert_eq!(code(&device.signs_in(&lab).await), refused(), "a paused user");
    lab.gateway.api("PATCH", "/users/bob", r#"{"paused":false}"#).await;
    let line = "DELETE /api/v1/users/bob/passkeys";
    assert_eq!(named(&lab, line, &ann.fields(), &json!({})).await.head.status(), 204);
    assert_eq!(code(&named(&lab, line, &ann.fields(), &json!({})).await), (422, json!("refused")));
    assert_eq!(code(&device.signs_in(&lab).await), refused());
    let own = "GET /session/passkeys".split_once(' ').expect("a line");
    let operator = lab.gateway.api_with("", own, "").await;
    assert_eq!(code(&operator), (422, json!("refused")), "the operator is no user");
    lab.finish().await;
}

#[tokio::test]
async fn passkeys_need_a_host_name_and_can_be_switched_off() {
    let mut lab = lab_with("").await;
    let line = "POST /api/v1/session/challenge";
    let at_address = unseen_at(&lab, line, "", "{}").await;
    assert_eq!(code(&at_address), (422, json!("refused")));
    assert!(at_address.text().contains("http://localhost"), "{}", at_address.text());
    let foreign = "Origin: https://evil.example\r\n";
    assert_eq!(
        code(&named(&lab, line, foreign, &json!({})).await),
        (403, json!("cross_site_refused"))
    );
    let password = json!({"password": "correct horse battery staple"}).to_string();
    lab.gateway.api("PUT", "/users/bob/password", &password).await;
    let body = json!({"user": "bob", "password": "correct horse battery staple"});
    let answer = named(&lab, "POST /api/v1/session", "", &body).await;
    let login = Login::in_answer(&mut lab, &answer);
    let line = "POST /api/v1/session/passkeys/challenge";
    let without = named(&lab, line, &login.fields(), &json!({})).await;
    assert_eq!(without.json()["error"]["field"], "current", "an open browser is not enough");
    lab.finish().await;

    let off = lab_with("sign_in: { passkeys: false }").await;
    let refused = named(&off, "POST /api/v1/session/challenge", "", &json!({})).await;
    assert_eq!(code(&refused), (422, json!("refused")));
    assert!(refused.text().contains("sign_in.passkeys"), "{}", refused.text());
    off.finish().await;
}
