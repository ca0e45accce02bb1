//! What people read first: help, the version, and usage errors.

use std::fs::File;

use test_support::cli::Cli;

/// Columns of a usual terminal. Longer lines are cut there, or wrapped within words.
const COLUMNS: usize = 80;

/// The help of a command and of all below it, found as a person finds them: by reading.
fn help(cli: &Cli, command: &[&str], all: &mut String) {
    let words: Vec<_> = command.iter().copied().chain(["--help"]).collect();
    let text = cli.run(&words).ok();
    all.push_str(&format!("$ keyward {}\n{text}\n", words.join(" ")));
    // The program's own are in groups.
    let listed = match command {
        [] => text.split("\nOptions:\n").next(),
        _ => text.split("\nCommands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()),
    };
    let listed = listed.unwrap_or_default().lines().filter(|line| line.starts_with("  "));
    // A wrapped description is indented further.
    let names = listed
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    for name in names {
        let below: Vec<_> = command.iter().copied().chain([name]).collect();
        help(cli, &below, all);
    }
}

#[test]
fn help_is_the_same_as_reviewed() {
    let cli = Cli::new();
    let mut all = String::new();
    help(&cli, &[], &mut all);
    for command in ["audit tail", "rule test", "agent token add", "ca bundle", "man"] {
        assert!(all.contains(&format!("$ keyward {command} --help\n")), "{command}: {all}");
    }
    for line in all.lines() {
        assert!(line.chars().count() <= COLUMNS, "longer than {COLUMNS} columns: {line}");
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
fn output_that_cannot_be_written_is_a_failure_and_a_closed_pipe_is_none() {
    let cli = Cli::new();
    for words in
        [&["--help"][..], &["--version"], &["agent", "--help"], &["help"], &["agent", "list"]]
    {
        let full = File::options().write(true).open("/dev/full").expect("a device");
        let ran = cli.command(words).stdout(full).output().expect("it runs");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{words:?}: {said}");
        assert!(said.contains("error: cannot write to standard output: "), "{words:?}: {said}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ran = cli.command(words).stdout(writer).output().expect("it runs");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(0), "{words:?}: {said}");
        assert!(!said.contains("error: "), "{words:?}: {said}");
    }
}

#[test]
fn usage_errors_are_exit_code_2_and_touch_no_data_directory() {
    let cli = Cli::new();
    let wrong = [
        vec!["frobnicate"],
        vec!["--nope"],
        vec!["agent", "add"],
        vec!["agent", "add", "ci", "--label", "novalue"],
        vec!["connection", "add"],
        vec!["connection", "add", "github", "--secret", "token=abc"],
        vec!["explain"],
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
fn help_to_a_closed_pipe_exits_with_0() {
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
