//! Stored rules: made, moved and removed by the API, in force when it answers, and behind the rules of the file.

use serde_json::{Value, json};

use test_support::api::try_api;
use test_support::hooks::Hooks;
use test_support::*;

async fn add(lab: &Lab, rule: Value) -> Value {
    let (status, made) = try_api(lab, "POST", "/rules", &rule).await;
    assert_eq!(status, 201, "{rule}: {made}");
    made
}

/// The error of a call that is refused with this status.
async fn refused(lab: &Lab, call: (&str, &str), body: Value, status: u16) -> Value {
    let (found, answer) = try_api(lab, call.0, call.1, &body).await;
    assert_eq!(found, status, "{call:?} {body}: {answer}");
    answer["error"].clone()
}

/// The names of rules and bindings, in their order; ids where there is no name.
async fn order(lab: &Lab) -> Vec<String> {
    let (_, list) = try_api(lab, "GET", "/rules", &Value::Null).await;
    let items = list["items"].as_array().expect("a list");
    let name = |item: &Value| item["name"].as_str().or(item["id"].as_str()).map(str::to_owned);
    items.iter().filter_map(name).filter(|name| !name.starts_with("binding:")).collect()
}

/// The code of the answer to a request of `ci`; none if the origin answered.
async fn code(lab: &Lab, request: &str) -> Option<String> {
    let answer = lab.ask(request).await;
    match answer.head.status() {
        200 => None,
        _ => answer.json()["error"]["code"].as_str().map(str::to_owned),
    }
}

fn deny(name: &str, methods: &[&str]) -> Value {
    json!({ "name": name, "action": "deny", "methods": methods, "hosts": [HOST] })
}

// === events ===

#[tokio::test]
async fn webhooks_receive_each_change_of_a_stored_rule_and_none_of_rules_beside_it() {
    let mut hooks = Hooks::start().await;
    let mut lab = hooks.reached(Plan::api_key()).start(Origin::saying("fine")).await;
    let key = hooks.subscribed(&mut lab, &["rule.added", "rule.changed", "rule.removed"]).await;
    let none = json!({ "name": "none", "action": "deny", "use": "acme" });
    refused(&lab, ("POST", "/rules"), none, 422).await;
    let made = add(&lab, deny("one", &["GET"])).await;
    add(&lab, deny("two", &["PUT"])).await;
    for change in [
        json!({ "methods": ["GET"] }),
        json!({ "methods": ["HEAD"] }),
        json!({ "first": true }),
        json!({ "last": true }),
    ] {
        assert_eq!(try_api(&lab, "PATCH", "/rules/one", &change).await.0, 200, "{change}");
    }
    assert_eq!(try_api(&lab, "DELETE", "/rules/one", &Value::Null).await.0, 204);
    let mut told = Vec::new();
    for _ in 0..5 {
        let event = hooks.event(&key).await;
        let name = event.data["rule"]["name"].as_str().expect("a name").to_owned();
        assert_eq!(event.data["by"], "operator");
        if name == "one" {
            assert_eq!(event.data["rule"]["id"], made["id"]);
        }
        told.push((event.kind, name));
    }
    // Another event may overtake one that was stored before it.
    told.sort();
    let expected = [
        ("rule.added", "one"),
        ("rule.added", "two"),
        ("rule.changed", "one"),
        ("rule.changed", "one"),
        ("rule.removed", "one"),
    ];
    assert_eq!(told, expected.map(|(kind, name)| (kind.to_owned(), name.to_owned())));
    let records = lab.finish_with_changes().await;
    let changes = records.iter().filter(|it| it["change"]["what"] == "rule").count();
    assert_eq!(changes, 8, "each request has one record: {records:#?}");
}

#[tokio::test]
async fn a_generated_name_does_not_end_with_the_mark_at_which_a_long_host_was_cut() {
    let lab = Lab::simple().await;
    let host = "a-very-long-host-name.with.many.labels.and.even.more.acme.test";
    let made = add(&lab, json!({ "action": "deny", "hosts": [host] })).await;
    assert_eq!(made["name"], "deny-a-very-long-host-name.with.many.labels.and.even");
    lab.finish().await;
}

