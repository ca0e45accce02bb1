//! Resource limits: memory and streams are counted by what they cost, and neither an agent nor a client
//! without a token can take them from others.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::sync::Semaphore;

use test_support::authorization::{Authorization, Rules};
use test_support::install::TOKEN_CI;
use test_support::oauth;
use test_support::process::Served;
use test_support::tokens::{plan, refresh_only, rules};
use test_support::*;

const OTHER: &str = "kwa_token-of-another-agent-in-these-tests";

/// An API that reads whole requests to `/hold` and leaves them unanswered, and a count of those.
fn holding() -> (Origin, Arc<Semaphore>) {
    let held = Arc::new(Semaphore::new(0));
    let origin = Origin::sharing(held.clone(), move |mut stream, held| async move {
        stream.stop_recording();
        while let Some(head) = stream.head().await {
            if head.target() != "/hold" {
                if let Some(length) = head.one("content-length") {
                    stream.skip(length.parse().expect("a length")).await;
                }
                stream.send(ok("fine")).await;
                continue;
            }
            match head.one("content-length") {
                Some(length) => drop(stream.skip(length.parse().expect("a length")).await),
                None if head.has("transfer-encoding") => to_last_chunk(&mut stream).await,
                None => {}
            }
            held.add_permits(1);
            stream.hold().await;
        }
    });
    (origin, held)
}

/// Reads chunks as they come: there are very many.
async fn to_last_chunk(stream: &mut Stream) {
    let mut end = vec![];
    while !end.ends_with(b"\r\n0\r\n\r\n") {
        let came = stream.some().await;
        assert!(!came.is_empty(), "the body was cut");
        end.extend(came);
        end.drain(..end.len().saturating_sub(16));
    }
}

async fn reached(held: &Semaphore, count: u32) {
    patiently("requests at the API", held.acquire_many(count)).await.expect("open").forget();
}

/// A stream to the proxy or the admin listener that says nothing.
async fn silent(at: SocketAddr) -> Wire {
    Wire::plain(patiently("connecting", TcpStream::connect(at)).await.expect("it listens"))
}

/// The same from another address of this machine.
async fn from_elsewhere(at: SocketAddr) -> Wire {
    let socket = TcpSocket::new_v4().expect("a descriptor");
    socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).expect("all of 127/8 is loopback");
    Wire::plain(patiently("connecting", socket.connect(at)).await.expect("it listens"))
}

// === memory ===

/// Bytes that come one by one.
const SINGLE_BYTES: usize = 60_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_bodies_that_arrive_in_one_byte_chunks_take_bounded_memory() {
    const BODIES: usize = 6;
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let (refresh, plan) = (pair.refresh.clone().expect("one"), plan(&authorization, &pair));
    let (origin, held) = holding();
    let variables = [("REFRESH", &*refresh)];
    let served = Served::start_quietly(&plan, &origin, &variables);
    let head = request_text("POST /hold\r\nTransfer-Encoding: chunked", HOST);
    let upload = async |length: usize| {
        let mut wire = served.tunnel(HOST, TOKEN_CI).await;
        wire.stop_recording();
        wire.send(&head).await;
        wire.send("1\r\nx\r\n".repeat(length)).await;
        wire.send("0\r\n\r\n").await;
        wire
    };
    // Buffers that one of them needs anyway.
    let mut wires = vec![upload(1_000).await];
    reached(&held, 1).await;
    let before = served.memory();
    for _ in 0..BODIES {
        wires.push(upload(SINGLE_BYTES).await);
        reached(&held, 1).await;
    }
    let grown = served.memory().saturating_sub(before);
    // They are all kept: the budget has room. Their streams take something, too.
    let most = 4 * BODIES * SINGLE_BYTES + (4 << 20);
    println!("{} KiB for {} KiB", grown >> 10, (BODIES * SINGLE_BYTES) >> 10);
    assert!(grown <= most, "{} KiB for {} KiB", grown >> 10, (BODIES * SINGLE_BYTES) >> 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_many_small_members_takes_little_more_memory_than_its_bytes() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.stop_recording();
        while let Some(head) = stream.head().await {
            let length = head.one("content-length").expect("a length").parse().expect("a number");
            stream.skip(length).await;
            stream.send(ok("fine")).await;
        }
    });
    let plan = Plan::new(
        "{ id: key, kind: api_key, placement: { body: auth.key } }",
        "{ api_key: { env: CANARY } }",
    );
    let served = Served::start_quietly(&plan, &origin, &[]);
    let mut wire = served.tunnel(HOST, TOKEN_CI).await;
    let mut post = async |members: String| {
        let body = format!("{{{members}\"end\":0}}");
        let fields = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
        wire.send(request_text(&format!("POST /a\r\n{fields}"), HOST)).await;
        wire.send(&body).await;
        assert_eq!(wire.answer("POST").await.text(), "fine");
        (body.len(), served.memory_peak())
    };
    // The same bytes in one member: the body as it came, as it goes, and buffers.
    let (length, one) = post(format!("\"x\":\"{}\",", "y".repeat(4 << 20))).await;
    let (_, many) = post("\"\":0,".repeat(length / 5)).await;
    let grown = many.saturating_sub(one);
    assert!(grown <= 2 * length, "{} KiB more for {} KiB", grown >> 10, length >> 10);
}

