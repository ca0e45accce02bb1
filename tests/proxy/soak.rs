//! Many idle tunnels, many event streams and as many requests as fit, together, with gibibytes both ways:
//! nothing fails, memory stays where it was, and a revoked agent's streams end at once, no other's.

mod hooks;
mod hour;
mod rotation;
mod scale;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsConnector;

use test_support::install::TOKEN_CI;
use test_support::process::{Served, soak};
use test_support::*;

/// Tunnels that are opened at once.
const OPENING: usize = 32;
/// Clients that ask as fast as they get answers.
const ASKING: usize = 8;
/// One of so many tunnels and event streams is the agent's that leaves.
const LEAVING: usize = 10;
/// Bytes of one body.
const BODY: usize = 256 << 20;
/// What may be resident beyond what was at the beginning: freed memory that is not given back.
const MEMORY_SLACK: usize = 24 << 20;

/// How much of it all: 1 in `tests/run --soak`, a hundredth otherwise, or `KEYWARD_TEST_SCALE`.
fn scale() -> f64 {
    let given = std::env::var("KEYWARD_TEST_SCALE").ok();
    let given = given.map(|text| text.parse().expect("KEYWARD_TEST_SCALE is a number"));
    given.unwrap_or(if soak() { 1.0 } else { 0.01 })
}

fn scaled(whole: f64) -> usize {
    (whole * scale()).ceil() as usize
}

/// The API: `/events` are one each second, without end; `/down` and `/up` are of the length that is
/// declared, and anything else is `fine`.
async fn api(mut stream: Stream) {
    stream.stop_recording();
    // A stream in a pool is silent for as long as the pool keeps it.
    while stream.comes().await {
        let Some(head) = stream.head().await else { return };
        match (head.method(), head.target()) {
            ("POST", _) => {
                let length = head.one("content-length").and_then(|length| length.parse().ok());
                let got = stream.skip(length.expect("a length")).await;
                stream.send(ok(&got.to_string())).await;
            }
            (_, "/down") => {
                stream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n")).await;
                send_body(&mut stream).await;
            }
            (_, "/events") => return events(stream).await,
            _ => stream.send(ok("fine")).await,
        }
    }
}

async fn events(mut stream: Stream) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked";
    stream.send(format!("{head}\r\n\r\n")).await;
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        second.tick().await;
        let event = format!("data: {number:08}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        if stream.try_send(chunk).await.is_err() {
            return;
        }
    }
}

async fn send_body(wire: &mut Wire) {
    let piece = vec![b'x'; 256 * 1024];
    for _ in 0..BODY / piece.len() {
        wire.send(&piece).await;
    }
}

/// Where agents connect, and what they trust.
#[derive(Clone)]
struct Door {
    proxy: std::net::SocketAddr,
    tls: TlsConnector,
}

impl Door {
    async fn tunnel(&self, token: &str) -> Wire {
        let mut wire = Wire::to(self.proxy).await;
        let head = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n");
        wire.send(format!("{head}Proxy-Authorization: Bearer {token}\r\n\r\n")).await;
        assert_eq!(wire.answer("CONNECT").await.head.status(), 200);
        let (io, socket, seen) = wire.into_parts();
        let name = rustls::pki_types::ServerName::try_from(HOST).expect("a name");
        let tls = patiently("TLS", self.tls.connect(name, io)).await.expect("TLS");
        let mut wire = Wire::over(tls, socket, seen);
        wire.stop_recording();
        wire
    }

