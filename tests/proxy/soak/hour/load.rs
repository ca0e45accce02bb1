//! Requests of every kind at an even rate, and streams of events that never end; what fails while the
//! gateway is up is kept.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use h2::client::SendRequest;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{RwLock, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, interval_at};
use tokio_rustls::TlsConnector;

use super::{GRANTS_PER_AGENT, Pace};
use test_support::authorization::{Authorization, Issuer};
use test_support::wire::Seen;
use test_support::*;

/// Workers, each with a schedule, a tunnel and an HTTP/2 connection of its own.
const WORKERS: usize = 16;
/// Streams of events that are open all along.
const EVENTS: usize = 8;
/// Bytes of an upload, of an answer, and of what an answer unpacks to.
const BODY: usize = 64 * 1024;
/// Requests of one worker on one tunnel.
const TURNS_PER_TUNNEL: usize = 32;

/// What is under way, and what came of it.
pub(super) struct Load {
    /// Stopped when dropped.
    _origin: Origin,
    http1: TlsConnector,
    http2: TlsConnector,
    agents: usize,
    up: watch::Sender<Up>,
    done: AtomicBool,
    answers: AtomicUsize,
    /// Held while a request is under way.
    under_way: RwLock<()>,
    failed: Mutex<Vec<String>>,
    began: Instant,
}

/// Where the gateway listens, if it does, and how often that has changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Up {
    proxy: Option<SocketAddr>,
    changes: usize,
}

/// What all of it came to.
pub(super) struct Done {
    answers: usize,
    pub(super) failed: Vec<String>,
}

/// What a worker keeps from one request to the next.
#[derive(Default)]
struct Kept {
    agent: usize,
    /// Of the gateway, when it was begun.
    changes: usize,
    http1: Option<Wire>,
    http2: Option<SendRequest<Bytes>>,
}

type Asked = Result<(), String>;

/// The name of an agent.
pub(super) fn agent(number: usize) -> String {
    format!("worker{number:02}")
}

/// The variable of its token.
pub(super) fn variable(number: usize) -> String {
    format!("TOKEN_WORKER{number:02}")
}

/// Its token.
pub(super) fn token(number: usize) -> String {
    format!("kwa_token-of-worker-number-{number:02}")
}

/// The API: takes live access tokens only, and keeps nothing of what it reads.
pub(super) fn api(authorization: &Authorization) -> Origin {
    let issuer = authorization.issuer().clone();
    let large = Arc::new(vec![b'x'; BODY]);
    let mut gzip = GzEncoder::new(vec![], Compression::default());
    gzip.write_all(&large).expect("memory");
    let gzip = Arc::new(gzip.finish().expect("memory"));
    let script = move |stream| serves(stream, issuer.clone(), large.clone(), gzip.clone());
    Origin::scripted(script)
}

async fn serves(mut stream: Stream, issuer: Issuer, large: Arc<Vec<u8>>, gzip: Arc<Vec<u8>>) {
    stream.stop_recording();
    while stream.comes().await {
        let Some(request) = Wire::request(&mut stream).await else { return };
        let field = request.head.one("authorization").unwrap_or_default();
        let answer = match field.strip_prefix("Bearer ").is_some_and(|it| issuer.is_live(it)) {
            false => b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec(),
            true => match request.head.target() {
                "/events" => return events(stream).await,
                "/large" => whole("", &large),
                "/gzip" => whole("Content-Encoding: gzip\r\n", &gzip),
                _ => whole("", request.body.len().to_string().as_bytes()),
            },
        };
        if stream.try_send(answer).await.is_err() {
            return;
        }
    }
}

fn whole(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn events(mut stream: Stream) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked";
    let mut sent = stream.try_send(format!("{head}\r\n\r\n")).await;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    while sent.is_ok() {
        second.tick().await;
        sent = stream.try_send("d\r\ndata: event\n\n\r\n").await;
    }
}

