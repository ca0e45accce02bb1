//! Commands that destroy ask on a terminal: Enter and Ctrl-C change nothing, `--yes` asks nothing, and a script is
//! never asked.

use test_support::cli::{Cli, Serving};
use test_support::pty::Terminal;

/// A command that asks, and the list that shows what it changes.
struct Destroys {
    command: &'static [&'static str],
    listed: &'static [&'static str],
}

const fn destroys(command: &'static [&'static str], listed: &'static [&'static str]) -> Destroys {
    Destroys { command, listed }
}

/// What uses something else comes before it.
const ALL: &[Destroys] = &[
    destroys(&["plugin", "remove", "digest"], &["plugin", "list"]),
    destroys(&["rule", "remove", "no"], &["rule", "list"]),
    destroys(&["connection", "remove", "work"], &["connection", "list"]),
    destroys(&["provider", "remove", "corp"], &["provider", "list"]),
    destroys(&["app", "remove", "gh"], &["app", "list"]),
    destroys(&["honeytoken", "remove", "bait"], &["honeytoken", "list"]),
    destroys(&["webhook", "remove", "ops"], &["webhook", "list"]),
    destroys(&["agent", "remove", "ci"], &["agent", "list"]),
    destroys(&["user", "remove", "ann"], &["user", "list"]),
    destroys(&["org", "remove", "acme"], &["org", "list"]),
    destroys(&["key", "rotate"], &["key", "list"]),
    destroys(&["ca", "rotate"], &["ca", "show"]),
];

fn stocked(cli: &Cli) -> Serving {
    let serving = cli.serve();
    let corp = cli.file(
        "corp.yaml",
        "{ id: corp, name: Corp, hosts: [api.corp.example], auth: [{ id: b, kind: bearer }] }\n",
    );
    let plugin = cli.file(
        "keyward-plugin.yaml",
        "plugin: digest\nversion: 1.0.0\nsummary: Mails a digest.\nconnections:\n  \
         - { slot: chat, provider: github, label: Alerts, required: false }\n",
    );
    let [corp, plugin] = [&corp, &plugin].map(|file| file.to_str().expect("UTF-8"));
    let secret = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
    let key = ["connection", "add", "github", "--name", "work", "--no-test", "--secret-stdin"];
    cli.run_with(&key, secret).ok();
    for words in [
        &["agent", "add", "ci"][..],
        &["plugin", "install", plugin, "--skip", "chat", "--yes"],
        &["rule", "add", "deny", "a.example", "--name", "no"],
        &["provider", "add", corp],
        &["app", "add", "github", "--name", "gh", "--client-id", "id", "--public"],
        &["honeytoken", "add", "bait"],
        &["webhook", "add", "https://hooks.example/k", "--name", "ops"],
        &["user", "add", "ann"],
        &["org", "add", "acme"],
    ] {
        cli.run(words).ok();
    }
    serving
}

/// The command at a terminal, with an answer to its question: exit code and screen.
fn answered(cli: &Cli, words: &[&str], answer: &str) -> (Option<i32>, String) {
    let mut command = cli.command(words);
    command.env("TERM", "xterm").env("NO_COLOR", "1").env_remove("CI");
    let mut terminal = Terminal::narrow(command);
    terminal.shows("? [y/N]: ");
    terminal.types(answer);
    terminal.ends()
}

#[test]
fn enter_no_and_an_interrupt_at_the_question_remove_nothing() {
    let cli = Cli::new();
    let _serving = stocked(&cli);
    for Destroys { command, listed } in ALL {
        let list = || cli.run(&[listed, &["--json"][..]].concat()).ok();
        let before = list();
        for (answer, code, says) in [
            ("\r", 1, "error: not confirmed: nothing was changed"),
            ("no\r", 1, "hint: answer y, or add --yes"),
            ("\u{3}", 130, "interrupted: nothing was changed"),
        ] {
            let (ended, screen) = answered(&cli, command, answer);
            assert_eq!(ended, Some(code), "{command:?}: {screen}");
            assert!(screen.contains(says), "{command:?}: {screen}");
        }
        assert_eq!(list(), before, "{command:?}");
    }
}

/// A way to agree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Answer,
    Option,
    Script,
}

impl Way {
    /// Exit code and output of the command.
    fn runs(self, cli: &Cli, words: &[&str]) -> (Option<i32>, String) {
        match self {
            Self::Answer => answered(cli, words, "y\r"),
            Self::Option => {
                let mut command = cli.command(&[words, &["--yes"]].concat());
                command.env("TERM", "xterm");
                Terminal::narrow(command).ends()
            }
            Self::Script => {
                let ran = cli.run(words);
                (Some(ran.code), ran.out + &ran.err)
            }
        }
    }
}

#[test]
fn a_removal_is_confirmed_by_an_answer_or_an_option_and_a_script_is_not_asked() {
    for way in [Way::Answer, Way::Option, Way::Script] {
        let cli = Cli::new();
        let _serving = stocked(&cli);
        for Destroys { command, listed } in ALL {
            let list = || cli.run(&[listed, &["--json"][..]].concat()).ok();
            let before = list();
            let (code, screen) = way.runs(&cli, command);
            assert_eq!(code, Some(0), "{command:?}: {screen}");
            assert_eq!(screen.contains("[y/N]"), way == Way::Answer, "{command:?}: {screen}");
            assert_ne!(list(), before, "{command:?}");
        }
    }
}
