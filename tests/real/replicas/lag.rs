//! How long a change at one of three replicas takes until it is in force at the others, for requests over new tunnels
//! and over tunnels that were open before. The time begins when the replica has answered the change.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

use super::limits::{finish, three};
use super::*;
use test_support::process::soak;

/// Agents whose access changes at the same time, each of them by four changes in a round.
const WORKERS: usize = 5;

/// Between two requests that look for a change.
const PACE: Duration = Duration::from_millis(10);

/// Clients that make changes that concern none of these agents.
const WRITERS: usize = 4;

/// Between two changes of such a client: all of them together make 50 a second.
const OTHERS: Duration = Duration::from_millis(80);

fn rounds() -> usize {
    if soak() { 60 } else { 6 }
}

/// What holds for 99 of 100 changes: a second, and more on a machine that does other things.
fn bound() -> Duration {
    Duration::from_secs(if soak() { 1 } else { 5 })
}

/// A tunnel for a token, or the status that refuses it.
pub(super) async fn tunnel_at(lab: &Lab, gateway: &Gateway, token: &str) -> Result<Wire, u16> {
    let mut wire = lab.client_at(gateway.proxy).await;
    let authorization = format!("Proxy-Authorization: Bearer {token}");
    wire.send(format!(
        "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{authorization}\r\n\r\n"
    ))
    .await;
    match wire.answer("CONNECT").await.head.status() {
        200 => Ok(lab.secure(wire, HOST).await),
        status => Err(status),
    }
}

/// The status of a request over a tunnel; none if the tunnel has ended.
async fn status_over(wire: &mut Wire) -> Option<u16> {
    wire.try_send(request_text("GET /a", HOST)).await.ok()?;
    Some(wire.try_answer("GET").await?.head.status())
}

/// Opens tunnels until a request is served, and returns the last one. Until then each is refused with this status.
pub(super) async fn until_served(lab: &Lab, gateway: &Gateway, token: &str, refused: u16) -> Wire {
    let mut turns = interval(PACE);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let served = async {
        loop {
            turns.tick().await;
            match tunnel_at(lab, gateway, token).await {
                Err(status) => assert_eq!(status, refused),
                Ok(mut wire) => match status_over(&mut wire).await {
                    Some(200) => return wire,
                    status => assert_eq!(status, Some(refused)),
                },
            }
        }
    };
    patiently("a request that is served", served).await
}

/// Sends requests over a tunnel until one is not served.
pub(super) async fn until_refused(wire: &mut Wire, refused: u16) {
    let mut turns = interval(PACE);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = async {
        loop {
            turns.tick().await;
            match status_over(wire).await {
                Some(200) => {}
                None => return,
                status => return assert_eq!(status, Some(refused)),
            }
        }
    };
    patiently("a request that is refused", ended).await;
}

/// The changes of one worker, made at the first replica. Two agents: `gets` is bound to the connection and unbound, `has`
/// gets tokens that are revoked.
struct Worker<'a> {
    lab: &'a Lab,
    others: &'a [Gateway; 2],
    gets: String,
    has: String,
    token: String,
    lags: Vec<Duration>,
}

impl<'a> Worker<'a> {
    async fn new(lab: &'a Lab, others: &'a [Gateway; 2], number: usize) -> Self {
        let (gets, has) = (format!("gets-{number}"), format!("has-{number}"));
        for agent in [&gets, &has] {
            call(&lab.gateway, "POST", "/agents", &json!({ "name": agent })).await;
        }
        let bind = json!({ "connection": "acme" });
        call(&lab.gateway, "POST", &format!("/agents/{has}/bindings"), &bind).await;
        let mut worker = Self { lab, others, gets, has, token: String::new(), lags: Vec::new() };
        worker.token = worker.issued(&worker.gets).await.0;
        for gateway in others {
            until_tokens(gateway, &worker.gets, 1).await;
        }
        worker
    }

