//! `serve --take-over`: another process takes the listening sockets of a gateway, and no client notices.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use test_support::install::TOKEN_CI;
use test_support::pki;
use test_support::process::Served;
use test_support::*;

const CLIENTS: usize = 4;
const TAKEOVERS: usize = 3;

/// Requests between two takeovers.
const REQUESTS: usize = 60;

/// A request on a stream of its own, which is never tried again.
async fn ask(proxy: SocketAddr, tls: &TlsConnector) {
    let mut wire = tunnel(proxy, tls).await;
    let answer = wire.ask(request_text("GET /a", HOST)).await;
    assert!(answer.head.status() == 200 && answer.whole, "{answer:?}");
}

/// A client that keeps its stream until an answer says that it closes.
async fn keep_asking(proxy: SocketAddr, tls: &TlsConnector, done: &AtomicBool) -> usize {
    let mut streams = 0;
    while !done.load(SeqCst) {
        streams += 1;
        let mut wire = tunnel(proxy, tls).await;
        loop {
            let answer = wire.ask(request_text("GET /kept", HOST)).await;
            assert!(answer.head.status() == 200 && answer.whole, "{answer:?}");
            if answer.head.has("connection") || done.load(SeqCst) {
                break;
            }
        }
    }
    streams
}

async fn tunnel(proxy: SocketAddr, tls: &TlsConnector) -> Wire {
    let stream = TcpStream::connect(proxy).await.expect("no connection is refused");
    let mut wire = Wire::plain(stream);
    let head = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n");
    wire.send(format!("{head}Proxy-Authorization: Bearer {TOKEN_CI}\r\n\r\n")).await;
    assert_eq!(wire.answer("CONNECT").await.head.status(), 200);
    let (io, socket, seen) = wire.into_parts();
    let name = rustls::pki_types::ServerName::try_from(HOST).expect("a name");
    Wire::over(tls.connect(name, io).await.expect("the handshake"), socket, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_retry_notice_no_takeover() {
    let (plan, asked) = (Plan::api_key(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let origin = Origin::answering(move |_: &Message| {
        count.fetch_add(1, SeqCst);
        ok("fine")
    });
    let mut served = Served::start_quietly(&plan, &origin, &[]);
    let at = served.proxy;
    let roots = served.roots();
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (mut clients, mut keeping) = (JoinSet::new(), JoinSet::new());
    for _ in 0..CLIENTS {
        let (tls, kept) = (pki::trusting(&roots), pki::trusting(&roots));
        let (tls, kept) = (TlsConnector::from(tls), TlsConnector::from(kept));
        let (done, answered) = (Arc::clone(&done), Arc::clone(&answered));
        let finished = Arc::clone(&done);
        keeping.spawn(async move { keep_asking(at, &kept, &finished).await });
        clients.spawn(async move {
            while !done.load(SeqCst) {
                ask(at, &tls).await;
                answered.fetch_add(1, SeqCst);
            }
        });
    }
    for _ in 0..TAKEOVERS {
        let enough = answered.load(SeqCst) + REQUESTS;
        until("requests", async || answered.load(SeqCst) >= enough).await;
        assert_eq!(served.taken_over().await, Some(0), "{}", served.output());
        assert_eq!(served.proxy, at, "the same socket");
    }
    done.store(true, SeqCst);
    while let Some(client) = clients.join_next().await {
        client.expect("no request failed");
    }
    while let Some(streams) = keeping.join_next().await {
        assert!(streams.expect("no request failed") > TAKEOVERS, "each process closed one");
    }
    assert_eq!(served.terminate(), Some(0));
    let records = served.audit();
    let forwarded = records.iter().filter(|record| record["outcome"] == "completed").count();
    assert_eq!(forwarded, asked.load(SeqCst), "each request once, in one chain of records");
    assert!(!served.data().join("next.sock").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_without_a_running_gateway_starts_one() {
    let (plan, origin) = (Plan::api_key(), Origin::saying("fine"));
    let mut served = Served::start_quietly(&plan, &origin, &[]);
    served.kill();
    assert_eq!(served.taken_over().await, None, "killed before");
    let roots = served.roots();
    ask(served.proxy, &TlsConnector::from(pki::trusting(&roots))).await;
}

/// With the embedded store, the gateway before ends before the new one has the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_a_start_would_refuse_ends_no_gateway() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key();
    let rule = |agent: &str| format!("{{ agents: [{agent}], hosts: [docs.test], action: pass }}");
    let mut served = Served::start_quietly(&plan, &origin, &[]);
    let roots = served.roots();
    let tls = TlsConnector::from(pki::trusting(&roots));
    served.api("POST", "/agents", r#"{"name":"kept"}"#).await.is(201);
    let next = served.config().with_file_name("next.yaml");
    let admin = "admin_tls: { cert: none.pem, key: none.key }";
    for (plan, told) in [
        (Plan::api_key().rule(&rule("missing")), "there is no agent `missing`"),
        (Plan::api_key().agent("late", "acme"), "TOKEN_LATE"),
        (Plan::api_key().listen(admin), "none.pem"),
        (Plan::api_key().top("master_key: { file: none.hex }"), "none.hex"),
    ] {
        fs::write(&next, plan.yaml(&origin)).expect("a file");
        let path = next.to_str().expect("UTF-8");
        let output = served.keyward(&["--config", path, "serve", "--take-over"]).output();
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(told), "{told}: {said}");
        ask(served.proxy, &tls).await;
    }
    // A name that only the store has is no error.
    let sound = Plan::api_key().rule(&rule("kept")).yaml(&origin);
    fs::write(served.config(), sound).expect("a file");
    assert_eq!(served.taken_over().await, Some(0), "{}", served.output());
    ask(served.proxy, &tls).await;
    assert_eq!(served.terminate(), Some(0));
}

/// The first bytes of a session with PostgreSQL: protocol 3.0 and a user.
const STARTUP: &[u8] = b"\x00\x00\x00\x13\x00\x03\x00\x00user\x00main\x00\x00";

/// Whether a session begins: the gateway asks for a password, or needs none.
async fn is_authenticating(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> bool {
    stream.write_all(STARTUP).await.expect("a stream");
    let mut kind = [0];
    stream.read_exact(&mut kind).await.expect("an answer");
    kind == *b"R"
}

/// A listener that was stored by the API, as it is shown.
async fn stored(served: &Served, method: &str, path: &str, new: &Value) -> Value {
    let body = if new.is_null() { String::new() } else { new.to_string() };
    let answer = served.api(method, &format!("/database-listeners{path}"), &body).await;
    assert!(answer.head.status() < 300, "{}", answer.text());
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_at_stored_database_listeners_notice_no_takeover() {
    let (plan, origin) = (Plan::api_key(), Origin::saying("fine"));
    let mut served = Served::start_quietly(&plan, &origin, &[]);
    let new = |name: &str, at: &str| json!({"name": name, "at": at, "protocol": "postgres"});
    let made = stored(&served, "POST", "", &new("port", "127.0.0.1:0")).await;
    stored(&served, "POST", "", &new("file", "unix:.s.PGSQL.5432")).await;
    let removed = stored(&served, "POST", "", &new("removed", "127.0.0.1:0")).await;
    let place = |of: &Value| of["open_at"].as_str().expect("open").parse::<SocketAddr>().unwrap();
    let (at, removed) = (place(&made), place(&removed));
    let path = served.data().join("databases/.s.PGSQL.5432");
    let (done, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (finished, count, socket) = (Arc::clone(&done), Arc::clone(&begun), path.clone());
    let programs = tokio::spawn(async move {
        while !finished.load(SeqCst) {
            let port = TcpStream::connect(at).await.expect("no connection is refused");
            assert!(is_authenticating(port).await);
            let file = UnixStream::connect(&socket).await.expect("the file is always there");
            assert!(is_authenticating(file).await);
            count.fetch_add(1, SeqCst);
        }
    });
    for _ in 0..TAKEOVERS {
        let enough = begun.load(SeqCst) + REQUESTS;
        until("sessions", async || begun.load(SeqCst) >= enough || programs.is_finished()).await;
        assert_eq!(served.taken_over().await, Some(0), "{}", served.output());
        let shown = stored(&served, "GET", "/port", &Value::Null).await;
        assert_eq!(place(&shown), at, "the same socket, also of port 0");
    }
    done.store(true, SeqCst);
    programs.await.expect("no session failed");
    // A successor closes what it received, as the process does that bound it.
    served.api("DELETE", "/database-listeners/removed", "").await;
    assert!(TcpStream::connect(removed).await.is_err(), "the port is free");
    assert_eq!(served.terminate(), Some(0));
    assert!(!path.exists(), "the last process removes the file");
    assert!(TcpStream::connect(at).await.is_err());
}
