//! Ten thousand connections and a thousand agents: start, lists, searches, what a change takes until
//! requests see it, and what a request costs beside one among ten connections. Elsewhere than in
//! `tests/run --soak` there are fewer, and no time is judged. That the cost of a request and of a change
//! does not grow is held to look-ups, which are counted, in `crates/state/src/rulebook/tests/changes.rs`.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::json;

use test_support::install::TOKEN_CI;
use test_support::process::{Served, soak};
use test_support::*;

/// Calls of the API that are under way at once while a gateway is filled.
const FILLING: usize = 16;

/// How many there are: all of them in `tests/run --soak`.
struct Size {
    connections: usize,
    agents: usize,
    /// Bindings of each agent.
    bindings: usize,
    /// Requests of one round on each gateway.
    requests: usize,
    rounds: usize,
}

impl Size {
    fn here() -> Self {
        match soak() {
            true => Self {
                connections: 10_000,
                agents: 1_000,
                bindings: 10,
                requests: 2_000,
                rounds: 12,
            },
            false => Self { connections: 200, agents: 20, bindings: 3, requests: 30, rounds: 2 },
        }
    }
}

/// A gateway.
struct Peer {
    served: Served,
}

impl Peer {
    fn start(plan: &Plan, origin: &Origin) -> Self {
        Self { served: Served::start_quietly(plan, origin, &[]) }
    }

    async fn api(&self, method: &str, path: &str, body: &str) -> Message {
        let answer = self.served.api(method, path, body).await;
        assert!(answer.head.status() < 300, "{method} {path}: {}", answer.text());
        answer
    }

    /// Connections `c-00000`…, then agents `a-0000`… of ten bindings each.
    async fn fill(&self, size: &Size) {
        let began = Instant::now();
        let each = futures_util::stream::iter(0..size.connections).map(|number| async move {
            let fields = json!({ "api_key": format!("key-{number:05}-0123456789abcdef") });
            let body = json!({ "provider": "acme", "name": name(number), "fields": fields });
            self.api("POST", "/connections", &body.to_string()).await;
        });
        each.buffer_unordered(FILLING).collect::<Vec<_>>().await;
        let connections = began.elapsed();
        let each = futures_util::stream::iter(0..size.agents).map(|number| async move {
            let agent = format!("a-{number:04}");
            self.api("POST", "/agents", &json!({ "name": agent }).to_string()).await;
            for at in 0..size.bindings {
                self.bind(&agent, &name((number * size.bindings + at) % size.connections)).await;
            }
        });
        each.buffer_unordered(FILLING).collect::<Vec<_>>().await;
        let all = began.elapsed();
        println!("filled: connections in {connections:.1?}, with agents and bindings {all:.1?}");
    }

    async fn bind(&self, agent: &str, connection: &str) {
        let body = json!({ "connection": connection }).to_string();
        self.api("POST", &format!("/agents/{agent}/bindings"), &body).await;
    }

    async fn tunnel(&self, token: &str) -> Wire {
        let mut wire = self.served.tunnel(HOST, token).await;
        wire.stop_recording();
        wire
    }

