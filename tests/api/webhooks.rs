//! Webhooks: which receive an event, and which do not. `webhooks_delivery` tests events that are not accepted.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::hooks::{Hooks, status};
use test_support::market::Market;
use test_support::*;

pub(crate) async fn lab(hooks: &Hooks, plan: Plan) -> Lab {
    lab_of(hooks.reached(plan)).await
}

/// With a connection `mine` and an agent, neither of which any file manages.
pub(crate) async fn lab_of(plan: Plan) -> Lab {
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.add_agent("ops-agent").await;
    lab.add_mine(json!({})).await;
    lab
}

pub(crate) async fn post(lab: &Lab, path: &str, body: &Value) -> Value {
    lab.gateway.api_json("POST", path, body).await.done(path)
}

pub(crate) async fn hook(lab: &Lab) -> Value {
    lab.gateway.api("GET", "/webhooks/ops", "").await.json()
}

/// The webhooks that `/events` says are told of a type.
async fn told_to(lab: &Lab, org: &str, kind: &str) -> Value {
    let types = lab.gateway.api_with(org, ("GET", "/events"), "").await.json();
    let mut all = types["items"].as_array().expect("a list").iter();
    let found = all.find(|it| it["type"] == kind).expect("a known type");
    assert!(found["meaning"].is_string(), "{found}");
    found["webhooks"].clone()
}

/// The webhook, once it stands so.
pub(crate) async fn standing(lab: &Lab, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    until_some(what, async || {
        let seen = hook(lab).await;
        is(&seen).then_some(seen)
    })
    .await
}

#[tokio::test]
async fn an_invalid_webhook_is_refused_by_field_with_a_remedy() {
    let hooks = Hooks::start().await;
    let lab = lab(&hooks, Plan::api_key()).await;
    for (new, field, says) in [
        (json!({"url": "http://example.com/x"}), "url", "https"),
        (json!({"url": "ftp://example.com/x"}), "url", "https"),
        (json!({"url": "https://user:pw@example.com/x"}), "url", "without a password"),
        (json!({"url": "nonsense", "name": "a"}), "url", "https"),
        (json!({"url": hooks.url(), "name": ".."}), "name", "letters"),
        (
            json!({"url": hooks.url(), "events": ["connection.brokn"]}),
            "events",
            "connection.broken",
        ),
        (json!({"url": hooks.url(), "signing_key": "whsec_short"}), "signing_key", "24 to 64"),
    ] {
        let refused = lab.gateway.api("POST", "/webhooks", &new.to_string()).await;
        assert_eq!(refused.head.status(), 422, "{new}: {}", refused.text());
        let error = refused.json()["error"].clone();
        assert_eq!(error["field"], field, "{new}");
        assert!(error.to_string().contains(says), "{new}: {error}");
    }
    let none = lab.gateway.api("GET", "/webhooks", "").await.json();
    assert_eq!(none["items"], json!([]), "nothing of it was kept");
    lab.finish().await;
}

