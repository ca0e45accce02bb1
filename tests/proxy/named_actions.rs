//! Named actions of built-in providers through the proxy: `read` and `charge` of Stripe let no refund through, whether
//! a rule, a binding or a slot names them, and a denied action is not done by a batch or by another form of the API.

use serde_json::{Value, json};

use test_support::api::try_api;
use test_support::*;

const STRIPE: &str = "api.stripe.com";

async fn lab(plan: Plan) -> Lab {
    let origin = Origin::answering_as(&[STRIPE], |_| ok("fine"));
    plan.connection("{ name: shop, provider: stripe, fields: { api_key: { env: CANARY } } }")
        .resolve(&format!("{STRIPE}: \"{}\"", origin.addr))
        .start(origin)
        .await
}

async fn ask(lab: &Lab, request: &str) -> Message {
    lab.ask_as("till", STRIPE, request).await
}

/// The statuses of these requests of an agent.
async fn statuses(lab: &Lab, agent: &str, requests: &[&str]) -> Vec<u16> {
    let mut found = Vec::new();
    for request in requests {
        found.push(
            lab.ask_as(agent, STRIPE, &format!("{request}\r\nContent-Length: 0"))
                .await
                .head
                .status(),
        );
    }
    found
}

#[tokio::test]
async fn an_agent_limited_to_read_and_charge_cannot_refund() {
    let rule = "{ name: till, agents: [till], use: shop, actions: [read, charge] }";
    for plan in [
        Plan::api_key().agent("till", "").rule(rule),
        Plan::api_key().agent("till", "{ connection: shop, allow: [read, charge] }"),
    ] {
        let lab = lab(plan).await;
        for request in [
            "POST /v1/refunds",
            "POST /v1/charges/ch_1/refund",
            "POST /v1/payouts",
            "DELETE /v1/customers/cus_1",
            "GET /v1/webhook_endpoints",
            // Rails would read another method.
            "GET /v1/customers/cus_1?_method=delete",
            "POST /v1/charges/../refunds",
        ] {
            let answer = ask(&lab, &format!("{request}\r\nContent-Length: 0")).await;
            assert!([400, 403].contains(&answer.head.status()), "{request}: {answer:?}");
        }
        assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
        for request in ["GET /v1/charges/ch_1", "POST /v1/charges", "GET /v1/refunds"] {
            let answer = ask(&lab, &format!("{request}\r\nContent-Length: 0")).await;
            assert_eq!(answer.head.status(), 200, "{request}: {answer:?}");
        }
        let sent = lab.origin.received();
        let credential = format!("Bearer {}", lab.canary.text);
        assert_eq!(sent.len(), 3);
        for message in &sent {
            assert_eq!(message.head.one("authorization"), Some(&*credential));
        }
        lab.finish().await;
    }
}

/// GitLab merges by options of a push.
#[tokio::test]
async fn a_push_with_options_is_refused_where_these_can_do_what_is_denied() {
    const GITLAB: &str = "gitlab.acme.test";
    let origin = Origin::answering_as(&[GITLAB], |_| ok("fine"));
    let connection = format!(
        "{{ name: forge, provider: gitlab, variables: {{ host: {GITLAB} }}, fields: {{ api_key: {{ env: CANARY }} }} }}"
    );
    let lab = Plan::api_key()
        .agent("merger", "{ connection: forge }")
        .agent("pusher", "{ connection: forge, allow: [clone, push] }")
        .agent("coder", "{ connection: forge, deny: [merge] }")
        .connection(&connection)
        .resolve(&format!("{GITLAB}: \"{}\"", origin.addr))
        .start(origin)
        .await;
    let pushed = async |agent: &str, capabilities: &str| {
        let id = "1".repeat(40);
        let line = format!("{id} {id} refs/heads/a\0{capabilities}");
        let body = format!("{:04x}{line}0000", line.len() + 4);
        let head = format!("POST /g/r.git/git-receive-pack\r\nContent-Length: {}", body.len());
        let mut wire = lab.tunnel_as(agent, GITLAB).await;
        wire.send(request_text(&head, GITLAB)).await;
        // A refusal may come before it is read.
        let _ = wire.try_send(body.as_bytes()).await;
        wire.answer("POST").await.text()
    };
    for agent in ["coder", "pusher"] {
        let report = pushed(agent, " report-status push-options agent=git/2").await;
        assert!(report.contains("ng refs/heads/a denied"), "{agent}: {report}");
        assert!(report.contains("has push options"), "{agent}: {report}");
    }
    assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
    assert_eq!(pushed("coder", " report-status agent=git/2").await, "fine");
    assert_eq!(pushed("pusher", " report-status agent=git/2").await, "fine");
    assert_eq!(pushed("merger", " report-status push-options agent=git/2").await, "fine");
    lab.finish_after(3).await;
}

