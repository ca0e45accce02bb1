//! Commands that are not given the configuration file that the gateway had: a start pauses nothing, and hints name the
//! file.

use std::fs;
use std::io::{BufRead, BufReader};

use test_support::cli::Cli;
use test_support::finished::finished;
use test_support::process::OwnChild;

/// Two resources of a file.
const RESOURCES: &str = "agents: [{ name: ci }]\nhoneytokens: [{ name: readme }]\n";

/// An installation whose gateway was given a file, and the path of that.
fn served_before() -> (Cli, String) {
    let cli = Cli::new();
    drop(cli.serve_with(RESOURCES));
    let file = file(&cli);
    (cli, file)
}

fn file(cli: &Cli) -> String {
    cli.data().with_file_name("keyward.yaml").display().to_string()
}

/// Starts a gateway on free ports, and kills it when it serves. Whether it did, and what it said.
pub(crate) fn started(cli: &Cli, words: &[&str]) -> (bool, String) {
    let mut command = cli.command(words);
    for name in ["KEYWARD__LISTEN__PROXY", "KEYWARD__LISTEN__ADMIN"] {
        command.env(name, "127.0.0.1:0");
    }
    let mut child = OwnChild::from(command.spawn().expect("keyward starts"));
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut said = String::new();
    while !said.contains("ready; ") && lines.read_line(&mut said).expect("text") > 0 {}
    (said.contains("ready; "), said)
}

/// Both resources as they are stored.
fn stored(cli: &Cli) -> [String; 2] {
    let shown = |words: &[&str]| cli.run(words).ok();
    [shown(&["agent", "show", "ci", "--json"]), shown(&["honeytoken", "show", "readme", "--json"])]
}

#[test]
fn a_start_without_the_file_of_the_last_start_is_refused_and_changes_nothing() {
    let (cli, file) = served_before();
    let before = stored(&cli);
    let refusal = format!(
        "{}: there is no configuration file here, and 2 resources that an earlier configuration declared would be paused, removed \
         or lost; \
         add `--config {file}`, or set the `KEYWARD__` variables that declared them; or make an empty file here, which \
         pauses or removes them",
        cli.data().join("keyward.yaml").display()
    );
    let (serves, said) = started(&cli, &["serve"]);
    assert!(!serves && said.contains(&refusal), "{said}");
    let said = cli.run(&["run", "--agent", "ci", "--", "true"]).failed(125);
    assert!(said.contains(&refusal), "{said}");
    let said = cli.run(&["plan"]).failed(1);
    assert!(said.contains(&refusal), "{said}");
    assert_eq!(stored(&cli), before);
    // Variables can declare everything as well.
    let mut declared = cli.command(&["plan"]);
    declared.env("KEYWARD__AGENTS", "[{ name: ci }]");
    assert!(finished(declared, "").ok().contains("remove"));
}

#[test]
fn an_empty_file_in_the_default_place_pauses_the_resources_of_the_last_file() {
    let (cli, _) = served_before();
    let empty = cli.data().join("keyward.yaml");
    fs::write(&empty, "").expect("a file");
    let (serves, said) = started(&cli, &["serve"]);
    assert!(serves, "{said}");
    assert_eq!(cli.run(&["agent", "show", "ci", "--json"]).json()["paused"], true);
    // Nothing is left to pause.
    fs::remove_file(empty).expect("it is ours");
    let (serves, said) = started(&cli, &["serve"]);
    assert!(serves, "{said}");
    let status = cli.run(&["status"]).ok();
    assert!(!status.contains("--config"), "the last start was given no file: {status}");
}

#[test]
fn a_takeover_without_the_file_of_the_gateway_is_refused_and_names_the_file() {
    let cli = Cli::new();
    let _serving = cli.serve_with(RESOURCES);
    let before = stored(&cli);
    let (serves, said) = started(&cli, &["serve", "--take-over"]);
    let file = file(&cli);
    assert!(!serves && said.contains(&format!("the gateway has the configuration file {file}")));
    assert!(said.contains(&format!(" --config {file} serve --take-over`")), "{said}");
    cli.run(&["health"]).ok();
    assert_eq!(stored(&cli), before);
}

