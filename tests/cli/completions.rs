//! Completions in bash, which asks the program at each press of the tab key. `tests/real/shells.rs` has other shells.

use std::process::{Command, Output};

use test_support::cli::Cli;

/// How often names are asked for until all are there.
const ATTEMPTS: usize = 20;

/// What bash offers for the last of these words.
fn offered(cli: &Cli, words: &[&str]) -> Vec<String> {
    let script = cli.file("completions.bash", &cli.run(&["completions", "bash"]).ok());
    let list = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let program = env!("CARGO_BIN_EXE_keyward");
    let ask = format!(
        "source {}; COMP_WORDS=({program} {list}); COMP_CWORD={}; _keyward; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words.len(),
    );
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &ask]).env("KEYWARD_DATA", cli.data());
    for name in ["KEYWARD_CONFIG", "KEYWARD_URL", "KEYWARD_TOKEN"] {
        bash.env_remove(name);
    }
    let output: Output = bash.output().expect("bash runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn complete(cli: &Cli, words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_keyward"))
        .args(["complete", "bash", "--"])
        .args(words)
        .env("KEYWARD_DATA", cli.data())
        .env_remove("KEYWARD_TOKEN")
        .env_remove("KEYWARD_URL")
        .output()
        .expect("it runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn without_a_gateway_no_stored_names_are_offered_and_no_directory_is_created() {
    let cli = Cli::new();
    assert_eq!(offered(&cli, &["agent", "sh"]), ["show"]);
    assert_eq!(offered(&cli, &["agent", "show", ""]), [""; 0]);
    assert_eq!(offered(&cli, &["agent", "set", "ci", "--allow", "github-"]), ["github-read"]);
    assert_eq!(
        offered(&cli, &["connect", "githu"]),
        ["github", "github-copilot"],
        "built-in providers"
    );
    assert!(!cli.data().exists());
    // A stopped installation: its store is not opened.
    cli.run(&["agent", "add", "ci"]).ok();
    assert_eq!(offered(&cli, &["agent", "show", ""]), [""; 0]);
}

#[test]
fn every_shell_gets_a_script() {
    let cli = Cli::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(cli.run(&["completions", shell]).ok().contains("keyward"), "{shell}");
    }
}

#[test]
fn a_gateway_that_does_not_answer_is_not_waited_for() {
    let cli = Cli::new();
    std::fs::create_dir_all(cli.data()).expect("a directory");
    let socket = cli.data().join("admin.sock");
    let listener = std::os::unix::net::UnixListener::bind(socket).expect("a socket");
    assert_eq!(complete(&cli, &["agent", "show", ""]), "");
    drop(listener);
    assert_eq!(complete(&cli, &["agent", "show", ""]), "");
}

#[test]
fn an_unknown_or_malformed_line_gets_no_completion_and_no_error() {
    let cli = Cli::new();
    let serving = cli.serve();
    for words in [
        &["--org", "nowhere", "agent", "show", ""][..],
        &["--data", "/nowhere", "agent", "show", ""],
        &["--data", "--data", "agent", "show", ""],
        &["nope", "nope", ""],
        &["agent", "show", "\u{1b}[2J"],
        &["agent", "show", "a b$(c)"],
        &["--", ""],
    ] {
        assert_eq!(complete(&cli, words), "", "{words:?}");
    }
    assert!(!complete(&cli, &[]).is_empty());
    serving.kill();
}

#[test]
fn names_of_a_running_gateway_are_offered_where_a_command_accepts_them() {
    let cli = Cli::new();
    let serving = cli.serve();
    for words in [
        &["agent", "add", "claude"][..],
        &["agent", "add", "ci"],
        &["user", "add", "ann"],
        &["org", "add", "acme"],
        &["rule", "add", "deny", "DELETE", "api.github.com", "--name", "no-deletes"],
        &["honeytoken", "add", "bait"],
        &["webhook", "add", "https://hooks.example.com/x", "--name", "ops"],
    ] {
        cli.run(words).ok();
    }
    let key = "ghp_canaryCANARYcanaryCANARYcanary123456";
    let add = ["connection", "add", "github", "--name", "work", "--no-test", "--secret-stdin"];
    cli.run_with(&add, key).ok();
    for (words, offers) in [
        (&["agent", "show", ""][..], &["ci", "claude"][..]),
        (&["agent", "show", "cl"], &["claude"]),
        (&["agent", "add", "cl"], &[]),
        (&["agent", "bind", "ci", ""], &["work"]),
        (&["agent", "unbind", "ci", "work", "wo"], &["work"]),
        (&["run", "--agent", "cl"], &["claude"]),
        (&["run", "--agent", "=", "cl"], &["claude"]),
        (&["--org", "acme", "agent", "show", ""], &[]),
        (&["--org", "ac"], &["acme"]),
        (&["connection", "rotate", "w"], &["work"]),
        (&["connection", "assign", "work", "--to", ""], &["admin", "ann"]),
        (&["hook", "add", "ci", "--to", ""], &[]),
        (&["audit", "query", "--connection", ""], &["work"]),
        (&["rule", "move", "no-deletes", "--before", ""], &["no-deletes"]),
        (&["rule", "add", "inject", "api.github.com", "--use", ""], &["work"]),
        (&["user", "set", ""], &["admin", "ann"]),
        (&["token", "add", ""], &["admin", "ann"]),
        (&["org", "remove", "a"], &["acme"]),
        (&["org", "show", "a"], &["acme"]),
        (&["webhook", "test", ""], &["ops"]),
        (&["honeytoken", "show", ""], &["bait"]),
        (&["connection", "add", "githu"], &["github", "github-copilot"]),
        (&["plugin", "show", ""], &[]),
    ] {
        // On a busy machine the gateway may answer later than a person waits.
        let mut tried = (0..ATTEMPTS).map(|_| offered(&cli, words));
        let found = tried.find(|found| found.len() >= offers.len()).unwrap_or_default();
        assert_eq!(found, offers, "{words:?}");
    }
    serving.kill();
}
