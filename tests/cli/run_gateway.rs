//! The private gateway: started where none runs, shared, and gone with the last run.

use test_support::install::{Install, Ran};
use test_support::process::built;

const SCRIPT: &str = "echo \"$HTTPS_PROXY\"; while read line; do :; done";

fn address(url: &str) -> &str {
    url.rsplit('@').next().expect("an address")
}

/// Kills the gateway, as a crash would end it.
fn kill_gateway(install: &Install) {
    let pid = std::fs::read_to_string(install.data().join("store/pid")).expect("its owner");
    let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("ours");
}

/// Waits for a gateway at the address of the proxy's URL.
fn serves_again(install: &Install, url: &str) {
    let proxy: std::net::SocketAddr = address(url).parse().expect("an address");
    install.until("it listens again", || {
        install.is_served() && std::net::TcpStream::connect(proxy).is_ok()
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runs_share_one_gateway_and_the_last_run_ends_it() {
    let (install, _origin) = Install::simple();
    let mut first = install.script(SCRIPT);
    let one = first.line();
    let mut second = install.script(SCRIPT);
    let two = second.line();
    assert_eq!(address(&one), address(&two));
    assert_ne!(one, two, "each has its token");
    drop(first.stdin.take());
    assert_eq!(first.code(), Some(0));
    assert!(install.is_served(), "the second still uses it");
    let other = install.keyward(&["serve"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&other.stderr);
    assert_eq!(other.status.code(), Some(1), "{said}");
    assert!(said.contains("hint: that is the private gateway of `keyward run`"), "{said}");
    drop(second.stdin.take());
    assert_eq!(second.code(), Some(0));
    install.until("gone when the last run has ended", || !install.is_served());
    let list = install.keyward(&["agent", "list"]).output().expect("it runs");
    assert!(list.status.success(), "and the store is free: {list:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_start_at_the_same_time_share_one_gateway() {
    let (install, _origin) = Install::simple();
    let mut runs: Vec<_> = (0..4).map(|_| install.script(SCRIPT)).collect();
    let urls: Vec<_> = runs.iter_mut().map(|ran| ran.line()).collect();
    for url in &urls {
        assert_eq!(address(url), address(&urls[0]));
    }
    for ran in &mut runs {
        drop(ran.stdin.take());
        assert_eq!(ran.code(), Some(0));
    }
    install.until("it is gone", || !install.is_served());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_outlives_the_run_that_started_it_and_ends_with_the_last_killed_run() {
    let (install, _origin) = Install::simple();
    let mut first = install.script(SCRIPT);
    let one = first.line();
    let mut second = install.script(SCRIPT);
    let two = second.line();
    first.kill();
    install.until("the first run's token is gone", || install.runs().len() == 1);
    assert!(install.is_served());
    assert_eq!(address(&one), address(&two));
    second.kill();
    install.until("it is gone", || !install.is_served());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_of_a_run_is_started_again_at_the_same_address() {
    let (install, _origin) = Install::simple();
    let mut ran = install.script(SCRIPT);
    let url = ran.line();
    kill_gateway(&install);
    serves_again(&install, &url);
    drop(ran.stdin.take());
    assert_eq!(ran.code(), Some(0));
    install.until("it is gone", || !install.is_served());
}

/// A package manager replaces the file of the running program. The run lost its gateway for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_of_a_run_is_started_again_after_an_upgrade_of_the_program() {
    let (install, _origin) = Install::simple();
    let program = install.folder().join("keyward");
    let put = || {
        let linked = std::fs::hard_link(built(), &program);
        // The folder may be on another disk.
        linked.or_else(|_| std::fs::copy(built(), &program).map(drop)).expect("a file");
    };
    put();
    let run = install.keyward(&["run", "--agent", "ci", "--", "sh", "-c", SCRIPT]);
    let mut command = std::process::Command::new(&program);
    command.args(run.get_args()).current_dir(install.folder()).env_clear();
    command.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut ran = Ran::start(command);
    let url = ran.line();
    std::fs::remove_file(&program).expect("ours");
    put();
    kill_gateway(&install);
    serves_again(&install, &url);
    drop(ran.stdin.take());
    assert_eq!(ran.code(), Some(0), "{}", ran.said());
    install.until("it is gone", || !install.is_served());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_already_runs_is_used_and_stays_after_the_run() {
    let (install, _origin) = Install::simple();
    let gateway = install.serve();
    let mut ran = install.script("true");
    assert_eq!(ran.code(), Some(0));
    let owner = std::fs::read_to_string(install.data().join("store/pid")).expect("its owner");
    assert_eq!(owner.trim(), gateway.id().to_string());
    assert!(install.is_served());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_with_its_program_although_the_gateway_does_not_answer() {
    let (install, _origin) = Install::simple();
    let gateway = install.serve();
    let script = "echo ready; read line; exit 7";
    let mut ran = install.run(&["--quiet", "--agent", "ci", "--", "sh", "-c", script]);
    assert_eq!(ran.line(), "ready");
    gateway.signal(rustix::process::Signal::STOP);
    drop(ran.stdin.take());
    assert_eq!(ran.code(), Some(7));
    gateway.signal(rustix::process::Signal::CONT);
    install.until("the gateway has ended the run", || install.runs().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_reports_why_its_gateway_does_not_start() {
    let (install, _origin) = Install::simple();
    assert_eq!(install.script("true").code(), Some(0));
    std::fs::remove_file(install.data().join("master.key")).expect("it is there");
    let output = install.keyward(&["run", "--", "true"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("error: there is a store, but no master key at "), "{said}");
    assert!(said.contains("hint: "), "{said}");
}
