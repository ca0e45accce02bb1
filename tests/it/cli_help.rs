//! What people read first: help, the version, and usage errors.

use crate::cli_runner::Cli;

const COMMANDS: &[&str] = &[
    "",
    "serve",
    "init",
    "run",
    "env",
    "agent",
    "agent add",
    "agent list",
    "agent show",
    "agent token",
    "agent token add",
    "agent token list",
    "agent token revoke",
    "agent bind",
    "agent unbind",
    "agent remove",
    "connection",
    "connection add",
    "connection list",
    "connection show",
    "connection remove",
    "provider",
    "provider list",
    "provider show",
    "provider check",
    "explain",
    "doctor",
    "ca",
    "ca show",
    "ca bundle",
    "health",
];

#[test]
fn help_is_the_same_as_reviewed() {
    let cli = Cli::new();
    let mut all = String::new();
    for command in COMMANDS {
        let words: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let help = cli.run(&words).ok();
        all.push_str(&format!("$ keyward {}\n{help}\n", words.join(" ")));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn help_and_version_touch_no_data_directory() {
    let cli = Cli::new();
    cli.run(&["--help"]).ok();
    assert!(cli.run(&["--version"]).ok().starts_with("keyward "));
    assert!(!cli.data().exists());
}

#[test]
fn usage_errors_are_exit_code_2_and_touch_no_data_directory() {
    let cli = Cli::new();
    let wrong = [
        vec!["frobnicate"],
        vec!["agent", "add"],
        vec!["agent", "add", "ci", "--label", "novalue"],
        vec!["connection", "add"],
        vec!["connection", "add", "github", "--secret", "token=abc"],
        vec!["explain", "https://api.example.com/"],
        vec!["explain", "--agent", "ci"],
        vec!["provider", "check"],
    ];
    for words in wrong {
        let err = cli.run(&words).failed(2);
        assert!(err.starts_with("error: "), "{words:?}: {err}");
    }
    assert!(!cli.data().exists());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_keyward"))
        .arg("--help")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    assert_eq!(output.status.code(), Some(0));
}
