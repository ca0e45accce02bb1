//! What a slot lets a plugin do with an account, at the proxy and through the API: methods, paths, and
//! nothing that was not agreed to.

use serde_json::{Value, json};

use test_support::market::{CHAT, Market};
use test_support::{HOST, STRANGER, request_text};

fn manifest(plugin: &str, slots: Value) -> Value {
    json!({ "plugin": plugin, "version": "1.0.0", "connections": slots })
}

/// Installs a plugin with one slot, `mail`, for `digest`.
async fn with_slot(market: &Market, plugin: &str, limits: Value) -> Value {
    let mut slot = json!({ "slot": "mail", "provider": "acme" });
    slot.as_object_mut().expect("a map").extend(limits.as_object().expect("a map").clone());
    let slots = json!({ "mail": "sender" });
    let manifest = manifest(plugin, json!([slot]));
    let new = json!({ "agent": "digest", "manifest": manifest, "slots": slots });
    market.api("POST", "/plugins", &new).await
}

#[tokio::test]
async fn a_slot_for_get_refuses_other_methods_and_names_plugin_and_slot() {
    let market = Market::stocked().await;
    with_slot(&market, "reader", json!({ "methods": ["get"] })).await;
    assert_eq!(market.request("digest", STRANGER, "GET /a").await.text(), "fine");
    for request in [
        "POST /a\r\nContent-Length: 0",
        "DELETE /a",
        "HEAD /a",
        "GET /a\r\nX-HTTP-Method-Override: DELETE",
    ] {
        let (status, code) = market.gets("digest", STRANGER, request).await;
        assert_eq!((status, &*code), (403, "denied"), "{request}");
    }
    let refused = market.request("digest", STRANGER, "DELETE /a").await.json();
    let said = refused["error"]["message"].as_str().expect("words").to_owned();
    assert_eq!(
        said,
        "slot `mail` of plugin `reader` lets connection `sender` be used for GET only"
    );
    assert_eq!(refused["error"]["connection"], "sender");
    assert_eq!(market.lab.origin.received().len(), 1, "nothing else went out");
    market.close().await;
}

#[tokio::test]
async fn a_slot_for_some_paths_refuses_all_others() {
    let market = Market::stocked().await;
    with_slot(&market, "sender", json!({ "paths": ["/send/**"] })).await;
    for (request, status) in [
        ("POST /send/x\r\nContent-Length: 0", 200),
        ("GET /%73end/x", 200),
        ("GET /read", 403),
        ("GET /sender", 403),
        // What servers read in two ways is not decided by.
        ("GET /send//x", 400),
        ("GET /send/..%2fread", 400),
    ] {
        assert_eq!(market.gets("digest", STRANGER, request).await.0, status, "{request}");
    }
    assert_eq!(market.lab.origin.received().len(), 2);
    market.close().await;
}

#[tokio::test]
async fn plugins_that_share_a_connection_combine_their_permissions() {
    let market = Market::stocked().await;
    with_slot(&market, "reader", json!({ "methods": ["GET"] })).await;
    with_slot(&market, "writer", json!({ "methods": ["POST"], "paths": ["/send"] })).await;
    let each = [
        ("GET /a", 200),
        ("POST /send\r\nContent-Length: 0", 200),
        ("POST /a\r\nContent-Length: 0", 403),
        ("DELETE /send", 403),
    ];
    for (request, status) in each {
        assert_eq!(market.gets("digest", STRANGER, request).await.0, status, "{request}");
    }
    let shown = market.api("GET", "/agents/digest/bindings", &Value::Null).await;
    assert_eq!(shown["items"].as_array().map(Vec::len), Some(1), "one binding: {shown}");
    assert_eq!(
        shown["items"][0]["slots"],
        json!([{ "plugin": "reader", "slot": "mail" }, { "plugin": "writer", "slot": "mail" }])
    );
    let left = market.api("DELETE", "/plugins/writer", &Value::Null).await;
    assert_eq!(left["connections"][0]["used_by"], json!(["reader of digest"]));
    let (status, _) = market.gets("digest", STRANGER, "POST /send\r\nContent-Length: 0").await;
    assert_eq!(status, 403, "what went with the plugin is gone");
    assert_eq!(market.gets("digest", STRANGER, "GET /a").await.0, 200, "the other one's stays");
    market.close().await;
}

