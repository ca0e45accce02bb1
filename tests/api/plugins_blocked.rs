//! A plugin without a connection that it needs is blocked, says what is missing, and works again as soon as
//! that is there: without a restart, and without taking anything else down.

use serde_json::{Value, json};

use crate::admin_network::{ask_at, user};
use test_support::login::Login;
use test_support::market::{CHAT, MANIFEST, Market};
use test_support::{HOST, STRANGER, until};

const SEND: &str = "POST /send/x\r\nContent-Length: 0";

async fn installed() -> Market {
    let market = Market::stocked().await;
    let manifest: Value = serde_yaml::from_str(MANIFEST).expect("a manifest");
    let slots = json!({ "crm": "work-crm", "mail": "sender", "chat": "alerts" });
    let new = json!({ "agent": "digest", "manifest": manifest, "slots": slots });
    assert_eq!(market.api("POST", "/plugins", &new).await["state"], "ready");
    market
}

#[tokio::test]
async fn a_paused_required_connection_blocks_the_other_slots_until_it_is_resumed() {
    let market = installed().await;
    assert_eq!(market.gets("digest", STRANGER, SEND).await.0, 200);
    market.api("POST", "/connections/work-crm/pause", &Value::Null).await;
    let shown = market.plugin("crm-digest").await;
    assert_eq!(shown["state"], "blocked");
    assert_eq!(shown["missing"][0]["slot"], "crm");
    assert_eq!(shown["missing"][0]["connection"], "work-crm");
    let refused = market.request("digest", STRANGER, SEND).await.is(424);
    assert_eq!(refused.head.one("keyward-error"), Some("plugin_blocked"));
    let error = &refused.json()["error"];
    assert_eq!(
        error["message"],
        "plugin `crm-digest` is blocked: connection `work-crm` in slot `crm` is paused"
    );
    assert_eq!(error["connection"], "work-crm");
    assert_eq!(error["hint"], "resume it: `keyward connection resume work-crm`");
    // Of the connection itself, its own state is what there is to say.
    assert_eq!(market.gets("digest", HOST, "GET /a").await, (424, "connection_paused".to_owned()));
    assert_eq!(market.gets("digest", CHAT, "GET /a").await, (424, "plugin_blocked".to_owned()));
    // And what the slot is not for stays refused as that.
    assert_eq!(market.gets("digest", STRANGER, "GET /read").await, (403, "denied".to_owned()));
    market.api("POST", "/connections/work-crm/resume", &Value::Null).await;
    assert_eq!(market.state("crm-digest").await, "ready");
    assert_eq!(market.gets("digest", STRANGER, SEND).await.0, 200);
    market.close().await;
}

/// The connection belongs to the organisation, and the agent to a member.
#[tokio::test]
async fn a_user_who_may_not_reconnect_a_connection_gets_a_link_to_its_page() {
    let mut market = installed().await;
    for (name, role) in [("ann", "admin"), ("bob", "member")] {
        user(&mut market.lab, name, role).await;
    }
    market.api("PATCH", "/agents/digest", &json!({ "owner": "bob" })).await;
    market.server.issuer().end_all();
    until("a broken connection", async || {
        market.request("digest", HOST, "GET /a").await;
        market.api("GET", "/connections/work-crm", &Value::Null).await["state"] == "broken"
    })
    .await;
    let plugin = market.plugin("crm-digest").await;
    let path = format!("GET /plugins/{}", plugin["id"].as_str().expect("an id"));
    for (name, renews) in [("bob", false), ("ann", true)] {
        let login = Login::of(&mut market.lab, "default", name).await;
        let page = ask_at(&market.lab, &path, &login.cookie(), "").await.text();
        assert_eq!(page.contains(">Reconnect account</button>"), renews, "{name}: {page}");
        assert_eq!(page.contains(">Open connection</a>"), !renews, "{name}: {page}");
    }
    market.close().await;
}