#[tokio::test]
async fn a_declared_body_length_counts_against_the_limit_before_its_bytes_arrive() {
    let plan = Plan::new(
        "{ id: key, kind: api_key, placement: { body: key } }",
        "{ api_key: { env: CANARY } }",
    );
    let plan = plan.limit("written_body_bytes_max: 1000").limit("written_body_bytes_total: 1500");
    let lab = plan.start(Origin::saying("fine")).await;
    let head = "POST /a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\
                Expect: 100-continue";
    let mut first = lab.sent(head).await;
    // It is read, and not a byte of it has come.
    assert_eq!(first.head().await.expect("an interim answer").status(), 100);
    let second = lab.ask(head).await;
    assert_eq!(second.refusal(), (503, Some("overloaded")));
    let message = second.json()["error"]["message"].clone();
    assert_eq!(message, "too little memory is left for request bodies that a credential goes into");
    first.send(format!("{{\"x\":\"{}\"}}", "y".repeat(992))).await;
    assert_eq!(first.answer("POST").await.text(), "fine");
    lab.finish().await;
}

// === shares of agents ===

#[tokio::test]
async fn an_agent_that_fills_the_memory_for_kept_bodies_does_not_block_others_retries() {
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let held = Arc::new(Semaphore::new(0));
    let shared = (authorization.issuer().clone(), held.clone());
    let origin = Origin::sharing(shared, move |mut stream, (issuer, held)| async move {
        while let Some(request) = stream.request().await {
            if request.head.target() == "/hold" {
                held.add_permits(1);
                stream.hold().await;
            }
            stream.send(issuer.api(&request, "fine")).await;
        }
    });
    let plan = plan(&authorization, &pair).agent("other", "acme");
    let plan = plan.top("oauth: { replay_bytes_max: 40000, replay_bytes_total: 100000 }");
    let lab = plan.start(origin).await;
    let post = async |agent: &str, path: &str, length: usize| {
        let mut wire = lab.tunnel_as(agent, HOST).await;
        wire.send(request_text(&format!("POST {path}\r\nContent-Length: {length}"), HOST)).await;
        wire.send("x".repeat(length)).await;
        wire
    };
    let mut greedy = vec![];
    for _ in 0..5 {
        greedy.push(post("ci", "/hold", 30_000).await);
    }
    reached(&held, 5).await;
    authorization.issuer().expire_all();
    let answer = post("other", "/a", 20_000).await.answer("POST").await;
    assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"), "it is sent again");
    let bodies = lab.origin.received().iter().filter(|it| it.head.target() == "/a").count();
    assert_eq!(bodies, 2);
    lab.finish().await;
}

/// Two agents behind a gateway that may open few files.
fn with_few_files(origin: &Origin) -> Served {
    let plan = Plan::api_key().agent("other", "acme");
    let variables = [("TOKEN_OTHER", OTHER)];
    Served::start_with_open_files(400, &plan, origin, &variables)
}

#[tokio::test]
async fn one_agent_cannot_take_all_streams_when_file_descriptors_are_few() {
    let origin = Origin::saying("fine");
    let served = with_few_files(&origin);
    let mut greedy = vec![];
    let refused = loop {
        let mut wire = silent(served.proxy).await;
        let answer = wire.ask(absolute("GET /", HOST, TOKEN_CI)).await;
        greedy.push(wire);
        if answer.head.status() != 200 || greedy.len() > 400 {
            break answer;
        }
    };
    assert_eq!(refused.head.one("keyward-error"), Some("overloaded"));
    let streams = greedy.len() - 1;
    for number in 0..streams / 4 {
        let mut wire = silent(served.proxy).await;
        let answer = wire.ask(absolute("GET /", HOST, OTHER)).await;
        assert_eq!(answer.head.status(), 200, "{number} of another beside {streams}: {answer:?}");
        greedy.push(wire);
    }
}

