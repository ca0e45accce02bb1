//! [`Team`]: a gateway whose people sign in at an issuer that signs what a test says.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};

use test_support::authorization::{
    Authorization, CLIENT, CLIENT_SECRET, Fault, ISSUER, Rules, answer, encoded, query,
};
use test_support::browser::Browser;
use test_support::canary::Canary;
use test_support::*;

/// The claims of a person.
pub(super) type Claims = Value;

/// A gateway whose people sign in at an issuer.
pub(super) struct Team {
    pub(super) lab: Lab,
    pub(super) server: Authorization,
    pub(super) key: Arc<EcdsaKeyPair>,
}

/// A browser that is at the issuer.
pub(super) struct AtIssuer {
    pub(super) browser: Browser,
    pub(super) url: String,
}

/// `ann`, whom every team lets in.
pub(super) fn ann() -> Claims {
    json!({"sub": "00-ann", "email": "ann@acme.test", "email_verified": true, "groups": ["dev"]})
}

pub(super) fn with(mut claims: Claims, more: Value) -> Claims {
    claims.as_object_mut().expect("claims").extend(more.as_object().expect("claims").clone());
    claims
}

impl Team {
    /// Of `dev` and `ops`, with addresses of `acme.test`; `more` of the section may replace that.
    pub(super) async fn start() -> Self {
        Self::with("domains: [acme.test], groups: [dev, ops], roles: { ops: admin, dev: member }")
            .await
    }

    pub(super) async fn with(more: &str) -> Self {
        Self::of(Rules::default(), more, |plan| plan).await
    }

    pub(super) async fn of(rules: Rules, more: &str, change: impl FnOnce(Plan) -> Plan) -> Self {
        let server = Authorization::with(rules).await;
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let key = Arc::new(key);
        let issuer = server.issuer();
        issuer.tell("jwks_uri", json!(format!("{ISSUER}/jwks")));
        issuer.script("/jwks", answer(200, &json!({"keys": [jwk(&key)]})));
        let plan = server.reached(Plan::api_key()).variable("OIDC_SECRET", CLIENT_SECRET);
        let section = format!(
            "sign_in: {{ oidc: {{ issuer: \"{ISSUER}\", client_id: {CLIENT}, name: Acme, \
             client_secret: {{ env: OIDC_SECRET }}, {more} }} }}"
        );
        let mut lab = change(plan.top(&section)).start(Origin::saying("fine")).await;
        lab.guard(Canary::of(CLIENT_SECRET.to_owned()));
        Self { lab, server, key }
    }

    pub(super) fn browser(&self) -> Browser {
        Browser::new(&self.lab.gateway)
    }

    /// Begins a sign-in that returns to a path.
    pub(super) async fn begin(&self, to: &str) -> AtIssuer {
        let mut browser = self.browser();
        let sent = browser.get(&format!("/login/oidc?to={}", encoded(to))).await.is(303);
        let url = sent.head.one("location").expect("the issuer").to_owned();
        assert!(url.starts_with(&format!("{ISSUER}/authorize?")), "{url}");
        AtIssuer { browser, url }
    }

    /// The next token answer has an ID token with these claims, beside those that every one has.
    pub(super) fn says(&self, at: &AtIssuer, claims: &Claims) {
        let claims = with(every(at), claims.clone());
        let token = self.signed(&claims);
        self.answers_with(token);
    }

    pub(super) fn answers_with(&self, id_token: String) {
        self.server.fail_next(Fault::Bends(Arc::new(move |mut reply| {
            reply["id_token"] = json!(id_token);
            answer(200, &reply)
        })));
    }

    pub(super) fn signed(&self, claims: &Claims) -> String {
        sign(&self.key, &json!({"alg": "ES256", "kid": "k1"}), claims)
    }

    /// The browser consents and comes back.
    pub(super) async fn returns(&self, at: &mut AtIssuer) -> Message {
        let back = self.server.issuer().consent(&at.url);
        at.browser.get(&back).await
    }

    /// The whole way.
    pub(super) async fn sign_in(&self, claims: &Claims) -> (Message, Browser) {
        let mut at = self.begin("/agents").await;
        self.says(&at, claims);
        let answer = self.returns(&mut at).await;
        (answer, at.browser)
    }

    /// Signs in, and says who that is.
    pub(super) async fn signed_in(&mut self, claims: &Claims) -> (Value, Browser) {
        let (answer, mut browser) = self.sign_in(claims).await;
        assert_eq!(answer.head.status(), 303, "{}", answer.text());
        self.guard(&browser);
        let session = browser.get("/api/v1/session").await.is(200);
        (session.json(), browser)
    }

    /// The token of a login is a secret.
    pub(super) fn guard(&mut self, browser: &Browser) {
        for (name, value) in &browser.cookies {
            if name == "keyward" {
                self.lab.guard(Canary::of(value.clone()));
            }
        }
    }

    pub(super) async fn users(&self) -> Vec<Value> {
        let users = self.lab.gateway.api("GET", "/users", "").await.json();
        users["items"].as_array().expect("users").clone()
    }

    pub(super) async fn logins(&self) -> usize {
        let logins = self.lab.gateway.api("GET", "/logins", "").await.json();
        logins["items"].as_array().expect("logins").len()
    }
}

/// What every ID token for this sign-in says.
pub(super) fn every(at: &AtIssuer) -> Claims {
    let now = jiff::Timestamp::now().as_second();
    json!({"iss": ISSUER, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": query(&at.url)["nonce"]})
}

fn jwk(key: &EcdsaKeyPair) -> Value {
    let point = key.public_key().as_ref();
    let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
    json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "k1", "x": x, "y": y})
}

pub(super) fn sign(key: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
    let coded = |value: &Value| BASE64.encode(value.to_string());
    let text = format!("{}.{}", coded(header), coded(claims));
    let signature = key.sign(&SystemRandom::new(), text.as_bytes()).expect("a signature");
    format!("{text}.{}", BASE64.encode(signature))
}
