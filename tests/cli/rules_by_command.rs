//! Rules by command: what a person types and reads at a terminal of 80 columns.

use unicode_width::UnicodeWidthStr;

use test_support::cli::Cli;
use test_support::pty::Terminal;

const FILE: &str = "\
rules:
  - { name: mirror, hosts: [mirror.test], action: tunnel }
";

/// A command at a terminal: its exit code and its screen.
fn typed(cli: &Cli, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = cli.command(arguments);
    command.env("NO_COLOR", "1");
    let (code, screen) = Terminal::of_columns(command, 80).ends();
    (code, lasting(&screen.replace("\r\n", "\n")))
}

/// The text without what differs from run to run: random ids, times, the folder, and whether a path of it
/// still had room on its line.
fn lasting(screen: &str) -> String {
    let of_word = |word: &str| match word.trim_matches(['(', ')']) {
        id if id.starts_with("rul_") => word.replace(id, "rul_ID"),
        time if time.len() == 20 && time.ends_with('Z') => word.replace(time, "TIME"),
        path if path.starts_with('/') && path.contains("/keyward.yaml") => {
            word.replace(&path[..path.rfind('/').expect("a slash") + 1], "")
        }
        _ => word.to_owned(),
    };
    screen
        .split(' ')
        .map(|words| words.split('\n').map(of_word).collect::<Vec<_>>().join("\n"))
        .collect::<Vec<_>>()
        .join(" ")
        .replace("\n(keyward.yaml", " (keyward.yaml")
}

/// The commands with their screens, as a person sees them.
fn walk(cli: &Cli, commands: &[&str]) -> String {
    let mut seen = String::new();
    for command in commands {
        let arguments: Vec<_> = command.split(' ').map(|word| word.trim_matches('\'')).collect();
        let (code, screen) = typed(cli, &arguments);
        let code = code.filter(|code| *code != 0).map(|code| format!("(exit code {code})\n"));
        seen += &format!("$ keyward {command}\n{screen}{}\n", code.unwrap_or_default());
    }
    seen
}

fn stocked(cli: &Cli) {
    for agent in ["ci", "dev", "an-agent-of-20-chars"] {
        cli.run(&["agent", "add", agent]).ok();
    }
    let secret = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
    let new = ["connection", "add", "github", "--name", "work", "--no-test"];
    let secret_of = ["--secret-stdin", "token"];
    cli.run_with(&[&new[..], &secret_of].concat(), secret).ok();
    cli.run(&["agent", "bind", "ci", "work"]).ok();
}

#[test]
fn a_rule_is_added_moved_changed_and_removed_by_command() {
    let cli = Cli::new();
    let _serving = cli.serve_with(FILE);
    stocked(&cli);
    let seen = walk(
        &cli,
        &[
            "rule add deny DELETE api.github.com --agent ci --name no-deletes",
            "rule add inject GET,HEAD 'api.github.com/repos/**' --use work --agent ci --agent dev",
            "rule add deny https://api.github.com/repos/secret/** --method GET --name secret",
            "rule move secret --first",
            "rule list",
            "rule edit no-deletes --method DELETE --method PATCH --all-agents",
            "rule show no-deletes",
            "rule edit no-deletes --host '*'",
            "rule edit no-deletes --host b.test --host '*' --method DELETE",
            "rule remove no-deletes --yes",
            "rule list --q github",
        ],
    );
    insta::assert_snapshot!(seen);
}

#[test]
fn mistakes_are_answered_with_a_remedy() {
    let cli = Cli::new();
    let _serving = cli.serve_with(FILE);
    stocked(&cli);
    cli.run(&["rule", "add", "deny", "api.github.com", "--name", "all"]).ok();
    let seen = walk(
        &cli,
        &[
            "rule add allow api.github.com",
            "rule add deny DELETE",
            "rule add deny DELTE api.github.com",
            "rule add deny api.github.com/",
            "rule add deny api.github.com --agent cii",
            "rule add inject api.github.com --use wrok",
            "rule add inject evil.test --use work",
            "rule add deny api.github.com --name mirror",
            "rule add deny api.github.com --name all",
            "rule add pass mirror.test",
            "rule add deny GET api.github.com --name late",
            "rule move late --before mirror",
            "rule move late",
            "rule edit late",
            "rule edit mirror --action deny",
            "rule remove default --yes",
            "rule remove lat --yes",
            "rule add deny GET api.github.com --agent ci --before all",
            "agent remove ci --yes",
        ],
    );
    insta::assert_snapshot!(seen);
}

#[test]
fn a_list_with_long_names_fits_80_columns() {
    let cli = Cli::new();
    let _serving = cli.serve_with(FILE);
    stocked(&cli);
    let long = "a-rule-of-20-letters";
    let hosts = (0..6).flat_map(|n| ["--host".to_owned(), format!("host-{n}.example.com")]);
    let new =
        ["rule", "add", "pass", "GET,HEAD,OPTIONS", "the-first-host.example.com/a/long/path/**"];
    let more = ["--name", long, "--agent", "an-agent-of-20-chars", "--agent", "ci"];
    let words: Vec<_> = new.iter().chain(&more).map(ToString::to_string).chain(hosts).collect();
    cli.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    let (code, screen) = typed(&cli, &["rule", "list"]);
    assert_eq!(code, Some(0));
    assert!(screen.lines().all(|line| line.width() <= 80), "{screen}");
    insta::assert_snapshot!(screen);
    let piped = cli.run(&["rule", "list"]).ok();
    assert!(piped.contains("host-5.example.com") && piped.contains("rul_"), "{piped}");
    let (_, wide) = typed(&cli, &["rule", "list", "--wide"]);
    assert!(wide.contains("host-5.example.com") && wide.contains("rul_ID"), "{wide}");
}

#[test]
fn rules_are_stored_without_a_gateway_and_in_force_when_it_starts() {
    let cli = Cli::new();
    cli.run(&["init"]).ok();
    cli.run(&["agent", "add", "ci"]).ok();
    cli.run(&["rule", "add", "pass", "a.test", "--name", "open"]).ok();
    assert_eq!(cli.run(&["rule", "show", "open", "--json"]).json()["managed_by"], "store");
    let _serving = cli.serve();
    let cases = cli.file(
        "cases.yaml",
        "- { agent: ci, request: https://a.test/, expect: pass, rule: open }\n",
    );
    cli.run(&["rule", "test", cases.to_str().expect("UTF-8")]).ok();
}
