//! A gateway before a database server, whatever its protocol: what the stages and the drivers' tests of all share.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::stage::{installed, run, said, succeeded};
use test_support::process::soak;
use test_support::*;

/// A server, and a gateway with connections to it. The password is the server's.
pub(crate) struct DatabaseStage<S> {
    pub(crate) server: S,
    pub(crate) lab: Lab,
    pub(crate) password: canary::Canary,
}

/// The memory of a gateway in this process while sessions copy. Clients and servers are other processes.
pub(crate) struct CopyMemory {
    before: u64,
}

/// A driver's program, and what it must say beside the usual.
pub(crate) struct Driver<'a> {
    /// Its interpreter, as `tests/run` installs it.
    pub(crate) interpreter: &'a str,
    /// Its script, below `tests/real/programs`.
    pub(crate) script: &'a str,
    pub(crate) variables: &'a [(&'a str, String)],
    pub(crate) says: &'a [&'a str],
}

impl<S> DatabaseStage<S> {
    /// Starts the gateway of a plan whose connections are to `server`.
    pub(crate) async fn start(plan: Plan, server: S, password: canary::Canary) -> Self {
        let lab = plan.start(Origin::answering(|_| ok("fine"))).await;
        Self { server, lab, password }
    }

    /// The first listener for databases.
    pub(crate) fn listener(&self) -> SocketAddr {
        let listeners = self.lab.gateway.running().database_addrs();
        listeners[0].at.tcp().expect("it is TCP")
    }

    /// A program with nothing in its environment.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.lab.gateway.folder());
        command
    }

    /// Runs a program that uses the database with a valid token, and then shows how a wrong one is refused. Gives the
    /// audit records of refused logins.
    pub(crate) async fn serves(self, driver: &Driver<'_>) -> usize {
        let mut command = self.command(installed(driver.interpreter));
        command.env("NODE_MODULES", installed("real-node/node_modules"));
        command.envs(driver.variables.iter().map(|(name, value)| (name, value)));
        command.arg(format!(
            "{}/tests/real/programs/{}",
            env!("CARGO_MANIFEST_DIR"),
            driver.script
        ));
        let text = said(&succeeded(command).await);
        let usual = [
            "answer: fine",
            "refused: ",
            "the password is no valid token of an agent",
            "give the agent's token (kwa_…) as the password",
        ];
        for words in usual.iter().chain(driver.says) {
            assert!(text.contains(words), "{words}: {text}");
        }
        self.password.assert_absent("what the program said", text.as_bytes());
        let records = self.finish().await;
        let count = |key, value| records.iter().filter(|record| record[key] == value).count();
        let refused = count("code", "agent_unauthenticated");
        assert_eq!(count("outcome", "completed") + refused, records.len(), "{records:?}");
        refused
    }

    /// Sessions of `client`, which `is_open` recognizes by their numbers, end when the token is revoked, the agent is paused, or the
    /// agent loses the connection `main`. The client says `words`.
    pub(crate) async fn ends_sessions_when_revoked(
        mut self,
        client: impl Fn(&Self, &str, usize) -> Command,
        is_open: impl Fn(&S, usize) -> bool,
        words: &str,
    ) {
        let ways = ["token", "pause", "binding"];
        for (way, number) in ways.into_iter().zip(1..) {
            let name = format!("guest-{way}");
            self.lab.add_agent(&name).await;
            self.bind(&name).await;
            let waiting = tokio::spawn(run(client(&self, self.lab.token(&name), number)));
            until("the server's view of a session", async || is_open(&self.server, number)).await;
            let asked = Instant::now();
            self.revoke(&name, way).await;
            let ended = patiently("the end of the client", waiting).await.expect("no panic");
            let took = asked.elapsed();
            println!("revoked by {way}: the client has ended after {} ms", took.as_millis());
            // The sessions wait for ten minutes. It takes some milliseconds; beside other tests the machine is busy.
            let most = Duration::from_secs(if soak() { 1 } else { 10 });
            assert!(took < most, "{way}: {took:?}");
            assert!(said(&ended).contains(words), "{way}: {}", said(&ended));
        }
        let records = self.finish().await;
        for way in ways {
            let is_of_guest = |record: &&Value| record["agent"] == format!("guest-{way}");
            let record = records.iter().find(is_of_guest).expect("a record");
            assert_eq!(record["outcome"], "ended", "{way}");
        }
    }

    async fn revoke(&self, agent: &str, way: &str) {
        let api = &self.lab.gateway;
        let done = match way {
            "token" => {
                let tokens = api.api("GET", &format!("/agents/{agent}/tokens"), "").await.json();
                let id = tokens["items"][0]["id"].as_str().expect("it has one").to_owned();
                api.api("DELETE", &format!("/agents/{agent}/tokens/{id}"), "").await
            }
            "pause" => api.api("POST", &format!("/agents/{agent}/pause"), "{}").await,
            _ => api.api("DELETE", &format!("/agents/{agent}/bindings/main"), "").await,
        };
        assert!(done.head.status() < 300, "{way}: {}", done.text());
    }

    /// Lets an agent use `main`.
    pub(crate) async fn bind(&self, agent: &str) {
        let path = format!("/agents/{agent}/bindings");
        let bound = self.lab.gateway.api("POST", &path, r#"{"connection":"main"}"#).await;
        assert!(bound.head.status() < 300, "{}", bound.text());
    }

    /// Stops the gateway, looks for the secrets, and gives the audit records. Then the server stops.
    pub(crate) async fn finish(self) -> Vec<Value> {
        let Self { server, lab, .. } = self;
        let records = lab.finish().await;
        drop(server);
        records
    }
}

impl CopyMemory {
    /// What a gateway may need more while sessions copy, whatever their size.
    const BYTES_MAX: u64 = 16 << 20;

    /// The peak counts from now on.
    pub(crate) fn begin() -> Self {
        std::fs::write("/proc/self/clear_refs", "5").expect("Linux 4.0 or newer");
        Self { before: memory("VmRSS") }
    }

    /// `what` was copied since then.
    pub(crate) fn assert_bounded(&self, what: &str) {
        let grown = memory("VmHWM").saturating_sub(self.before);
        println!("{what}: at most {} KiB of memory more", grown >> 10);
        assert!(grown < Self::BYTES_MAX, "{what}: {grown} bytes");
    }
}

/// Runs `body` of `test` in a process without other tests, whose memory can be measured. `cargo test` runs all tests in one.
pub(crate) async fn alone<T>(_test: T, body: impl Future<Output = ()>) {
    const ALONE: &str = "KEYWARD_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body.await;
    }
    let name = std::any::type_name::<T>().split_once("::").expect("a path").1;
    let mut command = Command::new(std::env::current_exe().expect("Linux"));
    command.args([name, "--exact", "--nocapture"]).env(ALONE, "1");
    let output = run(command).await;
    assert!(said(&output).contains("1 passed"), "{}", said(&output));
}

/// A line of the process's status, in bytes.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is Linux");
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kib = found.and_then(|text| text.trim().strip_suffix(" kB")).expect("it has one");
    kib.trim().parse::<u64>().expect("a number") << 10
}

/// How many MiB a test of large answers copies in each direction.
pub(crate) fn large_mib() -> u64 {
    if soak() { 1024 } else { 64 }
}
