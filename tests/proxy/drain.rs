//! A gateway that stops: what is under way ends well, what does not end is cut with its record, and
//! clients that try again notice nothing of a restart.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use test_support::install::TOKEN_CI;
use test_support::pki;
use test_support::process::{Served, reserved_address};
use test_support::*;

const CLIENTS: usize = 8;
const RESTARTS: usize = 3;
/// What is asked between two restarts, in all.
const REQUESTS: usize = 120;

#[tokio::test]
async fn an_answer_during_a_drain_has_connection_close() {
    let mut lab = Lab::simple().await;
    let mut wire = lab.sent("GET /a").await;
    assert!(!wire.answer("GET").await.head.has("connection"));
    wire.send(request_text("POST /a\r\nContent-Length: 5", HOST)).await;
    wire.send("he").await;
    lab.origin.has_read("POST /a").await;
    let (_, answer) = tokio::join!(lab.gateway.stop(), async {
        wire.send("llo").await;
        let answer = wire.answer("POST").await;
        assert!(wire.is_closed().await);
        answer
    });
    assert_eq!(answer.head.one("connection").map(str::to_lowercase).as_deref(), Some("close"));
    assert_eq!(answer.text(), "fine");
    lab.finish().await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_idle_streams() {
    let mut lab = Plan::api_key().limit("idle_timeout: 1h").start(Origin::saying("fine")).await;
    let mut wire = lab.sent("GET /a").await;
    assert_eq!(wire.answer("GET").await.text(), "fine");
    let began = std::time::Instant::now();
    tokio::join!(lab.gateway.stop(), async { assert!(wire.is_closed().await) });
    assert!(began.elapsed().as_millis() < 1500, "{:?} of 2 s", began.elapsed());
    lab.finish().await;
}

#[tokio::test]
async fn an_exchange_or_tunnel_that_is_open_after_the_drain_is_cut_and_recorded() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        if stream.request().await.is_some() {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                        Transfer-Encoding: chunked\r\n\r\n";
            stream.send(format!("{head}9\r\ndata: 1\n\n\r\n")).await;
            stream.rest().await;
        }
    });
    let rule = "{ name: through, hosts: [other.acme.test], action: tunnel }";
    let mut lab = Plan::api_key().rule(rule).start(origin).await;
    let mut events = lab.sent("GET /a").await;
    assert_eq!(events.head().await.expect("a head").status(), 200);
    assert_eq!(events.chunk().await.as_deref(), Some(&b"data: 1\n\n"[..]));
    let (answer, mut tunnel) = lab.connect(&format!("{STRANGER}:443")).await;
    assert_eq!(answer.head.status(), 200);
    let (mut records, chunk, tunnelled) =
        tokio::join!(lab.gateway.stop(), events.chunk(), tunnel.rest());
    assert_eq!(chunk, None, "cut, not ended");
    assert!(tunnelled.is_empty());
    records.sort_by_key(|record| record["method"].to_string());
    let of = |key: &str| records.iter().map(|record| record[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("method"), ["CONNECT", "GET"]);
    assert_eq!(of("outcome"), ["ended", "ended"]);
    assert_eq!(records[1]["bytes_out"], 9);
    lab.finish().await;
}

/// A client that asks again what got no answer, on a new stream, and gives up for nothing else.
struct Client {
    proxy: std::net::SocketAddr,
    tls: TlsConnector,
    wire: Option<Wire>,
}

impl Client {
    /// A tunnel; `None` when the stream ends before there is one.
    async fn open(&mut self) -> Option<Wire> {
        let mut wire = Wire::plain(TcpStream::connect(self.proxy).await.ok()?);
        let head = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n");
        wire.try_send(format!("{head}Proxy-Authorization: Bearer {TOKEN_CI}\r\n\r\n"))
            .await
            .ok()?;
        let answer = wire.try_answer("CONNECT").await?;
        assert_eq!(answer.head.status(), 200, "{answer:?}");
        let (io, socket, seen) = wire.into_parts();
        let name = rustls::pki_types::ServerName::try_from(HOST).expect("a name");
        let tls = self.tls.connect(name, io).await.ok()?;
        Some(Wire::over(tls, socket, seen))
    }

    /// One try; `None` when the stream ends before the first byte of an answer.
    async fn attempt(&mut self) -> Option<()> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => self.open().await?,
        };
        wire.try_send(request_text("GET /a", HOST)).await.ok()?;
        let answer = wire.try_answer("GET").await?;
        assert!(answer.head.status() == 200 && answer.whole, "{answer:?}");
        assert_eq!(answer.text(), "fine");
        if !answer.head.has("connection") {
            self.wire = Some(wire);
        }
        Some(())
    }

    async fn ask(&mut self) {
        patiently("an answer, at last", async {
            while self.attempt().await.is_none() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_of_clients_that_retry_fails_during_restarts() {
    let (plan, asked) = (Plan::api_key(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let origin = Origin::answering(move |_: &Message| {
        count.fetch_add(1, SeqCst);
        ok("fine")
    });
    let mut served = Served::start_quietly(&plan, &origin, &[]);
    // The same port at every start.
    let yaml = fs::read_to_string(served.config()).expect("the configuration");
    let at = reserved_address();
    let fixed = yaml.replacen("proxy: \"127.0.0.1:0\"", &format!("proxy: \"{at}\""), 1);
    fs::write(served.config(), fixed).expect("written");
    assert_eq!(served.terminate(), Some(0));
    served.restart();
    let roots = served.roots();
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let tls = TlsConnector::from(pki::trusting(&roots));
        let mut client = Client { proxy: served.proxy, tls, wire: None };
        let (done, answered) = (Arc::clone(&done), Arc::clone(&answered));
        clients.spawn(async move {
            while !done.load(SeqCst) {
                client.ask().await;
                answered.fetch_add(1, SeqCst);
            }
        });
    }
    for _ in 0..RESTARTS {
        let enough = answered.load(SeqCst) + REQUESTS;
        until("requests", async || answered.load(SeqCst) >= enough).await;
        assert_eq!(served.terminate(), Some(0), "{}", served.output());
        served.restart();
    }
    done.store(true, SeqCst);
    while let Some(client) = clients.join_next().await {
        client.expect("no request failed");
    }
    let (asked, answered) = (asked.load(SeqCst), answered.load(SeqCst));
    assert!(answered > RESTARTS * REQUESTS);
    assert_eq!(asked, answered, "what reached the origin was answered, and once");
    assert_eq!(served.terminate(), Some(0));
    let records = served.audit();
    let forwarded = records.iter().filter(|record| record["outcome"] == "completed").count();
    assert_eq!(forwarded, answered);
}