// === in force ===

#[tokio::test]
async fn a_stored_deny_stops_a_request_that_the_binding_allowed() {
    let mut lab = Lab::simple().await;
    lab.delivered("DELETE /a").await;
    let rule =
        json!({ "action": "deny", "methods": ["DELETE"], "hosts": [HOST], "agents": ["ci"] });
    let made = add(&lab, rule).await;
    assert_eq!(
        (&made["name"], &made["managed_by"]),
        (&json!("deny-api.acme.test"), &json!("store"))
    );
    assert_eq!((&made["agents"], &made["number"]), (&json!(["ci"]), &json!(1)));
    let before = lab.origin.bytes().len();
    let answer = lab.ask("DELETE /b").await.is(403);
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("rule `store:deny-api.acme.test` denies this"), "{message}");
    assert_eq!(lab.origin.bytes().len(), before, "the origin received nothing");
    assert_eq!(code(&lab, "GET /c").await, None);
    let explained = json!({ "agent": "ci", "method": "DELETE", "url": format!("https://{HOST}/") });
    let (_, told) = try_api(&lab, "POST", "/rules/explain", &explained).await;
    assert_eq!(told["rule"], "store:deny-api.acme.test");
    // Removed: the binding decides again.
    let path = format!("/rules/{}", made["id"].as_str().expect("an id"));
    assert_eq!(try_api(&lab, "DELETE", &path, &Value::Null).await.0, 204);
    assert_eq!(code(&lab, "DELETE /d").await, None);
    let records = lab.finish_with_changes().await;
    let denied = records.iter().find(|record| record["code"] == "denied").expect("a record");
    assert_eq!(denied["rule"], "store:deny-api.acme.test");
    let changes: Vec<_> =
        records.iter().filter(|record| record["change"]["what"] == "rule").collect();
    let actions: Vec<_> = changes.iter().map(|record| &record["change"]["action"]).collect();
    assert_eq!(actions, [&json!("added"), &json!("removed")]);
    assert!(changes.iter().all(|it| it["change"]["name"] == "deny-api.acme.test"), "{changes:?}");
}

#[tokio::test]
async fn the_first_stored_rule_that_matches_decides() {
    let lab = Lab::simple().await;
    add(&lab, deny("no", &["GET"])).await;
    let inject = json!({ "name": "yes", "action": "inject", "methods": ["GET"], "hosts": [HOST] });
    let second = add(&lab, inject).await;
    assert_eq!(second["shadowed_by"], "store:no");
    assert_eq!(code(&lab, "GET /a").await.as_deref(), Some("denied"));
    let (status, moved) = try_api(&lab, "PATCH", "/rules/yes", &json!({ "first": true })).await;
    assert_eq!((status, &moved["number"], &moved["shadowed_by"]), (200, &json!(1), &Value::Null));
    assert_eq!(code(&lab, "GET /a").await, None);
    assert_eq!(order(&lab).await, ["yes", "no", "default"]);
    let ask = json!({ "rules": ["no", "yes"] });
    assert_eq!(try_api(&lab, "PUT", "/rules/order", &ask).await.0, 200);
    assert_eq!(code(&lab, "GET /a").await.as_deref(), Some("denied"));
    let (_, list) = try_api(&lab, "GET", "/rules", &Value::Null).await;
    let shadows = [0, 1].map(|at| list["items"][at]["shadowed_by"].clone());
    assert_eq!(shadows, [Value::Null, json!("store:no")]);
    let asked = json!({ "agent": "ci", "url": format!("https://{HOST}/a") });
    let (_, told) = try_api(&lab, "POST", "/rules/explain", &asked).await;
    let considered = told["considered"].as_array().expect("a list");
    let fits: Vec<_> = considered.iter().map(|it| it["fit"].as_str().expect("a word")).collect();
    assert_eq!(fits, ["decides", "not_reached", "not_reached", "not_reached"], "{told}");
    let records = lab.finish_with_changes().await;
    assert!(records.iter().any(|record| record["change"]["what"] == "rule order"), "{records:?}");
}