#[tokio::test]
async fn many_exchanges_of_one_agent_cannot_take_all_file_descriptors() {
    let (origin, _) = holding();
    let served = with_few_files(&origin);
    let roots = served.roots();
    let mut tls = rustls::ClientConfig::clone(&pki::trusting(&roots));
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let mut senders = vec![];
    for _ in 0..4 {
        let mut wire = silent(served.proxy).await;
        wire.send(format!(
            "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\nProxy-Authorization: Bearer {TOKEN_CI}\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.answer("CONNECT").await.head.status(), 200);
        let name = rustls::pki_types::ServerName::try_from(HOST).expect("a name");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls.clone()));
        let io = connector.connect(name, wire.into_parts().0).await.expect("the handshake");
        let (sender, connection) = h2::client::handshake(io).await.expect("HTTP/2");
        tokio::spawn(connection);
        senders.push(sender);
    }
    // Each waits for an answer on a stream of its own to the API.
    let mut waiting = vec![];
    for sender in &senders {
        for _ in 0..100 {
            let mut sender = sender.clone().ready().await.expect("room");
            let request = http::Request::get(format!("https://{HOST}/hold")).body(());
            let sent = sender.send_request(request.expect("a request"), true);
            waiting.push(sent.expect("it is taken").0);
        }
    }
    // Those that are refused are answered; the first that is not, waits.
    let mut answers: futures_util::stream::FuturesUnordered<_> = waiting.into_iter().collect();
    let mut refused = false;
    while !refused {
        let answer = patiently("a refusal", answers.next()).await.expect("it waits");
        let answer = answer.expect("an answer");
        refused = answer.headers().get("keyward-error").is_some_and(|code| code == "overloaded");
    }
    for number in 0..16 {
        let mut wire = silent(served.proxy).await;
        let answer = wire.ask(absolute("GET /", HOST, OTHER)).await;
        assert_eq!(answer.head.status(), 200, "{number}: {answer:?} {}", answer.text());
    }
}

// === streams without a token ===

