//! Schemes whose keys are fetched. `fetched.json` was signed by `cryptography` and PyJWT at [`NOW`]; `sns-validator` of npm accepts
//! the messages of SNS in it, but `wrong_key`.

use std::sync::LazyLock;

use serde_json::Value;

use super::*;
use crate::{HookMessage, KeyPlace};

static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("fetched.json")).expect("JSON"));

fn text(service: &str, name: &str) -> &'static str {
    VECTORS[service][name].as_str().unwrap_or_else(|| panic!("{service} {name}"))
}

/// A scheme, with the secret that names the accepted sender or receiver.
struct Service {
    id: &'static str,
    vectors: &'static str,
    secret: &'static str,
}

const SNS: Service = Service { id: "aws-sns", vectors: "sns", secret: TOPIC };
const PUBSUB: Service = Service { id: "google-pubsub", vectors: "pubsub", secret: PUSHER };
const PAYPAL: Service = Service { id: "paypal", vectors: "paypal", secret: "1JE4291016473214C" };
const PLAID: Service = Service { id: "plaid-jwt", vectors: "plaid", secret: "" };
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:orders";
const PUSHER: &str = "push@p.iam.gserviceaccount.com";

impl Service {
    fn scheme(&self) -> &'static Scheme {
        crate::get(self.id).expect("a scheme")
    }

    fn secrets(&self) -> Vec<Secret> {
        let secret = Some(self.secret).filter(|secret| !secret.is_empty());
        secret.into_iter().map(Secret::new).collect()
    }

    fn place(&self, sent: &Sent) -> Result<KeyPlace, Rejection> {
        let place = self.scheme().key_place(&sent.incoming(), &self.secrets());
        place.map(|place| place.expect("its keys are fetched"))
    }

    /// As a caller does: the place of the key, then the signature by `document`.
    fn read(&self, sent: &Sent, document: &str) -> Result<HookMessage, Rejection> {
        self.place(sent)?;
        let now = Timestamp::from_second(NOW).expect("a time");
        let (incoming, secrets) = (sent.incoming(), self.secrets());
        self.scheme().read_with(text(self.vectors, document).as_bytes(), &incoming, &secrets, now)
    }

    fn event(&self, sent: &Sent) -> VerifiedRequest {
        match self.read(sent, "document") {
            Ok(HookMessage::Event(verified)) => verified,
            other => panic!("{}: {other:?}", self.id),
        }
    }

    fn refused(&self, sent: &Sent) -> Rejection {
        self.read(sent, "document").expect_err("it is refused")
    }
}

fn sns(name: &str) -> Sent {
    Sent::post(text("sns", name))
}

fn pushed(name: &str) -> Sent {
    Sent::post(text("pubsub", "body"))
        .with("Authorization", &format!("Bearer {}", text("pubsub", name)))
}

fn paypal(name: &str) -> Sent {
    let fields = VECTORS["paypal"][name].as_object().expect("fields");
    fields.iter().fold(Sent::post(text("paypal", "body")), |sent, (name, value)| {
        sent.with(name, value.as_str().expect("text"))
    })
}

fn plaid(name: &str) -> Sent {
    Sent::post(text("plaid", "body")).with("Plaid-Verification", text("plaid", name))
}

