//! Plugins that the configuration declares: installed, upgraded and paused by the file alone, refused by line,
//! and read-only for everybody else.

use std::fs;

use serde_json::{Value, json};

use test_support::market::{CHAT, Market};
use test_support::{STRANGER, patiently, until};

/// A plugin that reads with the connection `acme`.
const READER: &str = "{ manifest: { plugin: reader, version: 1.0.0, connections: [{ slot: mail, provider: acme, \
                      methods: [GET] }] }, agent: digest, slots: { mail: acme } }";

const POST: &str = "POST /a\r\nContent-Length: 0";

/// A market with agent `digest`, which the file manages, and these plugins.
async fn declaring(plugins: &[&str]) -> Market {
    let market = Market::with(|plan| {
        let plan = plan
            .agent("digest", "")
            .connection("{ name: alerts, provider: chat, fields: { token: { env: CANARY } } }");
        plan.top(&section(plugins))
    });
    market.await
}

fn section(plugins: &[&str]) -> String {
    let items: String = plugins.iter().map(|plugin| format!("  - {plugin}\n")).collect();
    format!("plugins:\n{items}")
}

/// The configuration with other plugins.
fn with(market: &Market, plugins: &[&str]) -> String {
    let yaml = fs::read_to_string(market.lab.gateway.folder().join("keyward.yaml"));
    let yaml = yaml.expect("the configuration");
    let (before, _) = yaml.split_once("plugins:\n").expect("plugins are last");
    format!("{before}{}", section(plugins))
}

/// Has a configuration read: what is wrong with it.
async fn read(market: &Market, yaml: &str) -> String {
    let file = market.lab.gateway.folder().join("keyward.yaml");
    let beside = file.with_extension("new");
    fs::write(&beside, yaml).expect("a file");
    fs::rename(beside, file).expect("renamed");
    let asked = market.lab.gateway.running().reloads().reload();
    patiently("reloading", asked).await.expect("it runs").errors.join("\n")
}

/// Has other plugins read, and expects them to be taken.
async fn becomes(market: &Market, plugins: &[&str]) {
    assert_eq!(read(market, &with(market, plugins)).await, "");
}

async fn is_served(market: &Market, host: &str, request: &str) -> bool {
    market.gets("digest", host, request).await.0 == 200
}