const REQUESTS: [&str; 3] = ["GET /v1/charges/ch_1", "POST /v1/charges", "POST /v1/refunds"];

#[tokio::test]
async fn action_limits_of_a_binding_are_validated_changed_and_kept_across_a_restart() {
    let mut lab = lab(Plan::api_key()).await;
    lab.add_agent("clerk").await;
    let at = "/agents/clerk/bindings";
    for (limits, key, says) in [
        (
            json!({ "allow": ["raed"] }),
            "allow",
            "`stripe` has no action `raed`; did you mean `read`?",
        ),
        (json!({ "deny": ["stripe:read"] }), "deny", "`stripe` has no action `stripe:read`"),
        (json!({ "allow": [] }), "allow", "must name an action, or be absent"),
    ] {
        let mut body = json!({ "connection": "shop" });
        body.as_object_mut().expect("a map").extend(limits.as_object().expect("a map").clone());
        let (status, answer) = try_api(&lab, "POST", at, &body).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!((status, &answer["error"]["field"]), (422, &json!(key)), "{answer}");
        assert!(message.contains(says), "{message}");
    }
    assert_eq!(statuses(&lab, "clerk", &REQUESTS).await, [403, 403, 403], "it is not bound");

    let limited = json!({ "connection": "shop", "allow": ["read"], "deny": ["refund"] });
    let (status, bound) = try_api(&lab, "POST", at, &limited).await;
    assert_eq!(
        (status, &bound["allow"], &bound["deny"]),
        (201, &json!(["read"]), &json!(["refund"]))
    );
    assert_eq!(statuses(&lab, "clerk", &REQUESTS).await, [200, 403, 403]);
    // What does not name limits leaves them.
    try_api(&lab, "POST", at, &json!({ "connection": "shop", "default": true })).await;
    assert_eq!(statuses(&lab, "clerk", &REQUESTS).await, [200, 403, 403]);
    lab.gateway.restart().await;
    assert_eq!(statuses(&lab, "clerk", &REQUESTS).await, [200, 403, 403], "after a restart");

    let one = &format!("{at}/shop");
    let (status, bound) = try_api(&lab, "PATCH", one, &json!({ "allow": null })).await;
    assert_eq!((status, bound.get("allow"), &bound["deny"]), (200, None, &json!(["refund"])));
    assert_eq!(statuses(&lab, "clerk", &REQUESTS).await, [200, 200, 403]);
    let (_, rules) = try_api(&lab, "GET", "/rules", &Value::Null).await;
    let of_clerk: Vec<_> = rules["items"]
        .as_array()
        .expect("rules")
        .iter()
        .filter(|rule| rule["agents"] == json!(["clerk"]))
        .collect();
    assert_eq!(of_clerk.len(), 2, "{rules}");
    assert_eq!(
        (&of_clerk[0]["action"], &of_clerk[0]["actions"]),
        (&json!("deny"), &json!(["refund"]))
    );
    let (_, export) = try_api(&lab, "GET", "/export", &Value::Null).await;
    let used = &export["configuration"]["agents"][1]["use"];
    assert_eq!(used, &json!([{ "connection": "shop", "deny": ["refund"] }]), "{export}");
    // Without the binding, its limits are gone too.
    assert_eq!(try_api(&lab, "DELETE", one, &Value::Null).await.0, 204);
    let (_, bound) = try_api(&lab, "POST", at, &json!({ "connection": "shop" })).await;
    assert_eq!((bound.get("allow"), bound.get("deny")), (None, None));
    assert_eq!(statuses(&lab, "clerk", &REQUESTS).await, [200, 200, 200]);
    lab.finish_with_changes().await;
}

