//! Requests through HAProxy, counted by what went on meanwhile; and whose each token is, by what the authorization
//! server answered.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsConnector;

use super::stage::Fleet;
use crate::relay::{Call, Relay};
use test_support::pki::trusting;
use test_support::process::soak;
use test_support::*;

/// A client waits no longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two requests of a worker.
const PAUSE: Duration = Duration::from_millis(40);

/// A replica that was answered stores the answer within this time, on a busy machine too; if it is killed before, the
/// answer is lost. The soak may run beside builds.
fn stored_within() -> Duration {
    Duration::from_secs(if soak() { 4 } else { 2 })
}

/// Tokens by what the authorization server answered to whom.
pub(super) struct Owners {
    relay: Arc<Relay>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    calls: usize,
    /// The connection of each refresh token.
    refresh: HashMap<String, usize>,
    /// The connection of each access token, and its end.
    access: HashMap<String, (usize, Instant)>,
    wrong: Vec<String>,
    /// By refresh token: its first use that was answered, and how often it arrived after that.
    uses: HashMap<String, (Call, usize)>,
}

impl Owners {
    pub(super) fn new(relay: Arc<Relay>) -> Self {
        Self { relay, known: Mutex::default() }
    }

    /// The refresh token that a connection begins with.
    pub(super) fn begin(&self, connection: usize, refresh: &str) {
        let mut known = self.known.lock().expect("not poisoned");
        known.refresh.insert(refresh.to_owned(), connection);
    }

    /// The tokens that are good now.
    pub(super) fn tokens(&self) -> Vec<String> {
        let mut known = self.known.lock().expect("not poisoned");
        known.follow(&self.relay);
        let access = known.access.iter().filter(|(_, (_, ends))| Instant::now() < *ends);
        let refresh = known.refresh.keys().filter(|token| !known.uses.contains_key(*token));
        access.map(|(token, _)| token).chain(refresh).cloned().collect()
    }

    /// How often a refresh token arrived after its first use was answered.
    pub(super) fn arrived_again(&self) -> usize {
        let known = self.known.lock().expect("not poisoned");
        known.uses.values().map(|(_, again)| again).sum()
    }

    /// What the API answers to a request for a connection with this token.
    pub(super) fn status_for(&self, connection: usize, token: &str) -> u16 {
        let mut known = self.known.lock().expect("not poisoned");
        known.follow(&self.relay);
        match known.access.get(token) {
            Some((owner, _)) if *owner != connection => {
                let words = format!("c{connection} was sent with a token of c{owner}");
                known.wrong.push(words);
                418
            }
            Some((_, ends)) if Instant::now() < *ends => 200,
            Some(_) => 401,
            None => {
                known.wrong.push(format!("c{connection} was sent with `{}`", token.len()));
                418
            }
        }
    }
}

impl Known {
    fn follow(&mut self, relay: &Relay) {
        for call in relay.calls_after(self.calls) {
            self.calls += 1;
            let Some(used) = call.form.get("refresh_token").cloned() else { continue };
            if let Some((_, again)) = self.uses.get_mut(&used) {
                *again += 1;
                continue;
            }
            let Some(reply) = &call.reply else { continue };
            let owner = self.refresh[&used];
            let token = |name: &str| reply[name].as_str().map(str::to_owned);
            let (Some(access), Some(refresh)) = (token("access_token"), token("refresh_token"))
            else {
                continue;
            };
            let life = Duration::from_secs(reply["expires_in"].as_u64().expect("seconds"));
            self.access.insert(access, (owner, call.time.1 + life));
            self.refresh.insert(refresh, owner);
            self.uses.insert(used, (call, 0));
        }
    }
}

/// What a client saw.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Outcome {
    Served,
    /// The stream ended, was refused, or nothing came in time.
    Cut,
    /// A status of the gateway, with its code.
    Refused(u16, String),
}

/// The outcomes of a phase.
#[derive(Debug)]
struct Phase {
    name: &'static str,
    outcomes: BTreeMap<Outcome, usize>,
}

