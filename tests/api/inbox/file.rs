//! Hooks of the configuration file.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;

fn plan_with(hook: &str, key: &Canary) -> Plan {
    Plan::api_key()
        .top(&format!("hooks:\n  - {{ name: ci, {hook} }}"))
        .secret("KEY", key)
        .variable("SIGNED", SECRET)
        .variable("SHORT", "whsec_abcd")
        .no_agents()
}

fn key() -> Canary {
    Canary::of(format!("whsec_{}", BASE64_STANDARD.encode([9; 32])))
}

#[tokio::test]
async fn an_invalid_hook_of_the_file_is_refused_with_its_place() {
    let key = key();
    for (hook, says) in [
        ("secret: { env: SIGNED }", "`scheme`"),
        ("scheme: github", "`secret` is missing"),
        ("scheme: githob, secret: { env: SIGNED }", "no signature scheme `githob`"),
        ("connection: nosuch, secret: { env: SIGNED }", "no connection `nosuch`"),
        ("connection: acme, secret: { env: SIGNED }", "`scheme` is missing"),
        (
            "scheme: github, secret: { env: SIGNED }, to: 'https://a.test/'",
            "`signing_key` is missing",
        ),
        ("scheme: github, secret: { env: SIGNED }, to: 'http://a.test/'", "hooks[0].to"),
        ("scheme: github, secret: { env: SIGNED }, signing_key: { env: SHORT }", "24 to 64 bytes"),
        ("scheme: stripe, secret: the-secret-itself", "hooks[0].secret"),
        ("scheme: ed25519-discord, secret: { env: SIGNED }", "`secret`"),
    ] {
        let refused = plan_with(hook, &key).refused(&Origin::saying("fine")).await;
        assert!(refused.contains(says), "{hook}: {refused}");
        assert!(refused.contains("hooks[0]"), "{hook}: {refused}");
        assert!(!refused.contains(SECRET) && !refused.contains("the-secret-itself"), "{refused}");
    }
}

#[tokio::test]
async fn a_declared_hook_is_read_only_for_the_api_and_paused_when_it_leaves_the_file() {
    let (key, program) = (key(), Hooks::start().await);
    let declared = format!(
        "scheme: github, secret: {{ env: SIGNED }}, signing_key: {{ env: KEY }}, to: '{}'",
        program.url()
    );
    let plan = program.reached(plan_with(&declared, &key));
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.guard(Canary::of(SECRET.to_owned()));
    let mut world = World { lab, program, key: key.clone() };
    assert_eq!(world.push("{\"n\":1}").await.head.status(), 200);
    assert_eq!(world.program.message(&key).await.text(), "{\"n\":1}");

    for (method, path, body) in [
        ("PATCH", "/hooks/ci", json!({"paused": true})),
        ("POST", "/hooks/ci/rotate", json!({})),
        ("DELETE", "/hooks/ci", Value::Null),
    ] {
        let refused = api(&world.lab, method, path, body, 409).await;
        assert!(refused.to_string().contains("configuration file"), "{method}: {refused}");
    }
    let file = world.lab.gateway.folder().join("keyward.yaml");
    let yaml = std::fs::read_to_string(&file).expect("a file");
    let before = world.standing("it is settled", |hook| hook["waiting"] == 0).await;
    reload(&world, &yaml).await;
    assert_eq!(world.hook().await, before, "the same file changes nothing");

    let (without, _) = yaml.split_once("hooks:").expect("a section");
    reload(&world, without).await;
    assert_eq!(world.push("{\"n\":2}").await.head.status(), 200, "nothing is lost meanwhile");
    world.standing("it rests", |hook| hook["paused"] == true && hook["waiting"] == 1).await;
    reload(&world, &yaml).await;
    assert_eq!(world.program.message(&key).await.text(), "{\"n\":2}");
    world.lab.finish().await;
}

/// A change of a declared connection that makes it again.
fn in_production(yaml: &str) -> String {
    let (before, after) = ("{ name: acme, ", "{ name: acme, environment: prod, ");
    assert!(yaml.contains(before), "{yaml}");
    yaml.replace(before, after)
}

#[tokio::test]
async fn a_reload_that_would_recreate_a_connection_of_a_stored_hook_is_refused() {
    let mut lab = Plan::api_key().no_agents().start(Origin::saying("fine")).await;
    lab.guard(Canary::of(SECRET.to_owned()));
    let hook =
        json!({"name": "stored", "connection": "acme", "scheme": "github", "secret": SECRET});
    api(&lab, "POST", "/hooks", hook, 201).await;
    let before = api(&lab, "GET", "/connections/acme", Value::Null, 200).await;
    let yaml = std::fs::read_to_string(lab.gateway.folder().join("keyward.yaml")).expect("a file");
    let errors = errors_of_reload(&lab, &in_production(&yaml)).await.join("\n");
    for part in ["keyward.yaml:", "connection `acme`", "stored hook `stored` names it"] {
        assert!(errors.contains(part), "{errors} lacks {part}");
    }
    assert!(errors.contains("keyward hook remove"), "{errors}");
    let after = api(&lab, "GET", "/connections/acme", Value::Null, 200).await;
    assert_eq!(after["id"], before["id"]);
    lab.finish().await;
}

#[tokio::test]
async fn a_declared_hook_follows_its_connection_when_a_reload_recreates_it() {
    let key = key();
    let declared = "connection: acme, scheme: github, secret: { env: SIGNED }";
    let plan = plan_with(declared, &key);
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.guard(Canary::of(SECRET.to_owned()));
    let named = async |lab: &Lab| {
        let connection = api(lab, "GET", "/connections/acme", Value::Null, 200).await;
        let hook = api(lab, "GET", "/hooks/ci", Value::Null, 200).await;
        assert_eq!(hook["connection"], connection["id"], "{hook}");
        connection["id"].clone()
    };
    let before = named(&lab).await;
    let yaml = std::fs::read_to_string(lab.gateway.folder().join("keyward.yaml")).expect("a file");
    assert_eq!(errors_of_reload(&lab, &in_production(&yaml)).await, [""; 0]);
    assert_ne!(named(&lab).await, before);
    lab.finish().await;
}

async fn reload(world: &World, yaml: &str) {
    assert_eq!(errors_of_reload(&world.lab, yaml).await, [""; 0]);
}

/// Why a reload of this configuration is refused.
async fn errors_of_reload(lab: &Lab, yaml: &str) -> Vec<String> {
    let file = lab.gateway.folder().join("keyward.yaml");
    std::fs::write(&file, yaml).expect("a file");
    let asked = lab.gateway.running().reloads().reload();
    patiently("reloading", asked).await.expect("it runs").errors
}