impl Load {
    pub(super) fn new(origin: Origin, roots: &str, pace: &Pace, proxy: SocketAddr) -> Self {
        let http1 = pki::trusting(roots);
        let mut http2 = rustls::ClientConfig::clone(&http1);
        http2.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            _origin: origin,
            http1: http1.into(),
            http2: Arc::new(http2).into(),
            agents: pace.agents,
            up: watch::Sender::new(Up { proxy: Some(proxy), changes: 0 }),
            done: AtomicBool::new(false),
            answers: AtomicUsize::new(0),
            under_way: RwLock::default(),
            failed: Mutex::default(),
            began: Instant::now(),
        }
    }

    pub(super) fn begin(self: Arc<Self>, pace: &Pace) -> JoinSet<()> {
        let mut workers = JoinSet::new();
        let period = Duration::from_secs(1) * WORKERS as u32 / pace.rate as u32;
        for number in 0..WORKERS {
            let first = tokio::time::Instant::now() + period * number as u32 / WORKERS as u32;
            workers.spawn(self.clone().works(number, interval_at(first, period)));
        }
        for number in 0..EVENTS {
            workers.spawn(self.clone().listens(number));
        }
        workers
    }

    pub(super) async fn ends(self: Arc<Self>, mut workers: JoinSet<()>) -> Done {
        self.done.store(true, SeqCst);
        // Streams of events wait for the next one.
        while let Some(ended) = workers.join_next().await {
            ended.expect("no worker panics");
        }
        let failed = std::mem::take(&mut *self.failed.lock().expect("not poisoned"));
        Done { answers: self.answers(), failed }
    }

    pub(super) fn answers(&self) -> usize {
        self.answers.load(SeqCst)
    }

    /// Does something while no request is under way.
    pub(super) async fn between_requests(&self, act: impl FnOnce()) {
        let _none = self.under_way.write().await;
        act();
    }

    /// Waits until there were so many answers.
    pub(super) async fn answered(&self, count: usize) {
        let mut look = interval(Duration::from_millis(20));
        while self.answers() < count {
            look.tick().await;
        }
    }

    /// It is about to be killed: what fails from now on is no failure.
    pub(super) fn goes_down(&self) {
        self.up.send_modify(|up| *up = Up { proxy: None, changes: up.changes + 1 });
    }

    pub(super) fn is_up(&self, proxy: SocketAddr) {
        self.up.send_modify(|up| up.proxy = Some(proxy));
    }

    /// Waits until it listens.
    async fn listening(&self) -> (SocketAddr, usize) {
        let mut up = self.up.subscribe();
        let up = up.wait_for(|up| up.proxy.is_some()).await.expect("the sender is ours");
        (up.proxy.expect("just seen"), up.changes)
    }

    fn note(&self, asked: &Asked, changes: usize) {
        match asked {
            Ok(()) => drop(self.answers.fetch_add(1, SeqCst)),
            Err(why) if self.up.borrow().changes == changes && !self.done.load(SeqCst) => {
                let after = self.began.elapsed().as_secs();
                self.failed.lock().expect("not poisoned").push(format!("{after} s: {why}"));
            }
            Err(_) => {}
        }
    }

    async fn works(self: Arc<Self>, number: usize, mut due: tokio::time::Interval) {
        let mut kept = Kept::default();
        for turn in 0.. {
            due.tick().await;
            let (proxy, changes) = self.listening().await;
            if turn % TURNS_PER_TUNNEL == 0 {
                // All agents in turns; no two workers have the same one.
                let agent = (number + turn / TURNS_PER_TUNNEL * WORKERS) % self.agents;
                kept = Kept { agent, ..Kept::default() };
            }
            if kept.changes != changes {
                kept = Kept { agent: kept.agent, changes, ..Kept::default() };
            }
            let under_way = self.under_way.read().await;
            let asked = self.asks(proxy, turn, &mut kept).await;
            drop(under_way);
            if asked.is_err() {
                kept = Kept { agent: kept.agent, changes, ..Kept::default() };
            }
            self.note(&asked, changes);
            if self.done.load(SeqCst) {
                return;
            }
        }
    }

    /// Reads events until the end, or the gateway's.
    async fn listens(self: Arc<Self>, number: usize) {
        let grant = format!("g{}", (number % self.agents) * GRANTS_PER_AGENT);
        while !self.done.load(SeqCst) {
            let (_, changes) = self.listening().await;
            let under_way = self.under_way.read().await;
            let events = self.events(&token(number % self.agents), &grant).await;
            drop(under_way);
            let asked = match events {
                Ok(mut wire) => {
                    while wire.chunk().await.is_some() && !self.done.load(SeqCst) {}
                    Err("a stream of events has ended".to_owned())
                }
                Err(why) => Err(why),
            };
            self.note(&asked, changes);
        }
    }

    /// One request of the kind whose turn it is.
    async fn asks(&self, proxy: SocketAddr, turn: usize, kept: &mut Kept) -> Asked {
        let (agent, grant) = (kept.agent, kept.agent * GRANTS_PER_AGENT + turn % GRANTS_PER_AGENT);
        let grant = format!("g{grant}");
        match turn % 8 {
            0 => self.over_http2(proxy, &grant, kept).await,
            1 => self.by_absolute_form(proxy, agent, &grant).await,
            2 => {
                // A tunnel for one request.
                let mut wire = self.tunnel(proxy, &token(agent)).await?;
                ask(&mut wire, "GET /small", &grant, b"", 1).await
            }
            kind => {
                let mut wire = match kept.http1.take() {
                    Some(wire) => wire,
                    None => self.tunnel(proxy, &token(agent)).await?,
                };
                let body = vec![b'x'; BODY];
                match kind {
                    3 => ask(&mut wire, "GET /large", &grant, b"", BODY).await,
                    4 => ask(&mut wire, "GET /gzip", &grant, b"", 1).await,
                    5 => ask(&mut wire, "POST /up", &grant, &body, 1).await,
                    6 => in_small_chunks(&mut wire, &grant).await,
                    _ => ask(&mut wire, "GET /small", &grant, b"", 1).await,
                }?;
                kept.http1 = Some(wire);
                Ok(())
            }
        }
    }

    /// One request on a tunnel of its own.
    pub(super) async fn asks_once(&self, token: &str, connection: &str) -> Asked {
        let (proxy, _) = self.listening().await;
        let mut wire = self.tunnel(proxy, token).await?;
        ask(&mut wire, "GET /small", connection, b"", 1).await
    }

    /// A stream of events that has begun.
    pub(super) async fn events(&self, token: &str, connection: &str) -> Result<Wire, String> {
        let (proxy, _) = self.listening().await;
        let mut wire = self.tunnel(proxy, token).await?;
        let request = format!("GET /events\r\nKeyward-Connection: {connection}");
        wire.try_send(request_text(&request, HOST)).await.map_err(|error| error.to_string())?;
        match wire.head().await {
            Some(head) if head.status() == 200 => Ok(wire),
            other => Err(format!("events: {other:?}")),
        }
    }

    async fn tunnel(&self, proxy: SocketAddr, token: &str) -> Result<Wire, String> {
        let io = connected(proxy, token, &self.http1).await?;
        let mut wire = Wire::over(io, None, Seen::default());
        wire.stop_recording();
        Ok(wire)
    }

    async fn by_absolute_form(&self, proxy: SocketAddr, agent: usize, grant: &str) -> Asked {
        let failed = |error: std::io::Error| format!("absolute form: {error}");
        let mut wire = Wire::plain(TcpStream::connect(proxy).await.map_err(failed)?);
        let token = token(agent);
        let request = absolute(&format!("GET /small\r\nKeyward-Connection: {grant}"), HOST, &token);
        wire.try_send(request).await.map_err(failed)?;
        answered(wire.try_answer("GET").await, 1)
    }

    async fn over_http2(&self, proxy: SocketAddr, grant: &str, kept: &mut Kept) -> Asked {
        let failed = |error: h2::Error| format!("HTTP/2: {error}");
        let sender = match kept.http2.take() {
            Some(sender) => sender,
            None => {
                let io = connected(proxy, &token(kept.agent), &self.http2).await?;
                let (sender, connection) = h2::client::handshake(io).await.map_err(failed)?;
                tokio::spawn(connection);
                sender
            }
        };
        let mut sender = sender.ready().await.map_err(failed)?;
        let request = http::Request::get(format!("https://{HOST}/large"));
        let request = request.header("keyward-connection", grant).body(()).expect("a request");
        let (answer, _) = sender.send_request(request, true).map_err(failed)?;
        let answer = answer.await.map_err(failed)?;
        let (status, mut body, mut came) = (answer.status().as_u16(), answer.into_body(), 0);
        while let Some(data) = body.data().await {
            let data = data.map_err(failed)?;
            came += data.len();
            body.flow_control().release_capacity(data.len()).map_err(failed)?;
        }
        kept.http2 = Some(sender);
        match (status, came) {
            (200, BODY) => Ok(()),
            other => Err(format!("HTTP/2: {other:?}")),
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers, {} failures", self.answers, self.failed.len())
    }
}