#[tokio::test]
async fn a_webhook_gets_only_subscribed_events_of_its_own_organisation() {
    let mut hooks = Hooks::start().await;
    let mut lab = lab(&hooks, Plan::api_key()).await;
    post(&lab, "/orgs", &json!({"name": "elsewhere"})).await;
    let key = hooks.subscribed(&mut lab, &["connection.paused"]).await;
    let new = json!({"name": "theirs", "url": hooks.url()});
    let theirs = "keyward-org: elsewhere\r\n";
    let made = lab.gateway.api_with(theirs, ("POST", "/webhooks"), &new.to_string()).await.is(201);
    lab.guard(Canary::of(made.json()["signing_key"].as_str().unwrap().to_owned()));
    let seen = lab.gateway.api("GET", "/webhooks/theirs", "").await;
    assert_eq!(seen.head.status(), 404, "it is the other organisation's");
    assert_eq!(told_to(&lab, "", "connection.paused").await, json!(["ops"]));
    assert_eq!(told_to(&lab, "", "connection.resumed").await, json!([]));
    assert_eq!(told_to(&lab, theirs, "connection.resumed").await, json!(["theirs"]));
    post(&lab, "/agents/ops-agent/bindings", &json!({"connection": "mine"})).await;
    post(&lab, "/connections/mine/pause", &json!({})).await;
    post(&lab, "/connections/mine/resume", &json!({})).await;
    post(&lab, "/connections/mine/pause", &json!({})).await;
    for _ in 0..2 {
        let event = hooks.event(&key).await;
        assert_eq!(event.kind, "connection.paused");
        assert_eq!(event.data["connection"]["name"], "mine");
        assert_eq!(
            (&event.data["by"], &event.data["org"]),
            (&json!("operator"), &json!("org_default"))
        );
    }
    standing(&lab, "both are taken", |hook| hook["told"] == 2 && hook["waiting"] == 0).await;
    assert_eq!(hooks.origin.received().len(), 2);
    lab.finish().await;
}

#[tokio::test]
async fn events_of_a_connection_name_the_person_and_the_reason() {
    let mut hooks = Hooks::start().await;
    let mut lab = lab(&hooks, Plan::api_key()).await;
    let key = hooks.subscribed(&mut lab, &[]).await;
    let told = post(&lab, "/webhooks/ops/test", &json!({})).await;
    assert_eq!((&told["taken"], &told["what"]), (&json!(true), &json!("answered 204")));
    assert_eq!(hooks.event(&key).await.kind, "webhook.test");

    post(&lab, "/users", &json!({"name": "ann", "role": "admin"})).await;
    let token = post(&lab, "/tokens", &json!({"user": "ann"})).await["token"].clone();
    let bearer = format!("authorization: Bearer {}\r\n", token.as_str().unwrap());
    lab.guard(Canary::of(token.as_str().unwrap().to_owned()));
    let bind = ("POST", "/agents/ops-agent/bindings");
    lab.gateway.api_with(&bearer, bind, r#"{"connection":"mine"}"#).await.is(201);
    let bound = hooks.event(&key).await;
    assert_eq!(bound.kind, "connection.bound");
    assert_eq!(bound.data["agent"]["name"], "ops-agent");
    assert_eq!(bound.data["user"], "ann");
    assert!(bound.data["by"].as_str().is_some_and(|by| by.starts_with("usr_")), "{bound:?}");

    let other = Canary::new("cnry");
    lab.guard(other.clone());
    let rotate = json!({"fields": {"api_key": other.text}, "test": false});
    let by_ann = ("POST", "/connections/mine/rotate");
    lab.gateway.api_with(&bearer, by_ann, &rotate.to_string()).await.is(200);
    let rotated = hooks.event(&key).await;
    assert_eq!((&*rotated.kind, &rotated.data["by"]), ("connection.rotated", &bound.data["by"]));
    post(&lab, "/connections/mine/rotate/rollback", &json!({})).await;
    let back = hooks.event(&key).await;
    assert_eq!((&*back.kind, &back.data["reason"]), ("connection.rotated", &json!("rolled_back")));

    let soon = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(30)).to_string();
    let patch = json!({"expires": soon}).to_string();
    lab.gateway.api("PATCH", "/connections/mine", &patch).await.is(200);
    let expiring = hooks.event(&key).await;
    assert_eq!((&*expiring.kind, &expiring.data["by"]), ("connection.expiring", &json!("gateway")));
    assert_eq!(expiring.data["reason"], "expires");
    let remedy = "give it a new secret: `keyward connection rotate mine`";
    assert_eq!(expiring.data["remedy"], remedy);
    assert!(expiring.data["due"].is_string());

    lab.gateway.api("DELETE", "/agents/ops-agent", "").await;
    assert_eq!(hooks.event(&key).await.kind, "connection.unbound");
    lab.gateway.api("DELETE", "/connections/mine", "").await;
    assert_eq!(hooks.event(&key).await.kind, "connection.removed");
    let metrics = lab.gateway.metrics().await;
    let counted = "keyward_events_total{type=\"connection.rotated\"} 2";
    assert!(metrics.contains(counted), "{metrics}");
    let none = "keyward_webhook_tries_total{outcome=\"taken\"} 0\n";
    assert!(!metrics.contains(none), "{metrics}");
    lab.finish().await;
}

