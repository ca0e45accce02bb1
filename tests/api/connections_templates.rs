//! Settings of an app, from a template or its own, hold for its connections where those say nothing
//! themselves, and the data path obeys them.

use serde_json::{Value, json};

use test_support::*;

/// A provider with a template, an app begun with it, and its connection.
fn plan(template: &str, of_app: &str, of_connection: &str) -> Plan {
    let method = "{ id: oauth, kind: oauth2, authorize: 'https://auth.acme.test/authorize', \
                  token: 'https://auth.acme.test/token', client_auth: none }";
    let fields = format!("{{ access_token: {{ env: CANARY }} }}, app: ours{of_connection}");
    let test = format!("{{ url: 'https://{HOST}/me' }}, templates: [{template}]");
    let app = format!("{{ name: ours, provider: acme, client_id: abc, template: team{of_app} }}");
    Plan::new(method, &fields).test(&test).top(&format!("apps:\n  - {app}"))
}

async fn shown(lab: &Lab, path: &str) -> Value {
    lab.gateway.api("GET", path, "").await.is(200).json()
}

const TEAM: &str = "{ id: team, scopes: [read, write], settings: { auto_refresh: false, rate_limit: 2/h, \
                    user_agent: team/1, headers: { X-Team: a, X-Env: prod } } }";

#[tokio::test]
async fn the_data_path_obeys_the_template_of_an_app() {
    let lab = plan(TEAM, "", "").start(Origin::saying("fine")).await;
    let app = shown(&lab, "/apps/ours").await;
    assert_eq!(app["scopes"], json!(["read", "write"]));
    assert_eq!(
        (&app["settings"]["auto_refresh"], &app["settings"]["rate_limit"]),
        (&json!(false), &json!("2/h"))
    );
    let connection = shown(&lab, "/connections/acme").await;
    assert_eq!(connection["settings"], json!({}), "it says nothing itself");
    assert_eq!(connection["inherited"]["rate_limit"], "2/h", "{connection}");
    assert_eq!(connection["requested"], json!(["read", "write"]));
    for _ in 0..2 {
        let answer = lab.ask("GET /a\r\nUser-Agent: curl\r\nX-Team: mine").await;
        assert_eq!(answer.text(), "fine", "{answer:?}");
    }
    let refused = lab.ask("GET /a").await;
    assert_eq!(refused.head.one("keyward-error"), Some("rate_limited"), "{refused:?}");
    assert!(refused.text().contains("2/h"), "{}", refused.text());
    let received = lab.origin.received();
    assert_eq!(received.len(), 2);
    for request in received {
        assert_eq!(request.head.all("user-agent"), ["team/1"]);
        assert_eq!(
            (request.head.all("x-team"), request.head.all("x-env")),
            (vec!["a"], vec!["prod"])
        );
    }
    lab.finish().await;
}

#[tokio::test]
async fn settings_of_app_and_connection_override_the_template() {
    let of_app = ", scopes: [read], settings: { rate_limit: 3/h }";
    let of_connection = ", settings: { user_agent: own/1, headers: { X-Team: b } }";
    let lab = plan(TEAM, of_app, of_connection).start(Origin::saying("fine")).await;
    assert_eq!(shown(&lab, "/apps/ours").await["scopes"], json!(["read"]));
    for _ in 0..3 {
        assert_eq!(lab.ask("GET /a").await.text(), "fine");
    }
    assert_eq!(lab.ask("GET /a").await.head.status(), 429);
    for request in lab.origin.received() {
        assert_eq!(request.head.all("user-agent"), ["own/1"]);
        assert_eq!(
            (request.head.all("x-team"), request.head.all("x-env")),
            (vec!["b"], vec!["prod"])
        );
    }
    lab.finish().await;
}

#[tokio::test]
async fn the_timeout_of_a_template_is_observed() {
    let silent =
        Origin::scripted(
            |mut stream: Stream| async move { while stream.request().await.is_some() {} },
        );
    let team = "{ id: team, scopes: [read], settings: { timeout: 100ms } }";
    let lab = plan(team, "", "").start(silent).await;
    let began = std::time::Instant::now();
    let late = lab.ask("GET /a").await;
    assert_eq!(late.head.one("keyward-error"), Some("upstream_timeout"), "{late:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "not the usual timeout");
    lab.finish().await;
}

#[tokio::test]
async fn an_unknown_or_invalid_template_is_refused_with_its_place() {
    let origin = Origin::saying("fine");
    let other = TEAM.replace("id: team", "id: other");
    let refused = plan(&other, "", "").refused(&origin).await;
    assert!(refused.contains("apps[0].template") && refused.contains("it has: other"), "{refused}");
    let wrong = TEAM.replace("rate_limit: 2/h", "rate_limit: 2");
    let refused = plan(&wrong, "", "").refused(&origin).await;
    assert!(refused.contains("template `team`"), "{refused}");
    let lab = Lab::simple().await;
    let body = r#"{"provider":"slack","name":"a","client_id":"1.2","template":"nope"}"#;
    let refused = lab.gateway.api("POST", "/apps", body).await;
    assert_eq!(refused.json()["error"]["field"], "template", "{}", refused.text());
    assert!(refused.text().contains("it has: slack"), "{}", refused.text());
    lab.finish().await;
}
