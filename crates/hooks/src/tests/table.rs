//! Every scheme that signs by headers: accepted as the service documents it, and refused after any change.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use jiff::Timestamp;

use super::*;

/// How a row signs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum How {
    Hex,
    Base64,
    HexSha1,
    Base64Sha1,
    /// The key is hexadecimal, base64, `whsec_`.
    HexKey,
    Base64Key,
    Whsec,
    DiscordEd25519,
    StandardEd25519,
    Ecdsa,
    Token,
}

/// A scheme: header and value of the signature, what is signed, further headers, unit and window of the time. `SIG`,
/// `TIME`, `ID`, `URL` and `BODY` are replaced.
pub(super) struct Row {
    pub(super) id: &'static str,
    pub(super) how: How,
    pub(super) header: &'static str,
    value: &'static str,
    parts: &'static [&'static str],
    others: &'static [(&'static str, &'static str)],
    pub(super) time: Option<(Unit, i64)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    S,
    Ms,
    Date,
}

const BODY: &str = r#"{"amount":100,"webhookTimestamp":MS,"text":"caf\u00e9 ü"}"#;

use How::*;
use Unit::*;

macro_rules! rows {
    ($($id:literal $how:ident $header:literal $value:literal $parts:expr, $others:expr, $time:expr;)*) => {
        pub(super) const ROWS: &[Row] = &[$(Row {
            id: $id, how: $how, header: $header, value: $value, parts: &$parts, others: &$others, time: $time,
        }),*];
    };
}

