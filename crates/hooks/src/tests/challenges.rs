//! Tests of requests that verify the URL or hand over the secret.

use super::*;

const KEY: &str = "secret-1";
const PREVIOUS: &str = "secret-0";

/// The body of an answer, its content type, and its header.
fn answered(
    challenge: ChallengeAction,
) -> (String, &'static str, Option<(HeaderName, HeaderValue)>) {
    let ChallengeAction::Answer { content_type, body, header } = challenge else {
        panic!("{challenge:?}")
    };
    (String::from_utf8(body).expect("text"), content_type, header)
}

fn answer(sent: &Sent, id: &str) -> String {
    let challenge =
        sent.challenge(id, &[KEY, PREVIOUS]).unwrap_or_else(|why| panic!("{id}: {why}"));
    answered(challenge.unwrap_or_else(|| panic!("{id}: an event"))).0
}

fn refused(sent: &Sent, id: &str) -> Rejection {
    sent.challenge(id, &[KEY, PREVIOUS]).expect_err(id)
}

fn slack(body: &str, key: &str) -> Sent {
    let signature = hex(sha256(key.as_bytes(), format!("v0:{NOW}:{body}")));
    let sent = Sent::post(body).with("X-Slack-Request-Timestamp", &NOW.to_string());
    sent.with("X-Slack-Signature", &format!("v0={signature}"))
}