/// TLS in a tunnel.
async fn connected(
    proxy: SocketAddr,
    token: &str,
    tls: &TlsConnector,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let failed = |error: std::io::Error| format!("a tunnel: {error}");
    let mut tcp = TcpStream::connect(proxy).await.map_err(failed)?;
    let request = format!(
        "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
    );
    tcp.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut head = vec![];
    // Nothing follows the head before our own first byte.
    while !head.ends_with(b"\r\n\r\n") {
        if tcp.read_buf(&mut head).await.map_err(failed)? == 0 {
            return Err("a tunnel: cut".to_owned());
        }
    }
    if !head.starts_with(b"HTTP/1.1 200") {
        return Err(format!("a tunnel: {}", String::from_utf8_lossy(&head)));
    }
    let name = ServerName::try_from(HOST).expect("a name");
    tls.connect(name, tcp).await.map_err(failed)
}

/// One request whose answer has at least so many bytes.
async fn ask(wire: &mut Wire, request: &str, grant: &str, body: &[u8], bytes_min: usize) -> Asked {
    let (method, _) = request.split_once(' ').expect("a method");
    let length = match method {
        "GET" => String::new(),
        _ => format!("\r\nContent-Length: {}", body.len()),
    };
    let head = request_text(&format!("{request}\r\nKeyward-Connection: {grant}{length}"), HOST);
    let sent = wire.try_send([head.as_bytes(), body].concat()).await;
    sent.map_err(|error| format!("{request}: {error}"))?;
    answered(wire.try_answer(method).await, bytes_min)
}

/// A body in a hundred chunks of a byte.
async fn in_small_chunks(wire: &mut Wire, grant: &str) -> Asked {
    let fields = format!("Keyward-Connection: {grant}\r\nTransfer-Encoding: chunked");
    let head = request_text(&format!("POST /up\r\n{fields}"), HOST);
    let sent = wire.try_send(format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(100))).await;
    sent.map_err(|error| format!("chunks: {error}"))?;
    answered(wire.try_answer("POST").await, 1)
}

fn answered(answer: Option<Message>, bytes_min: usize) -> Asked {
    match answer {
        Some(answer)
            if answer.head.status() == 200 && answer.whole && answer.body.len() >= bytes_min =>
        {
            Ok(())
        }
        Some(answer) => Err(format!("{} {}", answer.head.start, answer.text())),
        None => Err("the stream ended before an answer".to_owned()),
    }
}