rows! {
    "adyen" HexKey "HmacSignature" "SIG" ["BODY"], [], None;
    "airtable" Base64Key "X-Airtable-Content-MAC" "hmac-sha256=SIG" ["BODY"], [], None;
    "asana" Hex "X-Hook-Signature" "SIG" ["BODY"], [], None;
    "attio" Hex "Attio-Signature" "SIG" ["BODY"], [], None;
    "box" Base64 "BOX-SIGNATURE-PRIMARY" "SIG" ["BODY", "TIME"],
        [("BOX-DELIVERY-TIMESTAMP", "TIME")], Some((Date, 600));
    "box" Base64 "BOX-SIGNATURE-SECONDARY" "SIG" ["BODY", "TIME"],
        [("BOX-DELIVERY-TIMESTAMP", "TIME")], Some((Date, 600));
    "cal-com" Hex "X-Cal-Signature-256" "SIG" ["BODY"], [], None;
    "calendly" Hex "Calendly-Webhook-Signature" "t=TIME,v1=SIG" ["TIME", ".", "BODY"], [], Some((S, 180));
    "clickup" Hex "X-Signature" "SIG" ["BODY"], [], None;
    "dropbox" Hex "X-Dropbox-Signature" "SIG" ["BODY"], [], None;
    "ed25519-discord" DiscordEd25519 "X-Signature-Ed25519" "SIG" ["TIME", "BODY"],
        [("X-Signature-Timestamp", "TIME")], Some((S, 300));
    "firecrawl" Hex "X-Firecrawl-Signature" "sha256=SIG" ["BODY"], [], None;
    "github" Hex "X-Hub-Signature-256" "sha256=SIG" ["BODY"], [], None;
    "gitlab" Whsec "webhook-signature" "v1,SIG" ["ID", ".", "TIME", ".", "BODY"],
        [("webhook-id", "ID"), ("webhook-timestamp", "TIME")], Some((S, 300));
    "gitlab" Token "X-Gitlab-Token" "SIG" [], [], None;
    "google-channel" Token "X-Goog-Channel-Token" "SIG" [], [], None;
    "hub-signature" Hex "X-Hub-Signature" "sha256=SIG" ["BODY"], [], None;
    "hub-signature-sha1" HexSha1 "X-Hub-Signature" "sha1=SIG" ["BODY"], [], None;
    "hubspot-v3" Base64 "X-HubSpot-Signature-v3" "SIG" ["POST", "URL", "BODY", "TIME"],
        [("X-HubSpot-Request-Timestamp", "TIME")], Some((Ms, 300));
    "linear" Hex "Linear-Signature" "SIG" ["BODY"], [], Some((Ms, 60));
    "meta" Hex "X-Hub-Signature-256" "sha256=SIG" ["BODY"], [], None;
    "notion" Hex "X-Notion-Signature" "sha256=SIG" ["BODY"], [], None;
    "paddle" Hex "Paddle-Signature" "ts=TIME;h1=SIG" ["TIME", ":", "BODY"], [], Some((S, 60));
    "pagerduty" Hex "X-PagerDuty-Signature" "v1=SIG" ["BODY"], [], None;
    "sendgrid" Ecdsa "X-Twilio-Email-Event-Webhook-Signature" "SIG" ["TIME", "BODY"],
        [("X-Twilio-Email-Event-Webhook-Timestamp", "TIME")], Some((S, 300));
    "sentry" Hex "Sentry-Hook-Signature" "SIG" ["BODY"], [], None;
    "shopify" Base64 "X-Shopify-Hmac-SHA256" "SIG" ["BODY"], [], None;
    "slack" Hex "X-Slack-Signature" "v0=SIG" ["v0:", "TIME", ":", "BODY"],
        [("X-Slack-Request-Timestamp", "TIME")], Some((S, 300));
    "square" Base64 "x-square-hmacsha256-signature" "SIG" ["URL", "BODY"], [], None;
    "standard-webhooks" Whsec "webhook-signature" "v1,SIG" ["ID", ".", "TIME", ".", "BODY"],
        [("webhook-id", "ID"), ("webhook-timestamp", "TIME")], Some((S, 300));
    "standard-webhooks" StandardEd25519 "webhook-signature" "v1a,SIG" ["ID", ".", "TIME", ".", "BODY"],
        [("webhook-id", "ID"), ("webhook-timestamp", "TIME")], Some((S, 300));
    "stripe" Hex "Stripe-Signature" "t=TIME,v1=SIG" ["TIME", ".", "BODY"], [], Some((S, 300));
    "svix" Whsec "svix-signature" "v1,SIG" ["ID", ".", "TIME", ".", "BODY"],
        [("svix-id", "ID"), ("svix-timestamp", "TIME")], Some((S, 300));
    "telegram" Token "X-Telegram-Bot-Api-Secret-Token" "SIG" [], [], None;
    "trello" Base64Sha1 "X-Trello-Webhook" "SIG" ["BODY", "URL"], [], None;
    "twitch" Hex "Twitch-Eventsub-Message-Signature" "sha256=SIG" ["ID", "TIME", "BODY"],
        [("Twitch-Eventsub-Message-Id", "ID"), ("Twitch-Eventsub-Message-Timestamp", "TIME")], Some((Date, 600));
    "typeform" Base64 "Typeform-Signature" "sha256=SIG" ["BODY"], [], None;
    "vercel" HexSha1 "x-vercel-signature" "SIG" ["BODY"], [], None;
    "webflow" Hex "x-webflow-signature" "SIG" ["TIME", ":", "BODY"],
        [("x-webflow-timestamp", "TIME")], Some((Ms, 300));
    "woocommerce" Base64 "X-WC-Webhook-Signature" "SIG" ["BODY"], [], None;
    "workos" Hex "WorkOS-Signature" "t=TIME, v1=SIG" ["TIME", ".", "BODY"], [], Some((Ms, 180));
    "x-crc" Base64 "x-twitter-webhooks-signature" "sha256=SIG" ["BODY"], [], None;
    "xero" Base64 "x-xero-signature" "SIG" ["BODY"], [], None;
    "zendesk" Base64 "X-Zendesk-Webhook-Signature" "SIG" ["TIME", "BODY"],
        [("X-Zendesk-Webhook-Signature-Timestamp", "TIME")], Some((Date, 300));
    "zoom" Hex "x-zm-signature" "v0=SIG" ["v0:", "TIME", ":", "BODY"],
        [("x-zm-request-timestamp", "TIME")], Some((S, 300));
    "base64-sha256:x-xero-signature" Base64 "x-xero-signature" "SIG" ["BODY"], [], None;
    "hex-sha1:X-Spark-Signature" HexSha1 "X-Spark-Signature" "SIG" ["BODY"], [], None;
}

static ECDSA: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key"));
static OTHER_ECDSA: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key"));

fn ed25519(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed")
}

impl How {
    /// What a person enters; `seed` selects one.
    pub(super) fn secret(self, seed: u8) -> String {
        let ecdsa = if seed == 0 { &ECDSA } else { &OTHER_ECDSA };
        match self {
            HexKey => hex([seed; 32]),
            Base64Key => base64([seed; 32]),
            Whsec => format!("whsec_{}", base64([seed; 24])),
            DiscordEd25519 => hex(ed25519(seed).public_key()),
            StandardEd25519 => format!("whpk_{}", base64(ed25519(seed).public_key())),
            Ecdsa => {
                let der: PublicKeyX509Der<'_> = ecdsa.public_key().as_der().expect("a key");
                base64(der.as_ref())
            }
            Hex | Base64 | HexSha1 | Base64Sha1 | Token => format!("a secret, number {seed}"),
        }
    }

