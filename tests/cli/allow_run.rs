//! `keyward run` and other hosts: the question, `--allow`, and what is said of requests, at the end and meanwhile.

use std::net::SocketAddr;

use rustix::process::Signal;

use test_support::install::{Install, Ran, TOKEN_CI};
use test_support::pty::Terminal;
use test_support::registries::{plan_of_registries, registries};
use test_support::*;

const SCRIPT: &str = "echo \"$HTTPS_PROXY\"; while read line; do :; done; exit 7";

/// The entrance of a run.
struct Entrance {
    proxy: SocketAddr,
    token: String,
}

impl Entrance {
    fn of(ran: &mut Ran) -> Self {
        let url = ran.line();
        let (user, proxy) = url.split_once('@').expect("a user");
        let token = user.rsplit_once(':').expect("a token").1.to_owned();
        Self { proxy: proxy.parse().expect("an address"), token }
    }

    async fn get(&self, host: &str) -> u16 {
        let mut wire = Wire::to(self.proxy).await;
        let token = &self.token;
        wire.send(format!(
            "GET https://{host}/simple/?q=canary HTTP/1.1\r\nHost: {host}\r\n\
             Proxy-Authorization: Bearer {token}\r\n\r\n"
        ))
        .await;
        wire.answer("GET").await.head.status()
    }
}

fn install() -> (Install, Origin) {
    let origin = registries();
    (Install::new(&plan_of_registries(&origin), &origin), origin)
}

fn run(install: &Install, options: &[&str]) -> Ran {
    install.run(&[options, &["--", "sh", "-c", SCRIPT]].concat())
}

