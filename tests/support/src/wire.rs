//! One HTTP/1.1 byte stream, at either end: writes exact bytes, parses messages strictly. It has its own parser
//! on purpose, so that Keyward's output is not checked by Keyward's parser.

use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::task::coop::unconstrained;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Nothing in these tests takes that long; a hang becomes a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two questions of a test that waits. What it waits for, and the other tests, need the processor.
pub const PACE: Duration = Duration::from_millis(5);

/// Bytes that someone received, shared with whoever checks them at the end.
pub type Seen = Arc<Mutex<Vec<u8>>>;

/// What a wire runs over.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A stream with a read buffer.
pub struct Wire {
    io: Box<dyn Io>,
    /// The socket below, to break it off.
    socket: Option<socket2::Socket>,
    buffer: Vec<u8>,
    seen: Seen,
    /// Whether received bytes are kept: not those of a gigabyte.
    recording: bool,
    /// Whether a script of an origin has it.
    of_script: bool,
    end: Option<End>,
}

/// How a script of an origin panics whose peer has gone, or is silent for as long as a pool keeps a stream. That is no
/// failure.
pub(super) struct PeerGone;

/// How a stream ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// By FIN, and close_notify where there is TLS.
    Clean,
    /// By a reset, or without close_notify.
    Cut,
}

/// A request or answer head, as received.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The first line.
    pub start: String,
    /// Names as sent, values without surrounding blanks.
    pub fields: Vec<(String, String)>,
    /// All bytes, with the empty line.
    pub raw: Vec<u8>,
}

/// A whole message.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Its head.
    pub head: Head,
    /// Interim answers before it.
    pub interim: Vec<Head>,
    /// Its body, without framing.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// False when the stream ended before the body did.
    pub whole: bool,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClosed,
}

/// Fails the test when `wait` hangs.
pub async fn patiently<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let mut wait = pin!(wait);
    // Not a `timeout` of `wait`, which is compiled again for each future.
    let mut late = pin!(unconstrained(timeout(PATIENCE, pending::<()>())));
    let ended = poll_fn(|context| match wait.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => late.as_mut().poll(context).map(|_| None),
    });
    match ended.await {
        Some(value) => value,
        None => panic!("{what}: nothing within {PATIENCE:?}"),
    }
}

/// Asks until it is so; fails the test after [`PATIENCE`].
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    until_some(what, async || is_so().await.then_some(())).await;
}

