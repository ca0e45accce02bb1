//! Without a gateway the command line works on the store by itself.

use std::os::unix::fs::DirBuilderExt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use test_support::cli::Cli;

/// No answer, message or file may hold it.
const CANARY: &str = "ghp_canaryCANARYcanaryCANARYcanary123456";

fn with_github(cli: &Cli) {
    let add =
        ["connection", "add", "github", "--name", "work", "--no-test", "--secret-stdin", "token"];
    cli.run_with(&add, CANARY).ok();
}

#[test]
fn a_data_directory_that_is_a_link_without_a_target_is_refused_and_named_with_the_target() {
    let cli = Cli::new();
    let (link, target) = (cli.data(), cli.data().with_file_name("gone"));
    std::os::unix::fs::symlink(&target, &link).expect("a link");
    let named = format!(
        "{} is a symbolic link to {}, which does not exist",
        link.display(),
        target.display()
    );
    for (words, code) in [
        (&["serve"][..], 1),
        (&["init"], 1),
        (&["agent", "list"], 1),
        (&["doctor"], 1),
        (&["run", "--", "true"], 125),
    ] {
        let ran = cli.run(words);
        assert_eq!(ran.code, code, "{words:?}: {}{}", ran.out, ran.err);
        assert!((ran.out + &ran.err).contains(&named), "{words:?} does not say: {named}");
    }
    assert!(!target.exists(), "it may be on a disk that is not mounted");
}

#[test]
fn an_unknown_name_is_exit_code_5() {
    let cli = Cli::new();
    cli.run(&["init"]).ok();
    cli.run(&["agent", "add", "ci"]).ok();
    for words in [
        vec!["agent", "show", "nobody"],
        vec!["agent", "remove", "nobody"],
        vec!["agent", "token", "add", "nobody"],
        vec!["agent", "bind", "nobody", "work"],
        vec!["connection", "show", "work"],
        vec!["org", "show", "nowhere"],
        vec!["connection", "add", "nowhere", "--secret-stdin", "token"],
        vec!["provider", "show", "nowhere"],
        vec!["explain", "https://api.example.com/", "--agent", "nobody"],
        vec!["session", "add", "--agent", "unknown", "--user", "unknown"],
        vec!["session", "add", "--agent", "ci", "--user", "unknown"],
        vec!["session", "add", "--agent", "ci", "--connection", "work"],
        vec!["connect-link", "--user", "unknown", "--provider", "github"],
    ] {
        let err = cli.run(&words).failed(5);
        assert!(err.starts_with("error: no ") && err.contains("\nhint: "), "{words:?}: {err}");
    }
    assert!(cli.run(&["agent", "show", "CI"]).failed(5).contains("did you mean `ci`?"));
}

#[test]
fn a_session_of_an_agent_without_user_providers_gets_a_warning() {
    let cli = Cli::new();
    cli.run(&["init"]).ok();
    cli.run(&["agent", "add", "support"]).ok();
    cli.run(&["user", "add", "42", "--role", "end_user"]).ok();
    let add = ["session", "add", "--agent", "support", "--user", "42"];
    let added = cli.run(&add);
    assert!(added.err.contains("warning: agent `support` has no user providers"), "{added:?}");
    assert!(added.err.contains(" agent set support --user-provider ID` adds"), "{added:?}");
    assert!(added.ok().contains("its token, shown only now"));
    let json = cli.run(&[&add[..], &["--json"]].concat());
    assert_eq!(json.err, "");
    assert_eq!(json.json()["warnings"].as_array().map(Vec::len), Some(1));
    cli.run(&["agent", "set", "support", "--user-provider", "github"]).ok();
    assert_eq!(cli.run(&add).err, "");
}