/// Ends the program: what the run said on standard error.
fn end(mut ran: Ran) -> String {
    drop(ran.stdin.take());
    assert_eq!(ran.line(), "", "standard output is the program's");
    let said = ran.said();
    assert_eq!(ran.code(), Some(7), "the exit code is the program's: {said}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_prints_no_summary_when_no_request_was_refused_or_with_quiet() {
    let (install, _origin) = install();
    let _gateway = install.serve();
    let mut ran = run(&install, &["--agent", "ci"]);
    assert_eq!(Entrance::of(&mut ran).get(HOST).await, 200);
    let said = end(ran);
    assert!(!said.contains("keyward:"), "{said}");
    let mut ran = run(&install, &["--quiet"]);
    assert_eq!(Entrance::of(&mut ran).get(STRANGER).await, 403);
    assert_eq!(end(ran), "");
    let mut ran = run(&install, &["--quiet", "--allow", "packages"]);
    assert_eq!(Entrance::of(&mut ran).get("pypi.org").await, 200);
    assert_eq!(end(ran), "");
    let unfit = install.keyward(&["run", "-q", "-v", "--", "true"]).output().expect("it runs");
    assert_eq!(unfit.status.code(), Some(125), "{unfit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_requests_are_listed_when_the_program_ends() {
    let (install, _origin) = install();
    for options in [&[][..], &["--json"]] {
        let mut ran = run(&install, options);
        let entrance = Entrance::of(&mut ran);
        for host in [STRANGER, "pypi.org", STRANGER] {
            assert_eq!(entrance.get(host).await, 403);
        }
        let said = end(ran);
        let said: Vec<_> = said.lines().filter(|line| line.starts_with("keyward: ")).collect();
        let blocked = format!("{STRANGER} ×2, pypi.org (keyward audit query --refused)");
        assert_eq!(
            said,
            [
                format!("keyward: 3 requests blocked: {blocked}"),
                "keyward: to allow them: keyward agent set default --allow packages".to_owned(),
                format!(
                    "keyward: to allow {STRANGER}: keyward rule add pass {STRANGER} --agent default"
                ),
            ]
        );
    }
    let query = install.keyward(&["audit", "query", "--refused"]).output().expect("it runs");
    let query = String::from_utf8_lossy(&query.stdout).into_owned();
    assert_eq!(query.lines().filter(|line| line.contains("default_deny")).count(), 6, "{query}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_remedy_for_an_agent_of_the_file_is_its_allow_setting_in_the_file() {
    let (install, _origin) = install();
    let mut ran = run(&install, &["--agent", "ci"]);
    assert_eq!(Entrance::of(&mut ran).get("pypi.org").await, 403);
    let said = end(ran);
    assert!(said.contains("`allow: [packages]` at agent ci in the configuration file"), "{said}");
    let refused = install.keyward(&["run", "--agent", "ci", "--allow", "packages", "--", "true"]);
    let refused = { refused }.output().expect("it runs");
    assert_eq!(refused.status.code(), Some(125));
    let said = String::from_utf8_lossy(&refused.stderr);
    let told = "error: agent ci is managed by the configuration file\nhint: write `allow: [packages]` to \
                its item under `agents:` there, then: keyward reload\n";
    assert!(said.ends_with(told), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_provider_rejects_is_reported_with_its_remedy() {
    let origin = Origin::answering(
        |_| "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n",
    );
    let install = Install::new(&Plan::api_key(), &origin);
    let mut ran = run(&install, &["--agent", "ci"]);
    assert_eq!(Entrance::of(&mut ran).get(HOST).await, 401);
    let said = end(ran);
    let line = said.lines().find(|line| line.contains("rejected")).unwrap_or_default();
    assert!(line.starts_with("keyward: acme was rejected by Acme (401): "), "{said}");
    assert!(line.contains("then: keyward reload "), "the file has the key: {said}");
    assert!(!said.contains("blocked"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_without_a_summary_when_its_gateway_was_killed() {
    let (install, _origin) = install();
    let mut gateway = install.serve();
    let mut ran = run(&install, &["--verbose"]);
    assert_eq!(Entrance::of(&mut ran).get(STRANGER).await, 403);
    gateway.kill();
    let said = end(ran);
    assert!(!said.contains("blocked"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_allow_option_of_run_is_stored_for_later_runs_of_the_agent() {
    let (install, origin) = install();
    let _gateway = install.serve();
    for (flags, status, note) in [
        (
            &["--allow", "packages"][..],
            200,
            "stored for agent default: other hosts allowed: packages",
        ),
        (&["--allow", "packages"], 200, ""),
        (&[], 200, ""),
        (&["--allow=none"], 403, "stored for agent default: other hosts are blocked"),
    ] {
        let mut ran = run(&install, flags);
        assert_eq!(Entrance::of(&mut ran).get("pypi.org").await, status, "{flags:?}");
        let said = end(ran);
        assert_eq!(said.contains("keyward: stored"), !note.is_empty(), "{said}");
        assert!(said.contains(note), "{said}");
    }
    assert_eq!(origin.received().len(), 3);
    for (flags, says) in [
        (&["--allow", "pakages"][..], "packages"),
        (&["--allow", "none", "--allow", "pip"], "`--allow none` cannot be combined"),
    ] {
        let words = [&["run"], flags, &["--", "true"]].concat();
        let refused = install.keyward(&words).output().expect("it runs");
        assert_eq!(refused.status.code(), Some(125));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains(says), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verbose_and_logs_have_a_line_for_each_request_without_its_query() {
    let (install, _origin) = install();
    let _gateway = install.serve();
    let mut ran = run(&install, &["--agent", "ci", "--verbose"]);
    let entrance = Entrance::of(&mut ran);
    assert_eq!((entrance.get(STRANGER).await, entrance.get(HOST).await), (403, 200));
    let said = end(ran);
    let logs = install.keyward(&["logs"]).output().expect("it runs");
    let logs = String::from_utf8(logs.stdout).expect("text");
    for text in [&said, &logs] {
        for line in [
            "GET     403  other.acme.test/simple/  default_deny",
            "GET     200  api.acme.test/simple/  acme",
        ] {
            assert!(text.lines().any(|it| it.ends_with(line)), "{line} in {text}");
        }
        assert!(!text.contains("canary"), "{text}");
    }
    assert_eq!(logs.lines().count(), 2, "no changes: {logs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verbose_has_the_requests_after_a_restart_of_the_gateway_too() {
    let (install, _origin) = install();
    // The same address before and after.
    let proxy = test_support::process::reserved_address();
    let file = install.folder().join("keyward.yaml");
    let text = std::fs::read_to_string(&file).expect("a file");
    let text = text.replacen("proxy: \"127.0.0.1:0\"", &format!("proxy: \"{proxy}\""), 1);
    std::fs::write(&file, text).expect("a file");
    let mut gateway = install.serve();
    let mut ran = run(&install, &["--agent", "ci", "--verbose"]);
    let entrance = Entrance::of(&mut ran);
    assert_eq!(entrance.get(HOST).await, 200);
    ran.says("GET     200  api.acme.test/simple/  acme");
    gateway.kill();
    let _gateway = install.serve();
    assert_eq!(entrance.get(STRANGER).await, 403);
    ran.says("GET     403  other.acme.test/simple/  default_deny");
    let said = end(ran);
    assert!(!said.contains("GET "), "each once: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_on_a_terminal_shows_each_request() {
    let (install, _origin) = install();
    let mut command = install.keyward(&["serve"]);
    command.env("NO_COLOR", "1");
    let mut terminal = Terminal::narrow(command);
    terminal.shows("ready; stop with Ctrl-C");
    let proxy = install.status()["proxy"][0].as_str().expect("an address").to_owned();
    let proxy = proxy.parse().expect("an address");
    let entrance = Entrance { proxy, token: TOKEN_CI.to_owned() };
    // The first ones may come before it reads along.
    let seen = "GET     200  api.acme.test/simple/  acme";
    while !terminal.has(seen) {
        assert_eq!(entrance.get(HOST).await, 200);
    }
    terminal.signal(rustix::process::Signal::TERM);
    terminal.ends_with(0);
}

/// A run of `true` on a terminal.
fn asks(install: &Install, variables: &[(&str, &str)]) -> Terminal {
    let mut command = install.keyward(&["run", "--", "true"]);
    command.env("TERM", "xterm").env("NO_COLOR", "1").envs(variables.iter().copied());
    Terminal::narrow(command)
}

fn allowed(install: &Install) -> Option<serde_json::Value> {
    install.agent("default").get("allow").cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_never_asked_and_an_interrupted_question_stores_nothing() {
    let (install, _origin) = install();
    let _gateway = install.serve();
    let (code, shown) = asks(&install, &[("CI", "true")]).ends();
    assert_eq!(code, Some(0));
    assert!(!shown.contains("Which other hosts"), "{shown}");
    let piped = install.keyward(&["run", "--", "true"]).output().expect("it runs");
    assert_eq!(piped.status.code(), Some(0));
    let mut terminal = asks(&install, &[]);
    terminal.asks("1, 2 or 3", "\u{3}");
    terminal.ends_with(130);
    assert_eq!(allowed(&install), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_run_on_a_terminal_asks_once() {
    let (install, _origin) = install();
    let _gateway = install.serve();
    let mut terminal = asks(&install, &[]);
    terminal.asks("1, 2 or 3 (Enter: 1): ", "yes\r");
    terminal.shows("type 1, 2 or 3");
    terminal.asks("1, 2 or 3 (Enter: 1): ", "2\r");
    let shown = terminal.ends_with(0);
    let shown = shown.replace("\r\n", "\n");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    insta::assert_snapshot!(shown);
    assert_eq!(allowed(&install), Some(serde_json::json!(["packages", "github-read"])));
    let (code, shown) = asks(&install, &[]).ends();
    assert_eq!(code, Some(0));
    assert!(!shown.contains("Which other hosts"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enter_blocks_other_hosts_and_nothing_is_asked_where_all_hosts_are_allowed() {
    let (install, _origin) = install();
    let gateway = install.serve();
    let mut terminal = asks(&install, &[]);
    terminal.asks("1, 2 or 3", "\r");
    let shown = terminal.ends_with(0);
    assert!(shown.contains("other hosts are blocked"), "{shown}");
    assert_eq!(allowed(&install), Some(serde_json::json!([])));
    drop(gateway);
    let origin = registries();
    let install = Install::new(&plan_of_registries(&origin).top("default: pass"), &origin);
    let _gateway = install.serve();
    let (code, shown) = asks(&install, &[]).ends();
    assert_eq!(code, Some(0));
    assert!(!shown.contains("Which other hosts"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_at_the_question_ends_the_run_and_a_later_one_reaches_the_program() {
    let (install, _origin) = install();
    let _gateway = install.serve();
    let mut terminal = asks(&install, &[]);
    terminal.shows("1, 2 or 3 (Enter: 1): ");
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.ends().0, Some(130));
    assert_eq!(allowed(&install), None);
    let script = "trap 'exit 3' TERM; echo ready; while read line; do :; done";
    let mut command = install.keyward(&["run", "--", "sh", "-c", script]);
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    let mut terminal = Terminal::narrow(command);
    terminal.asks("1, 2 or 3 (Enter: 1): ", "\r");
    terminal.shows("ready\r\n");
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.ends().0, Some(3));
}