#[test]
fn commands_without_a_gateway_name_the_file_of_its_last_start() {
    let (cli, file) = served_before();
    let status = cli.run(&["status"]).ok();
    let starts = format!("`keyward --data {} --config {file} serve` starts", cli.data().display());
    assert!(status.contains(&starts), "{status}");
    fs::remove_file(cli.data().join("master.key")).expect("it was made");
    let said = cli.run(&["agent", "list"]).failed(1);
    let hint = format!("hint: add `--config {file}`, as at the last start; or put the key back");
    assert!(said.contains(&hint), "{said}");
    let said = cli.run(&["agent", "list", "--config", &file]).failed(1);
    assert!(said.contains("hint: put the key back"), "{said}");
}

/// The gateway that serves still has what it declared.
#[test]
fn a_takeover_from_a_gateway_whose_file_is_gone_is_refused_before_it_ends() {
    let cli = Cli::new();
    let _serving = cli.serve_with(RESOURCES);
    let before = stored(&cli);
    fs::remove_file(file(&cli)).expect("it is ours");
    let (serves, said) = started(&cli, &["serve", "--take-over"]);
    assert!(!serves && said.contains("the configuration file of the gateway is gone"), "{said}");
    cli.run(&["health"]).ok();
    assert_eq!(stored(&cli), before);
}

/// No resource would be paused.
#[test]
fn a_takeover_that_would_lose_rules_or_the_store_of_a_removed_file_is_refused() {
    for (only, told) in [
        (
            "rules: [{ name: r, hosts: [a.test], action: deny }]\n",
            "the configuration file of the gateway is gone",
        ),
        ("store: { sled: { path: elsewhere } }\n", "there is no store at "),
    ] {
        let cli = Cli::new();
        let _serving = cli.serve_with(only);
        fs::remove_file(file(&cli)).expect("it is ours");
        let (serves, said) = started(&cli, &["serve", "--take-over"]);
        assert!(!serves && said.contains(told), "{said}");
        cli.run(&["health"]).ok();
    }
}

/// The file may name a database, or another directory.
#[test]
fn a_start_without_the_file_of_the_last_start_makes_no_other_store() {
    let cli = Cli::new();
    drop(cli.serve_with("store: { sled: { path: elsewhere } }\n"));
    let (file, store) = (file(&cli), cli.data().join("store"));
    let refusal = format!("there is no store at {}", store.display());
    let remedy = format!(
        "add `--config {file}`; or make an empty file {}, to begin with a new store",
        cli.data().join("keyward.yaml").display()
    );
    let (serves, said) = started(&cli, &["serve"]);
    assert!(!serves && said.contains(&refusal) && said.contains(&remedy), "{said}");
    for (words, code) in [
        (&["run", "--agent", "ci", "--", "true"][..], 125),
        (&["agent", "add", "ci"][..], 1),
        (&["agent", "show", "ci"][..], 5),
        // Before it asks for a secret, or looks for the provider.
        (&["connect", "nowhere"][..], 1),
        (&["plan"][..], 1),
    ] {
        let said = cli.run(words).failed(code);
        assert!(said.contains(&refusal) && said.contains(&remedy), "{said}");
    }
    let listed = cli.run(&["agent", "list"]);
    assert!(listed.err.contains(&refusal) && listed.err.contains(&remedy), "{listed:?}");
    listed.ok();
    assert!(!store.exists());
    fs::write(cli.data().join("keyward.yaml"), "").expect("a file");
    let (serves, said) = started(&cli, &["serve"]);
    assert!(serves && store.exists(), "{said}");
}

/// The file may name another audit log.
#[test]
fn an_audit_log_of_the_file_of_the_last_start_is_not_called_empty_without_that_file() {
    let cli = Cli::new();
    let serving = cli.serve_with("agents: [{ name: ci }]\naudit: { file: kept/audit.jsonl }\n");
    serving.signal(rustix::process::Signal::TERM);
    assert_eq!(serving.wait(), Some(0));
    let (file, log) = (file(&cli), cli.data().join("audit/audit.jsonl"));
    let refusal = format!(
        "there is no audit log at {}, and the last start had the configuration file {file}",
        log.display()
    );
    for words in [
        &["audit", "verify"][..],
        &["audit", "query"],
        &["audit", "query", "--by", "host"],
        &["audit", "tail"],
        &["audit", "export"],
    ] {
        let said = cli.run(words).failed(1);
        assert!(said.contains(&refusal), "{words:?}: {said}");
        assert!(said.contains(&format!("hint: add `--config {file}`")), "{words:?}: {said}");
    }
    let whole = "records 1 to ";
    assert!(cli.run(&["audit", "verify", "--config", &file]).ok().contains(whole));
    let mut named = cli.command(&["audit", "verify"]);
    named.env("KEYWARD__AUDIT__FILE", "kept/audit.jsonl");
    assert!(finished(named, "").ok().contains(whole));
    fs::write(cli.data().join("keyward.yaml"), "").expect("a file");
    assert_eq!(cli.run(&["audit", "verify"]).ok(), "no records yet\n");
}