    /// CPU time that it has used, of 10 ms each.
    fn cpu(&self) -> u64 {
        let stat = self.served.about("stat");
        let (_, rest) = stat.rsplit_once(") ").expect("the name in brackets");
        let fields: Vec<&str> = rest.split(' ').collect();
        [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
    }
}

fn name(number: usize) -> String {
    format!("c-{number:05}")
}

async fn ask(wire: &mut Wire) -> Message {
    wire.ask(request_text("GET /a", HOST)).await
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The same requests to both gateways in turns: what one of the second costs, of one of the first.
async fn request_costs(small: &Peer, large: &Peer, size: &Size) {
    let mut wires = [small.tunnel(TOKEN_CI).await, large.tunnel(TOKEN_CI).await];
    let (mut times, mut cpus) = ([vec![], vec![]], [0, 0]);
    for round in 0..size.rounds * 2 {
        let which = (round + round / 2) % 2;
        let peer = [small, large][which];
        let before = peer.cpu();
        for _ in 0..size.requests {
            let began = Instant::now();
            assert_eq!(ask(&mut wires[which]).await.head.status(), 200);
            times[which].push(began.elapsed());
        }
        cpus[which] += peer.cpu() - before;
    }
    let [few, many] = times.map(median);
    let each = |ticks: u64| ticks as f64 * 1e4 / (size.requests * size.rounds) as f64;
    println!(
        "a request among ten connections: {few:.1?} (median), {:.1} µs CPU; among all: {many:.1?}, \
         {:.1} µs CPU; ratios {:.3}, {:.3}",
        each(cpus[0]),
        each(cpus[1]),
        many.as_secs_f64() / few.as_secs_f64(),
        cpus[1] as f64 / cpus[0].max(1) as f64
    );
}

/// Pages of the list, and searches; every connection is on one page.
async fn lists(peer: &Peer, size: &Size) {
    let mut times = vec![];
    let (mut found, mut after) = (0, String::new());
    loop {
        let began = Instant::now();
        let page = peer.api("GET", &format!("/connections?limit=100{after}"), "").await.json();
        times.push(began.elapsed());
        found += page["items"].as_array().expect("a list").len();
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    // The configuration has one more.
    assert_eq!(found, size.connections + 1);
    let mut searches = vec![];
    for number in (0..size.connections).step_by(size.connections / 20) {
        let began = Instant::now();
        let page = peer.api("GET", &format!("/connections?q={}", name(number)), "").await.json();
        searches.push(began.elapsed());
        assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
    }
    let began = Instant::now();
    peer.api("GET", "/agents?limit=100", "").await;
    let agents = began.elapsed();
    println!(
        "a page of 100 connections: {:.1?}, of 100 agents: {agents:.1?}; a search: {:.1?} (medians)",
        median(times),
        median(searches)
    );
}

/// A binding comes and goes while its agent asks: the request after the answer has it, or not.
async fn changes(peer: &Peer, size: &Size) {
    peer.api("POST", "/agents", r#"{"name":"mover"}"#).await;
    let token = peer.api("POST", "/agents/mover/tokens", "{}").await.json()["token"].clone();
    let mut wire = peer.tunnel(token.as_str().expect("shown once")).await;
    assert_eq!(ask(&mut wire).await.head.status(), 403);
    let (mut bound, mut paused, mut unbound) = (vec![], vec![], vec![]);
    for number in (0..size.connections).step_by(size.connections / 20) {
        let (connection, mut began) = (name(number), Instant::now());
        let mut took = |times: &mut Vec<Duration>| {
            times.push(began.elapsed());
            began = Instant::now();
        };
        peer.bind("mover", &connection).await;
        assert_eq!(ask(&mut wire).await.head.status(), 200);
        took(&mut bound);
        peer.api("POST", &format!("/connections/{connection}/pause"), "{}").await;
        assert_eq!(ask(&mut wire).await.head.status(), 424, "it is paused");
        took(&mut paused);
        peer.api("DELETE", &format!("/agents/mover/bindings/{connection}"), "").await;
        assert_eq!(ask(&mut wire).await.head.status(), 403);
        took(&mut unbound);
        peer.api("POST", &format!("/connections/{connection}/resume"), "{}").await;
    }
    let most = bound.iter().chain(&paused).chain(&unbound).max().copied().unwrap_or_default();
    println!(
        "until a request sees it: a binding {:.1?}, a pause {:.1?}, an unbinding {:.1?} (medians); \
         {most:.1?} at most",
        median(bound),
        median(paused),
        median(unbound)
    );
    // Where other tests have the machine too, time says nothing.
    assert!(!soak() || most < Duration::from_secs(1), "{most:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_many_connections_lists_are_complete_and_changes_apply_at_once() {
    let size = Size::here();
    println!("{} connections, {} agents", size.connections, size.agents);
    let origin = Origin::scripted(super::api);
    let (small, mut large) = {
        let plan = Plan::api_key();
        (Peer::start(&plan, &origin), Peer::start(&plan, &origin))
    };
    small.fill(&Size { connections: 9, agents: 1, ..Size::here() }).await;
    large.fill(&size).await;
    lists(&large, &size).await;
    changes(&large, &size).await;
    request_costs(&small, &large, &size).await;

    let memory = [&small, &large].map(|peer| peer.served.memory() >> 20);
    assert_eq!(large.served.terminate(), Some(0));
    let began = Instant::now();
    large.served.restart();
    let ready = began.elapsed();
    let mut wire = large.tunnel(TOKEN_CI).await;
    assert_eq!(ask(&mut wire).await.head.status(), 200);
    let anew = large.served.memory() >> 20;
    println!(
        "ready {ready:.2?} after its start; {} MiB resident with ten connections, {} MiB with all, \
         {anew} MiB after the start",
        memory[0], memory[1]
    );
}
