//! `keyward connect`: the walk at a real terminal and by options, what is left when it is not finished, and
//! what is said of a secret that does not look right.

mod oauth_walk;
mod own_api;
mod several;
mod walks;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::Signal;

use test_support::cli::Cli;
use test_support::finished::{Finished, finished};
use test_support::install::Install;
use test_support::pty::Terminal;
use test_support::*;

const ME: &str = "{ url: 'https://api.acme.test/me' }";
const GITHUB: &str = "ghp_canaryCANARYcanaryCANARYcanary123456";
/// Signals that end a process.
const ENDING: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// An install before an origin whose status the test chooses; nothing in it yet but the provider.
struct Desk {
    install: Install,
    plan: Plan,
    origin: Origin,
    status: Arc<AtomicU16>,
}

impl Desk {
    async fn new() -> Self {
        Self::of(Plan::api_key().test(ME)).await
    }

    async fn of(plan: Plan) -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let answered = status.clone();
        let origin = Origin::answering(move |_| {
            let status = answered.load(Ordering::SeqCst);
            format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")
        });
        let install = Install::new(&plan, &origin);
        Self { install, plan, origin, status }
    }

    /// Before an origin that never answers.
    async fn unanswered() -> Self {
        let mut desk = Self::new().await;
        desk.origin = Origin::scripted(|mut stream: Stream| async move {
            while stream.request().await.is_some() {}
        });
        desk.install = Install::new(&desk.plan, &desk.origin);
        desk
    }

    fn secret(&self) -> &str {
        &self.plan.canary().text
    }

    fn walk(&self, arguments: &[&str]) -> Terminal {
        let mut command = self.install.keyward(&["connect"]);
        command.args(arguments).env("TERM", "xterm");
        Terminal::start(command)
    }

    /// `connect` with the secret on standard input.
    fn piped(&self, arguments: &[&str], secret: &str) -> Finished {
        let done = finished(self.install.keyward(&[&["connect"], arguments].concat()), secret);
        self.plan.canary().assert_absent("standard output", done.out.as_bytes());
        self.plan.canary().assert_absent("standard error", done.err.as_bytes());
        done
    }

    /// Names of connections and agents.
    fn names(&self) -> (Vec<String>, Vec<String>) {
        let names = |of: &str| {
            let items =
                self.install.json(&[of, "list"])["items"].as_array().expect("a list").clone();
            let name = |it: &serde_json::Value| it["name"].as_str().map(str::to_owned);
            items.iter().filter_map(name).collect()
        };
        (names("connection"), names("agent"))
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(self.names(), (vec![], vec![]));
    }

    /// The end of a walk: nothing that was shown holds the secret.
    fn ended(&self, terminal: Terminal) -> (Option<i32>, String) {
        let (code, shown) = terminal.ends();
        self.plan.canary().assert_absent("the terminal", shown.as_bytes());
        self.plan.canary().assert_absent_below(self.install.folder());
        (code, shown)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_terminal_a_missing_argument_is_named() {
    let desk = Desk::new().await;
    for (arguments, says) in [
        (&[][..], "error: name a provider: there is no terminal to ask on\nhint: keyward connect"),
        (&["acme"], "error: field `api_key` (Api key) is missing\nhint: --secret-stdin api_key"),
        (&["acme", "--auth", "nope"], "error: acme has no way to authenticate named `nope`\n"),
    ] {
        let Finished { code, err, .. } = desk.piped(arguments, "");
        assert_eq!(code, 2, "{err}");
        assert!(err.to_lowercase().contains(&says.to_lowercase()), "{arguments:?}: {err}");
    }
    let Finished { code, err, .. } = desk.piped(&["acmee"], "");
    assert_eq!((code, err.starts_with("error: no provider is named `acmee`\nhint: ")), (5, true));
    desk.assert_nothing_is_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_provider_rejects_is_not_stored() {
    let desk = Desk::new().await;
    desk.status.store(401, Ordering::SeqCst);
    let Finished { code, out, err } =
        desk.piped(&["acme", "--secret-stdin", "api_key"], desk.secret());
    assert_eq!((code, &*out), (1, ""), "{err}");
    assert!(err.contains("error: acme: Acme rejected this key (401)\nhint: compare"), "{err}");
    assert!(err.contains("nothing was stored; --no-test stores the key without a test"), "{err}");
    // One refusal may be the provider's slip: it is asked twice before that is believed.
    let received = desk.origin.received();
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|asked| asked.head.all("x-api-key") == [desk.secret()]));
    desk.assert_nothing_is_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_replace_all_questions_and_a_second_connection_needs_a_name() {
    let desk = Desk::new().await;
    let stdin = ["acme", "--secret-stdin", "api_key", "--agent", "claude"];
    let Finished { code, out, err } = desk.piped(&stdin, desk.secret());
    assert_eq!(code, 0, "{err}");
    for line in [
        "Acme accepted the key (200, ",
        "agent claude (created) may use it\n",
        "run --agent claude -- curl https://api.acme.test/me\n",
    ] {
        assert!(out.contains(line), "{out}");
    }
    assert_eq!(desk.names(), (vec!["acme".to_owned()], vec!["claude".to_owned()]));
    let Finished { code, err, .. } = desk.piped(&stdin, desk.secret());
    assert_eq!(code, 1);
    assert!(err.contains("`acme` exists already\nhint: choose another name: --name acme-2"));
    assert!(err.contains("; or let an agent use it: keyward agent bind AGENT acme; "), "{err}");
    let more = ["--name", "acme-2", "--no-test", "--json"];
    let Finished { code, out, err } = desk.piped(&[&stdin[..], &more].concat(), desk.secret());
    assert_eq!(code, 0, "{err}");
    let made: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&made["connection"]["name"], &made["test"]), (&"acme-2".into(), &().into()));
    assert_eq!(made["binding"]["name"], "acme-2");
    assert_eq!(desk.origin.received().len(), 1, "--no-test asks nobody");
    assert_eq!(
        desk.install.json(&["agent", "show", "claude"])["bindings"].as_array().map(Vec::len),
        Some(2)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_of_the_file_is_refused_before_anything_is_asked() {
    let desk = Desk::new().await;
    let gateway = desk.install.serve();
    let Finished { code, err, .. } = desk.piped(&["acme", "--agent", "ci"], "");
    assert_eq!(code, 1);
    assert!(err.contains("agent `ci` is managed by the configuration file\nhint: "), "{err}");
    drop(gateway);
    assert_eq!(desk.names().0, ["acme"], "the file's own");
}

/// The configuration has a rule about an agent that does not exist yet. A connection of a user is private, so an agent of
/// the organisation cannot use it: `connect` fails after it has created both.
async fn naming_the_agent() -> Desk {
    let rule = "{ name: docs, agents: [claude], hosts: [docs.test], action: pass }";
    let desk = Desk::of(Plan::api_key().test(ME).rule(rule)).await;
    let added = desk.install.keyward(&["user", "add", "ann", "--role", "member"]).output();
    assert!(added.expect("it runs").status.success());
    desk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_connect_keeps_its_new_agent_if_the_configuration_names_it() {
    let desk = naming_the_agent().await;
    let connect = ["acme", "--secret-stdin", "api_key", "--agent", "claude", "--owner", "ann"];
    let Finished { code, out, err } = desk.piped(&connect, desk.secret());
    assert_eq!((code, &*out), (1, ""), "{err}");
    let note = err.lines().find(|line| line.starts_with("note: agent agt_")).expect("a note");
    for part in [
        " stays: the configuration names agent `claude` (",
        "keyward.yaml:",
        ": rules[0]); change that, then: keyward agent remove agt_",
    ] {
        assert!(note.contains(part), "{err}");
    }
    assert!(err.contains("error: connection `acme` is private: only agents of its owner"), "{err}");
    assert_eq!(desk.names(), (vec![], vec!["claude".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_attempt_uses_the_agent_that_a_failed_connect_kept() {
    let desk = naming_the_agent().await;
    let mut walk = desk.walk(&["acme", "--name", "work", "--agent", "claude", "--owner", "ann"]);
    for _ in 0..2 {
        walk.asks("(not shown): ", &format!("{}\r", desk.secret()));
        walk.shows("error: connection `work` is private: only agents of its owner");
        walk.asks("> enter the key again", "\r");
    }
    walk.asks("(not shown): ", "\u{3}");
    let (code, shown) = desk.ended(walk);
    assert_eq!(code, Some(130), "{shown}");
    assert_eq!(shown.matches(" stays: the configuration names agent").count(), 1, "{shown}");
    assert_eq!(desk.names(), (vec![], vec!["claude".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_asks_for_provider_name_and_key_and_prints_a_command_to_run() {
    let desk = Desk::new().await;
    let mut walk = desk.walk(&[]);
    walk.asks("provider (type to filter): ", "acme");
    walk.asks("> Acme (acme)", "\r");
    walk.asks("name of the connection [acme]: ", "worj\u{7f}k\r");
    walk.shows("(not shown): ");
    assert!(!walk.echoes());
    // Backspace takes a whole character. Keys are pasted with what stood around them.
    walk.types(&format!("é\u{7f}\"{}\"\r", desk.secret()));
    walk.shows("it is in quotes; give it without them");
    walk.asks("> paste it again", "\r");
    walk.asks("(not shown): ", &format!("{}\r", desk.secret()));
    walk.shows("connection work added (con_");
    walk.shows("Acme accepted the key (200, ");
    walk.shows("agent default (created) may use it");
    walk.shows("run -- curl https://api.acme.test/me");
    let (code, shown) = desk.ended(walk);
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(desk.names(), (vec!["work".to_owned()], vec!["default".to_owned()]));
    assert_eq!(desk.origin.only().head.all("x-api-key"), [desk.secret()]);
    assert_eq!(desk.install.audit().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_at_any_question_stores_nothing_and_restores_the_terminal() {
    let desk = Desk::new().await;
    for questions in 0..3 {
        let mut walk = desk.walk(if questions == 0 { &[] } else { &["acme"] });
        walk.shows(["provider (type", "name of the", "name of the"][questions]);
        if questions == 2 {
            walk.types("\r");
            walk.shows("(not shown): ");
            walk.types(desk.secret());
        }
        walk.types("\u{3}");
        walk.shows("interrupted: nothing was stored");
        assert_eq!(desk.ended(walk).0, Some(130), "{questions}");
    }
    desk.assert_nothing_is_left();
    assert_eq!(desk.origin.streams(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_test_the_person_chooses_to_retry_keep_or_discard() {
    let desk = Desk::new().await;
    desk.status.store(401, Ordering::SeqCst);
    let table =
        [("\u{1b}[A", "discard", false), ("\u{3}", "", false), ("\u{1b}[B\u{1b}[B", "keep", true)];
    for (keys, choice, kept) in table {
        let mut walk = desk.walk(&["acme", "--name", "mine"]);
        walk.asks("(not shown): ", &format!("{}\r", desk.secret()));
        walk.shows("error: mine: Acme rejected this key (401)");
        // Few answers are chosen from by arrows: what is typed or pasted here is not shown.
        walk.asks("> paste it again", "another\u{1b}[B");
        walk.asks("> test it again", "\r");
        walk.shows("(401)");
        walk.asks("> paste it again", "\r");
        walk.asks("(not shown): ", &format!("{}\r", desk.secret()));
        walk.shows("(401)");
        walk.shows("> paste it again");
        walk.types(keys);
        if !choice.is_empty() {
            walk.shows(&format!("> {choice}"));
            walk.types("\r");
        }
        let (code, shown) = desk.ended(walk);
        assert_eq!(code, Some(if kept { 0 } else { 130 }), "{shown}");
        let names = if kept { vec!["mine".to_owned()] } else { vec![] };
        assert_eq!(desk.names().0, names, "{choice}: {shown}");
        if kept {
            let shown = desk.install.json(&["connection", "show", "mine"]);
            assert_eq!(shown["state"], "active", "what a person keeps is to be used: {shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_at_a_question_stores_nothing_and_restores_the_terminal() {
    let desk = Desk::new().await;
    desk.status.store(401, Ordering::SeqCst);
    for signal in ENDING {
        for is_tested in [false, true] {
            let mut walk = desk.walk(&["acme", "--name", "mine"]);
            walk.shows("(not shown): ");
            if is_tested {
                walk.types(&format!("{}\r", desk.secret()));
                walk.shows("> paste it again");
            }
            assert!(!walk.echoes());
            walk.signal(signal);
            walk.shows("interrupted: nothing was stored");
            assert_eq!(desk.ended(walk).0, Some(130), "{signal:?}");
            desk.assert_nothing_is_left();
        }
    }
}

/// Such as after SIGKILL, which cannot be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_left_broken_is_named_by_the_next_connect() {
    let desk = Desk::new().await;
    desk.status.store(401, Ordering::SeqCst);
    let mut walk = desk.walk(&["acme"]);
    walk.asks("name of the connection [acme]: ", "\r");
    walk.asks("(not shown): ", &format!("{}\r", desk.secret()));
    walk.shows("> paste it again");
    walk.signal(Signal::KILL);
    drop(walk);
    assert_eq!(desk.names(), (vec!["acme".to_owned()], vec![]));
    let mut walk = desk.walk(&["acme"]);
    walk.shows("note: connection acme cannot be used: ");
    walk.shows("`keyward connection rotate acme`");
    walk.asks("name of the connection [acme-2]: ", "\u{3}");
    assert_eq!(desk.ended(walk).0, Some(130));
}

/// A rule or a hook may use it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_works_is_not_named_by_the_next_connect() {
    let desk = Desk::new().await;
    let add = desk.install.keyward(&["connection", "add", "acme", "--secret-stdin", "api_key"]);
    finished(add, desk.secret()).ok();
    let mut walk = desk.walk(&["acme"]);
    walk.shows("name of the connection [acme-2]: ");
    assert!(!walk.has("note: connection"));
    walk.types("\u{3}");
    assert_eq!(desk.ended(walk).0, Some(130));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_during_the_test_removes_the_new_connection() {
    let mut desk = Desk::unanswered().await;
    for (before, signal) in ENDING.into_iter().enumerate() {
        let mut walk = desk.walk(&["acme", "--name", "mine"]);
        walk.asks("(not shown): ", &format!("{}\r", desk.secret()));
        walk.shows("| testing mine");
        desk.origin.arrival().await;
        walk.signal(signal);
        walk.shows("interrupted: nothing was stored");
        assert_eq!(desk.ended(walk).0, Some(130), "{signal:?}");
        desk.assert_nothing_is_left();
        assert_eq!(desk.install.audit().len(), before + 1, "what was sent stands in the log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_during_the_test_of_connection_add_ends_the_command() {
    let mut desk = Desk::unanswered().await;
    let mut command = desk.install.keyward(&["connection", "add", "acme"]);
    command.env("TERM", "xterm");
    let mut walk = Terminal::start(command);
    walk.asks("(not shown): ", &format!("{}\r", desk.secret()));
    desk.origin.arrival().await;
    walk.signal(Signal::TERM);
    let (code, shown) = desk.ended(walk);
    assert_eq!(code, None, "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_of_several_lines_is_refused_and_not_shown() {
    let desk = Desk::new().await;
    let mut walk = desk.walk(&["acme", "--name", "mine"]);
    walk.asks("(not shown): ", &format!("first\r{}\r", desk.secret()));
    walk.shows("more than one line");
    assert_eq!(desk.ended(walk).0, Some(2));
    desk.assert_nothing_is_left();
}

#[test]
fn a_secret_of_an_unexpected_format_is_refused_unless_the_check_is_skipped() {
    let cli = Cli::new();
    let stripe = format!("sk_live_{}", "a1B2".repeat(24));
    let quoted = format!("'{GITHUB}'");
    let line = format!("export GITHUB_TOKEN={GITHUB}");
    for command in [&["connection", "add"][..], &["connect"]] {
        let add = |more: &[&'static str]| {
            [command, &["github", "--secret-stdin", "token"], more].concat()
        };
        for (secret, says) in [
            (
                &*stripe,
                "`token` looks like a key of Clerk, Stripe or WorkOS (`sk_live_…`), not of GitHub\nhint: ",
            ),
            (&*quoted, "`token` is in quotes\nhint: give it without them"),
            (&*line, "`token` is a line that sets a variable\nhint: "),
            ("ghp_short", "`token` has 9 characters only: it was not copied whole\nhint: "),
        ] {
            let err = cli.run_with(&add(&[]), secret).failed(2);
            assert!(err.contains(says) && err.contains("--skip-format-check"), "{err}");
        }
    }
    cli.run_with(
        &["connection", "add", "github", "--secret-stdin", "token", "--any-shape", "--no-test"],
        &stripe,
    )
    .ok();
    let test_key = format!("sk_test_{}", "a1B2".repeat(24));
    let ran = cli.run_with(
        &["connection", "add", "stripe", "--no-test", "--secret-stdin", "api_key"],
        &test_key,
    );
    assert!(ran.err.contains("note: api_key: it is a test key of Stripe"), "{ran:?}");
    ran.ok();
}

#[test]
fn a_placeholder_as_a_secret_is_refused_even_without_the_format_check() {
    let cli = Cli::new();
    cli.run_with(&["connection", "add", "github", "--no-test", "--secret-stdin", "token"], GITHUB)
        .ok();
    cli.run(&["agent", "add", "ci"]).ok();
    let bound = cli.run(&["agent", "bind", "ci", "github", "--json"]).json();
    let placeholder = bound["items"][0]["placeholders"]["token"].as_str().expect("one").to_owned();
    let file = cli.file("placeholder", &placeholder);
    let file = format!("token={}", file.display());
    let add = ["connection", "add", "github", "--name", "b", "--no-test", "--secret-file", &file];
    let err = cli.run(&add).failed(2);
    assert!(
        err.contains("is a placeholder of Keyward") && !err.contains("--skip-format-check"),
        "{err}"
    );
    let err = cli.run(&[&add[..], &["--any-shape"]].concat()).failed(1);
    assert!(err.contains("looks like a placeholder"), "{err}");
}
