//! Links in refusals: where a person connects the account, for those who can sign in.

use serde_json::{Value, json};

use super::*;

/// The refusal of a request of `ci`.
async fn refusal(lab: &Lab, host: &str) -> Value {
    let mut wire = lab.tunnel(host).await;
    let answer = wire.ask(request_text("GET /", host)).await;
    answer.json()["error"].clone()
}

#[tokio::test]
async fn a_refusal_that_a_person_can_resolve_has_a_connect_url() {
    let lab = Plan::api_key().hosts(&format!("{HOST}, {STRANGER}")).no_agents();
    let mut lab = lab.start(Origin::saying("fine")).await;
    lab.add_agent("ci").await;
    let port = lab.gateway.admin.port();
    let base = format!("http://localhost:{port}");
    let unbound = refusal(&lab, HOST).await;
    assert_eq!((&unbound["code"], &unbound["provider"]), (&json!("default_deny"), &json!("acme")));
    assert_eq!(unbound["connect_url"], format!("{base}/connect?provider=acme&agent=ci"));
    let new = json!({"provider": "acme", "name": "mine", "fields": {"api_key": lab.canary.text}});
    api(&lab, "POST", "/connections", new, 201).await;
    api(&lab, "POST", "/agents/ci/bindings", json!({"connection": "mine"}), 201).await;
    assert_eq!(lab.ask("GET /").await.text(), "fine");
    api(&lab, "POST", "/connections/mine/pause", json!({}), 200).await;
    let paused = refusal(&lab, HOST).await;
    assert_eq!(paused["code"], "connection_paused");
    assert_eq!(paused["connect_url"], Value::Null, "its owner has paused it");
    api(&lab, "POST", "/connections/mine/resume", json!({}), 200).await;
    let breaks = |it: &mut keyward_state::directory::ConnectionRecord| {
        let (reason, detail) = (keyward_state::directory::BrokenReason::Rejected, None);
        it.facts.state = keyward_state::directory::ConnectionState::Broken { reason, detail };
    };
    let services = lab.gateway.running().services().clone();
    let org = keyward_base::id::OrgId::default_org();
    let id = services.directory.view().find_connection(&org, "mine").expect("it").id.clone();
    services
        .directory
        .change::<keyward_model::Connection>(&org, &id, breaks)
        .await
        .expect("a store");
    services.rulebook.rebuild().await.expect("rules");
    let broken = refusal(&lab, HOST).await;
    assert_eq!(broken["code"], "connection_broken");
    assert_eq!(broken["connect_url"], format!("{base}/connections/mine"));
    assert_eq!(broken["provider"], Value::Null);
    lab.finish().await;
}

#[tokio::test]
async fn no_connect_url_is_given_if_disabled_without_a_provider_or_unauthenticated() {
    let plan = Plan::api_key().no_agents().top("connect: { links_in_refusals: false }");
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.add_agent("ci").await;
    let off = refusal(&lab, HOST).await;
    assert_eq!((&off["provider"], &off["connect_url"]), (&json!("acme"), &Value::Null));
    // Of no provider.
    let (refused, _) = lab.connect(&format!("{STRANGER}:443")).await;
    let stranger = refused.json()["error"].clone();
    assert_eq!((&stranger["provider"], &stranger["connect_url"]), (&Value::Null, &Value::Null));
    // A client that has not authenticated does not learn the URL of the admin listener.
    let mut wire = lab.client().await;
    wire.send(format!("GET https://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    let unknown = wire.answer("GET").await.is(407);
    assert_eq!(unknown.json()["error"]["connect_url"], Value::Null);
    lab.finish().await;
}
