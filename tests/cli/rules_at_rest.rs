//! Without a gateway, the rules of the configuration file count: also before the first start, when the store lacks what
//! they name. Where a start would refuse them, nothing is decided without them.

use test_support::finished::{Finished, finished};
use test_support::install::Install;
use test_support::*;

fn run(install: &Install, arguments: &[&str]) -> Finished {
    finished(install.keyward(arguments), "")
}

/// A configuration that was never started, with a connection `mine` and an agent `bot` of the store.
fn never_started(plan: &Plan, origin: &Origin) -> Install {
    let install = Install::new(plan, origin);
    let key = install.folder().join("key");
    std::fs::write(&key, &plan.canary().text).expect("a file");
    let file = format!("api_key={}", key.display());
    for arguments in [
        &["connection", "add", "acme", "--name", "mine", "--secret-file", &file][..],
        &["agent", "add", "bot"],
        &["agent", "bind", "bot", "mine"],
    ] {
        let Finished { code, err, .. } = run(&install, arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
    }
    std::fs::remove_file(&key).expect("a file");
    install
}

fn denying() -> Plan {
    let deny = format!("{{ name: no-deletes, hosts: [{HOST}], methods: [DELETE], action: deny }}");
    Plan::api_key().rule(&deny)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_rule_fails_the_commands_that_need_rules_and_no_other_command() {
    let origin = Origin::saying("fine");
    let plan =
        denying().rule("{ name: lost, agents: [missing], hosts: [docs.test], action: pass }");
    let install = never_started(&plan, &origin);
    let url = format!("https://{HOST}/me");
    for arguments in [
        &["explain", "DELETE", &url, "--agent", "bot"][..],
        &["explain", &url, "--agent", "bot"],
        &["rule", "list"],
        &["export", "--yaml"],
        &["connection", "request", "mine", "/me", "-X", "DELETE"],
        &["connection", "request", "mine", "/me"],
    ] {
        let Finished { code, out, err } = run(&install, arguments);
        assert_eq!((code, &*out), (1, ""), "{arguments:?}: {err}");
        assert!(err.contains("rules[1]: there is no agent `missing`"), "{arguments:?}: {err}");
        assert!(err.contains("keyward.yaml:"), "{arguments:?}: {err}");
        assert!(err.contains("hint: no gateway starts with these rules"), "{arguments:?}: {err}");
    }
    assert!(origin.received().is_empty(), "nothing was sent");
    assert_eq!(run(&install, &["agent", "list"]).code, 0);
    assert_eq!(run(&install, &["agent", "add", "missing"]).code, 0, "the remedy is not refused");
    assert_eq!(run(&install, &["rule", "list"]).code, 0);
    plan.canary().assert_absent_below(install.folder());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_about_an_agent_that_the_file_declares_drops_no_rule_before_the_first_start() {
    let origin = Origin::saying("fine");
    let plan = denying().rule("{ name: docs, agents: [ci], hosts: [docs.test], action: pass }");
    let install = never_started(&plan, &origin);
    let Finished { code, err, .. } =
        run(&install, &["connection", "request", "mine", "/me", "-X", "DELETE"]);
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("no-deletes"), "{err}");
    assert!(origin.received().is_empty(), "the rule denies it");
    let url = format!("https://{HOST}/me");
    let Finished { code, out, err } = run(&install, &["explain", "DELETE", &url, "--agent", "bot"]);
    assert_eq!((code, &*err), (4, ""), "{out}");
    assert!(out.contains("would be refused") && out.contains("no-deletes"), "{out}");
    let Finished { code, out, err } = run(&install, &["rule", "list"]);
    assert_eq!((code, &*err), (0, ""), "{out}");
    assert!(out.contains("no-deletes") && out.contains("docs"), "{out}");
    // A stored rule is added behind them, and says nothing of agents to come.
    let add = ["rule", "add", "deny", "PATCH", HOST, "--name", "no-patches"];
    let Finished { code, err, .. } = run(&install, &add);
    assert_eq!(code, 0, "{err}");
    assert!(!err.contains("`ci`"), "{err}");
    let Finished { code, out, err } = run(&install, &["connection", "request", "mine", "/me"]);
    assert_eq!((code, &*out), (0, "fine\n"), "{err}");
    assert_eq!(origin.received().len(), 1);
    plan.canary().assert_absent_below(install.folder());
}

/// What a section of the configuration has, in flow style.
fn section(yaml: &str, name: &str) -> String {
    let (_, rest) = yaml.split_once(&format!("\n{name}:\n")).expect("it has the section");
    let lines = rest.lines().map_while(|line| line.strip_prefix("  "));
    lines.map(|line| line.trim_start_matches("- ")).collect::<Vec<_>>().join(", ")
}

/// Rules are not stored: without the file, nothing is denied.
#[tokio::test(flavor = "multi_thread")]
async fn commands_without_the_file_of_the_last_start_decide_nothing_without_its_rules() {
    let origin = Origin::saying("fine");
    let plan = denying();
    let install = never_started(&plan, &origin);
    drop(install.serve());
    let folder = install.folder().display().to_string();
    let yaml = plan.yaml(&origin).replace("origin-ca.pem", &format!("{folder}/origin-ca.pem"));
    let without_file = |arguments: &[&str]| {
        let mut command = install.keyward(arguments);
        command.env_remove("KEYWARD_CONFIG");
        command.env("KEYWARD__PROVIDERS", format!("[{}]", section(&yaml, "providers")));
        command.env("KEYWARD__UPSTREAM", format!("{{ {} }}", section(&yaml, "upstream")));
        finished(command, "")
    };
    let url = format!("https://{HOST}/me");
    for arguments in [
        &["explain", "DELETE", &url, "--agent", "bot"][..],
        &["rule", "list"],
        &["export", "--yaml"],
        &["connection", "request", "mine", "/me", "-X", "DELETE"],
    ] {
        let Finished { code, out, err } = without_file(arguments);
        assert_eq!((code, &*out), (1, ""), "{arguments:?}: {err}");
        let refusal =
            "1 rule that an earlier configuration declared would be paused, removed or lost";
        let remedy = format!("add `--config {folder}/keyward.yaml`");
        assert!(err.contains(refusal) && err.contains(&remedy), "{arguments:?}: {err}");
    }
    assert!(origin.received().is_empty(), "nothing was sent");
    assert_eq!(without_file(&["agent", "list"]).code, 0);
    // A file in the default place is a statement.
    std::fs::write(install.data().join("keyward.yaml"), "").expect("a file");
    let Finished { code, out, err } =
        without_file(&["connection", "request", "mine", "/me", "-X", "DELETE"]);
    assert_eq!((code, &*out), (0, "fine\n"), "{err}");
    assert_eq!(origin.received().len(), 1);
    plan.canary().assert_absent_below(install.folder());
}
