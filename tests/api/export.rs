//! Exported resources load in another gateway as they were; a file is applied whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value, json};

use test_support::canary::Canary;
use test_support::install::Install;
use test_support::process::{Served, said};
use test_support::*;

fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null()).output().expect("it runs")
}

fn succeeds(command: Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn fails(command: Command) -> String {
    let output = run(command);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    said(&output)
}

async fn post(served: &Served, path: &str, body: Value) {
    let answer = served.api("POST", path, &body.to_string()).await;
    assert_eq!(answer.head.status(), 201, "{path}: {}", answer.text());
}

/// What is exported.
const KINDS: [&str; 10] = [
    "agents",
    "apps",
    "connections",
    "honeytokens",
    "hooks",
    "plugins",
    "providers",
    "rules",
    "sources",
    "webhooks",
];

/// Resources of each kind, two connections of one provider, and what has no default.
async fn stock(served: &Served, secret: &str) {
    let bearer = json!([{ "id": "key", "kind": "bearer" }]);
    let corp = json!({ "id": "corp", "name": "Corp", "hosts": ["corp.acme.test"], "auth": bearer });
    post(served, "/providers", corp).await;
    let second = json!({
        "name": "second", "provider": "acme", "fields": { "api_key": secret },
        "description": "the other one", "settings": { "timeout": "5s" },
    });
    post(served, "/connections", second).await;
    let corp = json!({ "name": "corp", "provider": "corp", "fields": { "token": secret } });
    post(served, "/connections", corp).await;
    post(served, "/agents", json!({ "name": "bot", "labels": { "team": "build" }, "allow": [] }))
        .await;
    post(served, "/agents/bot/bindings", json!({ "connection": "acme" })).await;
    let default = json!({ "connection": "second", "default": true });
    post(served, "/agents/bot/bindings", default).await;
    let slot = json!({
        "slot": "crm", "provider": "acme", "label": "CRM", "required": true, "methods": ["GET"],
    });
    let manifest = json!({ "plugin": "digest", "version": "1.2.0", "connections": [slot] });
    let plugin = json!({ "manifest": manifest, "agent": "bot", "slots": { "crm": "second" } });
    post(served, "/plugins", plugin).await;
    let deny =
        json!({ "name": "no-deletes", "hosts": [HOST], "methods": ["DELETE"], "action": "deny" });
    post(served, "/rules", deny).await;
    let narrow = json!({ "name": "narrow", "agents": ["bot"], "paths": ["/**"], "hosts": [HOST], "use": "second" });
    post(served, "/rules", narrow).await;
    post(served, "/webhooks", json!({ "name": "ops", "url": "https://hooks.acme.test/in" })).await;
    post(served, "/honeytokens", json!({ "name": "bait", "provider": "github" })).await;
    let secrets = json!({ "client_secret": secret });
    let app =
        json!({ "provider": "github", "name": "work", "client_id": "known", "secrets": secrets });
    post(served, "/apps", app).await;
    let vault = json!({ "address": "https://vault.acme.test" });
    let source = json!({ "name": "store", "vault": vault, "credentials": { "token": secret } });
    post(served, "/sources", source).await;
    let to = "https://program.acme.test/in";
    let hook = json!({ "name": "ci", "scheme": "github", "to": to, "secret": secret });
    post(served, "/hooks", hook).await;
    post(served, "/hooks", json!({ "name": "waits", "scheme": "stripe", "secret": secret })).await;
}

/// The sections of a gateway itself, without resources.
fn of_gateway(served: &Served) -> Map<String, Value> {
    let text = fs::read_to_string(served.config()).expect("a file");
    let all: BTreeMap<String, Value> = serde_yaml::from_str(&text).expect("YAML");
    let own = ["listen", "upstream", "limits", "log"];
    all.into_iter().filter(|(key, _)| own.contains(&&**key)).collect()
}

async fn exported(served: &Served) -> Value {
    served.api("GET", "/export", "").await.is(200).json()
}

async fn assert_what_left_the_file_is_omitted(fresh: &mut Served, mut whole: Map<String, Value>) {
    whole.retain(|section, _| !["webhooks", "hooks"].contains(&section.as_str()));
    fs::write(fresh.config(), serde_yaml::to_string(&whole).expect("YAML")).expect("a file");
    fresh.kill();
    fresh.restart();
    let left = exported(fresh).await;
    for (section, item) in [("webhooks", "webhook `ops`"), ("hooks", "hook `ci`")] {
        assert_eq!(left["configuration"].get(section), None, "{left}");
        let why = format!(
            "{item} is omitted: it is paused, because the configuration file no longer names it"
        );
        assert!(left["notes"].to_string().contains(&why), "{left}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_has_no_secret_and_loads_as_the_same_resources() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key();
    let secret = Canary::new("second-0123456789");
    let key = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let variables = [
        ("APP_WORK_CLIENT_SECRET", &*secret.text),
        ("HOOK_CI_SECRET", &*secret.text),
        ("HOOK_CI_SIGNING_KEY", key),
        ("HOOK_WAITS_SECRET", &*secret.text),
        ("SOURCE_STORE_TOKEN", &*secret.text),
        ("CONNECTION_ACME_API_KEY", &*plan.canary().text),
        ("CONNECTION_CORP_TOKEN", &*secret.text),
        ("CONNECTION_SECOND_API_KEY", &*secret.text),
        ("WEBHOOK_OPS_SIGNING_KEY", key),
    ];
    let served = Served::start(&plan, &origin, &[]);
    stock(&served, &secret.text).await;
    let first = exported(&served).await;
    let yaml = succeeds(served.keyward(&["export", "--yaml"]));
    for canary in [&secret, plan.canary()] {
        canary.assert_absent("an export", yaml.as_bytes());
        canary.assert_absent("an export", first.to_string().as_bytes());
    }
    let sections: Map<String, Value> = serde_yaml::from_str(&yaml).expect("YAML");
    assert_eq!(Value::Object(sections.clone()), first["configuration"]);
    let keys: Vec<_> = sections.keys().map(String::as_str).collect();
    assert_eq!(BTreeSet::from_iter(keys), BTreeSet::from(KINDS));
    let listed = first["variables"].as_array().expect("variables").iter();
    let listed: BTreeSet<_> = listed.map(|it| it["name"].as_str().expect("a name")).collect();
    assert_eq!(listed, variables.iter().map(|(name, _)| *name).collect());
    assert!(yaml.contains("#   CONNECTION_SECOND_API_KEY  `api_key` of connection `second`"));

    let mut fresh = Served::start(&plan, &origin, &variables);
    fresh.kill();
    fs::remove_dir_all(fresh.data()).expect("its state");
    let mut whole = of_gateway(&fresh);
    whole.extend(sections);
    fs::write(fresh.config(), serde_yaml::to_string(&whole).expect("YAML")).expect("a file");
    succeeds(fresh.keyward(&["config", "check"]));
    fresh.restart();
    let again = exported(&fresh).await;
    assert_eq!(again["configuration"], first["configuration"], "it loads back to the same");
    assert_eq!(again["variables"], first["variables"]);
    let issued = fresh.api("POST", "/agents/bot/tokens", "{}").await.json();
    let token = issued["token"].as_str().expect("a token");
    let mut wire = Wire::to(fresh.proxy).await;
    assert_eq!(wire.ask(absolute("GET /", HOST, token)).await.text(), "fine");
    let received = origin.received();
    let last = received.last().expect("a request");
    assert_eq!(last.head.all("x-api-key"), [&*secret.text]);
    drop(wire);

    assert_what_left_the_file_is_omitted(&mut fresh, whole).await;
}

#[tokio::test]
async fn an_export_notes_what_a_configuration_cannot_say() {
    let served = Served::start(&Plan::api_key(), &Origin::saying("fine"), &[]);
    post(&served, "/users", json!({ "name": "ann", "role": "member" })).await;
    post(&served, "/agents", json!({ "name": "bot", "owner": "ann" })).await;
    post(&served, "/agents", json!({ "name": "plain" })).await;
    let fields = json!({ "api_key": "second-0123456789" });
    for name in ["of-ann", "idle"] {
        let new = json!({ "name": name, "provider": "acme", "fields": fields });
        post(&served, "/connections", new).await;
    }
    let to_ann = json!({ "owner": "ann", "visibility": "shared" }).to_string();
    served.api("PATCH", "/connections/of-ann", &to_ann).await.is(200);
    post(&served, "/webhooks", json!({ "name": "ops", "url": "https://hooks.acme.test/in" })).await;
    for at in ["/agents/bot/pause", "/connections/idle/pause"] {
        served.api("POST", at, "").await.is(200);
    }
    served.api("PATCH", "/webhooks/ops", r#"{"paused":true}"#).await.is(200);
    let notes = exported(&served).await["notes"].clone();
    let notes: Vec<_> = notes.as_array().expect("notes").iter().filter_map(Value::as_str).collect();
    let (paused, owned) = (
        "is paused: when declared, it is active",
        "belongs to a user: when declared, it belongs to the organisation",
    );
    for (item, note) in [
        ("agent `bot`", paused),
        ("agent `bot`", owned),
        ("connection `of-ann`", owned),
        ("connection `idle`", paused),
        ("webhook `ops`", paused),
    ] {
        assert!(notes.contains(&&*format!("{item} {note}")), "{item}: {notes:?}");
    }
    assert!(!notes.iter().any(|note| note.contains("plain")), "{notes:?}");
}

#[tokio::test]
async fn a_token_that_may_not_read_the_installation_applies_and_checks_nothing() {
    let (install, _origin) = Install::simple();
    let _ran = install.serve();
    fs::write(install.folder().join("new.yaml"), "{}").expect("a file");
    succeeds(install.keyward(&["user", "add", "ann"]));
    let issued = succeeds(install.keyward(&["token", "add", "ann", "--json"]));
    let issued: Value = serde_json::from_str(&issued).expect("JSON");
    let token = issued["token"].as_str().expect("shown once");
    for (line, says) in [
        (&["apply", "new.yaml", "--yes"][..], "this token may not read the configuration"),
        (&["store", "check"][..], "member"),
    ] {
        let mut command = install.keyward(line);
        command.env("KEYWARD_TOKEN", token);
        let output = run(command);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(4), "{line:?}: {said}");
        assert!(said.contains(says), "{line:?}: {said}");
    }
}

#[tokio::test]
async fn a_file_is_applied_whole_after_its_plan_or_not_at_all() {
    let (install, _origin) = Install::simple();
    let ran = install.serve();
    let own = install.folder().join("keyward.yaml");
    let before = fs::read_to_string(&own).expect("the configuration");
    let new = install.folder().join("new.yaml");
    let apply = |more: &[&str]| {
        let mut words = vec!["apply", "new.yaml"];
        words.extend(more);
        install.keyward(&words)
    };
    let agents = || {
        let list: Value =
            serde_json::from_str(&succeeds(install.keyward(&["agent", "list", "--json"])))
                .expect("JSON");
        let items = list["items"].as_array().expect("items").iter();
        let names = items.map(|it| (it["name"].clone(), it["paused"].clone()));
        names.map(|(name, paused)| json!([name, paused])).collect::<Vec<_>>()
    };
    let unchanged = |what: &str| {
        assert_eq!(fs::read_to_string(&own).expect("a file"), before, "{what}");
        assert_eq!(agents(), [json!(["ci", false])], "{what}");
        let left = fs::read_dir(install.folder()).expect("the folder").flatten();
        let left: Vec<_> = left
            .map(|it| it.file_name())
            .filter(|it| it.to_string_lossy().starts_with('.'))
            .collect();
        assert!(left.is_empty(), "{what}: {left:?}");
    };
    let wrong = before.replace("use: [acme]", "use: [acm]");
    assert_ne!(wrong, before);
    fs::write(&new, wrong).expect("a file");
    let refused = fails(apply(&["--yes"]));
    assert!(refused.contains("new.yaml:") && refused.contains("acm"), "{refused}");
    unchanged("a file that would be refused");
    fs::write(&new, before.replace("name: ci, token: { env: TOKEN_CI },", "name: other,"))
        .expect("a file");
    let planned = succeeds(apply(&["--dry-run"]));
    assert!(planned.contains("make") && planned.contains("pause"), "{planned}");
    assert!(planned.contains("new.yaml:"), "{planned}");
    unchanged("a dry run");
    assert!(fails(apply(&[])).contains("--yes"));
    unchanged("without a yes");
    let applied = succeeds(apply(&["--yes"]));
    assert!(applied.ends_with("applied\n"), "{applied}");
    assert_eq!(agents(), [json!(["ci", true]), json!(["other", false])]);
    assert_eq!(fs::read_to_string(&own).unwrap(), fs::read_to_string(&new).unwrap());
    let kept = install.folder().join("keyward.yaml.before-apply");
    assert_eq!(fs::read_to_string(kept).expect("the file of before"), before);
    drop(ran);
    fs::write(&new, &before).expect("a file");
    let at_rest = succeeds(apply(&["--yes"]));
    assert!(at_rest.contains("at the next start"), "{at_rest}");
    assert_eq!(fs::read_to_string(&own).unwrap(), before);
}