    fn sign(self, seed: u8, message: &[u8]) -> String {
        let ecdsa = if seed == 0 { &ECDSA } else { &OTHER_ECDSA };
        let text = self.secret(seed);
        let key = text.as_bytes();
        match self {
            Hex => hex(sha256(key, message)),
            Base64 => base64(sha256(key, message)),
            HexSha1 => hex(sha1(key, message)),
            Base64Sha1 => base64(sha1(key, message)),
            HexKey => base64(sha256(&[seed; 32], message)),
            Base64Key => hex(sha256(&[seed; 32], message)),
            Whsec => base64(sha256(&[seed; 24], message)),
            DiscordEd25519 => hex(ed25519(seed).sign(message)),
            StandardEd25519 => base64(ed25519(seed).sign(message)),
            Ecdsa => base64(ecdsa.sign(&SystemRandom::new(), message).expect("signed")),
            Token => text,
        }
    }
}

impl Row {
    pub(super) fn signed(&self, seed: u8, at: i64) -> Sent {
        self.made(seed, at, |_| {})
    }

    /// `arrange` changes what is signed.
    fn made(&self, seed: u8, at: i64, arrange: impl FnOnce(&mut Vec<String>)) -> Sent {
        let body = BODY.replace("MS", &(at * 1000).to_string());
        let time = match self.time {
            Some((Ms, _)) => (at * 1000).to_string(),
            Some((Date, _)) => Timestamp::from_second(at).expect("a time").to_string(),
            _ => at.to_string(),
        };
        let fill = |text: &str| {
            let text = text.replace("TIME", &time).replace("ID", "msg_2b");
            text.replace("URL", URL).replace("BODY", &body)
        };
        let mut parts: Vec<String> = self.parts.iter().map(|part| fill(part)).collect();
        arrange(&mut parts);
        let signature = self.how.sign(seed, parts.concat().as_bytes());
        let mut sent = Sent::post(body.clone());
        for (name, value) in self.others {
            sent = sent.with(name, &fill(value));
        }
        sent.with(self.header, &fill(self.value).replace("SIG", &signature))
    }

    pub(super) fn verified(&self, sent: &Sent) -> Result<VerifiedRequest, Rejection> {
        sent.verify(self.id, &[&self.how.secret(0)])
    }

    pub(super) fn label(&self) -> String {
        format!("{} by {}", self.id, self.header)
    }
}

#[test]
fn every_scheme_has_a_row_or_tests_of_its_own() {
    let here: BTreeSet<&str> =
        ROWS.iter().map(|row| row.id).filter(|id| !id.contains(':')).collect();
    let bodies = ["mailgun", "msgraph", "twilio"];
    let fetched = ["aws-sns", "google-pubsub", "paypal", "plaid-jwt"];
    let here: BTreeSet<&str> = here.into_iter().chain(bodies).chain(fetched).collect();
    let all: BTreeSet<&str> = crate::all().iter().map(Scheme::id).collect();
    assert_eq!(here, all);
    assert_eq!(all.len(), 49);
    assert!(crate::all().is_sorted_by_key(Scheme::id));
    for scheme in crate::all() {
        assert!(scheme.docs().starts_with("https://"), "{}", scheme.id());
        assert!(!scheme.name().is_empty() && !scheme.secret_label().is_empty(), "{}", scheme.id());
    }
}

#[test]
fn signed_requests_are_verified_with_the_time_that_is_signed() {
    for row in ROWS {
        let verified = row
            .verified(&row.signed(0, NOW))
            .unwrap_or_else(|why| panic!("{}: {why}", row.label()));
        let sent = row.time.map(|_| Timestamp::from_second(NOW).unwrap());
        assert_eq!(verified.sent, sent, "{}", row.label());
        let id = verified.id;
        assert!((1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()), "{id}");
        assert_eq!(id == "msg_2b", row.parts.contains(&"ID"), "{}: {id}", row.label());
        scheme(row.id).check_secret(&secret(&row.how.secret(0))).expect("the form of the secret");
    }
}

#[test]
fn an_altered_body_is_refused_where_the_body_is_signed() {
    for row in ROWS {
        let mut sent = row.signed(0, NOW);
        sent.body = String::from_utf8(sent.body).unwrap().replace("100", "900").into_bytes();
        match row.how {
            Token => assert!(row.verified(&sent).is_ok() && !scheme(row.id).signs_body()),
            _ => assert_eq!(row.verified(&sent), Err(Rejection::SignatureWrong), "{}", row.label()),
        }
        sent.body.clear();
        assert_eq!(row.verified(&sent).is_ok(), row.how == Token, "{}", row.label());
    }
}

