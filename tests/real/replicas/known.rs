//! What one replica has answered is known at the next one that the client asks, without a pause between them.

use super::*;
use test_support::process::reserved_address;

const ROUNDS: usize = 4;

/// A read over TCP, with a user's token or as a browser without one.
async fn read(lab: &Lab, at: &Gateway, path: &str, token: Option<&str>) -> Message {
    let mut wire = lab.client_at(at.admin).await;
    let proof = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    wire.ask(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{proof}\r\n", at.admin)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_or_an_agent_made_at_one_replica_is_found_at_the_other_at_once() {
    let (_database, mut lab) = Database::with_lab().await;
    let mut other = lab.gateway.replica().await;
    read(&lab, &other, "/api/v1/agents/unknown", Some("kwp_unknown")).await.is(401);
    for round in 0..ROUNDS {
        let (user, agent) = (format!("ann-{round}"), format!("agent-{round}"));
        call(&lab.gateway, "POST", "/users", &json!({ "name": user, "role": "admin" })).await;
        let made = call(&lab.gateway, "POST", "/tokens", &json!({ "user": user })).await;
        let token = made["token"].as_str().expect("shown once").to_owned();
        lab.guard(Canary::of(token.clone()));
        let known = read(&lab, &other, "/api/v1/agents", Some(&token)).await;
        assert_eq!(known.head.status(), 200, "its token: {}", known.text());
        call(&lab.gateway, "POST", "/agents", &json!({ "name": agent })).await;
        read(&lab, &other, &format!("/api/v1/agents/{agent}"), Some(&token)).await.is(200);
        read(&lab, &other, "/api/v1/agents/unknown", Some(&token)).await.is(404);
    }
    other.stop().await;
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_a_replica_has_made_opens_at_the_other_at_once() {
    let database = Database::start();
    let public = format!("public_url: http://localhost:{}", reserved_address().port());
    let origin = Origin::saying("fine");
    let mut lab = database.under(Plan::api_key()).top(&public).start(origin).await;
    let mut other = lab.gateway.replica().await;
    read(&lab, &other, "/connect/kwl_unknown", None).await.is(410);
    for round in 0..ROUNDS {
        let user = json!({ "name": format!("ann-{round}"), "role": "end_user" });
        call(&lab.gateway, "POST", "/users", &user).await;
        let wanted = json!({ "user": user["name"], "providers": ["acme"] });
        let made = call(&lab.gateway, "POST", "/connect-sessions", &wanted).await;
        let url = made["url"].as_str().expect("a link").to_owned();
        let path = &url[url.find("/connect/").expect("a link's path")..];
        lab.guard(Canary::of(path["/connect/".len()..].to_owned()));
        read(&lab, &other, path, None).await.is(200);
    }
    other.stop().await;
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_at_one_replica_may_name_what_the_other_has_just_made() {
    let database = Database::start();
    let mut lab = database.under(Plan::api_key()).start(Origin::saying("fine")).await;
    let mut other = lab.gateway.replica().await;
    for round in 0..ROUNDS {
        let (user, agent) = (format!("cust-{round}"), format!("agent-{round}"));
        let new = json!({ "name": user, "role": "end_user" });
        call(&lab.gateway, "POST", "/users", &new).await;
        let link = json!({ "user": user, "providers": ["acme"] });
        let link = call(&other, "POST", "/connect-sessions", &link).await;
        let path = format!("/connect-sessions/{}", link["id"].as_str().expect("an id"));
        call(&lab.gateway, "DELETE", &path, &Value::Null).await;
        call(&other, "DELETE", &format!("/users/{user}"), &Value::Null).await;
        call(&lab.gateway, "POST", "/agents", &json!({ "name": agent })).await;
        let path = format!("/agents/{agent}");
        let made = call(&other, "POST", &format!("{path}/tokens"), &json!({})).await;
        lab.guard(Canary::of(made["token"].as_str().expect("shown once").to_owned()));
        call(&lab.gateway, "POST", &format!("{path}/bindings"), &json!({ "connection": "acme" }))
            .await;
        call(&other, "DELETE", &format!("{path}/bindings/acme"), &Value::Null).await;
    }
    other.stop().await;
    lab.finish().await;
}
