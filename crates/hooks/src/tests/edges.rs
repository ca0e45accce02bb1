//! Tests of values that no service sends, and of secrets in another form.

use super::*;
use crate::SecretError;

const KEY: &str = "secret-1";
const BODY: &str = r#"{"id":"evt_1","amount":100}"#;

fn github(value: &str) -> Result<VerifiedRequest, Rejection> {
    Sent::post(BODY).with("X-Hub-Signature-256", value).verify("github", &[KEY])
}

fn stripe(value: &str) -> Result<VerifiedRequest, Rejection> {
    Sent::post(BODY).with("Stripe-Signature", value).verify("stripe", &[KEY])
}

fn v1() -> String {
    hex(sha256(KEY.as_bytes(), format!("{NOW}.{BODY}")))
}

#[test]
fn a_hex_signature_may_be_upper_case_and_no_other_form_is_accepted() {
    let good = hex(sha256(KEY.as_bytes(), BODY));
    assert!(github(&format!("sha256={good}")).is_ok());
    assert!(github(&format!("sha256={}", good.to_uppercase())).is_ok());
    for (value, why) in [
        ("", Rejection::SignatureMissing),
        (&good, Rejection::SignatureMalformed),
        ("sha256=", Rejection::SignatureMalformed),
        (&format!("SHA256={good}"), Rejection::SignatureMalformed),
        (&format!("sha1={good}"), Rejection::SignatureMalformed),
        (&format!("sha256= {good}"), Rejection::SignatureMalformed),
        (&format!("sha256={good},sha256={good}"), Rejection::SignatureMalformed),
        (&format!("sha256={}", &good[1..]), Rejection::SignatureMalformed),
        (&format!("sha256={}", &good[2..]), Rejection::SignatureWrong),
        (&format!("sha256={good}00"), Rejection::SignatureWrong),
        (&format!("sha256={}", "0".repeat(64)), Rejection::SignatureWrong),
        (&format!("sha256={}", "a".repeat(5000)), Rejection::HeaderStrange),
        ("sha256=é", Rejection::HeaderStrange),
    ] {
        assert_eq!(github(value), Err(why), "{value}");
    }
}

#[test]
fn padding_of_base64_may_be_missing_and_other_alphabets_are_refused() {
    let bytes = sha256(KEY.as_bytes(), BODY);
    let shopify =
        |text: &str| Sent::post(BODY).with("X-Shopify-Hmac-SHA256", text).verify("shopify", &[KEY]);
    let good = base64(&bytes);
    assert!(shopify(&good).is_ok());
    assert!(shopify(good.trim_end_matches('=')).is_ok());
    for text in [
        format!("{good}="),
        format!("{good} "),
        format!("{} ", good.trim_end_matches('=')),
        // The alphabet of URLs.
        good.replace('/', "_"),
        good.replace(['+', '/'], "_") + "_",
        "====".to_owned(),
    ] {
        assert_eq!(shopify(&text), Err(Rejection::SignatureMalformed), "{text}");
    }
}

#[test]
fn one_of_several_signatures_of_the_version_is_enough() {
    let (good, bad) = (v1(), "00".repeat(32));
    for value in [
        format!("t={NOW},v1={good}"),
        format!("v1={good},t={NOW}"),
        format!("t={NOW},v1={bad},v1={good},v0={bad}"),
        format!("t={NOW}, v1={good}, v2=unknown"),
    ] {
        assert_eq!(stripe(&value).expect(&value).id, "evt_1");
    }
    let many = format!(",v1={good}").repeat(17);
    for (value, why) in [
        (format!("t={NOW},v1={bad}"), Rejection::SignatureWrong),
        (format!("t={NOW},v0={good}"), Rejection::SignatureMissing),
        (format!("t={NOW}"), Rejection::SignatureMissing),
        (format!("t={NOW},t={NOW},v1={good}"), Rejection::SignatureMalformed),
        (format!("t={NOW},t=1,v1={good}"), Rejection::SignatureMalformed),
        (format!("t={NOW},v1={good},v1"), Rejection::SignatureMalformed),
        (format!("t={NOW},v1={good},v1=zz"), Rejection::SignatureMalformed),
        (format!("t={NOW};v1={good}"), Rejection::SignatureMissing),
        (format!("t={NOW}{many}"), Rejection::SignatureMalformed),
        (format!("v1={good}"), Rejection::TimeMalformed),
    ] {
        assert_eq!(stripe(&value), Err(why), "{value}");
    }
}

#[test]
fn a_time_that_overflows_or_is_no_number_is_refused() {
    for time in [
        "",
        "-1700000000",
        "+1700000000",
        "1700000000.0",
        "0x65",
        "99999999999999999999",
        "9999999999999999",
        "a",
    ] {
        let signature = hex(sha256(KEY.as_bytes(), format!("{time}.{BODY}")));
        let refused = stripe(&format!("t={time},v1={signature}"));
        assert_eq!(refused, Err(Rejection::TimeMalformed), "{time}");
    }
    for time in ["2023-11-14", "2023-11-14T22:13:20", "99999-01-01T00:00:00Z", "1700000000"] {
        let sent = Sent::post(BODY).with("BOX-DELIVERY-TIMESTAMP", time).with(
            "BOX-SIGNATURE-PRIMARY",
            &base64(sha256(KEY.as_bytes(), format!("{BODY}{time}"))),
        );
        assert_eq!(sent.verify("box", &[KEY]), Err(Rejection::TimeMalformed), "{time}");
    }
}