#[tokio::test]
async fn a_binding_of_the_agent_itself_is_not_limited_and_is_removed_separately() {
    let market = Market::stocked().await;
    with_slot(&market, "reader", json!({ "methods": ["GET"] })).await;
    let placeholder = market.lab.gateway.placeholder("digest", "sender", "api_key");
    let bind = json!({ "connection": "sender" });
    let bound = market.api("POST", "/agents/digest/bindings", &bind).await;
    assert_eq!(bound["placeholders"]["api_key"], json!(placeholder), "programs hold it");
    assert_eq!(market.gets("digest", STRANGER, "DELETE /a").await.0, 200);
    let shown = market.plugin("reader").await;
    assert_eq!(shown["slots"][0]["connection"]["unlimited"], true, "{shown}");
    market.api("DELETE", "/agents/digest/bindings/sender", &Value::Null).await;
    assert_eq!(market.gets("digest", STRANGER, "DELETE /a").await.0, 403);
    assert_eq!(market.gets("digest", STRANGER, "GET /a").await.0, 200, "the slot stays");
    let again = market.ask("DELETE", "/agents/digest/bindings/sender", &Value::Null).await.is(422);
    assert!(again.text().contains("slot `mail` of plugin `reader`"), "{}", again.text());
    market.close().await;
}

#[tokio::test]
async fn a_rule_narrows_a_slot_and_never_widens_it() {
    let rule = format!(
        "{{ name: writes, hosts: [{STRANGER}], methods: [POST, GET], paths: [/in], use: acme }}"
    );
    let mut market = Market::with(|plan| plan.rule(&rule)).await;
    market.lab.add_agent("digest").await;
    let slot = json!([{ "slot": "mail", "provider": "acme", "methods": ["GET"] }]);
    let new = json!({
        "agent": "digest", "manifest": manifest("reader", slot), "slots": { "mail": "acme" },
    });
    market.api("POST", "/plugins", &new).await;
    for (request, status) in
        [("GET /in", 200), ("GET /out", 403), ("POST /in\r\nContent-Length: 0", 403)]
    {
        assert_eq!(market.gets("digest", STRANGER, request).await.0, status, "{request}");
    }
    market.close().await;
}

#[tokio::test]
async fn an_invalid_plugin_installation_is_refused_by_name_and_nothing_is_stored() {
    let market = Market::stocked().await;
    let slots = json!([
        { "slot": "crm", "provider": "svc" }, { "slot": "mail", "provider": "acme" },
        { "slot": "chat", "provider": "chat", "required": false },
    ]);
    let whole = manifest("digest", slots);
    let with = |chosen: Value| json!({ "agent": "digest", "manifest": whole, "slots": chosen });
    let of = |manifest: Value| json!({ "agent": "digest", "manifest": manifest, "slots": {} });
    let near = json!([{ "slot": "a", "provider": "svcs" }, { "slot": "a", "provider": "acme" }]);
    let empty = json!([{ "slot": "a", "provider": "acme", "methods": [] }]);
    let more = json!([{ "slot": "a", "provider": "acme", "hosts": ["evil.test"] }]);
    for (body, says) in [
        (with(json!({})), &["`crm` (svc), `mail` (acme)", "--slot crm=CONNECTION"][..]),
        (with(json!({ "crm": "sender", "mail": "sender" })), &["`svc`", "`sender`", "`acme`"]),
        (with(json!({ "crm": "work-crm", "mail": "sender", "x": "alerts" })), &["is no slot"]),
        (with(json!({ "crm": "nobody", "mail": "sender" })), &["no connection is named `nobody`"]),
        (of(manifest("a", near)), &["no provider `svcs`", "did you mean `svc`?", "two slots `a`"]),
        (of(manifest("a", empty)), &["manifest.connections[0].methods"]),
        (of(manifest("a", more)), &["unknown field `hosts`"]),
        (of(manifest("a/b", json!([]))), &["cannot be the name of a plugin", "list is empty"]),
    ] {
        let answer = market.ask("POST", "/plugins", &body).await;
        assert!(matches!(answer.head.status(), 404 | 422), "{body}: {}", answer.text());
        for text in says {
            assert!(answer.text().contains(text), "{body} lacks {text}: {}", answer.text());
        }
    }
    let all = market.api("GET", "/plugins", &Value::Null).await;
    assert_eq!(all["items"], json!([]));
    let agent = market.api("GET", "/agents/digest", &Value::Null).await;
    assert_eq!(agent["bindings"], json!([]));
    market.close().await;
}

