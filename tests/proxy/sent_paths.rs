//! Rules on paths where the credential stands in the path: the path that the origin gets decides as well
//! as the one that the agent wrote.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use test_support::*;

/// A provider whose key stands in the path, as Telegram's bots.
fn bots() -> Plan {
    Plan::new(
        "{ id: key, kind: api_key, placement: { path: '/bot{api_key}/' } }",
        "{ api_key: { env: CANARY } }",
    )
}

async fn lab(rules: &[&str]) -> Lab {
    let plan = rules.iter().fold(bots(), |plan, rule| plan.rule(rule));
    plan.start(Origin::saying("fine")).await
}

/// A request without a body.
fn post(path: &str) -> String {
    format!("POST {path}\r\nContent-Length: 0")
}

fn code(answer: &Message) -> Option<&str> {
    answer.head.one("keyward-error")
}

async fn explained(lab: &Lab, path: &str) -> Value {
    let ask = json!({"agent": "ci", "method": "POST", "url": format!("https://{HOST}{path}")})
        .to_string();
    lab.gateway.api("POST", "/rules/explain", &ask).await.is(200).json()
}

const NO_SEND: &str =
    "{ name: no-send, hosts: [api.acme.test], paths: [\"/bot*/sendMessage\"], action: deny }";

#[tokio::test]
async fn a_deny_rule_for_the_path_that_is_sent_holds_however_the_agent_writes_the_path() {
    let mut lab = lab(&[NO_SEND]).await;
    let placeholder = lab.placeholder("api_key");
    for path in [
        "/sendMessage".to_owned(),
        "/sendMessage/".to_owned(),
        "/send%4dessage".to_owned(),
        "/sendMessage?chat_id=1".to_owned(),
        format!("/bot{placeholder}/sendMessage"),
        format!("/{placeholder}/sendMessage"),
        "/bot1:other/sendMessage".to_owned(),
        // What it is cannot be said, and the rule depends on it.
        "/x%2fsendMessage".to_owned(),
    ] {
        let answer = lab.ask(&post(&path)).await;
        assert!(matches!(answer.head.status(), 400 | 403), "{path}: {answer:?}");
        assert!(matches!(code(&answer), Some("denied" | "bad_target")), "{path}: {answer:?}");
    }
    let by_base_url = {
        let mut wire = lab.client().await;
        let key = format!("Authorization: Bearer {}", lab.token("ci"));
        let request = post("/to/acme/sendMessage") + "\r\n" + &key;
        wire.ask(request_text(&request, "127.0.0.1:8080")).await
    };
    assert_eq!((by_base_url.head.status(), code(&by_base_url)), (403, Some("denied")));
    assert_eq!(lab.origin.received().len(), 0);
    for path in ["/getMe".to_owned(), format!("/bot{placeholder}/getMe")] {
        let head = lab.delivered(&post(&path)).await;
        assert_eq!(head.target(), format!("/bot{}/getMe", lab.canary.text), "{path}");
    }
    let records = lab.finish().await;
    let denied = records.iter().filter(|it| it["code"] == "denied");
    assert_eq!(denied.count(), 8, "{records:#?}");
}

#[tokio::test]
async fn a_credential_that_a_program_writes_into_the_path_itself_is_masked_in_the_record() {
    let mut lab = lab(&[]).await;
    let canary = lab.canary.text.clone();
    let head = lab.delivered(&post(&format!("/bot{canary}/getMe"))).await;
    assert_eq!(head.target(), format!("/bot{canary}/getMe"));
    let records = lab.finish().await;
    let masked = format!("/bot{}/getMe", "*".repeat(canary.len()));
    assert_eq!(records[0]["path"], masked, "{records:#?}");
}

