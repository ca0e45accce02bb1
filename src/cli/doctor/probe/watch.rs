//! Watches the program and its children by polling: direct connections, DNS lookups, and which of our variables
//! they got. A very short event may be missed. Processes that the program leaves behind become children of this
//! process (`PR_SET_CHILD_SUBREAPER`), and are ended because their proxy is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::stack::STACKS;
use crate::cli::doctor::processes::{self, Variables};
use crate::cli::environment::AgentEnvironment;
use keyward_net::processes as sockets;
use keyward_net::processes::tree;

/// Far shorter than TCP, TLS and a request take on any network.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Polls after which an empty environment is believed.
const LOOKS: u8 = 4;
/// Processes that are remembered.
const PROCESSES_MAX: usize = 500;
/// RFC 1035.
const DNS_PORT: u16 = 53;
/// Libraries with compiled modules, by a part of their path.
const MODULES: &[&str] = &["site-packages/aiohttp/", "site-packages/grpc/"];

/// What polling has observed. No `Debug`: variables and arguments hold secrets.
#[derive(Default)]
pub(super) struct ProcessWatch {
    /// The process of the gateway, which this process may have started.
    gateway: Option<u32>,
    /// Listeners of the gateway.
    proxies: Vec<SocketAddr>,
    given: BTreeMap<&'static str, String>,
    /// The executable of this process, which a new child also runs for a moment.
    own: Option<String>,
    /// By process id.
    pub(super) processes: BTreeMap<u32, Process>,
    /// Addresses of direct connections, with the process id.
    pub(super) straight: BTreeMap<SocketAddr, u32>,
    /// Whether a process sent a DNS query.
    pub(super) looked_up: bool,
    /// Whether `/proc` cannot be read, so that no process is seen.
    pub(super) is_blind: bool,
}

/// A process of the program.
#[derive(Clone, Default)]
pub(super) struct Process {
    /// The file name of its executable.
    pub(super) program: String,
    pub(super) words: Vec<String>,
    /// The words of the program that it was before execve(2), such as the script `mvn` before Java.
    pub(super) words_before: Vec<String>,
    pub(super) folder: Option<PathBuf>,
    /// How often its environment was read.
    pub(super) looks: u8,
    /// Variables of Keyward that are missing or have another value.
    pub(super) lost: BTreeSet<&'static str>,
    /// Libraries seen in its memory.
    pub(super) modules: BTreeSet<&'static str>,
}

impl ProcessWatch {
    /// Watches the descendants of this process, which get this environment.
    pub(super) fn new(
        proxies: Vec<SocketAddr>,
        gateway: Option<u32>,
        made: &AgentEnvironment,
    ) -> Self {
        let all = made.by_name();
        // Those that programs need.
        let of_stacks = STACKS.iter();
        let wanted = of_stacks.flat_map(|it| it.proxy_variables.iter().chain(&it.trust_variables));
        let given = wanted.filter_map(|name| Some((*name, (*all.get(name)?).to_owned())));
        let own = processes::program(std::process::id());
        let is_blind = own.is_none();
        Self { gateway, proxies, given: given.collect(), own, is_blind, ..Self::default() }
    }