#[tokio::test]
async fn the_rules_of_the_file_come_first_and_are_changed_there_alone() {
    let rule = "{ name: reads, hosts: [api.acme.test], methods: [GET], action: inject }";
    let lab = Plan::api_key().rule(rule).start(Origin::saying("fine")).await;
    add(&lab, json!({ "name": "no", "action": "deny", "hosts": [HOST], "first": true })).await;
    assert_eq!(order(&lab).await, ["reads", "no", "default"]);
    assert_eq!(code(&lab, "GET /a").await, None);
    assert_eq!(code(&lab, "POST /a").await.as_deref(), Some("denied"));
    for (method, body) in [("PATCH", json!({ "action": "deny" })), ("DELETE", Value::Null)] {
        for name in ["/rules/reads", "/rules/file:reads"] {
            let error = refused(&lab, (method, name), body.clone(), 409).await;
            assert_eq!(error["code"], "managed_by_file", "{error}");
        }
    }
    for (place, field) in
        [(json!({ "before": "reads" }), "before"), (json!({ "after": "reads" }), "after")]
    {
        let error = refused(&lab, ("PATCH", "/rules/no"), place, 422).await;
        assert_eq!(error["field"], field);
        assert!(error["message"].to_string().contains("configuration file"), "{error}");
    }
    let taken = refused(&lab, ("POST", "/rules"), deny("reads", &[]), 409).await;
    assert_eq!(taken["code"], "name_taken");
    let taken = refused(&lab, ("POST", "/rules"), deny("no", &["PUT"]), 409).await;
    assert_eq!(taken["code"], "name_taken");
    let (_, shown) = try_api(&lab, "GET", "/rules/reads", &Value::Null).await;
    assert_eq!((&shown["managed_by"], &shown["id"]), (&json!("file"), &json!("file:reads")));
    lab.finish().await;
}