#[test]
fn a_box_request_needs_the_key_of_only_one_of_its_two_signature_headers() {
    let at = Timestamp::from_second(NOW).unwrap().to_string();
    let by = |key: &str| base64(sha256(key.as_bytes(), format!("{BODY}{at}")));
    let timed = Sent::post(BODY).with("BOX-DELIVERY-TIMESTAMP", &at);
    let sent = timed
        .clone()
        .with("BOX-SIGNATURE-PRIMARY", &by("primary"))
        .with("BOX-SIGNATURE-SECONDARY", &by("secondary"));
    for secrets in [&["primary"][..], &["secondary"], &["new", "secondary"]] {
        assert!(sent.verify("box", secrets).is_ok(), "{secrets:?}");
    }
    assert_eq!(sent.verify("box", &["new"]), Err(Rejection::SignatureWrong));
    for (header, key, other) in [
        ("BOX-SIGNATURE-PRIMARY", "primary", "secondary"),
        ("BOX-SIGNATURE-SECONDARY", "secondary", "primary"),
    ] {
        let sent = timed.clone().with(header, &by(key));
        assert!(sent.verify("box", &[key]).is_ok(), "{header}");
        assert_eq!(sent.verify("box", &[other]), Err(Rejection::SignatureWrong), "{header}");
    }
}

#[test]
fn a_message_id_that_contains_the_separator_is_refused() {
    let key = [5; 24];
    let secret = format!("whsec_{}", base64(key));
    // Signed for the id `msg` and a body that begins with the time.
    let signature = base64(sha256(&key, format!("msg.1.{NOW}.{{}}")));
    let sent = Sent::post("{}")
        .with("webhook-id", "msg.1")
        .with("webhook-timestamp", &NOW.to_string())
        .with("webhook-signature", &format!("v1,{signature}"));
    assert_eq!(sent.verify("standard-webhooks", &[&secret]), Err(Rejection::HeaderStrange));
}

#[test]
fn an_invalid_event_id_in_the_body_is_replaced_by_a_hash() {
    let id = |body: &str| {
        let signature = hex(sha256(KEY.as_bytes(), format!("{NOW}.{body}")));
        let sent = Sent::post(body).with("Stripe-Signature", &format!("t={NOW},v1={signature}"));
        sent.verify("stripe", &[KEY]).expect(body).id
    };
    assert_eq!(id(r#"{"id":"evt_1"}"#), "evt_1");
    let long = format!(r#"{{"id":"{}"}}"#, "a".repeat(129));
    for body in [
        r#"{"id":"a b"}"#,
        r#"{"id":""}"#,
        r#"{"id":null}"#,
        r#"{"id":"ü"}"#,
        "{}",
        "no JSON",
        "",
        &long,
    ] {
        assert!(id(body).starts_with("sha256:"), "{body}");
    }
}

#[test]
fn bodies_that_are_empty_or_not_text_are_verified_as_bytes() {
    for body in [&b""[..], b"\xff\x00\xfe", b"\r\n", b" {} "] {
        let signature = format!("sha256={}", hex(sha256(KEY.as_bytes(), body)));
        let sent = Sent::post(body).with("X-Hub-Signature-256", &signature);
        assert!(sent.verify("github", &[KEY]).is_ok(), "{body:?}");
    }
}

#[test]
fn secrets_in_the_wrong_format_are_refused() {
    let check = |id: &str, text: &str| scheme(id).check_secret(&secret(text));
    for scheme in crate::all() {
        assert_eq!(scheme.check_secret(&secret("")), Err(SecretError::Empty), "{}", scheme.id());
        for text in [" a", "a\n"] {
            let refused = scheme.check_secret(&secret(text));
            assert_eq!(refused, Err(SecretError::SurroundingSpace), "{}", scheme.id());
        }
    }
    for (id, text) in [
        ("svix", "sk_live_1234"),
        ("svix", "whsec_"),
        ("svix", "whsec_c2hvcnQ="),
        ("standard-webhooks", "whpk_c2hvcnQ="),
        ("ed25519-discord", "abcd"),
        ("ed25519-discord", "not hexadecimal"),
        ("sendgrid", "c2hvcnQ="),
        ("sendgrid", "-----BEGIN PUBLIC KEY-----"),
        ("adyen", "not hexadecimal"),
        ("airtable", "!"),
    ] {
        assert!(matches!(check(id, text), Err(SecretError::Form { .. })), "{id}: {text}");
        let error = check(id, text).unwrap_err().to_string();
        assert!(text == "whsec_" || !error.contains(text), "{error}");
    }
    assert!(check("github", "any text").is_ok());
    assert!(check("gitlab", "any text").is_ok());
}

#[test]
fn an_id_may_name_algorithm_and_header_and_an_unknown_id_gives_no_scheme() {
    let xero = scheme("base64-sha256:x-xero-signature");
    assert!(std::ptr::eq(xero, scheme("base64-sha256:X-Xero-Signature")));
    assert_eq!(xero.id(), "base64-sha256:x-xero-signature");
    for id in [
        "",
        "git",
        "GitHub",
        "base64-md5:x",
        "hex:x",
        "hex-sha256:",
        "hex-sha256:a b",
        "text-sha256:x",
    ] {
        assert!(crate::get(id).is_none(), "{id}");
    }
}

#[test]
fn a_rejection_shows_neither_the_secret_nor_the_request() {
    let canary = "canary-5e2d";
    let sent = Sent::post(canary).with("X-Hub-Signature-256", &format!("sha256={canary}"));
    let refused = sent.verify("github", &[canary]).unwrap_err();
    let shown = format!("{refused} {refused:?} {} {:?}", refused.code(), secret(canary));
    assert!(!shown.contains(canary), "{shown}");
}
