//! What is said of connections, and how they are found by it.

use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::*;

async fn add(lab: &Lab, name: &str, more: Value) {
    let fields = json!({"api_key": lab.canary.text});
    let mut new = json!({"provider": "acme", "name": name, "fields": fields});
    new.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    lab.gateway.api("POST", "/connections", &new.to_string()).await.is(201);
}

async fn names(lab: &Lab, query: &str) -> Vec<String> {
    let mut names = vec![];
    let mut after = String::new();
    loop {
        let at = format!("/connections?limit=2{query}{after}");
        let page = lab.gateway.api("GET", &at, "").await;
        assert_eq!(page.head.status(), 200, "{at}: {}", page.text());
        let page = page.json();
        let items = page["items"].as_array().expect("a list");
        assert!(items.len() <= 2);
        names.extend(items.iter().filter_map(|it| it["name"].as_str()).map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return names,
        }
    }
}

#[tokio::test]
async fn connections_are_found_by_text_tag_environment_state_provider_and_due_date() {
    let plan = Plan::api_key().provider(
        "{ id: other, name: Other, hosts: [other.acme.test], auth: [{ id: k, kind: bearer }] }",
    );
    let lab = plan.start(Origin::saying("fine")).await;
    add(&lab, "a", json!({"description": "Work Gmail", "tags": ["mail", "team:crm"], "environment": "production"})).await;
    add(&lab, "b", json!({"purpose": "Client X Calendar", "tags": ["mail"], "expires": "3d"}))
        .await;
    add(&lab, "c", json!({"environment": "dev", "rotate_every": "90d"})).await;
    lab.gateway.api("POST", "/connections/c/pause", "{}").await;
    let token = lab.canary.text.clone();
    let new = json!({"provider": "other", "name": "d", "fields": {"token": token}}).to_string();
    lab.gateway.api("POST", "/connections", &new).await.is(201);
    for (query, found) in [
        ("", &["a", "acme", "b", "c", "d"][..]),
        ("&q=gmail", &["a"]),
        ("&q=CALENDAR", &["b"]),
        ("&q=team:", &["a"]),
        ("&tag=mail", &["a", "b"]),
        ("&tag=mai", &[]),
        ("&tag=mail&environment=production", &["a"]),
        ("&environment=", &["acme", "b", "d"]),
        ("&environment=dev", &["c"]),
        ("&state=paused", &["c"]),
        ("&state=active", &["a", "acme", "b", "d"]),
        ("&state=broken", &[]),
        ("&provider=other", &["d"]),
        ("&provider=acme&q=calendar", &["b"]),
        ("&due=true", &["b"]),
    ] {
        assert_eq!(names(&lab, query).await, found, "{query}");
    }
    for bad in ["state=odd", "limit=0", "limit=1001", "nonsense=1"] {
        let refused = lab.gateway.api("GET", &format!("/connections?{bad}"), "").await;
        assert_eq!(refused.head.status(), 422, "{bad}: {}", refused.text());
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_connection_is_described_renamed_and_keeps_its_bindings() {
    let mut lab = Plan::api_key().no_agents().start(Origin::saying("fine")).await;
    lab.add_agent("ci").await;
    add(&lab, "mine", json!({})).await;
    lab.gateway.api("POST", "/agents/ci/bindings", r#"{"connection":"mine"}"#).await;
    let set =
        async |body: Value| lab.gateway.api("PATCH", "/connections/mine", &body.to_string()).await;
    let said =
        set(json!({"description": "ours", "tags": ["b", "a"], "purpose": "tests"})).await.json();
    assert_eq!((&said["description"], &said["tags"]), (&json!("ours"), &json!(["a", "b"])));
    let unsaid = set(json!({"description": null, "tags": []})).await.json();
    assert_eq!((&unsaid["description"], &unsaid["purpose"]), (&Value::Null, &json!("tests")));
    for (bad, field) in [
        (json!({"description": ""}), "description"),
        (json!({"tags": ["a b"]}), "tags"),
        (json!({"rotate_every": "1h"}), "rotate_every"),
        (json!({"rotate_every": "soon"}), "rotate_every"),
        (json!({"expires": "soon"}), "expires"),
        (json!({"name": "con_1"}), "name"),
    ] {
        let refused = set(bad.clone()).await;
        assert_eq!(refused.json()["error"]["field"], field, "{bad}: {}", refused.text());
    }
    let taken = set(json!({"name": "acme"})).await;
    assert_eq!((taken.head.status(), &taken.json()["error"]["code"]), (409, &json!("name_taken")));
    assert_eq!(set(json!({"name": "ours"})).await.head.status(), 200);
    lab.gateway.api("GET", "/connections/mine", "").await.is(404);
    lab.gateway.restart().await;
    let shown = lab.gateway.api("GET", "/connections/ours", "").await.json();
    assert_eq!(shown["purpose"], "tests", "{shown}");
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    // The old name is free.
    add(&lab, "mine", json!({})).await;
    let declared = lab.gateway.api("PATCH", "/connections/acme", r#"{"description":"x"}"#).await;
    assert_eq!(declared.json()["error"]["code"], "managed_by_file");
    lab.finish().await;
}

#[tokio::test]
async fn a_connection_that_a_rule_of_the_file_names_cannot_be_renamed() {
    let mut plan = Plan::api_key().no_agents();
    plan = plan.top("store: { memory: {} }");
    let lab = plan.start(Origin::saying("fine")).await;
    add(&lab, "mine", json!({})).await;
    let file = lab.gateway.folder().join("keyward.yaml");
    let yaml = std::fs::read_to_string(&file).expect("the configuration");
    let rule = format!("{yaml}rules:\n  - {{ name: read, hosts: [{HOST}], use: mine }}\n");
    std::fs::write(&file, rule).expect("the configuration");
    lab.gateway.api("POST", "/reload", "{}").await.is(200);
    let refused = lab.gateway.api("PATCH", "/connections/mine", r#"{"name":"ours"}"#).await.is(422);
    assert!(refused.text().contains("names connection `mine`"), "{}", refused.text());
    lab.finish().await;
}

#[tokio::test]
async fn a_reload_updates_the_description_tags_and_dates_of_a_declared_connection() {
    let lab = Plan::api_key().start(Origin::saying("fine")).await;
    let file = lab.gateway.folder().join("keyward.yaml");
    let base = std::fs::read_to_string(&file).expect("the configuration");
    let shown = async |more: &str| {
        let with = base
            .replace("name: acme, provider: acme,", &format!("name: acme, provider: acme,{more}"));
        std::fs::write(&file, with).expect("the configuration");
        lab.gateway.api("POST", "/reload", "{}").await.is(200);
        lab.gateway.api("GET", "/connections/acme", "").await.json()
    };
    let said =
        shown(" description: ours, tags: [a], expires: 2030-01-31, rotate_every: 90d,").await;
    assert_eq!((&said["description"], &said["tags"]), (&json!("ours"), &json!(["a"])), "{said}");
    assert_eq!(
        (&said["expires"], &said["rotate_every"]),
        (&json!("2030-01-31T00:00:00Z"), &json!("90d"))
    );
    assert!(said["due"]["at"].is_string(), "{said}");
    let unsaid = shown("").await;
    assert_eq!((&unsaid["description"], &unsaid["due"]), (&Value::Null, &Value::Null), "{unsaid}");
    lab.finish().await;
}

#[tokio::test]
async fn secrets_due_soon_are_reported_in_the_log_and_the_metrics() {
    let lab = Plan::api_key().start(Origin::saying("fine")).await;
    for (name, expires) in [("soon", "12h"), ("week", "5d"), ("later", "100d")] {
        add(&lab, name, json!({"expires": expires})).await;
    }
    let metrics = async || {
        let socket = lab.gateway.data().join("admin.sock");
        let stream = tokio::net::UnixStream::connect(socket).await.expect("the socket listens");
        let mut wire = Wire::over(stream, None, wire::Seen::default());
        wire.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.text()
    };
    let has = |told: &str, within: &str, count: usize| {
        told.contains(&format!("keyward_connection_secrets_due{{within=\"{within}\"}} {count}\n"))
    };
    until("the reminders", async || {
        let told = metrics().await;
        has(&told, "1d", 1) && has(&told, "7d", 1) && has(&told, "14d", 0)
    })
    .await;
    let soon = lab.gateway.api("GET", "/connections/soon", "").await.json();
    let id = soon["id"].as_str().expect("an id");
    let log = String::from_utf8_lossy(&test_support::canary::log().lock().expect("not poisoned"))
        .into_owned();
    // Other tests write into the same log.
    let warned = log.lines().any(|line| line.contains("is due within days") && line.contains(id));
    assert!(warned, "{id}");
    lab.finish().await;
}

#[tokio::test]
async fn connections_are_found_by_their_owner_and_users_by_their_role() {
    let lab = Plan::api_key().start(Origin::saying("fine")).await;
    for (name, role) in [("ann", "admin"), ("bob", "member"), ("cust-1", "end_user")] {
        let new = json!({"name": name, "role": role}).to_string();
        lab.gateway.api("POST", "/users", &new).await.is(201);
    }
    let get = async |path: &str| lab.gateway.api("GET", path, "").await;
    let unknown = get("/connections?owner=eve").await;
    assert_eq!(
        (unknown.head.status(), &unknown.json()["error"]["code"]),
        (404, &json!("not_found"))
    );
    for bad in ["boss", "", "admin,", "Admin"] {
        let refused = get(&format!("/users?role={bad}")).await;
        assert_eq!(refused.json()["error"]["field"], "role", "{bad}: {}", refused.text());
    }
    add(&lab, "bobs", json!({"owner": "bob"})).await;
    assert_eq!(names(&lab, "&owner=ann").await, Vec::<String>::new());
    assert_eq!(names(&lab, "&owner=bob").await, ["bobs"]);
    for (role, found) in [
        ("end_user", json!(["cust-1"])),
        ("auditor", json!([])),
        ("admin,member", json!(["ann", "bob"])),
    ] {
        let users = get(&format!("/users?role={role}")).await.json();
        let users = users["items"].as_array().expect("a list").iter().map(|it| it["name"].clone());
        assert_eq!(Value::Array(users.collect()), found, "{role}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_key_entered_as_the_name_of_a_connection_is_refused_and_not_stored() {
    let mut lab = Plan::api_key().start(Origin::saying("fine")).await;
    add(&lab, "mine", json!({})).await;
    let foreign = Canary::new("ghp_a1");
    let fields = json!({"api_key": lab.canary.text});
    for name in [&lab.canary, &foreign] {
        let new = json!({"provider": "acme", "name": name.text, "fields": fields}).to_string();
        let refused = lab.gateway.api("POST", "/connections", &new).await.is(422);
        assert_eq!(refused.json()["error"]["field"], "name");
        name.assert_absent("the refusal", refused.text().as_bytes());
    }
    let renamed = json!({"name": foreign.text}).to_string();
    let refused = lab.gateway.api("PATCH", "/connections/mine", &renamed).await.is(422);
    foreign.assert_absent("the refusal", refused.text().as_bytes());
    assert_eq!(names(&lab, "").await, ["acme", "mine"]);
    // The audit log and the store are searched at the end.
    lab.guard(foreign);
    lab.finish().await;
}