#[tokio::test]
async fn a_slot_refuses_a_connection_of_another_environment_than_the_agent_s() {
    let market = Market::stocked().await;
    market.api("POST", "/agents", &json!({ "name": "dev-bot", "environment": "dev" })).await;
    let key = &market.lab.canary.text;
    let new = json!({
        "provider": "acme", "name": "live", "environment": "production",
        "fields": { "api_key": key },
    });
    market.api("POST", "/connections", &new).await;
    let slot = json!([{ "slot": "mail", "provider": "acme" }]);
    let of = |agent: &str, connection: &str| {
        json!({
            "agent": agent, "manifest": manifest("p", slot.clone()), "slots": { "mail": connection },
        })
    };
    let refused = market.ask("POST", "/plugins", &of("dev-bot", "live")).await.is(409);
    assert_eq!(refused.json()["error"]["code"], "environment_mismatch");
    market.api("POST", "/plugins", &of("dev-bot", "sender")).await;
    let patch = json!({ "slots": { "mail": "live" } });
    let refused = market.ask("PATCH", "/plugins/p", &patch).await;
    assert_eq!(refused.json()["error"]["code"], "environment_mismatch");
    let shown = market.plugin("p").await;
    assert_eq!(shown["slots"][0]["connection"]["name"], "sender", "what was there stays");
    let bindings = market.api("GET", "/agents/dev-bot/bindings", &Value::Null).await;
    assert_eq!(bindings["items"].as_array().map(Vec::len), Some(1));
    market.close().await;
}

#[tokio::test]
async fn a_plugin_for_an_agent_of_the_file_is_refused_by_the_api() {
    let market = Market::with(|plan| plan.agent("ci", "acme")).await;
    let slot = json!([{ "slot": "mail", "provider": "acme" }]);
    let new =
        json!({ "agent": "ci", "manifest": manifest("p", slot), "slots": { "mail": "acme" } });
    let refused = market.ask("POST", "/plugins", &new).await;
    assert_eq!(
        (refused.head.status(), &refused.json()["error"]["code"]),
        (409, &json!("managed_by_file"))
    );
    market.close().await;
}

#[tokio::test]
async fn a_newer_version_keeps_what_is_in_its_slots_and_an_older_one_is_refused() {
    let market = Market::stocked().await;
    with_slot(&market, "digest", json!({ "methods": ["GET"] })).await;
    let version = |version: &str, slots: Value| json!({ "manifest": { "plugin": "digest", "version": version, "connections": slots } });
    let mail = json!({ "slot": "mail", "provider": "acme", "methods": ["GET", "POST"] });
    let two = json!([mail, { "slot": "crm", "provider": "svc" }]);
    let refused = market.ask("PATCH", "/plugins/digest", &version("1.1.0", two.clone())).await;
    assert!(refused.text().contains("`crm` (svc)"), "{}", refused.text());
    let (status, _) = market.gets("digest", STRANGER, "POST /a\r\nContent-Length: 0").await;
    assert_eq!(status, 403, "nothing of it is in force");
    let mut patch = version("1.1.0", two);
    patch["slots"] = json!({ "crm": "work-crm" });
    let shown = market.api("PATCH", "/plugins/digest", &patch).await;
    assert_eq!((&shown["version"], &shown["state"]), (&json!("1.1.0"), &json!("ready")));
    assert_eq!(shown["slots"][0]["connection"]["name"], "sender");
    assert_eq!(market.gets("digest", STRANGER, "POST /a\r\nContent-Length: 0").await.0, 200);
    assert_eq!(market.request("digest", HOST, "GET /a").await.text(), "fine");
    for (bad, says) in [
        (version("1.0.9", json!([mail])), "newer than 1.0.9"),
        (version("1.1.0-rc.1", json!([mail])), "newer than 1.1.0-rc.1"),
        (json!({ "slots": { "mail": null } }), "is required"),
    ] {
        market.ask("PATCH", "/plugins/digest", &bad).await.is(422).says(says);
    }
    // A slot that is gone takes its permission along.
    market.api("PATCH", "/plugins/digest", &version("1.2.0", json!([mail]))).await;
    assert_eq!(market.gets("digest", HOST, "GET /a").await, (403, "default_deny".to_owned()));
    market.close().await;
}

#[tokio::test]
async fn streams_end_when_the_last_plugin_that_permits_them_is_removed() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello";
    let origin = test_support::Origin::answering(move |_| cut);
    let mut lab = test_support::Plan::api_key().no_agents().start(origin).await;
    lab.add_agent("digest").await;
    for plugin in ["one", "two"] {
        let slot = json!([{ "slot": "mail", "provider": "acme" }]);
        let new = json!({
            "agent": "digest", "manifest": manifest(plugin, slot), "slots": { "mail": "acme" },
        });
        lab.gateway.api("POST", "/plugins", &new.to_string()).await.is(201);
    }
    let mut wire = lab.tunnel_as("digest", HOST).await;
    wire.send(request_text("GET /a", HOST)).await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    lab.gateway.api("DELETE", "/plugins/one", "").await.is(200);
    // The stream rests on the other one: a second request in a stream of its own is served.
    let mut other = lab.tunnel_as("digest", HOST).await;
    other.send(request_text("GET /b", HOST)).await;
    assert_eq!(other.head().await.expect("a head").status(), 200);
    drop(other);
    lab.gateway.api("DELETE", "/plugins/two", "").await.is(200);
    assert!(wire.rest().await.len() <= 5, "the answer under way ends");
    assert_eq!(lab.gateway.api("GET", "/agents/digest", "").await.json()["bindings"], json!([]));
    lab.finish().await;
}