/// Asks until there is an answer, and returns it; fails the test after [`PATIENCE`].
pub async fn until_some<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let mut turns = interval(PACE);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let answered = async {
        loop {
            turns.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    patiently(what, answered).await
}

impl Wire {
    /// Over TCP.
    pub fn plain(stream: TcpStream) -> Self {
        let socket = duplicate(&stream);
        Self::over(stream, Some(socket), Seen::default())
    }

    /// Over TCP, to a listener.
    pub async fn to(at: impl ToSocketAddrs) -> Self {
        Self::plain(TcpStream::connect(at).await.expect("it listens"))
    }

    /// Over anything. `socket` is the one below, duplicated before it was wrapped.
    pub fn over(io: impl Io + 'static, socket: Option<socket2::Socket>, seen: Seen) -> Self {
        let (io, buffer) = (Box::new(io), vec![]);
        Self { io, socket, buffer, seen, recording: true, of_script: false, end: None }
    }

    /// For a script of an origin: it ends when its peer has gone.
    pub(super) fn of_script(self) -> Self {
        Self { of_script: true, ..self }
    }

    /// Shares what is received with `seen`.
    pub fn recorded(mut self, seen: Seen) -> Self {
        self.seen = seen;
        self
    }

    /// Stops keeping what is received.
    pub fn stop_recording(&mut self) {
        self.recording = false;
    }

    /// Takes the stream apart to wrap it in TLS. Nothing may have been read ahead.
    pub fn into_parts(self) -> (Box<dyn Io>, Option<socket2::Socket>, Seen) {
        assert!(self.buffer.is_empty(), "bytes came before the handshake: {:?}", self.buffer);
        (self.io, self.socket, self.seen)
    }

    /// Sends all bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        match self.try_send(bytes).await {
            Err(_) if self.of_script => resume_unwind(Box::new(PeerGone)),
            sent => sent.expect("the peer still reads"),
        }
    }

    /// Sends all bytes, or says that the peer has gone.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        patiently("sending", async {
            self.io.write_all(bytes.as_ref()).await?;
            self.io.flush().await
        })
        .await
    }

    /// Ends our direction: close_notify and FIN.
    pub async fn finish(&mut self) {
        // The peer may already have gone.
        drop(patiently("closing", self.io.shutdown()).await);
    }

    /// Reads and answers nothing until the peer goes, however long that takes.
    pub async fn hold(&mut self) {
        let mut piece = [0; 1024];
        while self.io.read(&mut piece).await.is_ok_and(|count| count > 0) {}
    }

    /// Breaks the stream off with a reset.
    pub fn abort(self) {
        if let Some(socket) = &self.socket {
            socket.set_linger(Some(Duration::ZERO)).expect("linger can be set");
        }
    }

    /// Reads what is there, at least one byte; `false` at the end.
    async fn fill(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        let mut piece = vec![0; 64 * 1024];
        let reading = self.io.read(&mut piece);
        let read = match self.of_script {
            false => patiently("reading", reading).await,
            true => match timeout(PATIENCE, reading).await {
                Ok(read) => read,
                Err(_) => resume_unwind(Box::new(PeerGone)),
            },
        };
        self.took(&piece, read)
    }

    fn took(&mut self, piece: &[u8], read: io::Result<usize>) -> bool {
        let count = *read.as_ref().unwrap_or(&0);
        self.buffer.extend_from_slice(&piece[..count]);
        if self.recording {
            self.seen.lock().expect("not poisoned").extend_from_slice(&piece[..count]);
        }
        if count == 0 {
            self.end = Some(if read.is_ok() { End::Clean } else { End::Cut });
        }
        count > 0
    }

    /// Waits, however long, until something comes; `false` at the end.
    pub async fn comes(&mut self) -> bool {
        if !self.buffer.is_empty() || self.end.is_some() {
            return self.end.is_none();
        }
        let mut piece = vec![0; 4 * 1024];
        let read = self.io.read(&mut piece).await;
        self.took(&piece, read)
    }

    /// What has come, at least one byte; empty at the end.
    pub async fn some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.fill().await;
        }
        std::mem::take(&mut self.buffer)
    }

    /// Exactly `count` bytes, or fewer at the end.
    pub async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.fill().await {}
        let count = count.min(self.buffer.len());
        self.buffer.drain(..count).collect()
    }

    /// Reads and forgets up to `count` bytes; how many came.
    pub async fn skip(&mut self, count: usize) -> usize {
        let mut skipped = 0;
        while skipped < count {
            if self.buffer.is_empty() && !self.fill().await {
                break;
            }
            let now = self.buffer.len().min(count - skipped);
            self.buffer.drain(..now);
            skipped += now;
        }
        skipped
    }

    /// Everything up to the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the peer ends the stream without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.rest().await.is_empty()
    }

    /// Whether the peer ends the stream without another byte, by FIN, and by close_notify where there is
    /// TLS.
    pub async fn ends_cleanly(&mut self) -> bool {
        self.rest().await.is_empty() && self.end == Some(End::Clean)
    }

    /// Up to and with `\r\n`, without it; `None` at the end.
    async fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let mut line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                line.truncate(at);
                return Some(line);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// A head; `None` when the stream ends before it does.
    pub async fn head(&mut self) -> Option<Head> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let raw: Vec<u8> = self.buffer.drain(..at + 4).collect();
                return Some(Head::parse(raw));
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// A request; `None` when the stream ends before its head does.
    pub async fn request(&mut self) -> Option<Message> {
        let head = self.head().await?;
        let framing = head.framing().unwrap_or(Framing::None);
        Some(self.message(head, framing).await)
    }

    /// The final answer to a request with `method`, interim ones before it.
    ///
    /// # Panics
    /// When the stream ends before a whole head.
    pub async fn answer(&mut self, method: &str) -> Message {
        match self.try_answer(method).await {
            Some(answer) => answer,
            None => {
                let read = String::from_utf8_lossy(&self.buffer);
                panic!("{method}: the stream ended before an answer: {:?}, {read:?}", self.end)
            }
        }
    }

    /// As [`Wire::answer`]; `None` when the stream ends before a whole head.
    pub async fn try_answer(&mut self, method: &str) -> Option<Message> {
        let mut interim = vec![];
        loop {
            let head = self.head().await?;
            let status = head.status();
            if (100..200).contains(&status) && status != 101 {
                interim.push(head);
                continue;
            }
            let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let opened = method == "CONNECT" && status == 200;
            let framing = match bodiless || opened {
                true => Framing::None,
                false => head.framing().unwrap_or(Framing::UntilClosed),
            };
            return Some(Message { interim, ..self.message(head, framing).await });
        }
    }

    async fn message(&mut self, head: Head, framing: Framing) -> Message {
        let mut message = Message { head, ..Message::default() };
        match framing {
            Framing::None => message.whole = true,
            Framing::Length(length) => {
                message.body = self.exactly(length).await;
                message.whole = message.body.len() == length;
            }
            Framing::Chunked => message.whole = self.chunks(&mut message).await.is_some(),
            Framing::UntilClosed => {
                message.body = self.rest().await;
                message.whole = self.end == Some(End::Clean);
            }
        }
        message
    }

    /// Reads chunks and trailers; `None` when cut.
    async fn chunks(&mut self, message: &mut Message) -> Option<()> {
        loop {
            let chunk = self.chunk().await?;
            if chunk.is_empty() {
                break;
            }
            message.body.extend(chunk);
        }
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(());
            }
            message.trailers.push(field(&String::from_utf8_lossy(&line)));
        }
    }

    /// One chunk of a chunked body, empty for the last; `None` when cut.
    ///
    /// # Panics
    /// When Keyward writes a chunk that RFC 9112 does not allow, or an extension.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = String::from_utf8(self.line().await?).expect("a chunk line is ASCII");
        let size = usize::from_str_radix(&line, 16).expect("a chunk line is one hex number");
        if size == 0 {
            return Some(vec![]);
        }
        let mut chunk = self.exactly(size + 2).await;
        if chunk.len() < size + 2 {
            // The part that came is kept by `seen`; the message is marked as cut.
            return None;
        }
        assert_eq!(chunk.split_off(size), b"\r\n", "a chunk ends with CRLF");
        Some(chunk)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({} bytes buffered)", self.buffer.len())
    }
}