async fn is_not_authenticated(wire: &mut Wire) {
    wire.ask(format!("GET https://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await.is(407);
}

#[tokio::test]
async fn the_oldest_unauthenticated_streams_are_closed_for_newer_ones() {
    let plan = Plan::api_key().limit("streams_max: 8").limit("unauthenticated_streams_max: 4");
    let lab = plan.start(Origin::saying("fine")).await;
    let (_, mut open) = lab.connect(&format!("{HOST}:443")).await;
    let mut wires = vec![];
    for _ in 0..12 {
        let mut wire = lab.client().await;
        // Several cores accept, not always in the order of connecting: this one has been accepted.
        is_not_authenticated(&mut wire).await;
        wires.push(wire);
    }
    let newest = wires.split_off(8);
    for (number, wire) in wires.iter_mut().enumerate() {
        assert!(wire.is_closed().await, "{number} waited for the longest time");
    }
    for mut wire in newest {
        is_not_authenticated(&mut wire).await;
    }
    let mut wire = lab.client().await;
    let authorization = lab.authorization("ci");
    wire.send(format!("GET https://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\n{authorization}\r\n")).await;
    assert_eq!(wire.answer("GET").await.text(), "fine");
    open = lab.secure(open, HOST).await;
    open.send(request_text("GET /a", HOST)).await;
    assert_eq!(open.answer("GET").await.text(), "fine", "a tunnel is not closed for others");
    let metrics = lab.gateway.metrics().await;
    assert!(metrics.contains("keyward_streams_evicted_total{listener=\"proxy\"}"), "{metrics}");
    lab.finish().await;
}

#[tokio::test]
async fn streams_of_one_address_do_not_close_those_of_another() {
    let plan = Plan::api_key().limit("unauthenticated_streams_max: 4");
    let lab = plan.start(Origin::saying("fine")).await;
    let mut elsewhere = from_elsewhere(lab.gateway.proxy).await;
    let mut wires = vec![];
    for _ in 0..12 {
        wires.push(lab.client().await);
    }
    assert!(wires[0].is_closed().await);
    assert_eq!(elsewhere.ask(absolute("GET /", HOST, lab.token("ci"))).await.text(), "fine");
    lab.finish().await;
}

#[tokio::test]
async fn the_oldest_unfinished_tls_handshakes_are_closed_for_newer_streams() {
    let plan = Plan::api_key().proxy("[{ at: \"127.0.0.1:0\", tls: { names: [keyward.test] } }]");
    let plan = plan.limit("unauthenticated_streams_max: 4");
    let lab = plan.start(Origin::saying("fine")).await;
    let mut wires = vec![];
    for _ in 0..12 {
        wires.push(lab.client().await);
    }
    assert!(wires[0].is_closed().await);
    let wire = lab.client().await;
    let mut wire = lab.secure(wire, "127.0.0.1").await;
    assert_eq!(wire.ask(absolute("GET /", HOST, lab.token("ci"))).await.text(), "fine");
    lab.finish().await;
}

/// Streams of a program that `keyward doctor` examines.
#[tokio::test]
async fn the_oldest_streams_of_an_examined_program_are_closed_for_newer_ones() {
    let plan = Plan::api_key().limit("unauthenticated_streams_max: 4");
    let lab = plan.start(Origin::saying("fine")).await;
    // What this process opens is examined from now on.
    let socket = UnixStream::connect(lab.gateway.data().join("admin.sock"));
    let mut held = Wire::over(socket.await.expect("it listens"), None, Default::default());
    let body = "{\"agent\":\"ci\",\"label\":\"doctor 1\",\"examine\":true}";
    let head = "POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    held.send(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    assert_eq!(held.head().await.expect("an answer").status(), 201);
    assert!(held.chunk().await.is_some(), "the token");
    let mut waiting = std::collections::VecDeque::new();
    for number in 0..8 {
        waiting.push_back(lab.client().await);
        if number >= 4 {
            let mut oldest = waiting.pop_front().expect("four wait");
            assert!(oldest.is_closed().await, "{} waited for the longest time", number - 4);
        }
    }
    held.abort();
    drop(waiting);
    lab.finish().await;
}

// === the admin listener ===

async fn is_healthy(at: SocketAddr) {
    let mut wire = silent(at).await;
    wire.ask(format!("GET /healthz HTTP/1.1\r\nHost: {at}\r\n\r\n")).await.is(200);
}

#[tokio::test]
async fn streams_without_a_request_do_not_block_the_admin_listener() {
    let lab = Lab::simple().await;
    let at = lab.gateway.running().admin_addr();
    let mut elsewhere = None;
    // Half a head, a whole one and nothing more, nothing.
    for sent in [
        "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        "",
    ] {
        if sent.is_empty() {
            // In the last round: its own head has to come in time.
            elsewhere = Some(from_elsewhere(at).await);
        }
        let mut wires = vec![];
        for _ in 0..300 {
            let mut wire = silent(at).await;
            // The first of them are closed meanwhile.
            let _ = wire.try_send(sent).await;
            wires.push(wire);
        }
        is_healthy(at).await;
        if sent.is_empty() {
            assert!(wires[0].is_closed().await, "the longest waiting goes first");
        }
    }
    let mut elsewhere = elsewhere.expect("it was opened in the last round");
    elsewhere.send(format!("GET /healthz HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    assert_eq!(elsewhere.answer("GET").await.head.status(), 200, "another address is left alone");
    let metrics = lab.gateway.metrics().await;
    assert!(metrics.contains("keyward_streams_evicted_total{listener=\"admin\"}"), "{metrics}");
    lab.finish().await;
}

/// A callback by POST is read up to its declared length.
#[tokio::test]
async fn missing_request_bodies_do_not_block_the_admin_listener() {
    let provider = oauth::provider(", response_mode: form_post");
    let world = oauth::World::with(Rules::default(), |plan| plan.provider(&provider)).await;
    // Of an app without a connection, no callback is read.
    world.draft().await;
    let at = world.lab.gateway.running().admin_addr();
    let head = format!(
        "POST /oauth/callback/{} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Length: 5\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n",
        world.app,
        at.port()
    );
    let mut wires = vec![];
    for _ in 0..300 {
        let mut wire = silent(at).await;
        let _ = wire.try_send(head.as_str()).await;
        wires.push(wire);
    }
    is_healthy(at).await;
    assert!(wires[0].is_closed().await, "the longest waiting goes first");
    // One that is whole is answered.
    let mut last = wires.pop().expect("300");
    last.send("state").await;
    assert_eq!(last.answer("POST").await.head.status(), 400);
    // A shutdown waits for requests that are under way.
    drop(wires);
    world.finish().await;
}