#[test]
fn labels_and_environment_of_an_agent_and_the_connection_of_a_hook_are_set_and_cleared() {
    let cli = Cli::new();
    cli.run(&["agent", "add", "ci", "--label", "team=a", "--label", "old=1"]).ok();
    let set = |words: &[&str]| cli.run(&[&["agent", "set", "ci", "--json"], words].concat());
    set(&[]).failed(2);
    set(&["--env", "prod", "--clear", "env"]).failed(2);
    set(&["--clear", "labels"]).failed(2);
    let now = set(&["--env", "prod", "--label", "team=b", "--clear", "label=old"]).json();
    assert_eq!(now["environment"], "prod");
    assert_eq!(now["labels"], serde_json::json!({"team": "b"}), "{now}");
    assert_eq!(set(&["--clear", "env"]).json()["environment"], serde_json::Value::Null);
    let secret = ["hook", "add", "in", "--scheme", "github", "--secret-stdin"];
    cli.run_with(&secret, "a-signing-secret").ok();
    let github = ["connection", "add", "github", "--name", "work", "--no-test", "--secret-stdin"];
    cli.run_with(&github, "ghp_0123456789abcdefghijABCDEFGHIJ012345").ok();
    let set = |words: &[&str]| cli.run(&[&["hook", "set", "in", "--json"], words].concat());
    set(&["--connection", "work", "--no-connection"]).failed(2);
    set(&["--connection", "nope"]).failed(5);
    assert!(set(&["--connection", "work"]).json()["connection"].is_string());
    let now = set(&["--no-connection"]).json();
    assert_eq!(now["connection"], serde_json::Value::Null, "{now}");
}

#[test]
fn a_note_names_a_data_directory_that_is_absent_or_created() {
    let cli = Cli::new();
    let absent = format!("note: no data directory yet at {}: ", cli.data().display());
    let err = cli.run(&["agent", "list"]).err;
    assert!(err.starts_with(&absent), "{err}");
    let note = format!("note: creating a new data directory, {}\n", cli.data().display());
    assert_eq!(cli.run(&["agent", "add", "ci"]).err, note);
    assert_eq!(cli.run(&["agent", "list"]).err, "", "it is there now");
}

/// Only what sends requests needs the roots that verify upstreams.
#[test]
fn a_root_that_cannot_be_read_fails_a_test_of_a_connection_and_no_change() {
    let cli = Cli::new();
    let config = cli.file("roots.yaml", "upstream: { trust: [gone.pem] }\n");
    let config = ["--config", config.to_str().expect("UTF-8")];
    let add =
        ["connection", "add", "github", "--name", "work", "--no-test", "--secret-stdin", "token"];
    cli.run_with(&[&add[..], &config].concat(), CANARY).ok();
    let err = cli.run(&[&["connection", "test", "work"][..], &config].concat()).failed(1);
    assert!(err.contains("error: `upstream.trust`: cannot read certificates from "), "{err}");
    cli.run(&[&["connection", "pause", "work"][..], &config].concat()).ok();
}

#[test]
fn removals_answer_json_when_asked() {
    let cli = Cli::new();
    with_github(&cli);
    let added = cli.run(&["agent", "add", "ci", "--json"]).json();
    let token = added["token"]["id"].as_str().unwrap().to_owned();
    cli.run(&["agent", "bind", "ci", "work"]).ok();
    for (words, removed) in [
        (vec!["agent", "unbind", "ci", "work", "--json"], "work"),
        (vec!["agent", "token", "revoke", "ci", &token, "--json"], &*token),
        (vec!["agent", "remove", "ci", "--json"], "ci"),
        (vec!["connection", "remove", "work", "--json"], "work"),
    ] {
        let expected = serde_json::json!({ "removed": [removed] });
        assert_eq!(cli.run(&words).json(), expected, "{words:?}");
    }
}

#[test]
fn a_start_names_every_missing_secret_and_stores_no_connection() {
    let cli = Cli::new();
    let config = cli.file(
        "declared.yaml",
        "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\n\
         connections:\n\
         - { name: a, provider: github, fields: { token: { command: [echo, ghp_there] } } }\n\
         - { name: b, provider: github, fields: { token: { env: KW_TEST_UNSET_B } } }\n\
         agents:\n\
         - { name: c, token: { env: KW_TEST_UNSET_C } }\n",
    );
    let err = cli.run(&["serve", "--config", config.to_str().unwrap()]).failed(1);
    let lines: Vec<_> = err.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 2, "{err}");
    assert!(lines[0].contains("declared.yaml:4: connections[1]"), "{err}");
    assert!(lines[1].contains("declared.yaml:6: agents[0]"), "{err}");
    let stored = cli.run(&["connection", "list", "--json"]).json();
    assert_eq!(stored["items"], serde_json::json!([]));
}

