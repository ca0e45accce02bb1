//! Walks at a terminal of 80 columns, each compared with the screen that was reviewed.

use std::sync::atomic::Ordering;

use regex_lite::Regex;

use super::Desk;
use test_support::pty::Terminal;

/// What differs from run to run.
const VARYING: &[(&str, &str)] = &[
    (r"(con|app|agt)_[a-z0-9]{20}", "${1}_ID"),
    (r"\d+ ms\)", "N ms)"),
    (r"localhost:\d+", "localhost:PORT"),
    (r"/\S+/data\b", "DATA"),
    (r"/oauth/start/\S+", "/oauth/start/LINK"),
    (r"\S*/keyward (run|connect)", "keyward $1"),
    (r"--data \S+ ", ""),
    // The spinner: shown only where the answer takes a while.
    (r"\r[|/\-\\] testing [^\r]*\r\s*\r?", ""),
];

/// What is on the screen at the end of a walk.
pub(super) fn screen(shown: &str) -> String {
    let mut text = String::new();
    for part in shown.replace("\r\n", "\n").split_inclusive('\n') {
        text.push_str(part);
    }
    for (pattern, stands) in VARYING {
        let pattern = Regex::new(pattern).expect("a pattern of ours");
        text = pattern.replace_all(&text, *stands).into_owned();
    }
    wiped(&text)
}