/// An item of `plugins:`, and what is told of it.
const REFUSED: &[(&str, &[&str])] = &[
    ("{ agent: digest }", &["plugins[0]: `manifest` is missing; add `manifest:` with the path"]),
    (
        "{ manifest: sound.yaml, slots: { a: acme } }",
        &["plugins[0]: `agent` is missing; add `agent:`"],
    ),
    (
        "{ manifest: 3, agent: digest }",
        &["plugins[0].manifest: this is not a manifest; write the path"],
    ),
    (
        "{ manifest: sound.yaml, agent: digest, slot: { a: acme } }",
        &["unknown key `slot`; did you mean `slots`?"],
    ),
    (
        "{ manifest: sound.yaml, agent: digest, slots: { a: \"\" } }",
        &["plugins[0].slots.a: the name is empty; name a connection"],
    ),
    (
        "{ manifest: { plugin: x, version: one, connections: [{ slot: a, provider: acne }] }, agent: digest }",
        &[
            "plugins[0].manifest.version: this is not a version; write up to three numbers",
            "plugins[0].manifest.connections[0].provider: there is no provider `acne`; did you mean `acme`?",
        ],
    ),
    (
        "{ manifest: broken.yaml, agent: digest, slots: { a: acme } }",
        &[
            "broken.yaml:2: version: this is not a version; write up to three numbers",
            "broken.yaml:4: connections[0].provider: there is no provider `acne`; did you mean `acme`?",
        ],
    ),
    (
        "{ manifest: none.yaml, agent: digest }",
        &["plugins[0].manifest: ", "none.yaml: No such file"],
    ),
    (
        "{ manifest: sound.yaml, agent: digest, slots: { b: acme } }",
        &[
            "plugins[0].slots.b: plugin `x` has no slot `b`; did you mean `a`?",
            "plugins[0].slots: slot `a` of plugin `x` is required; add `a: ` with the name of a connection of `acme`",
        ],
    ),
    (
        "{ manifest: sound.yaml, agent: digset, slots: { a: acme } }",
        &["plugins[0].agent: there is no agent `digset`; did you mean `digest`?"],
    ),
    (
        "{ manifest: sound.yaml, agent: nobody, slots: { a: acme } }",
        &[
            "plugins[0].agent: there is no agent `nobody`; declare it under `agents:`, or add it with `keyward agent add`",
        ],
    ),
    (
        "{ manifest: sound.yaml, agent: digest, slots: { a: acmee } }",
        &["plugins[0].slots.a: there is no connection `acmee`; did you mean `acme`?"],
    ),
    (
        "{ manifest: sound.yaml, agent: digest, slots: { a: alerts } }",
        &[
            "plugins[0].slots.a: the slot requires an account at `acme`, and connection `alerts` is one at `chat`; name another",
        ],
    ),
    (
        "{ manifest: sound.yaml, agent: digest, org: other, slots: { a: acme } }",
        &["plugins[0].agent: there is no agent `digest`; declare it"],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_plugin_is_refused_by_line_with_a_remedy_and_changes_nothing() {
    let market = declaring(&[READER]).await;
    market.keyed("acme", "stored").await;
    market.file(
        "broken.yaml",
        "plugin: x\nversion: soon\nconnections:\n  - { slot: a, provider: acne }\n",
    );
    market.file(
        "sound.yaml",
        "plugin: x\nversion: 1.0.0\nconnections:\n  - { slot: a, provider: acme }\n",
    );
    for (plugin, expected) in REFUSED {
        let yaml = with(&market, &[plugin]);
        let line = yaml.lines().position(|line| line.contains(plugin)).expect("it is there") + 1;
        let told = read(&market, &yaml).await;
        for part in *expected {
            assert!(told.contains(part), "{part}: {told}");
        }
        let lined = told.lines().all(|problem| {
            problem.contains(&format!("keyward.yaml:{line}: ")) || problem.contains("broken.yaml:")
        });
        assert!(lined, "{line}: {told}");
        assert_eq!(market.state("reader").await, "ready", "{told}");
        assert!(is_served(&market, STRANGER, "GET /a").await, "{told}");
    }
    let twice = read(&market, &with(&market, &[READER, READER])).await;
    assert!(
        twice.contains(
            "plugins[1]: plugin `reader` is declared for agent `digest` twice; remove one"
        ),
        "{twice}"
    );
    let plugins = market.api("GET", "/plugins", &Value::Null).await;
    assert_eq!(plugins["items"].as_array().map(Vec::len), Some(1), "{plugins}");
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_and_the_api_do_not_edit_what_the_file_declares_and_name_the_remedy() {
    let market = declaring(&[READER]).await;
    let before = market.plugin("reader").await;
    let manifest = json!({
        "plugin": "other", "version": "1.0.0", "connections": [{ "slot": "a", "provider": "acme" }],
    });
    let new = json!({ "agent": "digest", "manifest": manifest, "slots": { "a": "acme" } });
    for (method, path, body, hint) in [
        ("PATCH", "/plugins/reader", json!({ "slots": { "mail": "acme" } }), "under `plugins:`"),
        ("DELETE", "/plugins/reader", Value::Null, "under `plugins:`"),
        ("POST", "/plugins", new, "`plugins:` its plugins"),
    ] {
        let refused = market.ask(method, path, &body).await;
        let error = &refused.json()["error"];
        assert_eq!((refused.head.status(), &error["code"]), (409, &json!("managed_by_file")));
        assert!(error["hint"].as_str().is_some_and(|it| it.contains(hint)), "{method}: {error}");
    }
    let file = market.manifest(&[]);
    for (command, says) in [
        (
            &["plugin", "install", &*file, "--agent", "digest", "--yes"][..],
            "error: agent `digest` is managed by the configuration file\nhint: declare the plugin under \
             `plugins:` there, or name another agent with --agent\n",
        ),
        (
            &["plugin", "set", "reader", "--slot", "mail=acme"],
            "hint: change it, or its manifest, under",
        ),
        (&["plugin", "remove", "reader"], "hint: change it, or its manifest, under `plugins:`"),
    ] {
        let did = market.keyward(command);
        assert_eq!(did.code, 1, "{did:?}");
        assert!(did.err.contains(says), "{did:?}");
    }
    assert_eq!(market.plugin("reader").await, before);
    let list = market.says(&["plugin", "list"]);
    assert!(list.contains("MANAGED BY") && list.contains("file"), "{list}");
    let shown = market.says(&["plugin", "show", "reader"]);
    assert!(shown.contains("managed by") && shown.contains("file"), "{shown}");
    market.close().await;
}

#[tokio::test]
async fn a_declared_plugin_does_what_its_manifest_says_and_outlives_a_restart() {
    let mut market = declaring(&[READER]).await;
    assert!(is_served(&market, STRANGER, "GET /a").await);
    assert_eq!(market.gets("digest", STRANGER, POST).await, (403, "denied".to_owned()));
    assert_eq!(market.gets("digest", CHAT, "GET /a").await.1, "default_deny");
    let sent = market.lab.origin.only();
    assert_eq!(sent.head.all("x-api-key"), [&*market.lab.canary.text]);
    let before = market.plugin("reader").await;
    assert_eq!((&before["state"], &before["managed_by"]), (&json!("ready"), &json!("file")));
    becomes(&market, &[READER]).await;
    market.lab.gateway.restart().await;
    assert_eq!(market.plugin("reader").await, before, "the same file writes nothing");
    assert!(is_served(&market, STRANGER, "GET /a").await);
    assert_eq!(market.gets("digest", STRANGER, POST).await.0, 403);
    market.close().await;
}

#[tokio::test]
async fn a_changed_manifest_file_upgrades_or_downgrades_the_plugin() {
    let market = declaring(&[]).await;
    let version = |version: &str, more: &str| {
        let slot = format!("{{ slot: mail, provider: acme{more} }}");
        let text = format!("plugin: reader\nversion: {version}\nconnections:\n  - {slot}\n");
        market.file("reader.yaml", &text);
    };
    let is = async |wanted: &str| {
        until("the version", async || {
            let shown = market.ask("GET", "/plugins/reader", &Value::Null).await;
            shown.json()["version"] == wanted
        })
        .await;
        // What is under way is whole before the next one: its rules come into force last.
        patiently("the rules", market.lab.gateway.running().reloads().reload()).await;
    };
    let declared = "{ manifest: reader.yaml, agent: digest, slots: { mail: acme } }";
    // A manifest that is mended is taken up by itself, though the file was never in force.
    version("soon", "");
    assert!(read(&market, &with(&market, &[declared])).await.contains("reader.yaml:2: version"));
    version("1.0.0", ", methods: [GET]");
    is("1.0.0").await;
    let before = market.plugin("reader").await;
    assert_eq!(market.gets("digest", STRANGER, POST).await.0, 403);
    version("1.1.0", "");
    is("1.1.0").await;
    assert!(is_served(&market, STRANGER, POST).await);
    version("broken", "");
    until("the refusal", async || {
        !market.lab.gateway.running().reloads().last().is_none_or(|last| last.errors.is_empty())
    })
    .await;
    assert!(is_served(&market, STRANGER, POST).await, "what was there stays");
    version("1.0.0", ", methods: [GET]");
    is("1.0.0").await;
    assert_eq!(market.gets("digest", STRANGER, POST).await.0, 403);
    assert_eq!(market.plugin("reader").await["id"], before["id"]);
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_leaves_the_file_is_paused_and_can_be_declared_again_or_removed() {
    let market = declaring(&[READER]).await;
    let before = market.plugin("reader").await;
    let placeholder = market.lab.gateway.placeholder("digest", "acme", "api_key");
    becomes(&market, &[]).await;
    assert_eq!(market.state("reader").await, "paused");
    let refused = market.request("digest", STRANGER, "GET /a").await;
    assert_eq!(refused.head.one("keyward-error"), Some("plugin_blocked"), "{}", refused.text());
    assert!(refused.text().contains("it is no longer in the configuration"), "{}", refused.text());
    let list = market.says(&["plugin", "list"]);
    assert!(list.contains("paused: it is no longer in the configuration"), "{list}");
    let shown = market.says(&["agent", "show", "digest"]);
    assert!(!shown.contains("slot mail"), "nothing to use is shown: {shown}");
    becomes(&market, &[READER]).await;
    let after = market.plugin("reader").await;
    assert_eq!((&after["id"], &after["state"]), (&before["id"], &json!("ready")));
    assert_eq!(market.lab.gateway.placeholder("digest", "acme", "api_key"), placeholder);
    assert!(is_served(&market, STRANGER, "GET /a").await);
    // One of another name takes over, and the one before is in nobody's way.
    let renamed = READER
        .replace("plugin: reader", "plugin: writer")
        .replace("methods: [GET]", "methods: [POST]");
    becomes(&market, &[&renamed]).await;
    assert!(is_served(&market, STRANGER, POST).await);
    assert_eq!(market.gets("digest", STRANGER, "GET /a").await, (403, "denied".to_owned()));
    let said = market.says(&["plugin", "remove", "reader"]);
    assert!(said.contains("plugin reader removed"), "{said}");
    assert!(is_served(&market, STRANGER, POST).await);
    market.close().await;
}

#[tokio::test]
async fn a_connection_can_be_in_a_slot_and_in_use_and_be_removed_from_either() {
    let market = declaring(&[READER]).await;
    let yaml = with(&market, &[READER]);
    let used = yaml.replace("use: []", "use: [acme]");
    assert_ne!(yaml, used);
    assert_eq!(read(&market, &used).await, "");
    assert!(is_served(&market, STRANGER, POST).await, "what it may use has no limits");
    for _ in 0..2 {
        assert_eq!(read(&market, &yaml).await, "");
        assert_eq!(market.gets("digest", STRANGER, POST).await.0, 403);
        assert!(is_served(&market, STRANGER, "GET /a").await);
    }
    assert_eq!(read(&market, &used).await, "");
    assert_eq!(read(&market, &used.replace(&section(&[READER]), &section(&[]))).await, "");
    assert!(is_served(&market, STRANGER, POST).await);
    market.close().await;
}

#[tokio::test]
async fn agent_and_slots_move_to_another_environment_together() {
    let market = declaring(&[READER]).await;
    let yaml = with(&market, &[READER]);
    let apart = yaml.replace("use: []", "use: [], environment: staging").replace(
        "{ name: acme, provider: acme,",
        "{ name: acme, environment: production, provider: acme,",
    );
    let told = read(&market, &apart).await;
    assert!(
        told.contains(
            "agent `digest` is in environment `staging`, connection `acme` in `production`"
        ),
        "{told}"
    );
    assert!(is_served(&market, STRANGER, "GET /a").await);
    let here = "{ name: acme, environment: staging, provider: acme,";
    let staged = yaml
        .replace("use: []", "use: [], environment: staging")
        .replace("{ name: acme, provider: acme,", here);
    assert_eq!(read(&market, &staged).await, "");
    assert!(is_served(&market, STRANGER, "GET /a").await);
    let more = "{ name: acme2, environment: production, provider: acme, fields: { api_key: { env: CANARY } } }";
    let moved = staged
        .replace("use: [], environment: staging", "use: [], environment: production")
        .replace("slots: { mail: acme }", "slots: { mail: acme2 }")
        .replace("agents:\n", &format!("  - {more}\nagents:\n"));
    assert_eq!(read(&market, &moved).await, "");
    assert!(is_served(&market, STRANGER, "GET /a").await);
    assert_eq!(market.plugin("reader").await["slots"][0]["connection"]["name"], "acme2");
    market.close().await;
}

#[tokio::test]
async fn a_stored_agent_may_have_a_declared_plugin_and_a_stored_plugin_keeps_its_name() {
    let mut market = declaring(&[]).await;
    market.lab.add_agent("worker").await;
    market.keyed("acme", "stored").await;
    let worker =
        READER.replace("agent: digest", "agent: worker").replace("mail: acme", "mail: stored");
    becomes(&market, &[&worker]).await;
    assert_eq!(market.gets("worker", STRANGER, "GET /a").await.0, 200);
    assert_eq!(market.gets("worker", STRANGER, POST).await.0, 403);
    let rename = json!({ "name": "other" });
    let refused = market.ask("PATCH", "/connections/stored", &rename).await;
    assert!(refused.text().contains("plugins[0].slots.mail"), "{}", refused.text());
    let removed = market.ask("DELETE", "/plugins/reader", &Value::Null).await;
    assert_eq!(removed.json()["error"]["code"], "managed_by_file");
    becomes(&market, &[]).await;
    market.api("DELETE", "/plugins/reader", &Value::Null).await;
    let slot = json!([{ "slot": "mail", "provider": "acme" }]);
    let manifest = json!({ "plugin": "reader", "version": "1.0.0", "connections": slot });
    let new = json!({ "agent": "worker", "manifest": manifest, "slots": { "mail": "stored" } });
    market.api("POST", "/plugins", &new).await;
    let told = read(&market, &with(&market, &[&worker])).await;
    assert!(
        told.contains("a stored plugin has this name; remove it with `keyward plugin remove reader --agent worker`"),
        "{told}"
    );
    assert_eq!(market.gets("worker", STRANGER, POST).await.0, 200, "the stored one stays");
    market.close().await;
}

#[tokio::test]
async fn a_private_connection_is_in_a_slot_of_its_owners_agents_only() {
    let market = declaring(&[]).await;
    market.api("POST", "/users", &json!({ "name": "ann", "role": "member" })).await;
    let key = &market.lab.canary.text;
    let hers =
        json!({ "provider": "acme", "name": "hers", "owner": "ann", "fields": { "api_key": key } });
    market.api("POST", "/connections", &hers).await;
    market.api("POST", "/agents", &json!({ "name": "helper", "owner": "ann" })).await;
    let declared = READER.replace("mail: acme", "mail: hers");
    let told = read(&market, &with(&market, &[&declared])).await;
    assert!(
        told.contains(
            "plugins[0].slots.mail: connection `hers` is private, and agent `digest` has another owner; share it"
        ),
        "{told}"
    );
    let plugins = market.api("GET", "/plugins", &Value::Null).await;
    assert_eq!(plugins["items"], json!([]), "nothing was installed");
    becomes(&market, &[&declared.replace("agent: digest", "agent: helper")]).await;
    assert_eq!(market.state("reader").await, "ready");
    market.close().await;
}

#[tokio::test]
async fn a_gateway_does_not_start_with_an_invalid_plugin_in_its_file() {
    let origin = test_support::Origin::saying("fine");
    for (plugin, says) in [
        ("{ manifest: none.yaml, agent: ci }", "plugins[0].manifest: "),
        (
            "{ manifest: { plugin: a, version: '1', connections: [{ slot: s, provider: acme }] }, agent: ci }",
            "slot `s` of plugin `a` is required",
        ),
        (
            "{ manifest: { plugin: a, version: '1', connections: [{ slot: s, provider: acme }] }, agent: ci, \
             slots: { s: other } }",
            "there is no connection `other`",
        ),
    ] {
        let plan = test_support::Plan::api_key().top(&section(&[plugin]));
        let told = plan.refused(&origin).await;
        assert!(told.contains(says) && told.contains("keyward.yaml:"), "{told}");
    }
}
