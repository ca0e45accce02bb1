//! A second account for a host does not break the first: the older binding stays the default until a person changes
//! it, and a request still selects another one with a placeholder or `Keyward-Connection`.

use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::*;

/// A lab with the agents `ci` and `dev`, and connections `one`, `two` and `three` of the store with keys of their own.
struct Accounts {
    lab: Lab,
    keys: Vec<Canary>,
}

const NAMES: [&str; 3] = ["one", "two", "three"];

impl Accounts {
    async fn new(plan: Plan) -> Self {
        let mut lab = plan.no_agents().start(Origin::saying("fine")).await;
        for agent in ["ci", "dev"] {
            lab.add_agent(agent).await;
        }
        let mut keys = Vec::new();
        for name in NAMES {
            let key = Canary::new("acct");
            let fields = json!({"api_key": key.text});
            let new = json!({"provider": "acme", "name": name, "fields": fields}).to_string();
            lab.gateway.api("POST", "/connections", &new).await.is(201);
            lab.guard(key.clone());
            keys.push(key);
        }
        Self { lab, keys }
    }

    async fn bind(&self, agent: &str, name: &str, default: bool) -> Value {
        let body = json!({"connection": name, "default": default}).to_string();
        self.lab
            .gateway
            .api("POST", &format!("/agents/{agent}/bindings"), &body)
            .await
            .is(201)
            .json()
    }

    async fn unbind(&self, agent: &str, name: &str) {
        let at = format!("/agents/{agent}/bindings/{name}");
        self.lab.gateway.api("DELETE", &at, "").await.is(204);
    }

    /// The account whose key the provider receives for the request of an agent.
    async fn used(&self, agent: &str, fields: &str) -> &'static str {
        self.lab.ask_as(agent, HOST, &format!("GET /a{fields}")).await.is(200);
        let last = self.lab.origin.received().pop().expect("one");
        assert!(!last.head.has("keyward-connection"), "{last:?}");
        let keys = last.head.all("x-api-key");
        let [key] = keys[..] else { panic!("{keys:?}") };
        let at = self.keys.iter().position(|known| known.text == key).expect("a known key");
        NAMES[at]
    }

    /// The names of an agent's connections, those that are the default in capitals.
    async fn shown(&self, agent: &str) -> String {
        let shown = self.lab.gateway.api("GET", &format!("/agents/{agent}"), "").await.json();
        let all = shown["bindings"].as_array().expect("a list").iter();
        let name = |it: &Value| {
            let name = it["name"].as_str().expect("a name");
            if it["default"] == true { name.to_uppercase() } else { name.to_owned() }
        };
        all.map(name).collect::<Vec<_>>().join(" ")
    }
}

#[tokio::test]
async fn the_older_binding_stays_the_default_and_the_request_may_select_another() {
    let world = Accounts::new(Plan::api_key()).await;
    assert_eq!(world.bind("ci", "two", false).await["default"], true);
    assert_eq!(world.used("ci", "").await, "two");
    assert_eq!(world.bind("ci", "one", false).await["default"], false);
    assert_eq!(world.used("ci", "").await, "two");
    assert_eq!(world.shown("ci").await, "TWO one");
    assert_eq!(world.used("ci", "\r\nKeyward-Connection: one").await, "one");
    let one = world.lab.gateway.placeholder("ci", "one", "api_key");
    assert_eq!(world.used("ci", &format!("\r\nX-Api-Key: {one}")).await, "one");
    // A placeholder of one and the name of another are refused, as before.
    let asked = format!("GET /a\r\nX-Api-Key: {one}\r\nKeyward-Connection: two");
    assert_eq!(world.lab.ask(&asked).await.head.status(), 403);
    world.lab.finish().await;
}