#[tokio::test]
async fn events_are_signed_with_the_old_and_the_new_key_after_a_rotation() {
    let mut hooks = Hooks::start().await;
    let mut lab = lab(&hooks, Plan::api_key()).await;
    let first = hooks.subscribed(&mut lab, &["connection.paused"]).await;
    let again = post(&lab, "/webhooks/ops/rotate", &json!({})).await;
    let second = Canary::of(again["signing_key"].as_str().expect("shown once").to_owned());
    lab.guard(second.clone());
    assert_ne!(first.text, second.text);
    post(&lab, "/connections/mine/pause", &json!({})).await;
    let event = hooks.event(&second).await;
    let signatures = event.message.head.one("webhook-signature").unwrap();
    assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
    post(&lab, "/connections/mine/resume", &json!({})).await;
    post(&lab, "/connections/mine/pause", &json!({})).await;
    hooks.event(&first).await;
    let shown = hook(&lab).await.to_string();
    assert!(!shown.contains("whsec_"), "never again: {shown}");
    lab.finish().await;
}

#[tokio::test]
async fn a_webhook_at_a_private_address_gets_no_event_without_allow_private() {
    let hooks = Hooks::start().await;
    let mut lab = lab(&hooks, Plan::api_key()).await;
    let new = json!({"name": "inside", "url": "https://10.1.2.3/x"}).to_string();
    let made = lab.gateway.api("POST", "/webhooks", &new).await;
    lab.guard(Canary::of(made.json()["signing_key"].as_str().unwrap().to_owned()));
    let tried = post(&lab, "/webhooks/inside/test", &json!({})).await;
    assert_eq!(tried["taken"], false);
    assert!(tried["what"].as_str().is_some_and(|why| why.contains("allow_private")), "{tried}");
    lab.finish().await;
}

