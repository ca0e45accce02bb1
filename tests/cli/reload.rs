//! A configuration that changes while the gateway serves: what is wrong changes nothing, what is
//! right is in force when the answer comes, and what was taken away ends what rests on it.

use std::fs;
use std::time::{Duration, Instant};

use keyward_api::wire::ReloadView;
use serde_json::json;

use test_support::canary::Canary;
use test_support::*;

/// Writes another configuration as editors do: whole, and then in its place.
fn rewrite(lab: &Lab, change: impl FnOnce(&str) -> String) {
    let file = lab.gateway.folder().join("keyward.yaml");
    let yaml = change(&fs::read_to_string(&file).expect("the configuration"));
    let beside = file.with_extension("new");
    fs::write(&beside, yaml).expect("a file");
    fs::rename(beside, file).expect("renamed");
}

async fn reload(lab: &Lab) -> ReloadView {
    let asked = lab.gateway.running().reloads().reload();
    patiently("reloading", asked).await.expect("it runs")
}

/// Writes, has it read, and expects it to be taken.
async fn becomes(lab: &Lab, change: impl FnOnce(&str) -> String) {
    rewrite(lab, change);
    let view = reload(lab).await;
    assert_eq!(view.errors, [""; 0]);
}

fn with_rule(rule: &str) -> impl FnOnce(&str) -> String {
    move |yaml| format!("{yaml}rules:\n  - {rule}\n")
}

fn without(line: &'static str) -> impl FnOnce(&str) -> String {
    move |yaml| {
        let kept = yaml.lines().filter(|it| !it.contains(line));
        kept.map(|line| format!("{line}\n")).collect()
    }
}

async fn begun(lab: &Lab, path: &str) -> Wire {
    begun_as("ci", lab, path).await
}

async fn begun_as(agent: &str, lab: &Lab, path: &str) -> Wire {
    let mut wire = lab.tunnel_as(agent, HOST).await;
    wire.send(request_text(&format!("GET {path}"), HOST)).await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    wire
}

#[tokio::test]
async fn an_invalid_configuration_changes_nothing_and_all_its_errors_are_reported() {
    let lab = Lab::simple().await;
    let good = fs::read_to_string(lab.gateway.folder().join("keyward.yaml")).expect("it is there");
    let more = "{ name: more, provider: acme, fields: { api_key: { env: CANARY } } }";
    let unset = "{ name: more, provider: acme, fields: { api_key: { env: UNSET } } }";
    let rule = |what: &str| format!("rules:\n  - {{ name: r, hosts: [{HOST}], {what} }}\n");
    let connections = |line: &str| good.replace("agents:\n", &format!("  - {line}\nagents:\n"));
    let table: [(String, &[&str]); 6] = [
        ("listen: [".to_owned(), &["keyward.yaml:"]),
        (format!("{good}lisen: 1\ndefualt: deny\n"), &["lisen", "defualt"]),
        (connections(unset), &["UNSET is not set in the gateway's environment"]),
        (
            connections(more) + &rule("agents: [nobody, no-one], use: none"),
            &["no agent `nobody`", "no agent `no-one`", "no connection `none`"],
        ),
        (connections(more).replace("use: [acme]", "use: [acme, lost]"), &["`lost`"]),
        (
            good.replace("origin-ca.pem", "absent.pem"),
            &["`upstream.trust`: cannot read certificates from "],
        ),
    ];
    for (yaml, expected) in table {
        rewrite(&lab, |_| yaml.clone());
        let view = reload(&lab).await;
        let told = view.errors.join("\n");
        for part in expected {
            assert!(told.contains(part), "{part}: {told}");
        }
        let connections = lab.gateway.running().services().directory.view();
        assert_eq!(connections.connections().count(), 1, "{told}");
        assert_eq!(lab.ask("GET /a").await.text(), "fine", "{told}");
        assert_eq!(lab.gateway.running().reloads().last(), Some(view));
    }
    fs::remove_file(lab.gateway.folder().join("keyward.yaml")).expect("removed");
    assert!(reload(&lab).await.errors[0].contains("cannot be read"), "it does not count as empty");
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    lab.finish().await;
}

#[tokio::test]
async fn rules_agents_and_providers_are_in_force_when_the_reload_has_answered() {
    let lab = Lab::simple().await;
    let deny = format!("{{ name: no, hosts: [{HOST}], paths: [/no], action: deny }}");
    becomes(&lab, with_rule(&deny)).await;
    assert_eq!(lab.ask("GET /no").await.head.status(), 403);
    assert_eq!(lab.ask("GET /yes").await.text(), "fine");
    becomes(&lab, without("name: no,")).await;
    assert_eq!(lab.ask("GET /no").await.text(), "fine");
    becomes(&lab, |yaml| yaml.replace("header: X-Api-Key", "header: X-Other-Key")).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    let received = lab.origin.received();
    let last = received.last().expect("a request");
    assert_eq!(last.head.all("x-other-key").len(), 1, "{last:?}");
    becomes(&lab, without("name: ci,")).await;
    let (answer, _) = lab.connect(&format!("{HOST}:443")).await;
    assert_eq!(answer.head.status(), 407, "what the file names no more is paused");
    lab.finish().await;
}

