//! Tests by signatures that services and their libraries publish.

use super::*;

#[test]
fn githubs_documented_signature() {
    let sent = Sent::post("Hello, World!").with(
        "X-Hub-Signature-256",
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    );
    assert!(sent.verify("github", &["It's a Secret to Everybody"]).is_ok());
}

#[test]
fn slacks_documented_signature() {
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
        channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=\
        https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
        trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let sent = Sent::post(body).with("X-Slack-Request-Timestamp", "1531420618").with(
        "X-Slack-Signature",
        "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    );
    let secret = ["8f742231b10e8888abcd99yyyzzz85a5"];
    assert!(sent.verify_at("slack", &secret, 1_531_420_618).is_ok());
    assert_eq!(sent.verify("slack", &secret), Err(Rejection::TooOld));
}

#[test]
fn svixs_documented_signature() {
    let sent = Sent::post(r#"{"event_type":"ping","data":{"success":true}}"#)
        .with("svix-id", "msg_loFOjxBNrRLzqYUf")
        .with("svix-timestamp", "1731705121")
        .with("svix-signature", "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
    let verified = sent.verify_at("svix", &["whsec_plJ3nmyCDGBKInavdOK15jsl"], 1_731_705_121);
    assert_eq!(verified.expect("verified").id, "msg_loFOjxBNrRLzqYUf");
}

#[test]
fn the_signature_in_the_tests_of_standard_webhooks() {
    let sent = Sent::post(r#"{"test": 2432232314}"#)
        .with("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
        .with("webhook-timestamp", "1614265330")
        .with("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    let key = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for secret in [format!("whsec_{key}"), key.to_owned()] {
        assert!(sent.verify_at("standard-webhooks", &[&secret], 1_614_265_330).is_ok());
    }
}

#[test]
fn twilios_documented_signature() {
    let body = "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212";
    let mut sent = Sent::post(body)
        .with("Content-Type", "application/x-www-form-urlencoded")
        .with("X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
    sent.url = "https://mycompany.com/myapp.php?foo=1&bar=2".to_owned();
    assert!(sent.verify("twilio", &["12345"]).is_ok());
}

#[test]
fn boxs_documented_signature() {
    let body = r#"{"type":"webhook_event","webhook":{"id":"1234567890"},"trigger":"FILE.UPLOADED","source":{"id":"1234567890","type":"file","name":"Test.txt"}}"#;
    let at: Timestamp = "2020-01-01T00:00:00-07:00".parse().expect("a time");
    let sent = Sent::post(body)
        .with("BOX-DELIVERY-TIMESTAMP", "2020-01-01T00:00:00-07:00")
        .with("BOX-SIGNATURE-PRIMARY", "6TfeAW3A1PASkgboxxA5yqHNKOwFyMWuEXny/FPD5hI=");
    assert!(sent.verify_at("box", &["SamplePrimaryKey"], at.as_second()).is_ok());
}

#[test]
fn squares_documented_signature() {
    let mut sent = Sent::post(r#"{"hello":"world"}"#)
        .with("x-square-hmacsha256-signature", "2kRE5qRU2tR+tBGlDwMEw2avJ7QM4ikPYD/PJ3bd9Og=");
    sent.url = "https://example.com/webhook".to_owned();
    assert!(sent.verify("square", &["asdf1234"]).is_ok());
    sent.url.push('/');
    assert_eq!(sent.verify("square", &["asdf1234"]), Err(Rejection::SignatureWrong));
}

#[test]
fn sendgrids_signature_in_its_library() {
    let key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
    let body = concat!(
        r#"[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address","#,
        r#""sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA","#,
        r#""sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0","#,
        r#""smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]"#,
        "\r\n"
    );
    let sent = Sent::post(body).with("X-Twilio-Email-Event-Webhook-Timestamp", "1600112502").with(
        "X-Twilio-Email-Event-Webhook-Signature",
        "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=",
    );
    assert!(sent.verify_at("sendgrid", &[key], 1_600_112_502).is_ok());
}

#[test]
fn adyens_signature_in_its_libraries() {
    let body = r#"{"live":"false","notificationItems":[{"NotificationRequestItem":{"pspReference":"7914073381342284",
        "originalReference":"","merchantAccountCode":"TestMerchant","merchantReference":"TestPayment-1407325143704",
        "amount":{"value":1130,"currency":"EUR"},"eventCode":"AUTHORISATION","success":"true",
        "additionalData":{"hmacSignature":"coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="}}}]}"#;
    let key = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056";
    assert!(Sent::post(body).verify("adyen", &[key]).is_ok());
}