#[tokio::test]
async fn rules_and_their_order_survive_a_restart() {
    let mut lab = Lab::simple().await;
    for name in ["a", "b", "c"] {
        add(&lab, deny(name, &["PUT"])).await;
    }
    add(&lab, json!({ "name": "d", "action": "deny", "methods": ["DELETE"], "before": "b" })).await;
    try_api(&lab, "PATCH", "/rules/c", &json!({ "after": "a", "methods": ["POST"] })).await;
    assert_eq!(order(&lab).await, ["a", "c", "d", "b", "default"]);
    lab.gateway.restart().await;
    assert_eq!(order(&lab).await, ["a", "c", "d", "b", "default"]);
    for method in ["POST", "DELETE", "PUT"] {
        assert_eq!(
            code(&lab, &format!("{method} /a")).await.as_deref(),
            Some("denied"),
            "{method}"
        );
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_rule_of_another_organisation_does_not_apply() {
    let mut lab = Lab::simple().await;
    let acme = json!({ "name": "acme" });
    assert_eq!(try_api(&lab, "POST", "/orgs", &acme).await.0, 201);
    let rule = json!({ "name": "no", "action": "deny" }).to_string();
    let org = "Keyward-Org: acme\r\n";
    let made = lab.gateway.api_with(org, ("POST", "/rules"), &rule).await.is(201);
    assert_eq!(code(&lab, "GET /a").await, None);
    assert_eq!(order(&lab).await, ["default"]);
    // Also when the rules of this one are compiled again.
    add(&lab, deny("puts", &["PUT"])).await;
    assert_eq!(code(&lab, "GET /a").await, None);
    lab.gateway.restart().await;
    assert_eq!(code(&lab, "GET /a").await, None);
    assert_eq!(code(&lab, "PUT /a").await.as_deref(), Some("denied"));
    assert_eq!(try_api(&lab, "DELETE", "/rules/puts", &Value::Null).await.0, 204);
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    for name in ["no", &id] {
        assert_eq!(try_api(&lab, "DELETE", &format!("/rules/{name}"), &Value::Null).await.0, 404);
    }
    // Neither an agent nor a connection of this one can be named there.
    for named in [json!({ "agents": ["ci"], "action": "deny" }), json!({ "use": "acme" })] {
        lab.gateway.api_with(org, ("POST", "/rules"), &named.to_string()).await.is(404);
    }
    lab.finish().await;
}

// === refusals ===

#[tokio::test]
async fn only_an_admin_may_change_rules() {
    let lab = Lab::simple().await;
    add(&lab, deny("no", &["PUT"])).await;
    for role in ["auditor", "member"] {
        let user = json!({ "name": role, "role": role });
        assert_eq!(try_api(&lab, "POST", "/users", &user).await.0, 201);
        let (_, token) =
            try_api(&lab, "POST", "/tokens", &json!({ "user": role, "label": "t" })).await;
        let token = token["token"].as_str().expect("shown once");
        let fields = format!("Authorization: Bearer {token}\r\n");
        for (method, path, body) in [
            ("POST", "/rules", r#"{"action":"deny"}"#),
            ("PATCH", "/rules/no", r#"{"action":"pass"}"#),
            ("DELETE", "/rules/no", ""),
            ("PUT", "/rules/order", r#"{"rules":["no"]}"#),
        ] {
            let answer = lab.gateway.api_with(&fields, (method, path), body).await;
            assert_eq!(answer.head.status(), 403, "{role} {method} {path}");
        }
        let answer = lab.gateway.api_with(&fields, ("GET", "/rules/no"), "").await;
        assert_eq!(answer.head.status(), 200, "{role}");
    }
    assert_eq!(code(&lab, "PUT /a").await.as_deref(), Some("denied"));
    lab.finish().await;
}

#[tokio::test]
async fn an_invalid_stored_rule_is_refused_by_field_when_it_is_added() {
    let lab = Lab::simple().await;
    let post = ("POST", "/rules");
    for (rule, field, hint) in [
        (json!({ "use": "acme", "hosts": ["evil.test"] }), "hosts", ""),
        (json!({ "action": "deny", "hosts": ["*.com"] }), "hosts[0]", ""),
        (json!({ "action": "deny", "name": "order" }), "name", "another name"),
        (json!({ "action": "deny", "agents": [] }), "agents", "omit `agents`"),
        (json!({ "action": "tunnel", "methods": ["GET"] }), "action", ""),
        (json!({ "action": "deny", "allow_plaintext": true }), "allow_plaintext", ""),
        (json!({ "action": "deny", "own_authorization": "pass" }), "own_authorization", ""),
        (json!({ "action": "deny", "first": true, "last": true }), "last", "one of"),
    ] {
        let error = refused(&lab, post, rule.clone(), 422).await;
        assert_eq!(error["field"], field, "{rule}: {error}");
        assert!(error["hint"].as_str().unwrap_or_default().contains(hint), "{rule}: {error}");
    }
    for (rule, field, hint) in [
        (json!({ "action": "deny", "agents": ["cii"] }), "agents[0]", "did you mean `ci`?"),
        (json!({ "use": "acne" }), "use", "did you mean `acme`?"),
        (json!({ "use": "zzz" }), "use", "keyward connection list"),
        (json!({ "action": "deny", "before": "gone" }), "before", "keyward rule list"),
    ] {
        let error = refused(&lab, post, rule.clone(), 404).await;
        assert_eq!(error["field"], field, "{rule}: {error}");
        assert!(error["hint"].as_str().unwrap_or_default().contains(hint), "{rule}: {error}");
    }
    let error = refused(&lab, post, json!({ "hosts": ["a.test"] }), 422).await;
    assert!(error["message"].to_string().contains("neither `use` nor `action`"), "{error}");
    let error = refused(&lab, post, json!({ "action": "allow" }), 422).await;
    assert_eq!(error["field"], "action", "{error}");
    assert_eq!(order(&lab).await, ["default"]);
    for name in ["default", "binding:con_1"] {
        let path = format!("/rules/{name}");
        let error = refused(&lab, ("DELETE", &path), Value::Null, 422).await;
        assert!(error["message"].to_string().contains("not a rule that can be changed"), "{error}");
    }
    refused(&lab, ("GET", "/rules/gone"), Value::Null, 404).await;
    lab.finish().await;
}

#[tokio::test]
async fn contradictions_are_refused_with_both_names() {
    let rule = "{ name: looks, hosts: [x.acme.test], action: pass }";
    let lab = Plan::api_key().rule(rule).start(Origin::saying("fine")).await;
    let tunnel = json!({ "name": "blind", "action": "tunnel", "hosts": ["*.acme.test"] });
    let error = refused(&lab, ("POST", "/rules"), tunnel, 422).await;
    let message = error["message"].to_string();
    for part in ["`store:blind`", "`file:looks`", "keyward.yaml:"] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
    add(&lab, json!({ "name": "blind", "action": "tunnel", "hosts": ["b.test"] })).await;
    let pass = json!({ "name": "sees", "action": "pass", "hosts": ["b.test"] });
    let error = refused(&lab, ("POST", "/rules"), pass, 422).await;
    assert!(error["message"].to_string().contains("`store:sees`"), "{error}");
    let wider = json!({ "hosts": ["b.test", "x.acme.test"] });
    refused(&lab, ("PATCH", "/rules/blind"), wider, 422).await;
    // A rule for all hosts may follow a tunnel but not precede it, however it comes there.
    add(&lab, json!({ "name": "rest", "action": "pass", "hosts": [] })).await;
    refused(&lab, ("PATCH", "/rules/rest"), json!({ "first": true }), 422).await;
    refused(&lab, ("PUT", "/rules/order"), json!({ "rules": ["rest", "blind"] }), 422).await;
    assert_eq!(order(&lab).await, ["looks", "blind", "rest", "default"]);
    lab.finish().await;
}

#[tokio::test]
async fn an_order_names_every_stored_rule_once() {
    let lab = Lab::simple().await;
    for name in ["a", "b"] {
        add(&lab, deny(name, &["PUT"])).await;
    }
    for (rules, part, status) in [
        (json!(["a"]), "lacks rule `b`", 422),
        (json!(["a", "b", "a"]), "is named twice", 422),
        (json!(["a", "c"]), "no stored rule `c`", 404),
        (json!([]), "lacks rule `a`", 422),
    ] {
        let order = json!({ "rules": rules });
        let error = refused(&lab, ("PUT", "/rules/order"), order, status).await;
        assert!(error["message"].to_string().contains(part), "{error} lacks {part}");
    }
    assert_eq!(order(&lab).await, ["a", "b", "default"]);
    lab.finish().await;
}

#[tokio::test]
async fn a_reload_that_contradicts_a_stored_rule_names_both_and_changes_nothing() {
    let lab = Lab::simple().await;
    add(&lab, json!({ "name": "blind", "action": "tunnel", "hosts": ["b.test"] })).await;
    let file = lab.gateway.folder().join("keyward.yaml");
    let before = std::fs::read_to_string(&file).expect("the configuration");
    for (rule, parts) in [
        (
            "{ name: sees, hosts: [b.test], action: pass }",
            ["`store:blind` tunnels hosts that rule `file:sees` inspects", "keyward.yaml:"],
        ),
        (
            "{ name: blind, hosts: [c.test], action: deny }",
            ["a stored rule has the name `blind`", "keyward.yaml:"],
        ),
    ] {
        std::fs::write(&file, format!("{before}rules:\n  - {rule}\n")).expect("a file");
        let asked = lab.gateway.running().reloads().reload();
        let view = patiently("reloading", asked).await.expect("it runs");
        for part in parts {
            assert!(view.errors.join("\n").contains(part), "{:?} lacks {part}", view.errors);
        }
    }
    assert_eq!(order(&lab).await, ["blind", "default"]);
    lab.finish().await;
}

#[tokio::test]
async fn a_rule_of_the_file_for_a_foreign_host_is_refused_with_its_line() {
    let rule = "{ name: r, hosts: [evil.test], use: acme }";
    let refused = Plan::api_key().rule(rule).refused(&Origin::saying("fine")).await;
    assert!(refused.contains("keyward.yaml:") && refused.contains(": rules[0]: "), "{refused}");
    assert!(refused.contains("`evil.test`, which provider `acme` does not own"), "{refused}");
}

// === what a rule names ===

#[tokio::test]
async fn a_reload_that_would_recreate_a_connection_of_a_stored_rule_is_refused() {
    let other = "{ id: other, name: Other, hosts: [third.acme.test], auth: [{ id: key, kind: api_key, placement: { header: X-Key } }] }";
    let lab = Plan::api_key().provider(other).start(Origin::saying("fine")).await;
    add(&lab, json!({ "name": "uses", "use": "acme", "agents": ["ci"], "hosts": [HOST] })).await;
    let file = lab.gateway.folder().join("keyward.yaml");
    let yaml = std::fs::read_to_string(&file).expect("the configuration");
    let changed = yaml.replace("{ name: acme, provider: acme,", "{ name: acme, provider: other,");
    assert_ne!(yaml, changed);
    std::fs::write(&file, changed).expect("a file");
    let asked = lab.gateway.running().reloads().reload();
    let errors = patiently("reloading", asked).await.expect("it runs").errors.join("\n");
    for part in ["keyward.yaml:", "connection `acme`", "stored rule `uses` names it"] {
        assert!(errors.contains(part), "{errors} lacks {part}");
    }
    assert_eq!(code(&lab, "GET /a").await, None);
    lab.finish().await;
}

#[tokio::test]
async fn an_agent_or_connection_of_a_stored_rule_cannot_be_removed() {
    let mut lab = Lab::simple().await;
    lab.add_agent("bot").await;
    let fields = json!({ "token": "ghp_0123456789abcdefghijklmnopqrstuvwxyz" });
    let hub = json!({ "name": "hub", "provider": "github", "fields": fields });
    let (status, made) = try_api(&lab, "POST", "/connections", &hub).await;
    assert_eq!(status, 201, "{made}");
    add(
        &lab,
        json!({ "name": "hubs", "use": "hub", "agents": ["bot"], "hosts": ["api.github.com"] }),
    )
    .await;
    for (path, name) in [("/agents/bot", "bot"), ("/connections/hub", "hub")] {
        let error = refused(&lab, ("DELETE", path), Value::Null, 422).await;
        let message = error["message"].to_string();
        assert!(message.contains(name) && message.contains("`hubs`"), "{error}");
        assert!(error["hint"].to_string().contains("keyward rule remove"), "{error}");
    }
    let renamed = try_api(&lab, "PATCH", "/connections/hub", &json!({ "name": "work" })).await;
    assert_eq!(renamed.0, 200, "{}", renamed.1);
    let (_, shown) = try_api(&lab, "GET", "/rules/hubs", &Value::Null).await;
    assert_eq!((&shown["use"], &shown["agents"]), (&json!("work"), &json!(["bot"])));
    let explained = json!({ "agent": "bot", "url": "https://api.github.com/user" });
    let (_, told) = try_api(&lab, "POST", "/rules/explain", &explained).await;
    assert_eq!((&told["rule"], &told["action"]), (&json!("store:hubs"), &json!("inject")));
    assert_eq!(try_api(&lab, "DELETE", "/rules/hubs", &Value::Null).await.0, 204);
    for path in ["/agents/bot", "/connections/work"] {
        let (status, _) = try_api(&lab, "DELETE", path, &Value::Null).await;
        assert!((200..300).contains(&status), "{path}: {status}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn an_organisation_with_a_rule_is_not_removed() {
    let lab = Lab::simple().await;
    assert_eq!(try_api(&lab, "POST", "/orgs", &json!({ "name": "acme" })).await.0, 201);
    let (org, rule) = ("Keyward-Org: acme\r\n", r#"{"name":"no","action":"deny"}"#);
    lab.gateway.api_with(org, ("POST", "/rules"), rule).await.is(201);
    let error = refused(&lab, ("DELETE", "/orgs/acme"), Value::Null, 422).await;
    assert!(error["message"].to_string().contains("rule `no`"), "{error}");
    lab.finish().await;
}

#[tokio::test]
async fn rules_added_at_once_all_have_names_and_places() {
    let lab = Lab::simple().await;
    let rule = json!({ "action": "deny", "methods": ["PUT"], "hosts": [HOST] });
    let adding = (0..8).map(|_| try_api(&lab, "POST", "/rules", &rule));
    for (status, made) in futures_util::future::join_all(adding).await {
        assert_eq!(status, 201, "{made}");
    }
    let mut names = order(&lab).await;
    assert_eq!(names.len(), 9);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 9, "{names:?}");
    lab.finish().await;
}