#[test]
fn messages_of_sns_are_verified_by_the_certificate_of_their_region() {
    let url = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a1b.pem";
    for name in ["event", "event_v1", "no_subject"] {
        assert_eq!(SNS.place(&sns(name)), Ok(KeyPlace::Public(url.to_owned())));
        assert_eq!(SNS.event(&sns(name)).id, "165545c9-2a5c-472c-8df2-7ff2be2b3b1b");
    }
    let confirmed = SNS.read(&sns("confirmation"), "document").expect("it is signed");
    let HookMessage::Challenge(ChallengeAction::Confirm { url }) = confirmed else {
        panic!("{confirmed:?}")
    };
    assert!(url.starts_with("https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription"));
    for (sent, why) in [
        (sns("wrong_key"), Rejection::SignatureWrong),
        (sns("late"), Rejection::TooOld),
        (sns("future"), Rejection::FromTheFuture),
        (sns("elsewhere"), Rejection::ChallengeRefused),
        (
            Sent::post(text("sns", "event").replace("paid 100", "paid 900")),
            Rejection::SignatureWrong,
        ),
        (Sent::post(text("sns", "event").replace("order\"", "ordes\"")), Rejection::SignatureWrong),
        (Sent::post(text("sns", "event").replace(":orders", ":others")), Rejection::OtherReceiver),
        (Sent::post("raw"), Rejection::SignatureMissing),
    ] {
        assert_eq!(SNS.refused(&sent), why, "{:?}", String::from_utf8_lossy(&sent.body));
    }
    for document in ["expired", "other_name"] {
        let refused = SNS.read(&sns("event"), document).expect_err("it is refused");
        assert_eq!(refused, Rejection::KeyStrange, "{document}");
    }
}

#[test]
fn a_certificate_url_outside_of_its_service_is_refused() {
    let sent = |url: &str| {
        let known = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a1b.pem";
        Sent::post(text("sns", "event").replace(known, url))
    };
    for url in [
        "https://attacker.example/SimpleNotificationService-0a1b.pem",
        "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a1b.pem",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0a1b.pem",
        "https://sns.eu-west-1.amazonaws.com.attacker.example/SimpleNotificationService-0a1b.pem",
        "https://sns.eu-west-1.amazonaws.com@attacker.example/SimpleNotificationService-0a1b.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/SimpleNotificationService-0a1b.pem",
        "https://sns.eu-west-1.amazonaws.com/other/SimpleNotificationService-0a1b.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-/../x.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a1b.pem?x=.pem",
    ] {
        assert_eq!(SNS.place(&sent(url)), Err(Rejection::KeyElsewhere), "{url}");
    }
    let place = |url: &str| PAYPAL.place(&paypal("event").replace("PAYPAL-CERT-URL", url));
    assert!(place("https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1").is_ok());
    for url in [
        "https://attacker.example/v1/notifications/certs/CERT-1",
        "http://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com.attacker.example/v1/notifications/certs/CERT-1",
        "https://www.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com/v1/notifications/certs/../x",
        "https://api.paypal.com/v1/notifications/certs/CERT-1?x",
        "https://api.paypal.com/v1/notifications/certs/",
    ] {
        assert_eq!(place(url), Err(Rejection::KeyElsewhere), "{url}");
    }
}

#[test]
fn a_pubsub_push_needs_the_audience_and_the_account_of_the_hook() {
    for name in ["token", "without_query"] {
        assert_eq!(PUBSUB.event(&pushed(name)).id, "136969346945", "{name}");
    }
    let named = Service { secret: "push@p.iam.gserviceaccount.com mine", ..PUBSUB };
    assert_eq!(named.event(&pushed("audience")).id, "136969346945");
    assert_eq!(named.refused(&pushed("token")), Rejection::OtherReceiver);
    for (name, why) in [
        ("other_audience", Rejection::OtherReceiver),
        ("audience", Rejection::OtherReceiver),
        ("other_email", Rejection::OtherReceiver),
        ("unverified", Rejection::OtherReceiver),
        ("other_issuer", Rejection::OtherReceiver),
        ("late", Rejection::TooOld),
        ("future", Rejection::FromTheFuture),
        ("wrong_key", Rejection::SignatureWrong),
        ("unknown_key", Rejection::KeyUnknown),
        ("hs256", Rejection::SignatureMalformed),
        ("none", Rejection::SignatureMalformed),
    ] {
        assert_eq!(PUBSUB.refused(&pushed(name)), why, "{name}");
    }
    let without = Sent::post(text("pubsub", "body"));
    assert_eq!(PUBSUB.refused(&without), Rejection::SignatureMissing);
    let none = Service { secret: "", ..PUBSUB };
    assert_eq!(none.refused(&pushed("token")), Rejection::NoSecret);
}