#[tokio::test]
async fn a_user_makes_another_binding_the_default_and_a_restart_keeps_it() {
    let mut world = Accounts::new(Plan::api_key()).await;
    for name in NAMES {
        world.bind("ci", name, false).await;
    }
    let placeholder = world.lab.gateway.placeholder("ci", "two", "api_key");
    let bound = world.bind("ci", "two", true).await;
    assert_eq!(bound["default"], true);
    assert_eq!(bound["placeholders"]["api_key"], placeholder, "programs hold it");
    assert_eq!((world.used("ci", "").await, &*world.shown("ci").await), ("two", "one TWO three"));
    world.bind("ci", "three", true).await;
    assert_eq!((world.used("ci", "").await, &*world.shown("ci").await), ("three", "one two THREE"));
    // What is bound again without the option stays as it is.
    world.bind("ci", "one", false).await;
    world.lab.gateway.restart().await;
    assert_eq!((world.used("ci", "").await, &*world.shown("ci").await), ("three", "one two THREE"));
    // Without the default: the one before it, then the oldest.
    world.unbind("ci", "three").await;
    assert_eq!((world.used("ci", "").await, &*world.shown("ci").await), ("two", "one TWO"));
    world.unbind("ci", "two").await;
    assert_eq!((world.used("ci", "").await, &*world.shown("ci").await), ("one", "ONE"));
    world.lab.finish().await;
}

#[tokio::test]
async fn the_defaults_of_two_agents_are_independent() {
    let world = Accounts::new(Plan::api_key()).await;
    for (agent, names) in [("ci", ["one", "two"]), ("dev", ["two", "one"])] {
        for name in names {
            world.bind(agent, name, false).await;
        }
    }
    assert_eq!((world.used("ci", "").await, world.used("dev", "").await), ("one", "two"));
    world.bind("dev", "one", true).await;
    world.bind("ci", "two", true).await;
    assert_eq!((world.used("ci", "").await, world.used("dev", "").await), ("two", "one"));
    world.lab.finish().await;
}

#[tokio::test]
async fn a_paused_default_account_is_not_replaced_by_another_one() {
    let world = Accounts::new(Plan::api_key()).await;
    world.bind("ci", "one", false).await;
    world.bind("ci", "two", false).await;
    world.lab.gateway.api("POST", "/connections/one/pause", "{}").await.is(200);
    let refused = world.lab.ask("GET /a").await;
    assert_eq!(refused.head.one("keyward-error"), Some("connection_paused"), "{}", refused.text());
    assert_eq!(world.lab.origin.received().len(), 0);
    assert_eq!(world.used("ci", "\r\nKeyward-Connection: two").await, "two");
    world.lab.finish().await;
}

#[tokio::test]
async fn an_agent_that_requires_a_selection_has_no_default() {
    let mut world = Accounts::new(Plan::api_key()).await;
    world.bind("ci", "one", true).await;
    world.bind("ci", "two", false).await;
    let patch = |value: bool| json!({"require_selection": value}).to_string();
    let strict = world.lab.gateway.api("PATCH", "/agents/ci", &patch(true)).await.is(200);
    assert_eq!(strict.json()["require_selection"], true);
    assert_eq!(world.shown("ci").await, "one two");
    world.lab.gateway.restart().await;
    let refused = world.lab.ask("GET /a").await.is(424);
    assert_eq!(refused.head.one("keyward-error"), Some("connection_ambiguous"));
    assert!(refused.text().contains("one, two"), "{}", refused.text());
    assert_eq!(world.lab.origin.received().len(), 0);
    assert_eq!(world.used("ci", "\r\nKeyward-Connection: two").await, "two");
    // With one connection there is nothing to select.
    world.unbind("ci", "two").await;
    assert_eq!(world.used("ci", "").await, "one");
    world.bind("ci", "two", false).await;
    world.lab.gateway.api("PATCH", "/agents/ci", &patch(false)).await.is(200);
    assert_eq!(world.used("ci", "").await, "one");
    world.lab.finish().await;
}

