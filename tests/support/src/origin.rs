//! A TLS API on loopback that answers byte for byte as its script says, and records what it received.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::FutureExt;
use rustls::ServerConfig;
use sha1::{Digest, Sha1};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::pki::pki;
use super::wire::{Message, PeerGone, Seen, Wire, duplicate, find, patiently, until};

/// Names that an origin answers to unless it says otherwise.
pub const NAMES: &[&str] = &["api.acme.test", "other.acme.test", "third.acme.test"];

/// A script that runs.
pub(super) type RunningScript = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) type Script = Arc<dyn Fn(Stream) -> RunningScript + Send + Sync>;

type Answer = Arc<dyn Fn(&Message) -> Vec<u8> + Send + Sync>;

/// The panic of the first script that failed.
type Failure = Arc<Mutex<Option<Box<dyn Any + Send>>>>;

/// A running origin. Dropping it stops it, and panics if a script has.
pub struct Origin {
    /// Where it listens.
    pub addr: SocketAddr,
    received: Arc<Mutex<Vec<Message>>>,
    arrivals: mpsc::UnboundedReceiver<Message>,
    streams: Arc<AtomicUsize>,
    bytes: Seen,
    failure: Failure,
    task: JoinHandle<()>,
}

/// One accepted stream.
pub struct Stream {
    wire: Wire,
    /// The server name that the client asked for.
    pub sni: Option<String>,
    /// What it chose of what we offer (ALPN).
    pub alpn: Option<Vec<u8>>,
    /// Which accepted stream this is, from 0.
    pub number: usize,
    notes: Notes,
}

/// Where an origin keeps what it receives.
#[derive(Clone)]
pub struct Notes {
    received: Arc<Mutex<Vec<Message>>>,
    arrived: mpsc::UnboundedSender<Message>,
    bytes: Seen,
    failure: Failure,
}

impl Origin {
    /// Each stream runs `script`.
    pub fn scripted<F, Fut>(script: F) -> Self
    where
        F: Fn(Stream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::with_tls(Some(pki().server(NAMES)), script)
    }

    /// As [`Origin::scripted`]; each run of the script gets its own clone of `shared`.
    pub fn sharing<T, F, Fut>(shared: T, script: F) -> Self
    where
        T: Clone + Send + Sync + 'static,
        F: Fn(Stream, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::scripted(move |stream| script(stream, shared.clone()))
    }

    /// As [`Origin::scripted`], with the names of its certificate.
    pub fn named<F, Fut>(names: &[&str], script: F) -> Self
    where
        F: Fn(Stream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::with_tls(Some(pki().server(names)), script)
    }

    /// Each request is answered with what `answer` makes of it, until the client goes.
    pub fn answering<F, A>(answer: F) -> Self
    where
        F: Fn(&Message) -> A + Send + Sync + 'static,
        A: AsRef<[u8]> + 'static,
    {
        Self::serving(Some(pki().server(NAMES)), answer)
    }

    /// As [`Origin::answering`], with the names of its certificate.
    pub fn answering_as<F, A>(names: &[&str], answer: F) -> Self
    where
        F: Fn(&Message) -> A + Send + Sync + 'static,
        A: AsRef<[u8]> + 'static,
    {
        Self::serving(Some(pki().server(names)), answer)
    }

    /// As [`Origin::answering`], with `tls` or in cleartext.
    pub fn serving<F, A>(tls: Option<Arc<ServerConfig>>, answer: F) -> Self
    where
        F: Fn(&Message) -> A + Send + Sync + 'static,
        A: AsRef<[u8]> + 'static,
    {
        let answer: Answer = Arc::new(move |request: &Message| answer(request).as_ref().to_vec());
        Self::with_tls(tls, move |stream| serve(stream, Arc::clone(&answer)))
    }

    /// Answers a line and then nothing until the client goes; a whole answer for `/whole`.
    pub fn endless() -> Self {
        Self::scripted(|mut stream: Stream| async move {
            while let Some(request) = stream.request().await {
                match request.head.target() {
                    "/whole" => stream.send(ok("whole")).await,
                    _ => stream.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhell\n").await,
                }
            }
        })
    }

    /// Answers the request of a stream by its head alone, and reads on; `ended` is notified of the end of the stream.
    pub fn answering_early(ended: &Arc<Notify>) -> Self {
        Self::sharing(ended.clone(), move |mut stream, ended| async move {
            stream.stop_recording();
            stream.head().await;
            stream.send(ok("early")).await;
            stream.skip(usize::MAX).await;
            ended.notify_one();
        })
    }

    /// Answers every request with `200` and `body`.
    pub fn saying(body: &'static str) -> Self {
        Self::answering(move |_| ok(body))
    }

    /// With `tls`, or in cleartext.
    pub fn with_tls<F, Fut>(tls: Option<Arc<ServerConfig>>, script: F) -> Self
    where
        F: Fn(Stream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let script: Script = Arc::new(move |stream| Box::pin(script(stream)));
        Self::listening(tls, script)
    }