#[test]
fn a_paypal_event_is_accepted_only_for_the_webhook_id_of_the_hook() {
    assert_eq!(PAYPAL.event(&paypal("event")).id, "69cd13f0-d67a-11e5-baa3-778b53f4ae55");
    for (name, why) in [
        ("wrong_key", Rejection::SignatureWrong),
        ("other_webhook", Rejection::SignatureWrong),
        ("late", Rejection::TooOld),
        ("future", Rejection::FromTheFuture),
    ] {
        assert_eq!(PAYPAL.refused(&paypal(name)), why, "{name}");
    }
    let mut altered = paypal("event");
    altered.body = text("paypal", "body").replace("100", "900").into_bytes();
    assert_eq!(PAYPAL.refused(&altered), Rejection::SignatureWrong);
    let other = paypal("event").replace("PAYPAL-TRANSMISSION-ID", "another");
    assert_eq!(PAYPAL.refused(&other), Rejection::SignatureWrong);
    let weak = paypal("event").replace("PAYPAL-AUTH-ALGO", "SHA1withRSA");
    assert_eq!(PAYPAL.refused(&weak), Rejection::SignatureMalformed);
    for document in ["expired", "other_name"] {
        let refused = PAYPAL.read(&paypal("event"), document).expect_err("it is refused");
        assert_eq!(refused, Rejection::KeyStrange, "{document}");
    }
}

#[test]
fn a_plaid_event_needs_the_signed_hash_of_its_body() {
    let asked = PLAID.place(&plaid("token")).expect("a place");
    let body = r#"{"key_id":"6c5516e1-92dc-479e-a8ff-5a51992e0001"}"#.to_owned();
    assert_eq!(asked, KeyPlace::Api { path: "/webhook_verification_key/get", body });
    assert!(PLAID.event(&plaid("token")).id.starts_with("sha256:"));
    for (name, why) in [
        ("wrong_key", Rejection::SignatureWrong),
        ("other_body", Rejection::SignatureWrong),
        ("late", Rejection::TooOld),
        ("future", Rejection::FromTheFuture),
        ("hs256", Rejection::SignatureMalformed),
        ("odd_id", Rejection::SignatureMalformed),
    ] {
        assert_eq!(PLAID.refused(&plaid(name)), why, "{name}");
    }
    for document in ["replaced", "other_id"] {
        let refused = PLAID.read(&plaid("token"), document).expect_err("it is refused");
        assert_eq!(refused, Rejection::KeyUnknown, "{document}");
    }
}

#[test]
fn the_secret_of_a_hook_with_fetched_keys_names_its_sender_or_receiver() {
    for (service, good, bad) in [
        (&SNS, TOPIC, "orders"),
        (&SNS, "arn:aws-cn:sns:cn-north-1:1:a", "arn:aws:sqs:eu-west-1:1:a"),
        (&SNS, "arn:aws:sns:eu-west-1:1:a.fifo", "arn:aws:sns:x.attacker.example/:1:a"),
        (&PUBSUB, PUSHER, "push"),
        (&PUBSUB, "a@b https://c.example", "a@b c d"),
        (&PAYPAL, "1JE4291016473214C", "a|b"),
    ] {
        let check = |text: &str| service.scheme().check_secret(&Secret::new(text));
        assert!(check(good).is_ok(), "{good}");
        assert!(check(bad).is_err(), "{bad}");
    }
    let is_proof = |service: &Service, name: &'static str| {
        service.scheme().is_proof(&HeaderName::from_static(name))
    };
    assert!(is_proof(&PUBSUB, "authorization") && is_proof(&PLAID, "plaid-verification"));
    assert!(is_proof(&PAYPAL, "paypal-transmission-sig") && !is_proof(&SNS, "authorization"));
}