#[tokio::test]
async fn a_rule_that_uses_the_default_connection_replaces_its_binding() {
    let rule = format!("{{ name: writes, hosts: [{HOST}], methods: [POST], use: one }}");
    let world = Accounts::new(Plan::api_key()).await;
    world.bind("ci", "one", false).await;
    world.bind("ci", "two", false).await;
    let file = world.lab.gateway.folder().join("keyward.yaml");
    let yaml = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, format!("{yaml}rules:\n  - {rule}\n")).expect("a file");
    let reloaded = world.lab.gateway.api("POST", "/reload", "").await.json();
    assert_eq!(reloaded["errors"], json!([]), "{reloaded}");
    assert_eq!(world.used("ci", "").await, "two", "the rule keeps `one` for its requests");
    world.lab.ask("POST /a\r\nContent-Length: 0").await.is(200);
    let last = world.lab.origin.received().pop().expect("one");
    assert_eq!(last.head.all("x-api-key"), [&*world.keys[0].text]);
    world.lab.finish().await;
}

#[tokio::test]
async fn explain_names_the_default_connection_and_the_other_candidates() {
    let world = Accounts::new(Plan::api_key()).await;
    for name in NAMES {
        world.bind("ci", name, false).await;
    }
    let explained = |connection: Option<&str>| {
        let url = format!("https://{HOST}/a");
        let ask = json!({"agent": "ci", "url": url, "connection": connection}).to_string();
        let gateway = &world.lab.gateway;
        async move { gateway.api("POST", "/rules/explain", &ask).await.json()["connection"].clone() }
    };
    let used = explained(None).await;
    assert_eq!((&used["name"], &used["default_over"]), (&json!("one"), &json!(["two", "three"])));
    let used = explained(Some("two")).await;
    assert_eq!((&used["name"], &used["default_over"]), (&json!("two"), &Value::Null));
    world.lab.finish().await;
}

/// The credential of another connection of the file.
const SECOND: &str = "second-secret-0123456789";

#[tokio::test]
async fn the_file_names_the_default_account_or_else_the_oldest_binding_is_the_default() {
    let plan = Plan::api_key()
        .secret("SECOND", &Canary::of(SECOND.to_owned()))
        .connection("{ name: spare, provider: acme, fields: { api_key: { env: SECOND } } }")
        .no_agents()
        .agent("ci", "acme, spare");
    let mut lab = plan.start(Origin::saying("fine")).await;
    let canary = lab.canary.text.clone();
    assert_eq!(lab.delivered("GET /a").await.all("x-api-key"), [&*canary]);
    let file = lab.gateway.folder().join("keyward.yaml");
    let yaml = std::fs::read_to_string(&file).expect("the configuration");
    for (defaults, key) in [
        ("defaults: [spare], ", SECOND),
        ("defaults: [acme], ", &*canary),
        ("defaults: [spare], ", SECOND),
        ("", &*canary),
    ] {
        let now = yaml.replace("use: [acme, spare]", &format!("{defaults}use: [acme, spare]"));
        std::fs::write(&file, now).expect("a file");
        for again in [false, true] {
            let reloaded = lab.gateway.api("POST", "/reload", "").await.json();
            assert_eq!(reloaded["errors"], json!([]), "{reloaded}");
            assert_eq!(lab.delivered("GET /a").await.all("x-api-key"), [key], "{again}");
        }
    }
    // The file's alone to change.
    let body = r#"{"connection":"spare","default":true}"#;
    lab.gateway.api("POST", "/agents/ci/bindings", body).await.is(409);
    lab.finish().await;
}

#[tokio::test]
async fn a_file_that_names_a_default_without_using_it_is_refused() {
    let with = |defaults: &str| {
        Plan::api_key()
            .secret("SECOND", &Canary::of(SECOND.to_owned()))
            .connection("{ name: spare, provider: acme, fields: { api_key: { env: SECOND } } }")
            .no_agents()
            .agent("ci", &format!("acme, spare], defaults: [{defaults}"))
    };
    let origin = Origin::saying("fine");
    for (defaults, says) in [
        ("other", "`use` does not name `other`"),
        ("acme, spare", "`acme` is already the default for its hosts"),
        ("acme, acme", "`acme` is already the default for its hosts"),
    ] {
        let error = with(defaults).refused(&origin).await;
        assert!(error.contains(says) && error.contains("defaults["), "{error}");
    }
}
