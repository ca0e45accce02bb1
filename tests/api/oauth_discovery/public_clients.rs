//! Registrations that give no secret.

use super::*;

/// A server that lists these methods and registers clients without a secret, and does not name their method.
async fn silent(methods: Value) -> (Lab, std::sync::Arc<Authorization>) {
    let rules = Rules { auth: ClientAuth::None, ..Rules::default() };
    let (lab, server) = world_with(honest(), rules, |plan| plan).await;
    server.issuer().tell("token_endpoint_auth_methods_supported", methods);
    server.issuer().script("/register", answer(201, &json!({ "client_id": "public" })));
    server.issuer().know_client("public");
    (lab, server)
}

/// oauth 13, registration: such an answer was refused.
#[tokio::test]
async fn a_registered_client_without_a_secret_is_public_and_sends_only_its_id() {
    for methods in [Value::Null, json!(["client_secret_basic", "none"])] {
        let (lab, server) = silent(methods).await;
        let made = add(&lab).await.is(201).json();
        let mut browser = Browser::new(&lab.gateway);
        let url = browser.begin(made["authorize_url"].as_str().expect("a page")).await;
        browser.get(&server.issuer().consent(&url)).await.is(303);
        let call = server.only_call();
        assert_eq!((&*call.form["client_id"], call.error), ("public", None));
        assert!(!call.head.has("authorization") && !call.form.contains_key("client_secret"));
        let shown = lab.gateway.api("GET", "/connections/tools", "").await.json();
        assert_eq!(shown["state"], "active", "{shown}");
        lab.finish().await;
    }
}

/// oauth 13, registration: its token endpoint would accept no such client.
#[tokio::test]
async fn a_registered_client_without_a_secret_is_refused_where_all_methods_need_one() {
    let (lab, server) = silent(json!(["client_secret_basic", "client_secret_post"])).await;
    let refused = add(&lab).await.is(422).text();
    assert!(refused.contains("it gave no client secret"), "{refused}");
    assert!(server.calls().is_empty());
    lab.finish().await;
}
