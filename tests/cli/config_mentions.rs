//! What the configuration names and the store has is not removed before the configuration has changed: the gateway would
//! not start again.

use serde_json::{Value, json};

use test_support::api::{api, try_api};
use test_support::cli::Cli;
use test_support::*;

const READER: &str = "{ manifest: { plugin: reader, version: 1.0.0, connections: [{ slot: code, provider: github, \
                      methods: [GET] }] }, agent: bot, slots: { code: hub } }";

const HOOK: &str = "{ name: in, scheme: github, connection: hub, secret: { env: CANARY } }";

/// A gateway with agent `bot` and connection `hub`, which the file does not manage, and its configuration.
async fn stocked() -> (Lab, String) {
    let mut lab = Lab::simple().await;
    lab.add_agent("bot").await;
    let fields = json!({ "token": "ghp_0123456789abcdefghijklmnopqrstuvwxyz" });
    let hub = json!({ "name": "hub", "provider": "github", "fields": fields });
    api(&lab, "POST", "/connections", hub, 201).await;
    let yaml = written(&lab);
    (lab, yaml)
}

fn written(lab: &Lab) -> String {
    std::fs::read_to_string(lab.gateway.folder().join("keyward.yaml")).expect("the configuration")
}

/// Replaces the configuration, and expects it to be accepted.
async fn becomes(lab: &Lab, yaml: &str) {
    std::fs::write(lab.gateway.folder().join("keyward.yaml"), yaml).expect("a file");
    let asked = lab.gateway.running().reloads().reload();
    assert_eq!(patiently("reloading", asked).await.expect("it runs").errors, [""; 0]);
}

/// Expects that its removal is refused with the place of the name.
async fn stays(lab: &Lab, path: &str, place: &str) {
    let answer = api(lab, "DELETE", path, Value::Null, 422).await;
    let error = &answer["error"];
    assert_eq!(error["code"], "refused", "{error}");
    assert!(error["message"].to_string().contains(place), "{path}: {error} lacks {place}");
    assert!(error["hint"].to_string().contains("change the configuration first"), "{error}");
    api(lab, "GET", path, Value::Null, 200).await;
}

async fn is_removed(lab: &Lab, path: &str) {
    let (status, answer) = try_api(lab, "DELETE", path, &Value::Null).await;
    assert!((200..300).contains(&status), "{path}: {answer}");
    api(lab, "GET", path, Value::Null, 404).await;
}

#[tokio::test]
async fn an_agent_or_connection_that_a_rule_of_the_file_names_is_not_removed() {
    let (lab, base) = stocked().await;
    let id = async |path: &str| api(&lab, "GET", path, Value::Null, 200).await["id"].to_string();
    let ids = [id("/agents/bot").await, id("/connections/hub").await];
    let place = format!("keyward.yaml:{}: rules[0]", base.lines().count() + 2);
    for [bot, hub] in [["bot".to_owned(), "hub".to_owned()], ids] {
        let rule = format!("{{ agents: [{bot}], hosts: [api.github.com], use: {hub} }}");
        becomes(&lab, &format!("{base}rules:\n  - {rule}\n")).await;
        for path in ["/agents/bot", "/connections/hub"] {
            stays(&lab, path, &place).await;
        }
    }
    becomes(&lab, &base).await;
    for path in ["/agents/bot", "/connections/hub"] {
        is_removed(&lab, path).await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn resources_that_agents_plugins_or_hooks_of_the_file_name_are_not_removed() {
    let (lab, base) = stocked().await;
    let agent = base.replace("agents:\n", "agents:\n  - { name: extra, use: [hub] }\n");
    assert_ne!(agent, base);
    let plugin = format!("{base}plugins:\n  - {READER}\n");
    let hook = format!("{base}hooks:\n  - {HOOK}\n");
    for (yaml, path, place) in [
        (&agent, "/connections/hub", ": agents[0]"),
        (&plugin, "/agents/bot", ": plugins[0]"),
        (&plugin, "/connections/hub", ": plugins[0].slots.code"),
        (&hook, "/connections/hub", ": hooks[0]"),
    ] {
        becomes(&lab, yaml).await;
        stays(&lab, path, place).await;
    }
    becomes(&lab, &base).await;
    for path in ["/agents/bot", "/connections/hub"] {
        is_removed(&lab, path).await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_provider_whose_action_a_rule_of_the_file_names_is_not_removed() {
    let lab = Lab::simple().await;
    let base = written(&lab);
    let requests = json!([{ "methods": ["GET"], "paths": ["/v1/**"] }]);
    let corp = json!({
        "id": "corp", "name": "Corp", "hosts": ["corp.acme.test"],
        "auth": [{ "id": "key", "kind": "api_key", "placement": { "header": "X-Corp" } }],
        "actions": [{ "name": "read", "label": "Read", "requests": requests }],
    });
    api(&lab, "POST", "/providers", corp, 201).await;
    let rule = r#"{ actions: ["corp:read"], action: deny }"#;
    becomes(&lab, &format!("{base}rules:\n  - {rule}\n")).await;
    stays(&lab, "/providers/corp", ": rules[0]").await;
    becomes(&lab, &base).await;
    is_removed(&lab, "/providers/corp").await;
    lab.finish().await;
}

#[test]
fn a_removal_is_refused_with_and_without_a_gateway_and_the_next_start_succeeds() {
    let cli = Cli::new();
    cli.run(&["agent", "add", "bot"]).ok();
    let remove = ["agent", "remove", "bot"];
    let rules = "rules:\n  - { agents: [bot], hosts: [a.example], action: deny }\n";
    let serving = cli.serve_with(rules);
    let with_gateway = cli.run(&remove).failed(1);
    drop(serving);
    let file = cli.file("keyward.yaml", rules);
    let config = ["--config", file.to_str().expect("UTF-8")];
    let without_gateway = cli.run(&[&remove[..], &config[..]].concat()).failed(1);
    for (said, place) in
        [(with_gateway, "keyward.yaml:3: rules[0]"), (without_gateway, "keyward.yaml:2: rules[0]")]
    {
        assert!(said.contains("names agent `bot`") && said.contains(place), "{said}");
        assert!(said.contains("hint: change the configuration first"), "{said}");
    }
    let serving = cli.serve_with(rules);
    cli.file("keyward.yaml", "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\n");
    cli.run(&["reload"]).ok();
    cli.run(&remove).ok();
    drop(serving);
    drop(cli.serve());
}