/// A page that was opened before sends both lists: without the tag, it would remove what another admin denied meanwhile.
#[tokio::test]
async fn a_change_of_action_limits_with_a_stale_etag_is_refused() {
    let mut lab = lab(Plan::api_key()).await;
    lab.add_agent("clerk").await;
    let one = "/agents/clerk/bindings/shop";
    let limited = json!({ "connection": "shop", "allow": ["read"] });
    assert_eq!(try_api(&lab, "POST", "/agents/clerk/bindings", &limited).await.0, 201);
    let read = async || {
        let agent = lab.gateway.api("GET", "/agents/clerk", "").await;
        format!("If-Match: {}\r\n", agent.head.one("etag").expect("a tag"))
    };
    let before = read().await;
    let denied = json!({ "deny": ["charge"] });
    assert_eq!(try_api(&lab, "PATCH", one, &denied).await.0, 200);
    let change = json!({ "allow": ["read", "charge"], "deny": null }).to_string();
    let refused = lab.gateway.api_with(&before, ("PATCH", one), &change).await.is(412);
    assert_eq!(refused.json()["error"]["code"], "stale");
    assert_eq!(statuses(&lab, "clerk", &REQUESTS).await, [200, 403, 403]);
    lab.gateway.api_with(&read().await, ("PATCH", one), &change).await.is(200);
    assert_eq!(statuses(&lab, "clerk", &REQUESTS).await, [200, 200, 403]);
    lab.finish_with_changes().await;
}

/// Meta's Graph API takes another method from the parameter `method`, so its actions are without that parameter.
#[tokio::test]
async fn a_method_parameter_cannot_bypass_a_denied_action() {
    const META: &str = "graph.facebook.com";
    let origin = Origin::answering_as(&[META], |_| ok("fine"));
    let fields =
        "{ access_token: { env: CANARY }, phone_number_id: \"1\", business_account_id: \"2\" }";
    let rule = "{ name: no-deletes, actions: [\"whatsapp:delete\"], action: deny }";
    let plan = Plan::api_key()
        .connection(&format!("{{ name: line, provider: whatsapp, fields: {fields} }}"))
        .resolve(&format!("{META}: \"{}\"", origin.addr))
        .agent("bound", "{ connection: line, deny: [delete, send] }")
        .agent("ruled", "line")
        .rule(rule);
    let lab = plan.start(origin).await;
    let status = async |agent: &str, request: &str| {
        lab.ask_as(agent, META, &format!("{request}\r\nContent-Length: 0")).await.head.status()
    };
    for agent in ["bound", "ruled"] {
        for request in [
            "DELETE /v22.0/789",
            "DELETE /v22.0/789?method=delete",
            "GET /v22.0/789?method=delete",
            "GET /v22.0/789?METHOD=DELETE",
        ] {
            assert_eq!(status(agent, request).await, 403, "{agent}: {request}");
        }
    }
    assert_eq!(status("bound", "POST /v22.0/123/messages?method=post").await, 403);
    assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
    assert_eq!(status("ruled", "POST /v22.0/123/messages").await, 200);
    assert_eq!(status("bound", "GET /v22.0/789").await, 200);
    lab.finish().await;
}

const NO_REFUNDS: &str = "{ name: no-refunds, actions: [\"stripe:refund\"], action: deny }";

#[tokio::test]
async fn a_batch_of_requests_is_refused_where_one_of_their_actions_is_denied() {
    const BATCH: &str = "POST /v2/core/batch_jobs";
    for plan in [
        Plan::api_key().agent("till", "{ connection: shop, deny: [refund] }"),
        Plan::api_key().agent("till", "shop").rule(NO_REFUNDS),
    ] {
        let lab = lab(plan).await;
        for request in [BATCH, "POST /v2/core/batch_jobs/b/cancel", "POST /V2/core/batch_jobs"] {
            let answer = ask(&lab, &format!("{request}\r\nContent-Length: 0")).await;
            assert_eq!(answer.head.status(), 403, "{request}: {answer:?}");
            let error = &answer.json()["error"];
            let message = error["message"].as_str().unwrap_or_default();
            assert_eq!(error["code"], "denied", "{error}");
            assert!(message.contains("this is a batch of requests"), "{error}");
            assert!(error["hint"].to_string().contains("one by one"), "{error}");
        }
        assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
        let url = format!("https://{STRIPE}/v2/core/batch_jobs");
        let asked = json!({ "agent": "till", "method": "POST", "url": url });
        let told = lab.gateway.api("POST", "/rules/explain", &asked.to_string()).await.json();
        let message = told["stopped_by"][0]["message"].as_str().unwrap_or_default();
        assert_eq!(told["allowed"], json!(false), "{told}");
        assert!(message.contains("this is a batch of requests"), "{told}");
        let after = ["POST /v1/charges", "GET /v2/core/batch_jobs/b"];
        assert_eq!(statuses(&lab, "till", &after).await, [200, 200]);
        let records = lab.finish().await;
        let rule = records[0]["rule"].as_str().expect("a rule");
        assert!(rule == "file:no-refunds" || rule.starts_with("binding:con_"), "{records:#?}");
    }
}

