//! `keyward doctor` judges the configuration as a start or a reload does, and says what it did not check.

use std::fs;
use std::process::Command;

use serde_json::Value;

use test_support::install::Install;
use test_support::*;

const RULE: &str = "{ name: r, agents: [missing], hosts: [x.test], action: deny }";

/// The exit code, and status, message and hint of the checks of the configuration.
fn told(mut command: Command) -> (Option<i32>, Vec<[String; 3]>) {
    let output = command.output().expect("it runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("a list").iter();
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let of_it = checks.filter(|check| check["id"] == "config");
    let of_it = of_it.map(|check| ["status", "message", "hint"].map(|key| text(check, key)));
    (output.status.code(), of_it.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_a_start_would_refuse_is_reported() {
    let origin = Origin::saying("fine");
    let install = Install::new(&Plan::api_key().rule(RULE), &origin);
    let (code, checks) = told(install.keyward(&["doctor", "--json"]));
    let [[status, message, hint]] = &checks[..] else { panic!("{checks:?}") };
    assert_eq!((code, &**status), (Some(1), "fail"), "{checks:?}");
    assert!(message.contains("rules[0]: there is no agent `missing`"), "{message}");
    assert!(hint.starts_with("`keyward serve` would refuse"), "{hint}");

    let install = Install::new(&Plan::api_key(), &origin);
    let mut without_secret = install.keyward(&["doctor", "--json"]);
    without_secret.env_remove("CANARY");
    let (code, checks) = told(without_secret);
    let [[status, message, _]] = &checks[..] else { panic!("{checks:?}") };
    assert_eq!((code, &**status), (Some(1), "fail"), "{checks:?}");
    assert!(message.contains("environment variable CANARY is not set"), "{message}");
    assert!(!install.data().exists(), "nothing was made");
    let (_, checks) = told(install.keyward(&["doctor", "--json"]));
    assert_eq!(checks, [["ok", "the configuration is valid", ""]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_a_reload_would_refuse_is_reported() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key().rule(&RULE.replace("missing", "ci"));
    let install = Install::new(&plan, &origin);
    let _serving = install.serve();
    let file = install.folder().join("keyward.yaml");
    let text =
        fs::read_to_string(&file).expect("a file").replace("agents: [ci]", "agents: [missing]");
    fs::write(&file, text).expect("a file");
    // The gateway has the secret, and this command does not.
    let mut doctor = install.keyward(&["doctor", "--json"]);
    doctor.env_remove("CANARY");
    let (code, checks) = told(doctor);
    let [[status, message, hint]] = &checks[..] else { panic!("{checks:?}") };
    assert_eq!((code, &**status), (Some(1), "fail"), "{checks:?}");
    assert!(message.contains("rules[0]: there is no agent `missing`"), "{message}");
    assert!(hint.starts_with("`keyward reload` would refuse"), "{hint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_agents_and_connections_are_reported_as_not_checked() {
    let (install, _origin) = Install::simple();
    let made = install.keyward(&["agent", "add", "first"]).output().expect("it runs");
    assert!(made.status.success(), "{made:?}");
    fs::remove_file(install.data().join("master.key")).expect("ours");
    let all = install.keyward(&["doctor"]).output().expect("it runs").stdout;
    let all = String::from_utf8_lossy(&all).into_owned();
    assert!(all.contains("agents, connections and plugins were not checked"), "{all}");
    let (_, checks) = told(install.keyward(&["doctor", "--json"]));
    let [[status, message, _]] = &checks[..] else { panic!("{checks:?}") };
    assert_eq!(status, "ok");
    assert!(message.contains("were not checked (the store was not opened)"), "{message}");
}