impl Head {
    fn parse(raw: Vec<u8>) -> Self {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        Self { start, fields: lines.map(field).collect(), raw }
    }

    /// Of a request.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// Of a request: as it stands on the wire.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// Of an answer.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// Of an answer.
    pub fn reason(&self) -> &str {
        self.start.splitn(3, ' ').nth(2).unwrap_or_default()
    }

    /// All values of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.fields.iter().filter(named).map(|(_, value)| &**value).collect()
    }

    /// The only value of a field.
    ///
    /// # Panics
    /// When the field is there more than once.
    pub fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} stands {} times: {all:?}", all.len());
        all.first().copied()
    }

    /// Whether a field is there.
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// # Panics
    /// On framing that has two readings.
    fn framing(&self) -> Option<Framing> {
        match (self.one("transfer-encoding"), self.one("content-length")) {
            (Some(_), Some(_)) => panic!("both framings: {self:?}"),
            (Some(coding), None) => {
                assert_eq!(coding.to_ascii_lowercase(), "chunked");
                Some(Framing::Chunked)
            }
            (None, Some(length)) => {
                assert!(length.bytes().all(|b| b.is_ascii_digit()), "length {length}");
                Some(Framing::Length(length.parse().expect("a length")))
            }
            (None, None) => None,
        }
    }
}

/// The socket once more, to be broken off while it is wrapped in TLS.
pub fn duplicate(stream: &TcpStream) -> socket2::Socket {
    stream.as_fd().try_clone_to_owned().expect("a descriptor is free").into()
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim().to_owned())
}

/// Where `needle` begins.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}