#[tokio::test]
async fn removing_an_agent_or_connection_from_the_file_ends_its_streams_until_it_is_back() {
    for line in ["name: ci,", "name: acme, provider"] {
        let lab = Plan::api_key().start(Origin::endless()).await;
        let good = fs::read_to_string(lab.gateway.folder().join("keyward.yaml")).expect("there");
        let mut wire = begun(&lab, "/a").await;
        becomes(&lab, |yaml| without(line)(&yaml.replace("use: [acme]", "use: []"))).await;
        assert!(wire.rest().await.len() <= 5, "{line}");
        becomes(&lab, |_| good).await;
        begun(&lab, "/a").await;
        lab.finish().await;
    }
}

const TOKEN: &str = "token: { env: TOKEN_CI }, ";

#[tokio::test]
async fn a_token_that_the_file_no_longer_gives_an_agent_is_revoked_and_ends_its_streams() {
    let lab = Plan::api_key().start(Origin::endless()).await;
    let good = fs::read_to_string(lab.gateway.folder().join("keyward.yaml")).expect("it is there");
    let without_token = good.replace(TOKEN, "");
    assert_ne!(good, without_token);
    let file = lab.gateway.folder().join("new.yaml");
    fs::write(&file, &without_token).expect("a file");
    let asked = json!({"file": file}).to_string();
    let planned = lab.gateway.api("POST", "/plan", &asked).await.is(200).json();
    let steps = planned["steps"].as_array().expect("a list").clone();
    let steps: Vec<_> = steps.iter().filter(|step| step["action"] != "nothing").collect();
    assert_eq!((steps.len(), &steps[0]["changes"]), (1, &json!(["token"])), "{planned}");
    let mut wire = begun(&lab, "/a").await;
    becomes(&lab, |_| without_token).await;
    assert!(wire.rest().await.len() <= 5);
    let received = lab.origin.received().len();
    assert_eq!(lab.connect(&format!("{HOST}:443")).await.0.head.status(), 407);
    assert_eq!(lab.origin.received().len(), received);
    becomes(&lab, |_| good).await;
    begun(&lab, "/a").await;
    lab.finish().await;
}