#[test]
fn a_restore_without_the_file_of_the_last_start_makes_no_other_store() {
    let cli = Cli::new();
    let serving = cli.serve_with("store: { sled: { path: elsewhere } }\n");
    let (backup, store) = (cli.data().with_file_name("full.age"), cli.data().join("store"));
    let run = |word: &str| {
        let mut command = cli.command(&[word, backup.to_str().expect("UTF-8")]);
        command.env("KEYWARD_BACKUP_PASSPHRASE", "correct horse battery staple");
        finished(command, "")
    };
    run("backup").ok();
    drop(serving);
    let said = run("restore").failed(1);
    assert!(said.contains(&format!("there is no store at {}", store.display())), "{said}");
    assert!(said.contains(&format!("hint: add `--config {}`", file(&cli))), "{said}");
    assert!(!store.exists());
}

/// A variable names the store, or that of the file was in memory.
#[test]
fn without_the_last_file_a_store_of_a_variable_or_after_one_in_memory_is_accepted() {
    let cli = Cli::new();
    drop(cli.serve_with("store: { sled: { path: elsewhere } }\n"));
    let mut named = cli.command(&["plan"]);
    named.env("KEYWARD__STORE__SLED__PATH", "new");
    finished(named, "").ok();
    let cli = Cli::new();
    drop(cli.serve_with("store: { memory: {} }\n"));
    let (serves, said) = started(&cli, &["serve"]);
    assert!(serves, "{said}");
}

#[test]
fn a_hint_does_not_name_a_file_of_the_default_place_that_is_gone() {
    let cli = Cli::new();
    // Makes the data directory, and no store.
    drop(cli.serve_with("store: { memory: {} }\n"));
    let default = cli.data().join("keyward.yaml");
    fs::write(&default, "store: { sled: { path: elsewhere } }\n").expect("a file");
    let named = default.to_str().expect("UTF-8");
    let (serves, said) = started(&cli, &["serve", "--config", named]);
    assert!(serves, "{said}");
    fs::remove_file(&default).expect("it is ours");
    let said = cli.run(&["plan"]).failed(1);
    assert!(said.contains("hint: put it back; or make an empty file "), "{said}");
}

/// Rules are not stored, so no resource would be paused.
#[test]
fn a_start_without_the_rules_of_the_file_of_the_last_start_is_refused() {
    let cli = Cli::new();
    let rules = "rules: [{ name: r, hosts: [a.test], action: deny }]\n";
    drop(cli.serve_with(rules));
    let (serves, said) = started(&cli, &["serve"]);
    let refusal = "1 rule that an earlier configuration declared would be paused, removed or lost";
    assert!(!serves && said.contains(refusal), "{said}");
    // A variable that declares something else replaces no rule.
    let mut other = cli.command(&["plan"]);
    other.env("KEYWARD__AGENTS", "[{ name: ci }]");
    let said = finished(other, "").failed(1);
    assert!(said.contains(refusal), "{said}");
    // Variables can declare them as well.
    let mut declared = cli.command(&["plan"]);
    declared.env("KEYWARD__RULES", "[{ name: r, hosts: [b.test], action: deny }]");
    finished(declared, "").ok();
}

#[test]
fn a_start_whose_variables_declare_fewer_rules_than_the_last_file_is_refused() {
    let cli = Cli::new();
    let [a, b] =
        ["a", "b"].map(|name| format!("{{ name: {name}, hosts: [a.test], action: deny }}"));
    drop(cli.serve_with(&format!("rules: [{a}, {b}]\n")));
    let plan = |rules: &str| {
        let mut command = cli.command(&["plan"]);
        command.env("KEYWARD__RULES", rules);
        finished(command, "")
    };
    let said = plan(&format!("[{a}]")).failed(1);
    let refusal = "1 rule that an earlier configuration declared would be paused, removed or lost";
    assert!(said.contains(refusal), "{said}");
    plan(&format!("[{b}, {a}]")).ok();
}