#[tokio::test]
async fn changes_by_people_are_found_in_the_audit_log_by_event_type() {
    let lab = lab_of(Plan::api_key()).await;
    let other =
        json!({"provider": "acme", "name": "other", "fields": {"api_key": lab.canary.text}});
    post(&lab, "/connections", &other).await;
    for connection in ["mine", "other"] {
        post(&lab, "/agents/ops-agent/bindings", &json!({ "connection": connection })).await;
    }
    post(&lab, "/connections/mine/pause", &json!({})).await;
    lab.gateway.api("POST", "/connections/none/resume", "{}").await.is(404);
    lab.gateway.api("DELETE", "/connections/mine", "").await;
    lab.gateway.api("DELETE", "/agents/ops-agent", "").await;
    let records = async |kind: &str| {
        let list = lab.gateway.api("GET", &format!("/audit?event={kind}"), "").await.json();
        let items = list["items"].as_array().expect("a list").iter();
        let named = |it: &Value| {
            format!("{} {}", it["change"]["what"], it["change"]["name"]).replace('"', "")
        };
        items.map(named).collect::<Vec<_>>()
    };
    for (kind, expected) in [
        ("connection.unbound", vec!["agent ops-agent", "connection mine"]),
        ("connection.removed", vec!["connection mine"]),
        ("connection.paused", vec!["connection mine"]),
        ("connection.resumed", vec![]),
    ] {
        until(kind, async || records(kind).await == expected).await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn changes_by_the_file_and_by_the_gateway_are_in_the_audit_log() {
    let mut hooks = Hooks::start().await;
    let mut lab = lab(&hooks, Plan::api_key()).await;
    let key = hooks.subscribed(&mut lab, &["connection.expiring"]).await;
    let file = lab.gateway.folder().join("keyward.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, yaml.replace("use: [acme]", "use: []")).unwrap();
    let view = post(&lab, "/reload", &json!({})).await;
    assert_eq!(view["errors"], json!([]), "{view}");
    let soon = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(30)).to_string();
    let patch = json!({"expires": soon}).to_string();
    lab.gateway.api("PATCH", "/connections/mine", &patch).await;
    assert_eq!(hooks.event(&key).await.data["connection"]["name"], "mine");
    lab.gateway.restart().await;
    let records = lab.finish_with_changes().await;
    let of = |by: &str| -> Vec<String> {
        let changes = records.iter().filter_map(|record| record.get("change"));
        let of = changes.filter(|change| change["by"] == by);
        of.map(|it| format!("{} {} {}", it["what"], it["name"], it["action"]).replace('"', ""))
            .collect()
    };
    let file = of("file");
    for said in [
        "connection acme connected",
        "agent ci added",
        "connection acme bound",
        "connection acme unbound",
    ] {
        assert!(file.iter().any(|change| change == said), "{said}: {file:?}");
    }
    assert_eq!(of("gateway"), ["connection mine expiring"], "once, also over a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_adds_tests_changes_and_removes_a_webhook() {
    let mut hooks = Hooks::start().await;
    let market = Market::with(|plan| hooks.reached(plan)).await;
    let bad = market.keyward(&["webhook", "add", "http://example.com/x"]);
    assert!(bad.err.contains("https URL"), "{bad:?}");
    let bad = market.keyward(&["webhook", "show", "opps"]);
    assert_eq!(bad.code, 5, "{bad:?}");
    let made = market.says(&["webhook", "add", &hooks.url(), "--name", "ops", "--json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let key = Canary::of(made["signing_key"].as_str().unwrap().to_owned());
    let told = market.says(&["webhook", "test", "ops"]);
    assert_eq!(told, "webhook ops accepted the event: answered 204\n");
    assert_eq!(hooks.event(&key).await.kind, "webhook.test");
    hooks.answers([status(500)]);
    let refused = market.keyward(&["webhook", "test", "ops"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert_eq!(refused.out, "webhook ops did not accept the event: answered 500\n");
    let near = market.keyward(&["webhook", "set", "ops", "--event", "connection.brokn"]);
    assert!(near.err.contains("did you mean `connection.broken`?"), "{near:?}");
    let shown = market.says(&["webhook", "set", "ops", "--event", "connection.broken"]);
    assert!(shown.contains("connection.broken"), "{shown}");
    assert!(market.says(&["webhook", "list"]).contains("hooks.acme.test/keyward"));
    assert!(market.says(&["webhook", "events"]).contains("plugin.blocked"));
    assert!(market.says(&["webhook", "rotate", "ops"]).contains("whsec_"));
    market.says(&["webhook", "remove", "ops"]);
    assert!(market.says(&["webhook", "list"]).contains("no webhooks"));
    market.close().await;
}

/// The whole of a plugin's life, as it is told: blocked by what happens at the provider, ready by a person.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_the_provider_revokes_is_reported_with_the_plugin_that_it_blocks() {
    let mut hooks = Hooks::start().await;
    let mut market = Market::stocked_with(|plan| hooks.reached(plan)).await;
    let events = ["connection.broken", "connection.reconnected", "plugin.ready", "plugin.blocked"];
    let key = hooks.subscribed(&mut market.lab, &events).await;
    market.install();
    assert_eq!(hooks.event(&key).await.kind, "plugin.ready");
    market.server.issuer().end_all();
    market.until("connection_broken", ("digest", HOST), "GET /deals").await;
    let (first, second) = (hooks.event(&key).await, hooks.event(&key).await);
    let (broken, blocked) = match &*first.kind {
        "connection.broken" => (first, second),
        _ => (second, first),
    };
    assert_eq!((&*broken.kind, &*blocked.kind), ("connection.broken", "plugin.blocked"));
    assert_eq!(broken.data["by"], "gateway");
    assert_eq!(broken.data["reason"], "revoked", "{broken:?}");
    assert_eq!(blocked.data["plugin"]["name"], "crm-digest");
    assert_eq!(blocked.data["connection"]["name"], "work-crm");
    assert_eq!((&blocked.data["slot"], &blocked.data["reason"]), (&json!("crm"), &json!("broken")));
    let again = market.api("POST", "/connections/work-crm/reconnect", &json!({})).await;
    market.consents(again["authorize_url"].as_str().expect("a start page")).await;
    assert_eq!(hooks.kinds(&key, 2).await, ["connection.reconnected", "plugin.ready"]);
    market.close().await;
}

#[tokio::test]
async fn declared_webhooks_follow_the_file_and_are_paused_when_they_leave_it() {
    let mut hooks = Hooks::start().await;
    let key = Canary::of(format!("whsec_{}", BASE64_STANDARD.encode([7; 32])));
    let bad = |more: &str| {
        Plan::api_key()
            .top(&format!("webhooks:\n  - {{ name: ops, {more} }}"))
            .secret("KEY", &key)
            .variable("SHORT", "whsec_abcd")
    };
    for (more, says) in [
        ("url: 'https://a.test/'", "`signing_key` is missing"),
        ("url: 'http://a.test/', signing_key: { env: KEY }", "webhooks[0].url"),
        ("signing_key: { env: KEY }", "`url` is missing"),
        ("url: 'https://a.test/', signing_key: { env: SHORT }", "24 to 64 bytes"),
        (
            "url: 'https://a.test/', signing_key: { env: KEY }, events: [plugin.bloked]",
            "plugin.blocked",
        ),
    ] {
        let refused = bad(more).refused(&Origin::saying("fine")).await;
        assert!(refused.contains(says), "{more}: {refused}");
    }
    let declared = format!("url: '{}', signing_key: {{ env: KEY }}", hooks.url());
    let plan = hooks.reached(bad(&format!("{declared}, events: [connection.paused]")));
    let lab = lab_of(plan).await;
    post(&lab, "/connections/mine/pause", &json!({})).await;
    assert_eq!(hooks.event(&key).await.kind, "connection.paused");
    for (method, path, body) in [
        ("PATCH", "/webhooks/ops", r#"{"paused":true}"#),
        ("POST", "/webhooks/ops/rotate", "{}"),
        ("DELETE", "/webhooks/ops", ""),
    ] {
        let refused = lab.gateway.api(method, path, body).await;
        assert_eq!(refused.head.status(), 409, "{method}: {}", refused.text());
        assert!(refused.text().contains("configuration file"), "{}", refused.text());
    }
    let file = lab.gateway.folder().join("keyward.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap();
    let reload = async |yaml: &str| {
        std::fs::write(&file, yaml).unwrap();
        let view = post(&lab, "/reload", &json!({})).await;
        assert_eq!(view["errors"], json!([]), "{view}");
    };
    reload(&yaml.replace("connection.paused", "connection.resumed")).await;
    post(&lab, "/connections/mine/resume", &json!({})).await;
    assert_eq!(hooks.event(&key).await.kind, "connection.resumed");
    let (without, _) = yaml.split_once("webhooks:").unwrap();
    reload(without).await;
    assert_eq!(hook(&lab).await["state"], "paused");
    post(&lab, "/connections/mine/pause", &json!({})).await;
    assert_eq!(hook(&lab).await["waiting"], 0);
    lab.gateway.api("DELETE", "/webhooks/ops", "").await;
    lab.gateway.api("GET", "/webhooks/ops", "").await.is(404);
    lab.finish().await;
}