    /// A new token of an agent, and its id.
    async fn issued(&self, agent: &str) -> (String, String) {
        let path = format!("/agents/{agent}/tokens");
        let made = call(&self.lab.gateway, "POST", &path, &json!({})).await;
        let text = |key: &str| made[key].as_str().expect("text").to_owned();
        (text("token"), text("id"))
    }

    /// Waits at each of the other replicas until a token is accepted.
    async fn served(&mut self, token: &str, refused: u16) -> Vec<Wire> {
        let (lab, changed) = (self.lab, Instant::now());
        let waits = self.others.iter().map(async |gateway| {
            let wire = until_served(lab, gateway, token, refused).await;
            (wire, changed.elapsed())
        });
        let (wires, lags): (Vec<_>, Vec<_>) = join_all(waits).await.into_iter().unzip();
        self.lags.extend(lags);
        wires
    }

    /// Waits until each of these tunnels is refused.
    async fn refused(&mut self, mut wires: Vec<Wire>, refused: u16) {
        let changed = Instant::now();
        let waits = wires.iter_mut().map(async |wire| {
            until_refused(wire, refused).await;
            changed.elapsed()
        });
        self.lags.extend(join_all(waits).await);
    }

    /// Four changes.
    async fn round(&mut self) {
        let (a, token) = (&self.lab.gateway, self.token.clone());
        let bindings = format!("/agents/{}/bindings", self.gets);
        call(a, "POST", &bindings, &json!({ "connection": "acme" })).await;
        let wires = self.served(&token, 403).await;
        call(a, "DELETE", &format!("{bindings}/acme"), &Value::Null).await;
        self.refused(wires, 403).await;
        let (token, id) = self.issued(&self.has).await;
        let wires = self.served(&token, 407).await;
        call(a, "DELETE", &format!("/agents/{}/tokens/{id}", self.has), &Value::Null).await;
        self.refused(wires, 407).await;
    }
}

/// All lags of several workers at the same time.
async fn lags(workers: &mut [Worker<'_>]) -> Vec<Duration> {
    let rounds = workers.iter_mut().map(async |worker| {
        for _ in 0..rounds() {
            worker.round().await;
        }
        std::mem::take(&mut worker.lags)
    });
    join_all(rounds).await.concat()
}

/// Adds agents that no request uses, and counts them.
async fn writes(gateway: &Gateway, made: &AtomicUsize) {
    let writers = (0..WRITERS).map(async |writer| {
        let mut turns = interval(OTHERS);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0.. {
            turns.tick().await;
            let new = json!({ "name": format!("other-{writer}-{number}") });
            call(gateway, "POST", "/agents", &new).await;
            made.fetch_add(1, Relaxed);
        }
    });
    join_all(writers).await;
}

/// Prints the figures of some lags, and compares them with the bound.
fn judged(what: &str, mut lags: Vec<Duration>) {
    assert_eq!(lags.len(), WORKERS * rounds() * 4 * 2);
    lags.sort_unstable();
    let at = |percent: usize| lags[(lags.len() * percent).div_ceil(100) - 1];
    let (p50, p99, max) = (at(50), at(99), at(100));
    println!("{what}: {} lags, p50 {p50:?}, p99 {p99:?}, max {max:?}", lags.len());
    assert!(p99 < bound(), "{what}: {p99:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_in_force_at_every_replica_within_a_few_seconds() {
    let database = Database::start();
    let plan = Plan::api_key().limit("auth_failures_per_minute_max: 1000000");
    let (lab, others) = three(&database, plan).await;
    let all = (0..WORKERS).map(|number| Worker::new(&lab, &others, number));
    let mut workers = join_all(all).await;
    judged("changes", lags(&mut workers).await);
    let (made, began) = (AtomicUsize::new(0), Instant::now());
    let beside = tokio::select! {
        lags = lags(&mut workers) => lags,
        () = writes(&lab.gateway, &made) => unreachable!("it has no end"),
    };
    let rate = made.load(Relaxed) as f64 / began.elapsed().as_secs_f64();
    judged(&format!("changes beside {rate:.0} others a second"), beside);
    assert!(rate > 1.0, "nothing was written meanwhile: {rate}");
    drop(workers);
    finish(lab, others).await;
}