    /// Polls until dropped.
    pub(super) async fn follow(&mut self) -> Infallible {
        loop {
            self.look();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn look(&mut self) {
        for pid in descendants(self.gateway) {
            self.look_at(pid);
            for to in sockets::connected(pid) {
                if !self.leads_to_a_proxy(to) {
                    self.straight.entry(to).or_insert(pid);
                }
            }
            self.looked_up |= sockets::sends_to(pid).iter().any(|to| to.port() == DNS_PORT);
        }
    }

    /// Also a listener on an unspecified address.
    fn leads_to_a_proxy(&self, to: SocketAddr) -> bool {
        let is_it = |at: &SocketAddr| at.ip() == to.ip() || at.ip().is_unspecified();
        self.proxies.iter().any(|at| at.port() == to.port() && is_it(at))
    }

    fn look_at(&mut self, pid: u32) {
        // The process has ended; earlier observations stay.
        let Some(program) = processes::program(pid) else { return };
        if Some(&program) == self.own.as_ref() || self.processes.len() >= PROCESSES_MAX {
            return;
        }
        // During execve(2) a process has no arguments.
        let is_known = |known: &Process| known.program == program && !known.words.is_empty();
        let known = self.processes.get(&pid).is_some_and(is_known);
        if !known {
            let (words, folder) = (processes::words(pid), processes::folder(pid));
            let words_before = self.processes.remove(&pid).map_or_else(Vec::new, |before| {
                // Of the same program, whose words could not be read yet.
                if before.program == program { before.words_before } else { before.words }
            });
            let process = Process { program, words, words_before, folder, ..Process::default() };
            self.processes.insert(pid, process);
        }
        self.compare(pid);
        if let Some(process) = self.processes.get_mut(&pid)
            && process.program.starts_with("python")
        {
            let seen = MODULES.iter().filter(|module| processes::maps(pid, module));
            process.modules.extend(seen);
        }
    }

    /// Notes which variables a process lacks. During execve(2) a process has none, so an empty environment is
    /// believed only after several polls.
    fn compare(&mut self, pid: u32) {
        let Some(process) = self.processes.get(&pid).filter(|p| p.looks < LOOKS) else { return };
        let looks = process.looks + 1;
        let variables = match processes::variables(pid) {
            Variables::Given(variables) => variables,
            // The original environment is unknown.
            Variables::Overwritten => {
                if let Some(process) = self.processes.get_mut(&pid) {
                    (process.looks, process.lost) = (LOOKS, BTreeSet::new());
                }
                return;
            }
            Variables::Hidden => return,
        };
        let settled = !variables.is_empty() || looks == LOOKS;
        let lost = if settled { self.lost(&variables) } else { BTreeSet::new() };
        if let Some(process) = self.processes.get_mut(&pid) {
            process.looks = if settled { LOOKS } else { looks };
            process.lost = lost;
        }
    }

    /// Which of Keyward's variables a process lacks.
    fn lost(&self, variables: &[String]) -> BTreeSet<&'static str> {
        let is_there = |name: &str, value: &str| {
            variables.iter().any(|variable| {
                let found = variable.split_once('=').filter(|(found, _)| *found == name);
                // The program may have added options.
                found.is_some_and(|(_, found)| found.contains(value))
            })
        };
        let lost = self.given.iter().filter(|(name, value)| !is_there(name, value));
        lost.map(|(name, _)| *name).collect()
    }
}

/// How long the processes may take to end after SIGTERM.
const ENDED_WITHIN: Duration = Duration::from_secs(2);
const END_LOOK_EVERY: Duration = Duration::from_millis(5);
/// Attempts; processes that are stuck in the kernel are left afterwards.
const LOOKS_MAX: usize = 400;

/// Makes orphaned descendants children of this process (prctl(2), `PR_SET_CHILD_SUBREAPER`), so that
/// daemons stay in its tree. Linux only.
pub(super) fn adopt_descendants() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        tracing::warn!(%error, "remaining processes of the program are not found");
    }
}

/// The processes below this one, but for the gateway and its own.
fn descendants(gateway: Option<u32>) -> Vec<u32> {
    let (root, of_gateway) = (std::process::id(), gateway.map(tree).unwrap_or_default());
    let mut found = tree(root);
    found.retain(|pid| *pid != root && !of_gateway.contains(pid));
    found
}

/// Ends all descendants but the gateway after the program has ended.
pub(super) async fn end_descendants(gateway: Option<u32>) {
    let deadline = tokio::time::Instant::now() + ENDED_WITHIN;
    while send(Signal::TERM, gateway) {
        if tokio::time::Instant::now() > deadline {
            return kill_descendants(gateway).await;
        }
        tokio::time::sleep(END_LOOK_EVERY).await;
    }
}

/// Kills all descendants but the gateway, the program included.
pub(super) async fn kill_descendants(gateway: Option<u32>) {
    for _ in 0..LOOKS_MAX {
        if !send(Signal::KILL, gateway) {
            return;
        }
        tokio::time::sleep(END_LOOK_EVERY).await;
    }
}

/// Waits for the end of a process that this one has started.
pub(super) async fn until_gone(pid: u32) {
    for _ in 0..LOOKS_MAX {
        reap();
        if !tree(std::process::id()).contains(&pid) {
            return;
        }
        tokio::time::sleep(END_LOOK_EVERY).await;
    }
}

/// Ended processes stay in the tree until they are waited for.
fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// Sends the signal to all descendants but the gateway. Returns whether there are any.
fn send(signal: Signal, gateway: Option<u32>) -> bool {
    reap();
    let left = descendants(gateway).into_iter();
    let left: Vec<_> = left.filter_map(|pid| Pid::from_raw(pid.cast_signed())).collect();
    for pid in &left {
        if let Err(error) = kill_process(*pid, signal) {
            tracing::debug!(%error, ?signal, "a process did not get a signal");
        }
    }
    !left.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cleared_or_changed_variable_is_lost_and_an_extended_one_is_not() {
        let given =
            [("HTTPS_PROXY", "http://p"), ("NODE_OPTIONS", "--require=x"), ("NO_PROXY", "l")];
        let given = given.map(|(name, value)| (name, value.to_owned())).into();
        let watch = ProcessWatch { given, ..ProcessWatch::default() };
        let variables = ["HTTPS_PROXY=http://other", "NODE_OPTIONS=--a --require=x", "A=b"];
        let lost = watch.lost(&variables.map(str::to_owned));
        assert_eq!(lost, ["HTTPS_PROXY", "NO_PROXY"].into());
        assert_eq!(watch.lost(&[]).len(), 3);
    }
}
