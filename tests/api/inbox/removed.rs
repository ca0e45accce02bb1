//! The connection that a hook names: it stays while the hook is there, and a hook whose connection is gone can be changed.

use std::sync::Arc;

use keyward_base::id::OrgId;
use keyward_state::store::sled::SledStore;
use keyward_state::store::{Expect, Store, Table};

use super::*;

/// A queue of connection `hub`, whose provider names the scheme; and the connection's id.
async fn of_connection() -> (Lab, String) {
    let mut lab = Plan::api_key().no_agents().start(Origin::saying("fine")).await;
    lab.guard(Canary::of(SECRET.to_owned()));
    let fields = json!({"token": "ghp_0123456789abcdefghijklmnopqrstuvwxyz"});
    let hub = json!({"name": "hub", "provider": "github", "fields": fields});
    api(&lab, "POST", "/connections", hub, 201).await;
    let hub = api(&lab, "GET", "/connections/hub", Value::Null, 200).await;
    let hook = json!({"name": "q", "connection": "hub", "secret": SECRET});
    api(&lab, "POST", "/hooks", hook, 201).await;
    (lab, hub["id"].as_str().expect("an id").to_owned())
}

#[tokio::test]
async fn a_connection_is_not_removed_while_a_hook_names_it() {
    let (lab, _) = of_connection().await;
    let refused = api(&lab, "DELETE", "/connections/hub?revoke=true", Value::Null, 422).await;
    let error = &refused["error"];
    assert_eq!(error["code"], "refused", "{error}");
    assert!(error["message"].to_string().contains("named by hook `q`"), "{error}");
    assert!(error["hint"].to_string().contains("keyward hook remove"), "{error}");
    let hook = api(&lab, "PATCH", "/hooks/q", json!({"paused": true}), 200).await;
    assert_eq!((&hook["signed_by"], &hook["paused"]), (&json!("github"), &json!(true)));
    let other = json!({"connection": null, "scheme": "github"});
    api(&lab, "PATCH", "/hooks/q", other, 200).await;
    api(&lab, "DELETE", "/connections/hub", Value::Null, 200).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_hook_whose_connection_is_gone_can_be_changed() {
    let (mut lab, hub) = of_connection().await;
    // As earlier versions removed it.
    lab.gateway.stop().await;
    let path = lab.gateway.data().join("store");
    let store = until_some("the store", async || SledStore::open(&path).await.ok()).await;
    let store: Arc<dyn Store> = Arc::new(store);
    let key = format!("{}/{hub}", OrgId::default_org());
    store.delete(Table::Connections, &key, Expect::Any).await.expect("it is deleted");
    drop(store);
    lab.gateway.restart().await;
    api(&lab, "GET", "/connections/hub", Value::Null, 404).await;
    api(&lab, "PATCH", "/hooks/q", json!({"connection": "none"}), 404).await;
    api(&lab, "PATCH", "/hooks/q", json!({"scheme": "githup"}), 404).await;
    let paused = api(&lab, "PATCH", "/hooks/q", json!({"paused": true}), 200).await;
    assert_eq!((&paused["paused"], &paused["signed_by"]), (&json!(true), &json!("")));
    let signed = api(&lab, "PATCH", "/hooks/q", json!({"scheme": "github"}), 200).await;
    assert_eq!(signed["signed_by"], "github");
    lab.finish().await;
}