    /// Not generic: it is compiled once, and not for each script.
    fn listening(tls: Option<Arc<ServerConfig>>, script: Script) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option of it");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("loopback");
        let listener = socket.listen(1024).expect("loopback");
        let addr = listener.local_addr().expect("an address");
        let received = Arc::new(Mutex::new(vec![]));
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let (streams, bytes) = (Arc::new(AtomicUsize::new(0)), Seen::default());
        let failure = Failure::default();
        let notes = Notes {
            received: Arc::clone(&received),
            arrived,
            bytes: Arc::clone(&bytes),
            failure: Arc::clone(&failure),
        };
        let acceptor = Acceptor { tls, script, notes, streams: Arc::clone(&streams) };
        let task = tokio::spawn(acceptor.run(listener));
        Self { addr, received, arrivals, streams, bytes, failure, task }
    }

    /// What it has received so far.
    pub fn received(&self) -> Vec<Message> {
        self.received.lock().expect("not poisoned").clone()
    }

    /// The one request that it has received.
    ///
    /// # Panics
    /// When it has received none or several.
    pub fn only(&self) -> Message {
        let mut received = self.received();
        assert_eq!(received.len(), 1, "requests at the origin: {received:#?}");
        received.remove(0)
    }

    /// Waits for the next request.
    pub async fn arrival(&mut self) -> Message {
        patiently("a request at the origin", self.arrivals.recv()).await.expect("it runs")
    }

    /// Waits until it has read `text` on some stream.
    pub async fn has_read(&self, text: &str) {
        until(&format!("`{text}` at the origin"), async || {
            find(&self.bytes(), text.as_bytes()).is_some()
        })
        .await;
    }

    /// How many streams were accepted.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    /// Every decrypted byte it has received.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().expect("not poisoned").clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
        let failure = self.failure.lock().expect("not poisoned").take();
        if let Some(panic) = failure.filter(|_| !std::thread::panicking()) {
            resume_unwind(panic);
        }
    }
}

impl Stream {
    /// The next request, kept in the origin's list; `None` when the client goes.
    pub async fn request(&mut self) -> Option<Message> {
        let request = self.wire.request().await?;
        self.note(request.clone());
        Some(request)
    }

    /// Adds a request that the script has read by itself.
    pub fn note(&self, request: Message) {
        self.notes.note(request);
    }

    /// Where to note what is read elsewhere.
    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// The wire alone, to be aborted or handed on.
    pub fn into_wire(self) -> Wire {
        self.wire
    }
}

impl Notes {
    /// Adds a request to the origin's list.
    pub fn note(&self, request: Message) {
        self.received.lock().expect("not poisoned").push(request.clone());
        // The test may have stopped listening for arrivals.
        drop(self.arrived.send(request));
    }

    /// Runs a script, and keeps its panic for the test.
    pub(super) async fn run(self, script: RunningScript) {
        let Err(panic) = AssertUnwindSafe(script).catch_unwind().await else { return };
        if !panic.is::<PeerGone>() {
            self.failure.lock().expect("not poisoned").get_or_insert(panic);
        }
    }

    /// Adds bytes that did not come through a [`Wire`].
    pub fn read(&self, bytes: &[u8]) {
        self.bytes.lock().expect("not poisoned").extend_from_slice(bytes);
    }
}

impl Deref for Stream {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Stream {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

/// A `200` with a body of declared length.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The 101 that agrees to a WebSocket handshake (RFC 6455 §4.2.2).
///
/// # Panics
/// When it has no key.
pub fn switching(handshake: &Message) -> String {
    let key = handshake.head.one("sec-websocket-key").expect("a key");
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = BASE64_STANDARD.encode(digest);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat.v1\r\n\r\n"
    )
}

/// Answers each request of a stream with what `answer` makes of it.
async fn serve(mut stream: Stream, answer: Answer) {
    while let Some(request) = stream.request().await {
        if stream.try_send(answer(&request)).await.is_err() {
            return;
        }
    }
}

struct Acceptor {
    tls: Option<Arc<ServerConfig>>,
    script: Script,
    notes: Notes,
    streams: Arc<AtomicUsize>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let this = Arc::new(self);
        while let Ok((tcp, _)) = listener.accept().await {
            // Else what is written behind a head may wait for its acknowledgement, 40 ms.
            tcp.set_nodelay(true).expect("an open socket");
            let number = this.streams.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(Arc::clone(&this).stream(tcp, number));
        }
    }

    async fn stream(self: Arc<Self>, tcp: TcpStream, number: usize) {
        let socket = Some(duplicate(&tcp));
        let bytes = Arc::clone(&self.notes.bytes);
        let (wire, sni, alpn) = match &self.tls {
            None => (Wire::over(tcp, socket, bytes), None, None),
            Some(tls) => {
                // A refused handshake is the client's finding, not ours.
                let Ok(tls) = TlsAcceptor::from(Arc::clone(tls)).accept(tcp).await else { return };
                let sni = tls.get_ref().1.server_name().map(str::to_owned);
                let alpn = tls.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
                (Wire::over(tls, socket, bytes), sni, alpn)
            }
        };
        let (wire, notes) = (wire.of_script(), self.notes.clone());
        let script = (self.script)(Stream { wire, sni, alpn, number, notes });
        self.notes.clone().run(script).await;
    }
}