#[tokio::test]
async fn a_token_of_an_agent_that_the_file_no_longer_names_can_be_revoked_by_command() {
    for revokes in [true, false] {
        let lab = Plan::api_key().start(Origin::saying("fine")).await;
        let good = fs::read_to_string(lab.gateway.folder().join("keyward.yaml")).expect("there");
        let agent = lab.gateway.api("GET", "/agents/ci", "").await.json();
        let token = agent["tokens"][0]["id"].as_str().expect("the one of the file");
        let path = format!("/agents/ci/tokens/{token}");
        lab.gateway.api("DELETE", &path, "").await.is(409);
        becomes(&lab, without("name: ci,")).await;
        if revokes {
            lab.gateway.api("DELETE", &path, "").await.is(204);
        }
        // The agent is back without its token.
        becomes(&lab, |_| good.replace(TOKEN, "")).await;
        assert_eq!(lab.connect(&format!("{HOST}:443")).await.0.head.status(), 407, "{revokes}");
        becomes(&lab, |_| good).await;
        assert_eq!(lab.ask("GET /a").await.text(), "fine", "{revokes}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn an_agent_that_is_renamed_in_the_file_keeps_its_token() {
    for pauses_first in [false, true] {
        let mut lab = Plan::api_key().start(Origin::endless()).await;
        lab.share_token("ci", "renamed");
        let good = fs::read_to_string(lab.gateway.folder().join("keyward.yaml")).expect("there");
        let renamed = good.replace("name: ci,", "name: renamed,");
        assert_ne!(renamed, good);
        let mut wire = begun(&lab, "/a").await;
        if pauses_first {
            becomes(&lab, without("name: ci,")).await;
        }
        becomes(&lab, |_| renamed).await;
        assert!(wire.rest().await.len() <= 5, "it was the stream of the old agent");
        begun_as("renamed", &lab, "/b").await;
        let last = lab.origin.received().pop().expect("a request");
        assert_eq!(last.head.one("x-api-key"), Some(&*lab.canary.text));
        let old = lab.gateway.api("GET", "/agents/ci", "").await.json();
        assert_eq!((&old["paused"], &old["tokens"]), (&json!(true), &json!([])), "{old}");
        let new = lab.gateway.api("GET", "/agents/renamed", "").await.json();
        assert_eq!(new["tokens"].as_array().map(Vec::len), Some(1), "{new}");
        // And back.
        becomes(&lab, |_| good).await;
        begun(&lab, "/c").await;
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_reload_ends_only_the_open_answers_that_the_new_rules_deny() {
    let lab = Plan::api_key().start(Origin::endless()).await;
    let (mut denied, mut kept) = (begun(&lab, "/denied").await, begun(&lab, "/kept").await);
    let deny = format!("{{ name: no, hosts: [{HOST}], paths: [/denied], action: deny }}");
    becomes(&lab, with_rule(&deny)).await;
    assert!(denied.rest().await.len() <= 5);
    assert_eq!(kept.exactly(5).await, b"hell\n");
    lab.finish().await;
}

#[tokio::test]
async fn an_idle_stream_outlives_the_rule_of_its_last_request() {
    let lab = Plan::api_key().start(Origin::saying("fine")).await;
    let mut wire = lab.sent("GET /once").await;
    assert_eq!(wire.answer("GET").await.text(), "fine");
    let deny = format!("{{ name: no, hosts: [{HOST}], paths: [/once], action: deny }}");
    becomes(&lab, with_rule(&deny)).await;
    assert_eq!(wire.ask(request_text("GET /always", HOST)).await.text(), "fine");
    wire.send(request_text("GET /once", HOST)).await;
    assert_eq!(wire.answer("GET").await.head.status(), 403, "each request is decided anew");
    lab.finish().await;
}

#[tokio::test]
async fn a_tunnel_ends_with_the_rule_that_opened_it() {
    let tunnel = format!("{{ name: blind, hosts: [{STRANGER}], action: tunnel }}");
    let lab = Plan::api_key().rule(&tunnel).start(Origin::endless()).await;
    let (answer, mut wire) = lab.connect(&format!("{STRANGER}:443")).await;
    assert_eq!(answer.head.status(), 200);
    becomes(&lab, |yaml| without("name: blind")(&yaml.replace("rules:\n", ""))).await;
    assert!(wire.is_closed().await);
    lab.finish().await;
}

#[tokio::test]
async fn a_changed_file_is_in_force_without_a_reload_within_five_seconds() {
    let lab = Plan::api_key().start(Origin::endless()).await;
    let mut wire = begun(&lab, "/a").await;
    let began = Instant::now();
    rewrite(&lab, |yaml| without("name: acme, provider")(&yaml.replace("use: [acme]", "use: []")));
    assert!(wire.rest().await.len() <= 5);
    // Two looks and the change itself; the rest is a busy machine's.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    lab.finish().await;
}

#[tokio::test]
async fn a_change_that_needs_a_restart_is_a_warning_of_the_reload() {
    let lab = Lab::simple().await;
    rewrite(&lab, |yaml| yaml.replace("drain_timeout: 2s", "drain_timeout: 3s"));
    let view = reload(&lab).await;
    assert_eq!(view.errors, [""; 0]);
    assert_eq!(view.warnings, ["a change of `limits` takes effect at the next start"]);
    lab.finish().await;
}

#[tokio::test]
async fn the_status_names_the_variables_of_secrets_that_a_reload_adds() {
    let other = Canary::new("other");
    let lab = Plan::api_key().secret("OTHER", &other).start(Origin::saying("fine")).await;
    let named = async || {
        let status = lab.gateway.api("GET", "/status", "").await.json();
        let names = status["secret_variables"].as_array().expect("a list").clone();
        ["CANARY", "TOKEN_CI", "OTHER"].map(|name| names.contains(&name.into()))
    };
    assert_eq!(named().await, [true, true, false]);
    becomes(&lab, |yaml| yaml.replace("env: CANARY", "env: OTHER")).await;
    assert!(named().await[2]);
    lab.finish().await;
}

#[tokio::test]
async fn idle_streams_do_not_reach_addresses_that_are_no_longer_allowed() {
    let lab = Lab::simple().await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    becomes(&lab, |yaml| {
        let from = yaml.find("allow_private: [").expect("it is allowed");
        let to = from + yaml[from..].find(']').expect("a list") + 1;
        format!("{}allow_private: []{}", &yaml[..from], &yaml[to..])
    })
    .await;
    let answer = lab.ask("GET /a").await;
    assert_eq!(answer.head.one("keyward-error"), Some("address_refused"));
    lab.finish().await;
}

/// The command asks a secret manager that is away for a moment.
#[tokio::test]
async fn a_reload_whose_command_gives_nothing_is_incomplete_and_tried_again() {
    let lab = Lab::simple().await;
    let key = lab.gateway.folder().join("key");
    let command = format!("{{ command: [cat, {}] }}", key.display());
    let more = format!("{{ name: more, provider: acme, fields: {{ api_key: {command} }} }}");
    let rule = format!("rules:\n  - {{ name: no, hosts: [{HOST}], action: deny }}\n");
    rewrite(&lab, |yaml| yaml.replace("agents:\n", &format!("  - {more}\nagents:\n")) + &rule);
    let answer = lab.gateway.api("POST", "/reload", "").await.is(503);
    assert_eq!(answer.json()["error"]["code"], "reload_incomplete", "{}", answer.text());
    assert_eq!(lab.ask("GET /a").await.text(), "fine", "nothing has changed");
    fs::write(&key, "sk-canary-of-a-command").expect("a file");
    // Nothing asks for a reload.
    let reloads = lab.gateway.running().reloads();
    let is_whole = || reloads.last().is_some_and(|it| it.errors.is_empty() && !it.incomplete);
    until("the reload", async || is_whole()).await;
    lab.ask("GET /a").await.is(403);
    lab.finish().await;
}