    /// `count` tunnels on each of which `target` was asked for, for both agents.
    async fn tunnels(&self, count: usize, target: &str, leaver: &str) -> (Vec<Wire>, Vec<Wire>) {
        let opened = futures_util::stream::iter(0..count).map(|number| {
            let leaves = number % LEAVING == 0;
            let token = if leaves { leaver } else { TOKEN_CI };
            async move {
                let mut wire = self.tunnel(token).await;
                wire.send(request_text(&format!("GET {target}"), HOST)).await;
                match target {
                    "/events" => assert_eq!(wire.head().await.expect("a head").status(), 200),
                    _ => assert_eq!(wire.answer("GET").await.text(), "fine"),
                }
                (leaves, wire)
            }
        });
        let (mut stay, mut leave) = (vec![], vec![]);
        let mut opened = opened.buffer_unordered(OPENING);
        while let Some((leaves, wire)) = opened.next().await {
            if leaves { leave.push(wire) } else { stay.push(wire) }
        }
        (stay, leave)
    }
}

/// What goes on all along.
#[derive(Default)]
struct Load {
    done: AtomicBool,
    answers: AtomicUsize,
    events: AtomicUsize,
}

impl Load {
    /// Asks on one tunnel, and now and then on a new one.
    async fn asks(self: Arc<Self>, door: Door) {
        let mut wire = door.tunnel(TOKEN_CI).await;
        while !self.done.load(SeqCst) {
            for _ in 0..100 {
                assert_eq!(wire.ask(request_text("GET /a", HOST)).await.text(), "fine");
                self.answers.fetch_add(1, Relaxed);
            }
            wire = door.tunnel(TOKEN_CI).await;
        }
    }

    /// Reads events, none of which is missing, until the stream ends: when.
    async fn listens(self: Arc<Self>, mut wire: Wire) -> Instant {
        let mut expected = 0_usize;
        while let Some(chunk) = wire.chunk().await {
            let event = String::from_utf8(chunk).expect("text");
            assert_eq!(event, format!("data: {expected:08}\n\n"));
            expected += 1;
            self.events.fetch_add(1, Relaxed);
        }
        Instant::now()
    }

    async fn uploads(door: Door, bodies: usize) {
        let mut wire = door.tunnel(TOKEN_CI).await;
        for _ in 0..bodies {
            wire.send(request_text(&format!("POST /up\r\nContent-Length: {BODY}"), HOST)).await;
            send_body(&mut wire).await;
            assert_eq!(wire.answer("POST").await.text(), BODY.to_string());
        }
    }

    async fn downloads(door: Door, bodies: usize) {
        let mut wire = door.tunnel(TOKEN_CI).await;
        for _ in 0..bodies {
            wire.send(request_text("GET /down", HOST)).await;
            assert_eq!(wire.head().await.expect("a head").status(), 200);
            assert_eq!(wire.skip(BODY).await, BODY);
        }
    }
}

/// Both ends of thousands of streams are in this process: the agents' all, and one to the API for each of the
/// event streams. The gateway has as many.
fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let needed = (scaled(5_000.0) + 2 * scaled(1_000.0) + 1_000) as u64;
    assert!(
        maximum.is_none_or(|maximum| maximum >= needed),
        "this needs {needed} descriptors and may have {maximum:?}: raise `ulimit -Hn`, or lower \
         KEYWARD_TEST_SCALE"
    );
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .expect("up to the hard limit");
}