#[tokio::test]
async fn a_batch_of_requests_is_sent_only_for_an_agent_without_limits() {
    let plan = Plan::api_key()
        .agent("till", "{ connection: shop, allow: [read, charge, refund] }")
        .agent("owner", "shop");
    let lab = lab(plan).await;
    let batch = ["POST /v2/core/batch_jobs"];
    assert_eq!(statuses(&lab, "till", &batch).await, [403]);
    assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
    assert_eq!(statuses(&lab, "owner", &batch).await, [200]);
    lab.finish().await;
}

/// A path without a version is for the oldest version of the API.
#[tokio::test]
async fn a_path_without_a_version_is_refused_where_an_action_of_shopify_is_denied() {
    const SHOP: &str = "acme.myshopify.com";
    let origin = Origin::answering_as(&[SHOP], |_| ok("fine"));
    let connection = "{ name: store, provider: shopify, auth: access_token, variables: { shop: acme }, \
                      fields: { api_key: { env: CANARY } } }";
    let lab = Plan::api_key()
        .connection(connection)
        .resolve(&format!("{SHOP}: \"{}\"", origin.addr))
        .agent("clerk", "{ connection: store, deny: [delete] }")
        .start(origin)
        .await;
    let status = async |request: &str| {
        lab.ask_as("clerk", SHOP, &format!("{request}\r\nContent-Length: 0")).await.head.status()
    };
    for request in [
        "DELETE /admin/api/products/7.json",
        "POST /admin/api/graphql.json",
        "DELETE /admin/products/7.json",
    ] {
        assert_eq!(status(request).await, 403, "{request}");
    }
    assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
    assert_eq!(status("GET /admin/api/2025-01/products.json").await, 200);
    lab.finish().await;
}

/// Each of them makes a service delete, although the request is a POST.
#[tokio::test]
async fn an_overridden_method_is_denied_as_the_method_itself() {
    let plan = Plan::api_key().agent("till", "{ connection: shop, deny: [delete] }");
    let lab = lab(plan).await;
    for request in [
        "POST /v1/customers/c\r\nX-HTTP-Method-Override: DELETE",
        "POST /v1/customers/c\r\nX-HTTP-Method: delete",
        "POST /v1/customers/c\r\nX-Method-Override: DELETE",
        "POST /v1/customers/c?_method=DELETE",
        "GET /v1/customers/c?%5FMethod=delete",
        "POST /v1/customers/c?$httpMethod=DELETE",
    ] {
        assert_eq!(statuses(&lab, "till", &[request]).await, [403], "{request}");
    }
    assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
    assert_eq!(statuses(&lab, "till", &["POST /v1/customers/c"]).await, [200]);
    lab.finish().await;
}

#[tokio::test]
async fn a_slot_is_limited_to_its_actions_and_a_denied_action_holds_for_plugins_too() {
    let mut lab = lab(Plan::api_key()).await;
    lab.add_agent("clerk").await;
    let manifest = |allow: &str| {
        let slot = json!({ "slot": "shop", "provider": "stripe", "allow": [allow] });
        json!({ "plugin": "desk", "version": "1.0.0", "connections": [slot] })
    };
    let install = |allow: &str| json!({ "agent": "clerk", "manifest": manifest(allow), "slots": { "shop": "shop" } });
    let (status, answer) = try_api(&lab, "POST", "/plugins", &install("raed")).await;
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(status, 422, "{answer}");
    assert!(
        message.contains("connections[0].allow") && message.contains("did you mean `read`?"),
        "{message}"
    );
    assert_eq!(try_api(&lab, "POST", "/plugins", &install("charge")).await.0, 201);
    assert_eq!(statuses(&lab, "clerk", &REQUESTS).await, [403, 200, 403], "as the plugin");
    let limited = json!({ "connection": "shop", "allow": ["read"] });
    try_api(&lab, "POST", "/agents/clerk/bindings", &limited).await;
    assert_eq!(statuses(&lab, "clerk", &REQUESTS).await, [200, 200, 403], "both");
    try_api(&lab, "PATCH", "/agents/clerk/bindings/shop", &json!({ "deny": ["charge"] })).await;
    assert_eq!(statuses(&lab, "clerk", &REQUESTS).await, [200, 403, 403], "charges are denied");
    lab.finish_with_changes().await;
}
