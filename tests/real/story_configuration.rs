//! Story D12: dev, staging and production kept apart, the configuration under version control, and a backup that brings everything
//! back. An operator with the command line and git.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::stage::said;
use test_support::canary::Canary;
use test_support::process::Served;
use test_support::*;

const ENVIRONMENTS: [&str; 3] = ["dev", "staging", "production"];

/// A key for each environment, and the variables that name them in an export.
struct Keys(Vec<(String, Canary)>);

impl Keys {
    fn new() -> Self {
        let key = |environment: &&str| {
            let variable = format!("CONNECTION_CRM_{}_API_KEY", environment.to_uppercase());
            (variable, Canary::new(&format!("key-of-{environment}-")))
        };
        Self(ENVIRONMENTS.iter().map(key).collect())
    }

    fn assert_absent(&self, what: &str, bytes: &[u8]) {
        self.0.iter().for_each(|(_, key)| key.assert_absent(what, bytes));
    }
}

fn succeeds(mut command: Command) -> String {
    let output: Output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}

fn git(folder: &Path, line: &str) -> String {
    let mut git = Command::new("git");
    git.current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", folder);
    git.args(["-c", "user.name=ann", "-c", "user.email=ann@acme.test"]).args(line.split(' '));
    succeeds(git)
}

/// By hand, as one begins: a connection and an agent for each environment.
fn made_by_hand(served: &Served, keys: &Keys) {
    for (environment, (_, key)) in ENVIRONMENTS.iter().zip(&keys.0) {
        succeeds(served.keyward(&[
            "agent",
            "add",
            &format!("{environment}-bot"),
            "--env",
            environment,
        ]));
        let name = format!("crm-{environment}");
        let add = ["connection", "add", "acme", "--name", &name, "--env", environment];
        let mut add =
            served.keyward(&[&add[..], &["--secret-env", "api_key=KEY", "--no-test"]].concat());
        add.env("KEY", &key.text);
        succeeds(add);
        succeeds(served.keyward(&["agent", "bind", &format!("{environment}-bot"), &name]));
    }
    let mut mixed = served.keyward(&["agent", "bind", "dev-bot", "crm-production"]);
    let mixed = mixed.stdin(Stdio::null()).output().expect("it runs");
    assert!(!mixed.status.success() && said(&mixed).contains("environment"), "{}", said(&mixed));
}

/// The whole configuration: the gateway's own sections and the exported resources.
fn exported(served: &Served) -> String {
    let export =
        served.keyward(&["export", "--yaml"]).stdin(Stdio::null()).output().expect("it runs");
    assert!(export.status.success(), "{}", said(&export));
    let resources: Map<String, Value> =
        serde_yaml::from_str(std::str::from_utf8(&export.stdout).expect("UTF-8")).expect("YAML");
    let own = std::fs::read_to_string(served.config()).expect("a file");
    let mut whole: Map<String, Value> = serde_yaml::from_str(&own).expect("YAML");
    whole.retain(|key, _| ["listen", "upstream", "limits", "log"].contains(&&**key));
    whole.extend(resources);
    serde_yaml::to_string(&whole).expect("YAML")
}

/// The description of a connection.
fn description(served: &Served, name: &str) -> Value {
    let shown = succeeds(served.keyward(&["connection", "show", name, "--json"]));
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown["description"].clone()
}

/// The key with which the agent's request arrives.
async fn used(served: &Served, origin: &Origin, token: &str) -> String {
    let mut wire = Wire::to(served.proxy).await;
    assert_eq!(wire.ask(absolute("GET /", HOST, token)).await.text(), "fine");
    origin.received().last().expect("a request").head.all("x-api-key")[0].to_owned()
}

/// Commits the file, applies it, and returns what the plan said.
fn changed(served: &Served, folder: &Path, text: &str, message: &str) -> String {
    std::fs::write(folder.join("keyward.yaml"), text).expect("a file");
    git(folder, &format!("commit --quiet --all --message {message}"));
    let file = folder.join("keyward.yaml").display().to_string();
    let plan = succeeds(served.keyward(&["apply", &file, "--dry-run"]));
    succeeds(served.keyward(&["apply", &file, "--yes"]));
    plan
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d12_environments_are_separate_and_git_and_a_backup_restore_the_installation() {
    let (origin, keys) = (Origin::saying("fine"), Keys::new());
    let plan = Plan::api_key().no_agents();
    let canary = plan.canary().text.clone();
    let mut variables = vec![("CANARY", &*canary), ("CONNECTION_ACME_API_KEY", &*canary)];
    let by_hand = Served::start(&plan, &origin, &variables);
    made_by_hand(&by_hand, &keys);
    let whole = exported(&by_hand);
    keys.assert_absent("an export", whole.as_bytes());

    // From now on, the file in the repository is the configuration of a new gateway, and its secrets are variables.
    let folder = TempDir::new().expect("a directory");
    let repository = folder.path().join("repository");
    std::fs::create_dir(&repository).expect("a directory");
    git(&repository, "init --quiet --initial-branch=main");
    std::fs::write(repository.join("keyward.yaml"), &whole).expect("a file");
    git(&repository, "add keyward.yaml");
    git(&repository, "commit --quiet --message exported");
    variables.extend(keys.0.iter().map(|(name, key)| (&**name, &*key.text)));
    let mut served = Served::start(&plan, &origin, &variables);
    served.kill();
    std::fs::remove_dir_all(served.data()).expect("its state");
    std::fs::copy(repository.join("keyward.yaml"), served.config()).expect("a file");
    served.restart();
    let token = succeeds(served.keyward(&["agent", "token", "add", "production-bot", "--json"]));
    let token: Value = serde_json::from_str(&token).expect("JSON");
    let token = token["token"].as_str().expect("shown once").to_owned();
    assert_eq!(used(&served, &origin, &token).await, keys.0[2].1.text);

    // A change is a commit with a plan, and goes back with git.
    let other =
        whole.replace("name: crm-production\n", "name: crm-production\n  description: paid\n");
    assert_ne!(other, whole);
    let plan = changed(&served, &repository, &other, "described");
    assert!(plan.contains("crm-production") && !plan.contains("crm-dev"), "{plan}");
    assert_eq!(description(&served, "crm-production"), "paid");
    git(&repository, "revert --no-edit HEAD");
    let before = std::fs::read_to_string(repository.join("keyward.yaml")).expect("a file");
    assert_eq!(before, whole);
    succeeds(served.keyward(&[
        "apply",
        &repository.join("keyward.yaml").display().to_string(),
        "--yes",
    ]));
    assert_eq!(description(&served, "crm-production"), Value::Null);
    keys.assert_absent("the repository", git(&repository, "log --patch").as_bytes());

    // The disk is lost, and the file and a backup are not: the agent's token is valid as before.
    let backup = folder.path().join("keyward.age");
    let with_passphrase = |served: &Served, words: &[&str]| {
        let mut command = served.keyward(words);
        command.env("KEYWARD_BACKUP_PASSPHRASE", "correct horse battery staple");
        succeeds(command)
    };
    with_passphrase(&served, &["backup", text(&backup)]);
    keys.assert_absent("a backup", &std::fs::read(&backup).expect("a file"));
    served.kill();
    std::fs::remove_dir_all(served.data()).expect("its state");
    with_passphrase(&served, &["restore", text(&backup)]);
    served.restart();
    assert_eq!(used(&served, &origin, &token).await, keys.0[2].1.text);
    keys.assert_absent("the gateway's output", served.output().as_bytes());
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