#[test]
fn slacks_challenge_is_verified_before_it_is_answered() {
    let body = r#"{"token":"old","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#;
    let text = "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P";
    assert_eq!(answer(&slack(body, KEY), "slack"), text);
    assert_eq!(answer(&slack(body, PREVIOUS), "slack"), text);
    assert_eq!(refused(&slack(body, "other"), "slack"), Rejection::SignatureWrong);
    assert_eq!(refused(&Sent::post(body), "slack"), Rejection::SignatureMissing);
    let html = r#"{"challenge":"<script>\u0000","type":"url_verification"}"#;
    assert_eq!(refused(&slack(html, KEY), "slack"), Rejection::ChallengeRefused);
    let none = r#"{"type":"url_verification"}"#;
    assert_eq!(refused(&slack(none, KEY), "slack"), Rejection::ChallengeRefused);
    let event = slack(r#"{"type":"event_callback","challenge":"x"}"#, KEY);
    assert!(event.challenge("slack", &[KEY]).expect("an event").is_none());
}

#[test]
fn discords_ping_is_verified_before_it_is_answered() {
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[3; 32]).expect("a seed");
    let key = hex(aws_lc_rs::signature::KeyPair::public_key(&pair));
    let sent = |body: &str| {
        let signature = hex(pair.sign(format!("{NOW}{body}").as_bytes()));
        let sent = Sent::post(body).with("X-Signature-Timestamp", &NOW.to_string());
        sent.with("X-Signature-Ed25519", &signature)
    };
    let pong = sent(r#"{"type":1}"#).challenge("ed25519-discord", &[&key]).expect("verified");
    assert_eq!(
        answered(pong.expect("a ping")),
        (r#"{"type":1}"#.to_owned(), "application/json", None)
    );
    let forged = sent(r#"{"type":2}"#).challenge("ed25519-discord", &[&key]);
    assert!(forged.expect("an event").is_none());
    let event = sent(r#"{"type":1,"event":{"type":"ENTITLEMENT_CREATE"}}"#);
    assert!(event.challenge("ed25519-discord", &[&key]).expect("an event").is_none());
    assert!(event.verify("ed25519-discord", &[&key]).is_ok());
    let ping = sent(r#"{"type":0}"#).challenge("ed25519-discord", &[&key]).expect("verified");
    assert!(matches!(ping, Some(ChallengeAction::Acknowledge)), "{ping:?}");
    let forged = Sent { body: r#"{"type": 0}"#.into(), ..sent(r#"{"type":0}"#) };
    let refused = forged.challenge("ed25519-discord", &[&key]).expect_err("a changed ping");
    assert_eq!(refused, Rejection::SignatureWrong);
    let forged = Sent { body: r#"{"type": 1}"#.into(), ..sent(r#"{"type":1}"#) };
    let refused = forged.challenge("ed25519-discord", &[&key]).expect_err("a changed ping");
    assert_eq!(refused, Rejection::SignatureWrong);
}

#[test]
fn metas_verify_token_is_derived_from_the_secret_and_compared() {
    let url = |token: &str, text: &str| {
        Sent::get(&format!(
            "{URL}&hub.mode=subscribe&hub.verify_token={token}&hub.challenge={text}"
        ))
    };
    let token = scheme("meta").verify_token(&secret(KEY)).expect("Meta has one");
    assert_eq!(token.len(), 32);
    assert!(!token.contains(KEY) && scheme("github").verify_token(&secret(KEY)).is_none());
    assert_ne!(scheme("meta").verify_token(&secret(PREVIOUS)).expect("one"), token);
    assert_eq!(answer(&url(&token, "1158201444"), "meta"), "1158201444");
    let previous = scheme("meta").verify_token(&secret(PREVIOUS)).expect("one");
    assert_eq!(answer(&url(&previous, "7"), "meta"), "7");
    for wrong in ["", KEY, &token[1..], "x"] {
        assert_eq!(refused(&url(wrong, "1"), "meta"), Rejection::ChallengeRefused, "{wrong}");
    }
    assert_eq!(refused(&url(&token, "%3Cscript%3E%0A"), "meta"), Rejection::ChallengeRefused);
    assert_eq!(refused(&url(&token, ""), "meta"), Rejection::ChallengeRefused);
    let none = url(&token, "1").challenge("meta", &[]).expect_err("without a secret");
    assert_eq!(none, Rejection::NoSecret);
    let posted = Sent { method: Method::POST, ..url(&token, "1") };
    assert!(posted.challenge("meta", &[KEY]).expect("an event").is_none());
    assert!(Sent::get(URL).challenge("meta", &[KEY]).expect("no challenge").is_none());
}

#[test]
fn dropbox_and_microsoft_graph_get_their_text_back_as_plain_text() {
    let dropbox = Sent::get(&format!("{URL}&challenge=abc%20123"));
    let graph = Sent::post("");
    let graph = Sent { url: format!("{URL}&validationToken=Validation%3A+Testing+a%3Cb"), ..graph };
    for (sent, id, text) in
        [(&dropbox, "dropbox", "abc 123"), (&graph, "msgraph", "Validation: Testing a<b")]
    {
        let challenge = sent.challenge(id, &[]).expect("it needs no secret").expect("a challenge");
        let (body, kind, header) = answered(challenge);
        assert_eq!((body.as_str(), kind), (text, "text/plain"));
        let (name, value) = header.expect("a header");
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-content-type-options", "nosniff"));
    }
    for text in ["", "a%0D%0Ab", "%FF", &"a".repeat(2049)] {
        let sent = Sent::get(&format!("{URL}&challenge={text}"));
        assert_eq!(refused(&sent, "dropbox"), Rejection::ChallengeRefused, "{text}");
    }
    let posted = Sent { method: Method::POST, ..dropbox };
    assert!(posted.challenge("dropbox", &[KEY]).expect("an event").is_none());
}

#[test]
fn the_crc_check_of_x_is_answered_and_its_answer_signs_no_event() {
    let get = |token: &str| Sent::get(&format!("{URL}&crc_token={token}"));
    let expected = base64(sha256(KEY.as_bytes(), "challenge_string"));
    let answer = answer(&get("challenge_string"), "x-crc");
    assert_eq!(answer, format!(r#"{{"response_token":"sha256={expected}"}}"#));
    for event in ["%7B%22a%22%3A1%7D", "a%20b", "", &"a".repeat(257)] {
        assert_eq!(refused(&get(event), "x-crc"), Rejection::ChallengeRefused, "{event}");
    }
    assert_eq!(get("a").challenge("x-crc", &[]).expect_err("no key"), Rejection::NoSecret);
    // The answer to a challenge is no signature of an event.
    let event = Sent::post("challenge_string")
        .with("x-twitter-webhooks-signature", &format!("sha256={expected}"));
    assert_eq!(event.verify("x-crc", &[KEY]), Err(Rejection::BodyStrange));
}

#[test]
fn zooms_validation_is_answered_by_the_secret_that_signed_it() {
    let body =
        r#"{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}"#;
    let sent = |body: &str, key: &str| {
        let signature = hex(sha256(key.as_bytes(), format!("v0:{NOW}:{body}")));
        let sent = Sent::post(body).with("x-zm-request-timestamp", &NOW.to_string());
        sent.with("x-zm-signature", &format!("v0={signature}"))
    };
    for key in [KEY, PREVIOUS] {
        let answer: serde_json::Value =
            serde_json::from_str(&answer(&sent(body, key), "zoom")).unwrap();
        assert_eq!(answer["plainToken"], "qgg8vlvZRS6UYooatFL8Aw");
        assert_eq!(answer["encryptedToken"], hex(sha256(key.as_bytes(), "qgg8vlvZRS6UYooatFL8Aw")));
    }
    assert_eq!(refused(&sent(body, "other"), "zoom"), Rejection::SignatureWrong);
    let oracle = body.replace("qgg8vlvZRS6UYooatFL8Aw", "v0:1:{}");
    assert_eq!(refused(&sent(&oracle, KEY), "zoom"), Rejection::ChallengeRefused);
}

#[test]
fn twitchs_challenge_is_verified_before_it_is_answered() {
    let at = "2023-11-14T22:13:20.123456789Z";
    let body = r#"{"challenge":"pogchamp-kappa-360noscope-vohiyo","subscription":{}}"#;
    let signature = hex(sha256(KEY.as_bytes(), format!("id-1{at}{body}")));
    let sent = Sent::post(body)
        .with("Twitch-Eventsub-Message-Id", "id-1")
        .with("Twitch-Eventsub-Message-Timestamp", at)
        .with("Twitch-Eventsub-Message-Signature", &format!("sha256={signature}"));
    let asked = sent.clone().with("Twitch-Eventsub-Message-Type", "webhook_callback_verification");
    assert_eq!(answer(&asked, "twitch"), "pogchamp-kappa-360noscope-vohiyo");
    assert_eq!(
        refused(&asked.replace("Twitch-Eventsub-Message-Id", "id-2"), "twitch"),
        Rejection::SignatureWrong
    );
    let event = sent.with("Twitch-Eventsub-Message-Type", "notification");
    assert!(event.challenge("twitch", &[KEY]).expect("an event").is_none());
    assert_eq!(event.verify("twitch", &[KEY]).expect("verified").id, "id-1");
}

#[test]
fn an_asana_or_notion_secret_is_learned_once_and_a_different_one_is_refused() {
    let asana = Sent::post("").with("X-Hook-Secret", "b537207f20cbfa02357cf448134da559");
    let notion = Sent::post(
        r#"{"verification_token":"secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl"}"#,
    );
    for (sent, id, text) in [
        (&asana, "asana", "b537207f20cbfa02357cf448134da559"),
        (&notion, "notion", "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl"),
    ] {
        assert!(scheme(id).learns_secret());
        assert_eq!(scheme(id).confirms_secret(), id == "notion");
        for known in [&[][..], &[text]] {
            let challenge = sent.challenge(id, known).expect("learned").expect("a secret");
            let ChallengeAction::Secret { secret, answer } = challenge else {
                panic!("{challenge:?}")
            };
            assert_eq!(secret.expose_text(), Some(text));
            let (body, _, header) = answered(*answer);
            assert_eq!(body, "");
            let header =
                header.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
            let expected = (id == "asana").then(|| ("x-hook-secret".to_owned(), text.to_owned()));
            assert_eq!(header, expected);
        }
        assert_eq!(refused(sent, id), Rejection::SecretKnown);
        assert!(Sent::post("{}").challenge(id, &[]).expect("an event").is_none());
    }
    let strange = Sent::post(r#"{"verification_token":"a b"}"#);
    let refused = strange.challenge("notion", &[]).expect_err("no token");
    assert_eq!(refused, Rejection::ChallengeRefused);
    assert!(
        !crate::all().iter().any(|s| s.learns_secret() && !["asana", "notion"].contains(&s.id()))
    );
}

#[test]
fn heads_of_trello_and_intercom_are_answered_and_other_services_have_no_challenge() {
    let head = Sent { method: Method::HEAD, ..Sent::get(URL) };
    for id in ["trello", "hub-signature-sha1"] {
        assert_eq!(answer(&head, id), "");
        assert!(scheme(id).checks_by_head() && !scheme("github").checks_by_head());
        assert!(Sent::post("{}").challenge(id, &[KEY]).expect("an event").is_none());
    }
    let text =
        Sent::get(&format!("{URL}&challenge=a&crc_token=b&validationToken=c&hub.mode=subscribe"));
    for scheme in ["github", "stripe", "svix"] {
        assert!(text.challenge(scheme, &[KEY]).expect("no challenge").is_none());
    }
}

#[test]
fn woocommerces_ping_is_answered_without_a_signature_and_another_body_is_an_event() {
    assert_eq!(answer(&Sent::post("webhook_id=42"), "woocommerce"), "");
    for body in [
        "webhook_id=",
        "webhook_id=%23",
        "webhook_id=4x",
        "webhook_id=4&a=b",
        "a=b&webhook_id=4",
        "{}",
        "",
    ] {
        let sent = Sent::post(body);
        assert!(sent.challenge("woocommerce", &[KEY]).expect("an event").is_none(), "{body}");
        assert_eq!(sent.verify("woocommerce", &[KEY]), Err(Rejection::SignatureMissing), "{body}");
    }
}