/// The clients.
#[derive(Clone)]
pub(super) struct Load(Arc<LoadState>);

struct LoadState {
    at: SocketAddr,
    tls: Arc<ClientConfig>,
    token: String,
    connections: usize,
    next: AtomicUsize,
    phases: Mutex<Vec<Phase>>,
    kills: Mutex<Vec<Instant>>,
    owners: Arc<Owners>,
}

impl Load {
    pub(super) fn new(fleet: &Fleet) -> Self {
        Self(Arc::new(LoadState {
            at: fleet.balancer.at,
            tls: trusting(&fleet.roots),
            token: fleet.token.clone(),
            connections: fleet.connections,
            next: AtomicUsize::new(0),
            phases: Mutex::default(),
            kills: Mutex::default(),
            owners: fleet.owners.clone(),
        }))
    }

    /// Outcomes count for this from now on; several phases of one name are one.
    pub(super) fn phase(&self, name: &'static str) {
        let mut phases = self.0.phases.lock().expect("not poisoned");
        let at = phases.iter().position(|phase| phase.name == name);
        let phase = match at {
            Some(at) => phases.remove(at),
            None => Phase { name, outcomes: BTreeMap::new() },
        };
        phases.push(phase);
    }

    /// A replica is killed or stopped now, with the answers that it has not stored.
    pub(super) fn takes_answers(&self) {
        self.0.kills.lock().expect("not poisoned").push(Instant::now());
    }