#[test]
fn another_key_is_refused_and_either_key_accepted_during_a_rotation() {
    for row in ROWS {
        let by_other = row.signed(1, NOW);
        assert_eq!(row.verified(&by_other), Err(Rejection::SignatureWrong), "{}", row.label());
        let (current, previous) = (row.how.secret(0), row.how.secret(1));
        assert!(by_other.verify(row.id, &[&current, &previous]).is_ok(), "{}", row.label());
        for none in [&[][..], &[""]] {
            assert_eq!(by_other.verify(row.id, none), Err(Rejection::NoSecret), "{}", row.label());
        }
    }
}

#[test]
fn a_time_outside_of_the_window_is_refused() {
    let mut count = 0;
    for row in ROWS {
        let at = |offset| row.verified(&row.signed(0, NOW + offset));
        let Some((_, window)) = row.time else {
            assert!(at(-1_000_000).is_ok(), "{}", row.label());
            continue;
        };
        count += 1;
        assert!(at(-window).is_ok() && at(window).is_ok(), "{}", row.label());
        assert_eq!(at(-window - 1), Err(Rejection::TooOld), "{}", row.label());
        assert_eq!(at(window + 1), Err(Rejection::FromTheFuture), "{}", row.label());
        let remembered = scheme(row.id).replay_window().as_secs();
        assert!(remembered >= 2 * window, "{}", row.label());
    }
    assert_eq!(count, 19);
}

#[test]
fn another_time_than_the_signed_one_is_refused() {
    for row in ROWS.iter().filter(|row| row.time.is_some() && row.id != "linear") {
        let mut sent = row.signed(0, NOW);
        let (other, header) =
            (row.signed(0, NOW + 1), |name: &str| row.header.eq_ignore_ascii_case(name));
        for (name, value) in &other.headers {
            if !header(name.as_str()) {
                sent = sent.replace(name.as_str(), value.to_str().unwrap());
            }
        }
        if row.value.contains("TIME") {
            let value = sent.one(row.header).replacen("170000000", "170000001", 1);
            sent = sent.replace(row.header, &value);
        }
        sent.body = row.signed(0, NOW).body;
        assert!(row.verified(&row.signed(0, NOW)).is_ok());
        let refused = row.verified(&sent).unwrap_err();
        assert_eq!(refused, Rejection::SignatureWrong, "{}", row.label());
    }
}

#[test]
fn a_missing_or_repeated_header_is_refused() {
    for row in ROWS {
        let sent = row.signed(0, NOW);
        let names: Vec<HeaderName> = sent.headers.keys().cloned().collect();
        for name in names {
            let mut without = sent.clone();
            let value = without.headers.remove(&name).expect("it was there");
            let refused = row.verified(&without).unwrap_err().code();
            let missing = ["signature_missing", "time_malformed", "header_missing"];
            assert!(missing.contains(&refused), "{} {name}: {refused}", row.label());
            let mut twice = sent.clone();
            twice.headers.append(&name, value);
            assert_eq!(
                row.verified(&twice),
                Err(Rejection::HeaderRepeated),
                "{} {name}",
                row.label()
            );
        }
    }
}

#[test]
fn a_signature_of_reordered_or_missing_parts_is_refused() {
    let mut count = 0;
    for row in ROWS.iter().filter(|row| row.parts.len() > 1) {
        count += 1;
        let reversed = row.made(0, NOW, |parts| parts.reverse());
        assert_eq!(row.verified(&reversed), Err(Rejection::SignatureWrong), "{}", row.label());
        for at in 0..row.parts.len() {
            let without = row.made(0, NOW, |parts| drop(parts.remove(at)));
            assert_eq!(row.verified(&without), Err(Rejection::SignatureWrong), "{}", row.label());
        }
    }
    assert_eq!(count, 20);
}

#[test]
fn a_repeated_request_keeps_its_id_and_another_request_gets_a_different_id() {
    let repeating = ["attio", "clickup", "dropbox"];
    for row in ROWS.iter().filter(|row| !repeating.contains(&row.id)) {
        let first = row.verified(&row.signed(0, NOW)).unwrap();
        let again = row.verified(&row.signed(0, NOW).with("X-GitHub-Delivery", "another")).unwrap();
        assert_eq!(first.id, again.id, "{}", row.label());
        if first.id.starts_with("sha256:") {
            let other = row.verified(&row.signed(0, NOW - 1)).unwrap();
            assert_ne!(first.id, other.id, "{}", row.label());
        }
    }
}