/// Carries out the cursor movements of lists: up and wipe, back and wipe.
fn wiped(text: &str) -> String {
    let mut lines: Vec<String> = vec![String::new()];
    let mut rest = text;
    let up = Regex::new(r"^\r\x1b\[(\d+)A\x1b\[J").expect("a pattern of ours");
    while let Some(c) = rest.chars().next() {
        if let Some(found) = up.captures(rest) {
            let count: usize = found[1].parse().expect("a number");
            lines.truncate(lines.len() - count);
            *lines.last_mut().expect("a line") = String::new();
            rest = &rest[found[0].len()..];
            continue;
        }
        if let Some(after) = rest.strip_prefix("\r\u{1b}[K") {
            *lines.last_mut().expect("a line") = String::new();
            rest = after;
            continue;
        }
        match c {
            '\n' => lines.push(String::new()),
            '\r' => {}
            c => lines.last_mut().expect("a line").push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    let lines: Vec<_> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join("\n").trim_end().to_owned()
}

/// Compares with the snapshot of that name; no line is wider than the terminal.
macro_rules! reads {
    ($desk:expr, $walk:expr, $code:expr, $name:literal) => {{
        let (code, shown) = $desk.ended($walk);
        let screen = screen(&shown);
        assert_eq!(code, Some($code), "{screen}");
        insta::assert_snapshot!($name, screen);
    }};
}

fn answers(walk: &mut Terminal, question: &str, keys: &str) {
    walk.shows(question);
    walk.types(keys);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_key_is_connected_by_entering_a_name_and_the_key() {
    let desk = Desk::new().await;
    let mut walk = desk.walk(&["acme"]);
    answers(&mut walk, "name of the connection [acme]: ", "\r");
    answers(&mut walk, "(not shown): ", &format!("{}\r", desk.secret()));
    walk.shows("run -- curl");
    reads!(desk, walk, 0, "walk_first_key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_name_is_asked_again_before_the_key() {
    let desk = Desk::new().await;
    let mut walk = desk.walk(&["acme"]);
    answers(&mut walk, "name of the connection [acme]: ", "my work\r");
    walk.shows("`name` must be 1 to 64");
    answers(&mut walk, "name of the connection [acme]: ", "mine\r");
    answers(&mut walk, "(not shown): ", &format!("{}\r", desk.secret()));
    walk.shows("run -- curl");
    let (code, shown) = desk.ended(walk);
    assert_eq!((code, shown.matches("(not shown)").count()), (Some(0), 1), "{shown}");
    assert_eq!(desk.names().0, ["mine"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_entered_as_the_name_is_refused_and_not_recorded() {
    let desk = Desk::new().await;
    let key = "ghp_a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2";
    let mut walk = desk.walk(&["acme"]);
    answers(&mut walk, "name of the connection [acme]: ", &format!("{key}\r"));
    walk.shows("this looks like a key");
    answers(&mut walk, "name of the connection [acme]: ", "\r");
    answers(&mut walk, "(not shown): ", &format!("{}\r", desk.secret()));
    walk.shows("run -- curl");
    let (code, shown) = desk.ended(walk);
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(desk.names().0, ["acme"]);
    let audit = desk.install.data().join("audit/audit.jsonl");
    assert!(!std::fs::read_to_string(audit).expect("records").contains(key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_rejected_key_another_one_is_entered() {
    let desk = Desk::new().await;
    desk.status.store(401, Ordering::SeqCst);
    let mut walk = desk.walk(&["acme", "--name", "work"]);
    answers(&mut walk, "(not shown): ", "ak_wrong-0123456789\r");
    walk.shows("rejected this key (401)");
    desk.status.store(200, Ordering::SeqCst);
    answers(&mut walk, "> paste it again", "\r");
    answers(&mut walk, "(not shown): ", &format!("{}\r", desk.secret()));
    walk.shows("run -- curl");
    reads!(desk, walk, 0, "walk_wrong_key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_without_a_provider_is_connected_by_its_url() {
    let desk = Desk::new().await;
    let mut walk = desk.walk(&["https://other.acme.test/v1/me"]);
    answers(&mut walk, "> Authorization: Bearer KEY", "\r");
    answers(&mut walk, "name of the connection [other-acme-test]: ", "corp\r");
    answers(&mut walk, "(not shown): ", &format!("{}\r", desk.secret()));
    walk.shows("run -- curl https://other.acme.test/v1/me");
    reads!(desk, walk, 0, "walk_own_api");
    let received = desk.origin.only().head;
    assert_eq!(received.target(), "/v1/me");
    assert_eq!(received.all("authorization"), [format!("Bearer {}", desk.secret())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_removed_only_after_a_yes() {
    let desk = Desk::new().await;
    let stdin = ["acme", "--name", "spare", "--secret-stdin", "--agent", "claude"];
    assert_eq!(desk.piped(&stdin, desk.secret()).code, 0);
    let remove = || {
        let mut command = desk.install.keyward(&["connection", "rm", "spare"]);
        command.env("TERM", "xterm");
        Terminal::start(command)
    };
    let mut walk = remove();
    answers(&mut walk, "remove connection spare? [y/N]: ", "\r");
    reads!(desk, walk, 1, "walk_removal_not_confirmed");
    assert_eq!(desk.names().0, ["spare"]);
    let mut walk = remove();
    answers(&mut walk, "[y/N]: ", "y\r");
    let (code, shown) = desk.ended(walk);
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(desk.names().0, [""; 0]);
}

/// A program `gh` that a test wrote, first in the path.
fn connect_from_gh(desk: &Desk, gh: Option<&str>) -> (i32, String) {
    use std::os::unix::fs::PermissionsExt;
    let folder = desk.install.folder().join("bin");
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("gh");
    match gh {
        Some(script) => {
            std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("a file");
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&file, mode).expect("ours");
        }
        None => drop(std::fs::remove_file(&file)),
    }
    let mut command = desk.install.keyward(&["connect", "github", "--from", "gh", "--no-test"]);
    command.env("PATH", &folder).stdin(std::process::Stdio::null());
    let output = command.output().expect("it runs");
    let both = [&*output.stderr, &*output.stdout].concat();
    (output.status.code().expect("a code"), String::from_utf8(both).expect("text"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_gh_is_used_and_only_its_prefix_is_shown() {
    let desk = Desk::new().await;
    for (gh, says) in [
        (None, "error: gh is not installed\nhint: install it, or paste a token: "),
        (Some("exit 1"), "error: gh is not logged in\nhint: gh auth login, then repeat"),
        (Some("echo"), "error: gh is not logged in\nhint: "),
    ] {
        let (code, said) = connect_from_gh(&desk, gh);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(says), "{said}");
    }
    desk.assert_nothing_is_left();
    let token = format!("gho_{}", "canary01".repeat(5).split_at(36).0);
    let script = format!("[ \"$*\" = 'auth token' ] && echo {token}");
    let (code, said) = connect_from_gh(&desk, Some(&script));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("token of gh: gho_… (40 characters)"), "{said}");
    assert!(!said.contains("canary01"), "{said}");
    assert_eq!(desk.names().0, ["github"]);
}