    /// Clients that ask until they are aborted.
    pub(super) fn run(&self, workers: usize) -> JoinSet<()> {
        let mut running = JoinSet::new();
        for _ in 0..workers {
            let load = self.clone();
            running.spawn(async move {
                let mut turns = interval(PAUSE);
                turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    turns.tick().await;
                    let number = load.0.next.fetch_add(1, Relaxed) % load.0.connections;
                    let begun = load.current();
                    let outcome = load.ask(load.0.at, number).await;
                    // It may end after the fault that it met, or begin before it.
                    let phase = if has_fault(begun) { begun } else { load.current() };
                    load.count(phase, outcome);
                }
            });
        }
        running
    }

    /// Requests are sent for so long.
    pub(super) async fn goes_on(&self, time: Duration) {
        drop(tokio::time::timeout(time, std::future::pending::<()>()).await);
    }

    fn current(&self) -> &'static str {
        self.0.phases.lock().expect("not poisoned").last().expect("one began").name
    }

    fn count(&self, phase: &'static str, outcome: Outcome) {
        let mut phases = self.0.phases.lock().expect("not poisoned");
        let phase = phases.iter_mut().find(|it| it.name == phase).expect("it began");
        *phase.outcomes.entry(outcome).or_default() += 1;
    }

    async fn ask(&self, at: SocketAddr, connection: usize) -> Outcome {
        let asked = tokio::time::timeout(PATIENCE, self.try_ask(at, connection)).await;
        let Some(answer) = asked.ok().flatten() else { return Outcome::Cut };
        match answer.head.status() {
            200 => Outcome::Served,
            status => {
                let code = answer.head.one("keyward-error").unwrap_or_default();
                Outcome::Refused(status, code.to_owned())
            }
        }
    }

    async fn try_ask(&self, at: SocketAddr, connection: usize) -> Option<Message> {
        let mut wire = Wire::plain(TcpStream::connect(at).await.ok()?);
        wire.stop_recording();
        let token = &self.0.token;
        let connect = format!(
            "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
        );
        wire.try_send(connect).await.ok()?;
        let opened = wire.try_answer("CONNECT").await?;
        if opened.head.status() != 200 {
            return Some(opened);
        }
        let (io, socket, seen) = wire.into_parts();
        let name = rustls::pki_types::ServerName::try_from(HOST).expect("a name");
        let tls = TlsConnector::from(self.0.tls.clone()).connect(name, io).await.ok()?;
        let mut wire = Wire::over(tls, socket, seen);
        wire.stop_recording();
        let request = format!("GET /c{connection}\r\nKeyward-Connection: c{connection}");
        wire.try_send(request_text(&request, HOST)).await.ok()?;
        wire.try_answer("GET").await
    }

    /// Every connection at every replica, until it is served or broken: those that are broken, and why.
    pub(super) async fn each_connection(&self, fleet: &Fleet) -> BTreeMap<usize, String> {
        let mut lost = BTreeMap::new();
        for replica in &fleet.replicas {
            for connection in 0..self.0.connections {
                let settled = async {
                    let mut turns = interval(PAUSE);
                    loop {
                        turns.tick().await;
                        let outcome = self.ask(replica.proxy, connection).await;
                        self.count(self.current(), outcome.clone());
                        match outcome {
                            Outcome::Served => return None,
                            Outcome::Refused(424, code) => return Some(code),
                            _ => {}
                        }
                    }
                };
                let what = format!("c{connection} at {}", replica.proxy);
                let broken = patiently(&what, settled).await;
                lost.extend(broken.map(|code| (connection, code)));
            }
        }
        lost
    }

    /// What went on, in words: the requests of each phase, and how many of them failed.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        for Phase { name, outcomes } in &*self.0.phases.lock().expect("not poisoned") {
            let all: usize = outcomes.values().sum();
            let failed = all - outcomes.get(&Outcome::Served).copied().unwrap_or_default();
            let percent = failed as f64 * 100.0 / (all.max(1) as f64);
            writeln!(text, "{name}: {all} requests, {percent:.2} % failed: {outcomes:?}")
                .expect("a string");
        }
        let known = self.0.owners.known.lock().expect("not poisoned");
        let again = known.uses.values().filter(|(_, again)| *again > 0).count();
        write!(text, "refreshes: {}, refresh tokens that arrived again: {again}", known.calls)
            .expect("a string");
        text
    }

    /// No credential of another connection arrived, no refresh token arrived twice but those that were under way when a
    /// replica was killed or stopped, and only these connections are lost. Without a fault, nothing else fails.
    pub(super) fn check(&self, lost: &BTreeMap<usize, String>) {
        let mut known = self.0.owners.known.lock().expect("not poisoned");
        known.follow(&self.0.owners.relay);
        assert_eq!(known.wrong, Vec::<String>::new());
        let kills = self.0.kills.lock().expect("not poisoned");
        let mut excused = Vec::new();
        for (token, (call, again)) in &known.uses {
            if *again == 0 {
                continue;
            }
            let (from, until) = (call.time.0, call.time.1 + stored_within());
            let connection = known.refresh[token];
            assert!(
                kills.iter().any(|kill| (from..until).contains(kill)),
                "a refresh token of c{connection} arrived again, and no replica was killed or stopped meanwhile"
            );
            excused.push(connection);
        }
        excused.sort_unstable();
        assert_eq!(lost.keys().copied().collect::<Vec<_>>(), excused, "{lost:?}");
        for Phase { name, outcomes } in &*self.0.phases.lock().expect("not poisoned") {
            let allowed = |outcome: &Outcome| match outcome {
                Outcome::Served => true,
                Outcome::Refused(424, _) => !lost.is_empty(),
                Outcome::Refused(503, code) => code == "refresh_unavailable" && has_fault(name),
                Outcome::Cut => has_fault(name),
                Outcome::Refused(..) => false,
            };
            let wrong: Vec<_> = outcomes.iter().filter(|(it, _)| !allowed(it)).collect();
            assert!(wrong.is_empty(), "{name}: {wrong:?}");
        }
    }
}

/// Whether requests may fail in this phase. After the faults, replicas wait before they refresh (`flight/lease.rs`), longer
/// on a busy machine; each connection is asked for in the end.
fn has_fault(name: &str) -> bool {
    ["PostgreSQL", "kill", "SIGSTOP", "after the faults"].iter().any(|fault| name.contains(fault))
}