/// Starts with lines of configuration, reloads with others, and starts without the file: whether that serves, and what it
/// says.
fn started_after_reload(from: &str, to: &str) -> (bool, String) {
    let cli = Cli::new();
    let serving = cli.serve_with(from);
    let text = fs::read_to_string(file(&cli)).expect("the configuration");
    let kept = text.strip_suffix(from).expect("they are its end");
    let next = cli.file("next.yaml", &format!("{kept}{to}"));
    fs::rename(next, file(&cli)).expect("renamed");
    cli.run(&["reload"]).ok();
    drop(serving);
    started(&cli, &["serve"])
}

#[test]
fn a_start_without_the_file_counts_the_rules_of_the_last_reload() {
    let rules = "rules: [{ name: r, hosts: [a.test], action: deny }]\n";
    let (serves, said) = started_after_reload("", rules);
    assert!(!serves && said.contains("1 rule that an earlier configuration declared"), "{said}");
    let (serves, said) = started_after_reload(rules, "");
    assert!(serves, "{said}");
}

/// A reload changes no store, so the one of the start is still the one that can be missed.
#[test]
fn a_store_that_a_reload_named_does_not_count_as_the_store_of_the_last_start() {
    let on_disk = "store: { sled: { path: elsewhere } }\n";
    let (serves, said) = started_after_reload(on_disk, "store: { memory: {} }\n");
    assert!(!serves && said.contains("there is no store at "), "{said}");
}

/// A key in memory would be lost with the process, and the store with it.
#[test]
fn a_key_that_is_rotated_before_a_store_in_memory_is_in_use_is_kept() {
    let cli = Cli::new();
    let serving = cli.serve();
    let text = fs::read_to_string(file(&cli)).expect("the configuration");
    let next = cli.file("next.yaml", &format!("{text}store: {{ memory: {{}} }}\n"));
    fs::rename(next, file(&cli)).expect("renamed");
    cli.run(&["reload"]).ok();
    cli.run(&["key", "rotate"]).ok();
    drop(serving);
    cli.run(&["agent", "list"]).ok();
}

#[test]
fn a_start_warns_that_the_default_file_is_not_that_of_the_last_start() {
    let (cli, file) = served_before();
    let default = cli.data().join("keyward.yaml");
    fs::write(&default, RESOURCES).expect("a file");
    let warning = format!(
        "the last start had the configuration file {file}, and this one has {}",
        default.display()
    );
    let (serves, said) = started(&cli, &["serve"]);
    assert!(serves && said.contains(&warning), "{said}");
    let (serves, said) = started(&cli, &["serve"]);
    assert!(serves && !said.contains("the last start had"), "the default file is the last: {said}");
}

/// A change without that file is in the same log as those of the gateway.
#[test]
fn a_change_without_the_file_of_the_last_start_is_in_the_audit_log_that_it_names() {
    let cli = Cli::new();
    let serving = cli.serve_with("agents: [{ name: ci }]\naudit: { file: kept/audit.jsonl }\n");
    serving.signal(rustix::process::Signal::TERM);
    assert_eq!(serving.wait(), Some(0));
    let (file, kept) = (file(&cli), cli.data().join("kept/audit.jsonl"));
    cli.run(&["agent", "add", "other"]).ok();
    assert!(fs::read_to_string(&kept).expect("the log").contains("other"));
    assert!(!cli.data().join("audit").exists(), "there is one log");
    assert!(cli.run(&["audit", "verify", "--config", &file]).ok().contains("records 1 to "));
    // Where the log is cannot be known without the file.
    fs::remove_file(&file).expect("it is ours");
    let before = fs::read(&kept).expect("the log");
    let ran = cli.run(&["agent", "add", "third"]);
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("the audit log of the gateway is not known"), "{ran:?}");
    assert!(ran.err.contains(&file), "{ran:?}");
    assert!(!cli.data().join("audit").exists());
    assert_eq!(fs::read(&kept).expect("the log"), before);
    assert!(!cli.run(&["agent", "list"]).ok().contains("third"), "it is not added");
}

#[test]
fn a_start_whose_store_is_gone_says_so_and_a_first_start_does_not() {
    let (cli, file) = served_before();
    let warning = "there is an audit log and no store: an empty store is made";
    let (serves, said) = started(&cli, &["serve", "--config", &file]);
    assert!(serves && !said.contains(warning), "{said}");
    fs::remove_dir_all(cli.data().join("store")).expect("ours");
    let (serves, said) = started(&cli, &["serve", "--config", &file]);
    assert!(serves && said.contains(warning), "{said}");
    let empty = Cli::new();
    let (serves, said) = started(&empty, &["serve"]);
    assert!(serves && !said.contains(warning), "{said}");
}