#[tokio::test]
async fn plugins_survive_a_restart_and_are_removed_with_their_agent() {
    let mut market = Market::stocked().await;
    with_slot(&market, "reader", json!({ "methods": ["GET"] })).await;
    market.keyed("chat", "spare").await;
    let before = market.plugin("reader").await;
    market.lab.gateway.restart().await;
    assert_eq!(market.plugin("reader").await, before);
    assert_eq!(market.gets("digest", STRANGER, "GET /a").await.0, 200);
    assert_eq!(market.gets("digest", STRANGER, "DELETE /a").await.0, 403);
    market.api("DELETE", "/agents/digest", &Value::Null).await;
    assert_eq!(market.ask("GET", "/plugins/reader", &Value::Null).await.head.status(), 404);
    market.lab.add_agent("digest").await;
    assert_eq!(market.gets("digest", CHAT, "GET /a").await.1, "default_deny");
    assert_eq!(market.gets("digest", STRANGER, "GET /a").await.1, "default_deny");
    with_slot(&market, "reader", json!({})).await;
    market.close().await;
}

#[tokio::test]
async fn a_plugin_name_of_several_agents_is_resolved_by_the_agent_parameter() {
    let mut market = Market::stocked().await;
    with_slot(&market, "reader", json!({ "methods": ["GET"] })).await;
    market.lab.add_agent("other").await;
    let slot = json!([{ "slot": "mail", "provider": "acme" }]);
    let new = json!({
        "agent": "other", "manifest": manifest("reader", slot), "slots": { "mail": "sender" },
    });
    market.api("POST", "/plugins", &new).await;
    let twice = market.ask("POST", "/plugins", &new).await;
    assert_eq!((twice.head.status(), &twice.json()["error"]["code"]), (409, &json!("name_taken")));
    let unclear = market.ask("GET", "/plugins/reader", &Value::Null).await;
    assert!(unclear.text().contains("several agents have plugin `reader`: digest, other"));
    let shown = market.plugin("reader?agent=other").await;
    assert_eq!(shown["agent"], "other");
    market.api("DELETE", "/plugins/reader?agent=other", &Value::Null).await;
    assert_eq!(market.state("reader").await, "ready");
    market.close().await;
}

#[tokio::test]
async fn changes_at_the_same_time_do_not_undo_each_other() {
    let market = Market::stocked().await;
    let slots = json!([
        { "slot": "chat", "provider": "chat", "required": false },
        { "slot": "mail", "provider": "acme", "required": false },
    ]);
    let new = json!({ "agent": "digest", "manifest": manifest("digest", slots), "slots": {} });
    market.api("POST", "/plugins", &new).await;
    let patch = |slots: Value| json!({ "slots": slots });
    let first = patch(json!({ "chat": "alerts", "mail": null }));
    let (empties, fills) = (patch(json!({ "chat": null })), patch(json!({ "mail": "sender" })));
    for _ in 0..10 {
        market.api("PATCH", "/plugins/digest", &first).await;
        tokio::join!(
            market.api("PATCH", "/plugins/digest", &empties),
            market.api("PATCH", "/plugins/digest", &fills),
        );
        let shown = market.plugin("digest").await;
        let names = [0_usize, 1].map(|slot| shown["slots"][slot]["connection"]["name"].clone());
        assert_eq!(names, [Value::Null, json!("sender")], "{shown}");
    }
    // With the same condition, one of them is refused.
    market.api("PATCH", "/plugins/digest", &first).await;
    let tag = market.ask("GET", "/plugins/digest", &Value::Null).await;
    let tag = format!("If-Match: {}\r\n", tag.head.one("etag").expect("a tag"));
    let (empties, fills) = (empties.to_string(), fills.to_string());
    let gateway = &market.lab.gateway;
    let (one, other) = tokio::join!(
        gateway.api_with(&tag, ("PATCH", "/plugins/digest"), &empties),
        gateway.api_with(&tag, ("PATCH", "/plugins/digest"), &fills),
    );
    let mut statuses = [one.head.status(), other.head.status()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412], "{} {}", one.text(), other.text());
    market.close().await;
}