/// An agent that no file manages, and its token.
async fn leaver(served: &Served) -> String {
    for (path, body) in [
        ("/agents", r#"{"name":"leaver"}"#),
        ("/agents/leaver/bindings", r#"{"connection":"acme"}"#),
        ("/agents/leaver/tokens", "{}"),
    ] {
        let answer = served.api("POST", path, body).await;
        assert!(answer.head.status() < 300, "{path}: {}", answer.text());
        if path.ends_with("tokens") {
            return answer.json()["token"].as_str().expect("shown once").to_owned();
        }
    }
    unreachable!("the last one answers")
}

/// Bodies both ways at once, `count` of each.
async fn bodies(door: &Door, count: usize) {
    let mut bodies = JoinSet::new();
    bodies.spawn(Load::uploads(door.clone(), count));
    bodies.spawn(Load::downloads(door.clone(), count));
    while let Some(ended) = bodies.join_next().await {
        ended.expect("every byte passes");
    }
}

/// Everything at once until time and bodies are over; memory once caches and buffers are what they will
/// be, and at the end.
async fn all_at_once(served: &Served, door: &Door, load: &Load) -> (usize, usize) {
    let began = Instant::now();
    bodies(door, 1).await;
    let warm = served.memory();
    let count = scaled(10.0 * (1_u64 << 30) as f64 / BODY as f64);
    bodies(door, count).await;
    let mut second = interval(Duration::from_secs(1));
    while began.elapsed() < Duration::from_secs(scaled(300.0) as u64) {
        second.tick().await;
    }
    let (end, took) = (served.memory(), began.elapsed().as_secs());
    let (answers, events) = (load.answers.load(Relaxed), load.events.load(Relaxed));
    println!("{took} s: {count} bodies of {} MiB each way, {answers} answers", BODY >> 20);
    println!("{events} events; {} MiB then {} MiB", warm >> 20, end >> 20);
    (warm, end)
}

/// Removes the agent: when the last of its streams ended, counted from the call on.
async fn revoked(served: &Served, streams: JoinSet<Instant>) -> Duration {
    let (count, began) = (streams.len(), Instant::now());
    assert!(served.api("DELETE", "/agents/leaver", "").await.head.status() < 300);
    let answered = began.elapsed();
    let mut ended = streams.join_all().await;
    ended.sort();
    let after = |at: usize| ended[at].saturating_duration_since(began);
    let (first, half, last) = (after(0), after(count / 2), after(count - 1));
    println!(
        "the agent was removed within {answered:?}; its {count} streams ended within {first:?}, \
         {half:?}, {last:?}: the first, half of them, all"
    );
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_streams_and_gibibytes_leave_memory_flat() {
    raise_open_files();
    let (origin, plan) = (Origin::scripted(api), Plan::api_key().limit("idle_timeout: 1h"));
    let mut served = Served::start_quietly(&plan, &origin, &[]);
    let roots = served.roots();
    let door = Door { proxy: served.proxy, tls: TlsConnector::from(pki::trusting(&roots)) };
    let leaver = leaver(&served).await;

    let before = served.memory();
    let (mut idle, leaving) = door.tunnels(scaled(5_000.0), "/a", &leaver).await;
    let count = idle.len() + leaving.len();
    println!("{count} idle tunnels: {} KiB each", ((served.memory() - before) / count) >> 10);
    let (events, leaving_events) = door.tunnels(scaled(1_000.0), "/events", &leaver).await;

    let load = Arc::new(Load::default());
    let (mut asking, mut listening, mut ending) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    (0..ASKING).for_each(|_| drop(asking.spawn(Arc::clone(&load).asks(door.clone()))));
    events.into_iter().for_each(|wire| drop(listening.spawn(Arc::clone(&load).listens(wire))));
    for wire in leaving_events {
        ending.spawn(Arc::clone(&load).listens(wire));
    }
    let (warm, end) = all_at_once(&served, &door, &load).await;
    assert!(end < warm + MEMORY_SLACK, "{} KiB, then {} KiB", warm >> 10, end >> 10);

    for mut wire in leaving {
        ending.spawn(async move {
            assert!(wire.is_closed().await);
            Instant::now()
        });
    }
    assert!(ending.try_join_next().is_none(), "none has ended before");
    let last = revoked(&served, ending).await;
    assert!(last < Duration::from_secs(1), "{last:?}");
    assert!(listening.try_join_next().is_none(), "no other's event stream has ended");
    load.done.store(true, SeqCst);
    asking.join_all().await;
    for wire in &mut idle {
        wire.send(request_text("GET /a", HOST)).await;
        assert_eq!(wire.answer("GET").await.text(), "fine", "nor has another's tunnel");
    }
    listening.abort_all();
    drop(idle);
    assert_eq!(served.terminate(), Some(0));
}