#[test]
fn a_start_without_its_file_or_with_a_port_in_use_fails_with_a_remedy() {
    let cli = Cli::new();
    let absent = cli.data().join("absent.yaml");
    let err = cli.run(&["serve", "--config", absent.to_str().unwrap()]).failed(1);
    assert!(err.contains("absent.yaml") && err.contains("hint: `keyward init`"), "{err}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let text = format!("listen: {{ proxy: \"{at}\", admin: 127.0.0.1:0 }}\n");
    let config = cli.file("taken.yaml", &text);
    let err = cli.run(&["serve", "--config", config.to_str().unwrap()]).failed(1);
    assert!(err.contains(&format!("error: cannot listen on {at}: ")), "{err}");
    assert!(err.contains("hint: ") && err.contains("`listen.proxy`"), "{err}");
}

/// An administrator may have made it for the gateway; no key was lost.
#[test]
fn an_empty_directory_in_the_place_of_the_store_is_no_store() {
    let cli = Cli::new();
    let mut private = std::fs::DirBuilder::new();
    private.recursive(true).mode(0o700).create(cli.data().join("store")).expect("directories");
    drop(cli.serve());
    assert!(cli.data().join("master.key").exists());
    std::fs::remove_file(cli.data().join("master.key")).expect("it was made");
    let err = cli.run(&["agent", "list"]).failed(1);
    assert!(err.contains("there is a store, but no master key at"), "{err}");
}

#[test]
fn a_copy_without_a_source_store_creates_no_data_directory() {
    let cli = Cli::new();
    let to = cli.file("to.yaml", "store: { sled: { path: other } }\n");
    let err = cli.run(&["store", "copy", "--to", to.to_str().unwrap()]).failed(1);
    assert!(err.contains("there is no store at") && err.contains("--from"), "{err}");
    assert!(!cli.data().exists(), "the next start would miss the key of that store");
}

#[test]
fn without_a_gateway_health_is_exit_code_3() {
    let err = Cli::new().run(&["health"]).failed(3);
    assert!(err.contains("hint: start one: keyward --data "), "{err}");
}

#[test]
fn the_data_option_together_with_a_remote_gateway_is_refused() {
    let cli = Cli::new();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_keyward"))
        .env("KEYWARD_URL", "https://keyward.example")
        .arg("--data")
        .arg(cli.data())
        .args(["agent", "add", "ci"])
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("--data names a gateway of this machine"), "{err}");
    assert_eq!(output.status.code(), Some(2));
    assert!(!cli.data().exists());
}

#[test]
fn a_secret_in_an_argument_is_refused() {
    let cli = Cli::new();
    let field = format!("token={CANARY}");
    let err = cli.run(&["connection", "add", "github", "--field", &field]).failed(2);
    assert!(err.contains("--secret-stdin token") && !err.contains(CANARY), "{err}");
    assert_eq!(cli.run(&["connection", "list", "--json"]).json()["items"], serde_json::json!([]));
}

#[test]
fn without_a_terminal_a_missing_secret_is_named() {
    let err = Cli::new().run(&["connection", "add", "github"]).failed(2);
    assert!(err.contains("`token`") && err.contains("--secret-stdin token"), "{err}");
}

#[test]
fn names_of_agents_are_unique_and_fit_a_proxy_url() {
    let cli = Cli::with_agent();
    let err = cli.run(&["agent", "add", "ci"]).failed(1);
    assert!(err.contains("exists already"), "{err}");
    for bad in ["a b", "a:b", "a@b", "agt_abc"] {
        let err = cli.run(&["agent", "add", bad]).failed(1);
        assert!(err.starts_with("error: `name` must be"), "{err}");
    }
}

#[test]
fn a_token_is_shown_once_and_never_again() {
    let cli = Cli::new();
    let added = cli.run(&["agent", "add", "ci", "--json"]).json();
    let token = added["token"]["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("kwa_"));
    for words in [
        vec!["agent", "show", "ci", "--json"],
        vec!["agent", "list", "--json"],
        vec!["agent", "token", "list", "ci", "--json"],
    ] {
        assert!(!cli.run(&words).ok().contains(&token), "{words:?}");
    }
}

#[test]
fn a_chosen_token_is_not_printed() {
    let cli = Cli::with_agent();
    let add = ["agent", "token", "add", "ci", "--token-stdin"];
    let chosen = "a-chosen-token-of-good-length";
    assert!(!cli.run_with(&add, chosen).ok().contains(chosen));
    let err = cli.run_with(&add, "short").failed(1);
    assert!(!err.contains("short"), "{err}");
}

#[test]
fn no_answer_holds_the_secret_of_a_connection() {
    let cli = Cli::new();
    with_github(&cli);
    cli.run(&["agent", "add", "ci"]).ok();
    for words in [
        vec!["agent", "bind", "ci", "work", "--json"],
        vec!["agent", "show", "ci", "--json"],
        vec!["connection", "list", "--json"],
        vec!["connection", "show", "work", "--json"],
        vec!["connection", "show", "work"],
    ] {
        let out = cli.run(&words).ok();
        assert!(!out.contains("canary") && !out.contains("CANARY"), "{words:?}: {out}");
    }
}

#[test]
fn a_binding_gives_a_placeholder_for_the_variables_of_the_sdks() {
    let cli = Cli::new();
    with_github(&cli);
    cli.run(&["agent", "add", "ci"]).ok();
    let bound = cli.run(&["agent", "bind", "ci", "work", "--json"]).json();
    let placeholder = &bound["items"][0]["placeholders"]["token"];
    assert!(placeholder.as_str().unwrap().contains("kwph"));
    assert_eq!(&bound["items"][0]["env"]["GITHUB_TOKEN"], placeholder);
}

#[test]
fn an_agent_is_not_bound_to_a_connection_of_another_environment() {
    let cli = Cli::new();
    cli.run(&["agent", "add", "ci", "--env", "dev"]).ok();
    let add = ["connection", "add", "github", "--env", "production", "--secret-stdin", "token"];
    cli.run_with(&[&add[..], &["--no-test"]].concat(), CANARY).ok();
    let err = cli.run(&["agent", "bind", "ci", "github"]).failed(1);
    assert!(err.contains("dev") && err.contains("production"), "{err}");
}

#[test]
fn removing_a_connection_takes_its_bindings_with_it() {
    let cli = Cli::new();
    with_github(&cli);
    cli.run(&["agent", "add", "ci"]).ok();
    cli.run(&["agent", "bind", "ci", "work"]).ok();
    cli.run(&["connection", "remove", "work"]).ok();
    let agent = cli.run(&["agent", "show", "ci", "--json"]).json();
    assert_eq!(agent["bindings"], serde_json::json!([]));
    cli.run(&["agent", "unbind", "ci", "work"]).failed(5);
}

#[test]
fn explain_tells_what_stops_a_request_and_what_lets_it_pass() {
    let cli = Cli::new();
    with_github(&cli);
    cli.run(&["agent", "add", "ci"]).ok();
    let explain = ["explain", "https://api.github.com/user", "--agent", "ci", "--json"];
    let before = cli.run(&explain);
    assert_eq!(before.code, 4, "refused");
    let before: serde_json::Value = serde_json::from_str(&before.out).unwrap();
    assert_eq!(before["allowed"], false);
    assert_eq!(before["stopped_by"][0]["code"], "default_deny");
    assert_eq!(before["addresses"], serde_json::json!([]), "a denied name is not looked up");
    cli.run(&["agent", "bind", "ci", "work"]).ok();
    // Whether the name resolves depends on the machine; what policy says does not.
    let after: serde_json::Value = serde_json::from_str(&cli.run(&explain).out).unwrap();
    assert_eq!(after["action"], "inject");
    assert_eq!(after["connection"]["name"], "work");
    assert_eq!(after["placements"][0]["at"], "header authorization");
    for url in ["ftp://api.github.com/", "api.git hub.com", "https://a@api.github.com/"] {
        let err = cli.run(&["explain", url, "--agent", "ci"]).failed(1);
        assert!(err.starts_with("error: "), "{err}");
    }
}

#[test]
fn a_provider_file_is_checked_without_a_store() {
    let cli = Cli::new();
    let good =
        "id: acme\nname: Acme\nhosts: [api.acme.test]\nauth:\n  - { id: key, kind: bearer }\n";
    let good = cli.file("good.yaml", good);
    let out = cli.run(&["provider", "check", good.to_str().unwrap()]).ok();
    assert_eq!(out, "acme is valid\n");
    let bad = cli.file("bad.yaml", "id: acme\nnmae: Acme\n");
    let err = cli.run(&["provider", "check", bad.to_str().unwrap()]).failed(1);
    assert!(err.contains("bad.yaml:2"), "{err}");
    assert!(!cli.data().exists());
}

#[test]
fn a_missing_token_endpoint_is_an_error_for_client_credentials_and_else_a_note() {
    let cli = Cli::new();
    let head =
        "id: acme\nname: Acme\nhosts: [api.acme.test]\nauth:\n  - id: oauth\n    kind: oauth2\n";
    let file = cli.file("machine.yaml", &format!("{head}    grant: client_credentials\n"));
    let err = cli.run(&["provider", "check", file.to_str().unwrap()]).failed(1);
    assert!(err.contains("machine.yaml:5") && err.contains("issuer: https://"), "{err}");
    let file = cli.file("apps.yaml", head);
    let ran = cli.run(&["provider", "check", file.to_str().unwrap()]);
    assert!(ran.err.contains("names no endpoint for `oauth`"), "{ran:?}");
    assert_eq!(ran.ok(), "acme is valid\n");
}

#[test]
fn ca_show_prints_the_pem_and_the_sha256_fingerprint_of_its_certificate() {
    let cli = Cli::new();
    cli.run(&["init"]).ok();
    let shown = cli.run(&["ca", "show", "--json"]).json();
    let pem = cli.run(&["ca", "show"]).ok();
    assert_eq!(shown["pem"], pem);
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let digest = Sha256::digest(BASE64_STANDARD.decode(body).unwrap());
    let pairs: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(shown["fingerprint"], pairs.join(":"));
}

/// Who owned it before may have them.
#[test]
fn assigning_an_agent_prints_a_note_that_its_tokens_stay_valid() {
    let cli = Cli::new();
    cli.run(&["user", "add", "ann"]).ok();
    cli.run(&["agent", "add", "ci"]).ok();
    let assigns = ["agent", "assign", "ci", "--to", "ann"];
    let one = cli.run(&assigns);
    assert_eq!((one.code, &*one.out), (0, "agent ci belongs to user ann\n"), "{}", one.err);
    let begin = "note: its token stays valid: `keyward agent token revoke ci tok_";
    assert!(one.err.starts_with(begin), "{}", one.err);
    cli.run(&["agent", "token", "add", "ci"]).ok();
    let both = cli.run(&assigns).err;
    assert!(both.contains("its 2 tokens stay valid: `keyward agent token list ci`"), "{both}");
    let all = cli.run(&["agent", "token", "list", "ci", "--json"]).json();
    for token in all["items"].as_array().unwrap() {
        let revoke = ["agent", "token", "revoke", "ci", token["id"].as_str().unwrap()];
        cli.run(&revoke).ok();
    }
    assert_eq!(cli.run(&assigns).err, "");
}

/// It was told to look at its disk.
#[test]
fn a_command_that_may_open_too_few_files_gets_a_hint_to_raise_the_limit() {
    let cli = Cli::new();
    cli.run(&["agent", "add", "one"]).ok();
    let mut refused = 0;
    for most in 9..=14 {
        let list = cli.command(&["agent", "list"]);
        let mut limited = std::process::Command::new("sh");
        limited.args(["-c", "ulimit -n $0; exec \"$@\"", &most.to_string()]);
        let output = limited.arg(list.get_program()).args(list.get_args()).output();
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("Too many open files") {
            refused += 1;
            let hint = "\nhint: let this process open more files: raise `ulimit -n`";
            assert!(said.contains(hint) && !said.contains("disk"), "{most}: {said}");
        }
    }
    assert!(refused > 0, "too few files stop it");
    assert!(cli.run(&["agent", "list"]).ok().contains("one"), "the store is as it was");
}