#[tokio::test]
async fn a_deny_rule_for_the_path_as_the_agent_wrote_it_holds_too() {
    let rule = "{ hosts: [api.acme.test], paths: [/sendMessage], action: deny }";
    let mut lab = lab(&[rule]).await;
    assert_eq!(code(&lab.ask(&post("/sendMessage")).await), Some("denied"));
    lab.delivered(&post("/getMe")).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_use_rule_must_match_both_the_written_and_the_sent_path() {
    let read = "{ hosts: [api.acme.test], paths: [/getMe], use: acme }";
    let lab = lab(&[read]).await;
    let answer = lab.ask(&post("/getMe")).await;
    assert_eq!((answer.head.status(), code(&answer)), (403, Some("denied")), "{}", answer.text());
    lab.finish_after(0).await;

    let both = "{ hosts: [api.acme.test], paths: [/getMe, \"/bot*/getMe\"], use: acme }";
    let mut lab = self::lab(&[both]).await;
    let placeholder = lab.placeholder("api_key");
    for path in ["/getMe".to_owned(), format!("/bot{placeholder}/getMe")] {
        let head = lab.delivered(&post(&path)).await;
        assert_eq!(head.target(), format!("/bot{}/getMe", lab.canary.text), "{path}");
    }
    // The outer path alone is not enough: the origin would get `/bot…/botX/getMe`.
    assert_eq!(code(&lab.ask(&post("/botX/getMe")).await), Some("denied"));
    lab.finish().await;
}

#[tokio::test]
async fn a_deny_rule_that_depends_on_the_credential_s_characters_refuses_the_request() {
    let rule = "{ name: one-bot, hosts: [api.acme.test], paths: [\"/bot123:*/sendMessage\"], action: deny }";
    let mut lab = lab(&[rule]).await;
    let answer = lab.ask(&post("/sendMessage")).await;
    assert_eq!((answer.head.status(), code(&answer)), (403, Some("denied")));
    assert!(answer.text().contains("one-bot"), "{}", answer.text());
    lab.delivered(&post("/getMe")).await;
    lab.finish().await;
}

#[tokio::test]
async fn explain_shows_the_written_and_the_sent_path() {
    let lab = lab(&[NO_SEND]).await;
    let told = explained(&lab, "/getMe").await;
    assert_eq!(
        (&told["path"], &told["path_sent"]),
        (&json!("/getMe"), &json!("/bot{credential}/getMe"))
    );
    assert_eq!(told["allowed"], true, "{told:#}");
    let told = explained(&lab, "/sendMessage").await;
    assert_eq!(told["path_sent"], "/bot{credential}/sendMessage", "{told:#}");
    assert_eq!((&told["rule"], &told["allowed"]), (&json!("file:no-send"), &json!(false)));
    lab.finish().await;
    // Where the path is sent as it came, there is one.
    let lab = Lab::simple().await;
    assert_eq!(explained(&lab, "/getMe").await["path_sent"], Value::Null);
    lab.finish().await;
}

#[tokio::test]
async fn a_deny_rule_for_the_sent_path_applies_to_direct_calls_too() {
    let lab = lab(&[NO_SEND]).await;
    let call = json!({"method": "POST", "path": "/sendMessage"}).to_string();
    let answer = lab.gateway.api("POST", "/connections/acme/request", &call).await;
    assert_eq!((answer.head.status(), &answer.json()["error"]["code"]), (403, &json!("denied")));
    assert_eq!(lab.origin.received().len(), 0);
    let call = json!({"method": "POST", "path": "/getMe"}).to_string();
    let answer = lab.gateway.api("POST", "/connections/acme/request", &call).await;
    assert_eq!(answer.json()["status"], 200, "{}", answer.text());
    lab.finish().await;
}

/// What a form or JSON body holds is no rule's to read; what is written there changes nothing else.
#[tokio::test]
async fn a_placement_in_a_method_or_path_override_field_is_refused() {
    for placement in [
        "header: X-HTTP-Method-Override",
        "header: X_Original_URL",
        "query: _method",
        "query: $httpMethod",
        "body: _method",
    ] {
        let auth = format!("{{ id: key, kind: api_key, placement: {{ {placement} }} }}");
        let plan = Plan::new(&auth, "{ api_key: { env: CANARY } }");
        let refused = plan.refused(&Origin::saying("fine")).await;
        assert!(refused.contains("steers the request itself"), "{placement}: {refused}");
    }
}

#[tokio::test]
async fn the_audit_log_has_the_path_as_the_agent_wrote_it() {
    let lab = lab(&[NO_SEND]).await;
    lab.ask(&post("/sendMessage")).await;
    let encoded = BASE64_STANDARD.encode(&lab.canary.text);
    let records = lab.finish().await;
    assert_eq!(records[0]["path"], "/sendMessage");
    assert!(!records[0].to_string().contains(&encoded));
}