/// The plugins of what `keyward doctor` says: status, message and hint.
fn diagnosed(market: &Market) -> Vec<(String, String, String)> {
    let did = market.keyward(&["doctor", "--json"]);
    let told: Value = serde_json::from_str(&did.out).unwrap_or_else(|_| panic!("{did:?}"));
    let of = told["checks"].as_array().expect("checks").iter().filter(|it| it["id"] == "plugins");
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    of.map(|it| (text(it, "status"), text(it, "message"), text(it, "hint"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_reports_blocked_and_degraded_plugins_with_their_slot() {
    let market = Market::stocked().await;
    assert_eq!(diagnosed(&market), []);
    market.close().await;
    let market = installed().await;
    let good = "every plugin has the connections that it needs (1)";
    assert_eq!(diagnosed(&market), [("ok".into(), good.into(), String::new())]);
    market.api("POST", "/connections/work-crm/pause", &Value::Null).await;
    let (status, message, hint) = diagnosed(&market).remove(0);
    assert_eq!(status, "warn");
    assert!(
        message.starts_with("plugin crm-digest of agent digest is blocked: slot crm: "),
        "{message}"
    );
    assert_eq!(hint, "resume it: `keyward connection resume work-crm`");
    market.api("POST", "/connections/work-crm/resume", &Value::Null).await;
    market.api("POST", "/connections/alerts/pause", &Value::Null).await;
    let (status, message, _) = diagnosed(&market).remove(0);
    assert!(status == "warn" && message.contains("degraded: slot chat: "), "{status} {message}");
    market.close().await;
}

#[tokio::test]
async fn a_blocked_plugin_does_not_block_other_plugins_or_bindings_of_the_agent() {
    let market = installed().await;
    let slot = json!([{ "slot": "out", "provider": "acme", "methods": ["GET"] }]);
    let manifest = json!({ "plugin": "reader", "version": "1", "connections": slot });
    let new = json!({ "agent": "digest", "manifest": manifest, "slots": { "out": "sender" } });
    market.api("POST", "/plugins", &new).await;
    market.api("POST", "/agents/digest/bindings", &json!({ "connection": "alerts" })).await;
    market.api("POST", "/connections/work-crm/pause", &Value::Null).await;
    assert_eq!(market.gets("digest", STRANGER, "GET /send/x").await.0, 200, "the reader's");
    assert_eq!(market.gets("digest", STRANGER, SEND).await.1, "plugin_blocked");
    assert_eq!(market.gets("digest", CHAT, "GET /a").await.0, 200, "the agent's own");
    market.close().await;
}

#[tokio::test]
async fn an_empty_optional_slot_degrades_the_plugin_and_its_other_slots_work() {
    let market = installed().await;
    let removed = market.api("DELETE", "/connections/alerts", &Value::Null).await;
    assert_eq!(removed["plugins"][0]["plugin"], "crm-digest");
    assert_eq!(removed["plugins"][0]["slots"], json!(["chat"]));
    assert_eq!(removed["plugins"][0]["state"], "degraded");
    assert_eq!(market.state("crm-digest").await, "degraded");
    assert_eq!(market.gets("digest", CHAT, "GET /a").await, (403, "default_deny".to_owned()));
    assert_eq!(market.gets("digest", STRANGER, SEND).await.0, 200);
    market.close().await;
}

#[tokio::test]
async fn refusals_of_a_plugin_with_an_empty_required_slot_name_the_slot() {
    let mut market = installed().await;
    let removed = market.api("DELETE", "/connections/sender", &Value::Null).await;
    assert_eq!(removed["plugins"][0]["state"], "blocked");
    for host in [STRANGER, HOST, CHAT] {
        let refused = market.request("digest", host, "GET /send/x").await;
        assert_eq!(refused.head.one("keyward-error"), Some("plugin_blocked"), "{host}");
        let error = &refused.json()["error"];
        assert_eq!(error["message"], "plugin `crm-digest` is blocked: slot `mail` is empty");
        assert_eq!(
            error["hint"],
            "fill it: `keyward plugin set crm-digest --slot mail=CONNECTION`"
        );
    }
    assert!(market.lab.origin.received().is_empty());
    market.lab.add_agent("other").await;
    assert_eq!(market.gets("other", STRANGER, "GET /a").await.1, "default_deny", "others know not");
    market.keyed("acme", "sender-2").await;
    let patch = json!({ "slots": { "mail": "sender-2" } });
    assert_eq!(market.api("PATCH", "/plugins/crm-digest", &patch).await["state"], "ready");
    assert_eq!(market.gets("digest", STRANGER, SEND).await.0, 200);
    market.close().await;
}

#[tokio::test]
async fn explain_and_the_list_of_rules_show_slots_and_blocked_plugins() {
    let market = installed().await;
    let explain = |method: &str| json!({ "agent": "digest", "method": method, "url": format!("https://{HOST}/a") });
    let said = market.api("POST", "/rules/explain", &explain("POST")).await;
    let stop = &said["stopped_by"][0];
    assert_eq!(stop["code"], "denied", "{said}");
    assert!(stop["message"].as_str().is_some_and(|it| it.contains("slot `crm`")), "{said}");
    let rules = market.api("GET", "/rules?limit=50", &Value::Null).await;
    let of_crm =
        rules["items"].as_array().expect("a list").iter().find(|it| it["use"] == "work-crm");
    assert_eq!(of_crm.expect("it is listed")["methods"], json!(["GET"]));
    market.api("POST", "/connections/work-crm/pause", &Value::Null).await;
    let ask = json!({
        "agent": "digest", "method": "POST", "url": format!("https://{STRANGER}/send/x"),
    });
    let said = market.api("POST", "/rules/explain", &ask).await;
    let stop = &said["stopped_by"][0];
    assert_eq!(stop["code"], "plugin_blocked", "{said}");
    assert!(stop["message"].as_str().is_some_and(|it| it.contains("`work-crm`")), "{said}");
    market.close().await;
}
