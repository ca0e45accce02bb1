//! [`H1Idle`] tracks whether hyper's HTTP/1.1 server is idle between two requests. Only then can hyper be removed
//! from the stream without losing bytes or the position in a message; hyper itself does not report it.
//!
//! [`TrackedIo`] also keeps the end of an agent's side from hyper for a while, because hyper drops the answer at once, and writes
//! interim answers, which hyper cannot.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::watchdog::{Watchdog, write_head};

/// How long an agent that has ended its side is still answered, from its end or the last write. It may wait for the
/// answer (`nc -N`), or be gone: its socket says the same in both cases until something is written.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(2);

/// The state of one stream. hyper serves its requests one after the other.
#[derive(Debug)]
pub struct H1Idle {
    /// The last request was answered; hyper may still be writing the answer.
    answered: AtomicBool,
    /// Its body was received completely.
    uploaded: AtomicBool,
    /// hyper has written and flushed everything.
    flushed: AtomicBool,
    /// Only the end of the stream ends the answer.
    until_closed: AtomicBool,
    /// The stream carries no more HTTP once the answer is flushed.
    upgrades: AtomicBool,
}

impl Default for H1Idle {
    fn default() -> Self {
        let yes = || AtomicBool::new(true);
        Self {
            answered: yes(),
            uploaded: yes(),
            flushed: yes(),
            until_closed: AtomicBool::new(false),
            upgrades: AtomicBool::new(false),
        }
    }
}

impl H1Idle {
    /// A request begins.
    pub fn request_begun(&self, body: bool) {
        self.answered.store(false, Relaxed);
        self.uploaded.store(!body, Relaxed);
    }

    /// The answer was given to hyper.
    pub fn answer_ready(&self) {
        self.answered.store(true, Relaxed);
    }

    /// The answer that is given to hyper next upgrades the stream.
    pub fn upgrade_ready(&self) {
        self.upgrades.store(true, Relaxed);
    }

    /// The answer has no length, and the agent knows no chunks.
    pub fn answer_until_closed(&self) {
        self.until_closed.store(true, Relaxed);
    }

    /// Whether only the end of the stream ends the answer.
    pub fn is_until_closed(&self) -> bool {
        self.until_closed.load(Relaxed)
    }

    /// The request's body has ended without an error.
    pub fn body_received(&self) {
        self.uploaded.store(true, Relaxed);
    }

    fn write_pending(&self) {
        self.flushed.store(false, Relaxed);
    }

    /// Whether hyper is idle, provided that the body of the last answer has ended.
    pub fn is_idle(&self) -> bool {
        [&self.answered, &self.uploaded, &self.flushed].iter().all(|yes| yes.load(Relaxed))
    }
}

/// The stream that hyper reads and writes.
#[derive(Debug)]
pub struct TrackedIo<IO> {
    io: IO,
    early: Bytes,
    idle: Arc<H1Idle>,
    watchdog: Arc<Watchdog>,
    /// The rest of the interim answers that are being written.
    interim: BytesMut,
    /// It carries no more HTTP: the end of the agent's side is passed on at once.
    upgraded: bool,
    /// When hyper gets the end of the agent's side, unless the exchange ends before.
    ends: Option<Pin<Box<Sleep>>>,
}

impl<IO> TrackedIo<IO> {
    /// Reports the activity of `io` to `idle`. `early` was read from `io` already.
    pub fn new(io: IO, early: Bytes, idle: Arc<H1Idle>, watchdog: Arc<Watchdog>) -> Self {
        let interim = BytesMut::new();
        Self { io, early, idle, watchdog, interim, upgraded: false, ends: None }
    }

    pub fn into_inner(self) -> IO {
        self.io
    }

    /// Whether the agent has sent a request and has not got the whole answer. The end of the body may be read already, but not
    /// received by the exchange.
    fn awaits_answer(&self) -> bool {
        !self.upgraded && (self.watchdog.is_busy() || !self.idle.is_idle())
    }

    /// Notes a write, and how much of it the stream accepted.
    fn wrote(&mut self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.idle.write_pending();
        if let (Some(ends), Poll::Ready(Ok(1..))) = (&mut self.ends, &wrote) {
            ends.as_mut().reset(Instant::now() + HALF_CLOSED_TIMEOUT);
        }
        wrote
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for TrackedIo<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() && this.ends.is_none() {
            let before = out.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, out))?;
            if out.filled().len() > before || !this.awaits_answer() {
                return Poll::Ready(Ok(()));
            }
            this.ends = Some(Box::pin(tokio::time::sleep(HALF_CLOSED_TIMEOUT)));
        }
        if let Some(ends) = &mut this.ends {
            let has_ended = ends.as_mut().poll(cx).is_ready() || !this.awaits_answer();
            return if has_ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let length = this.early.len().min(out.remaining());
        out.put_slice(&this.early[..length]);
        this.early.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> TrackedIo<IO> {
    /// Writes the rest of the interim answers.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let wrote = Pin::new(&mut self.io).poll_write(cx, &self.interim);
            match ready!(self.wrote(wrote))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.interim.advance(count),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for TrackedIo<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        let wrote = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.wrote(wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        let wrote = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.wrote(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // hyper flushes when it has written whatever it has, and the final answer waits: they are within no other message.
        if this.watchdog.interim.is_pending() {
            let answers = this.watchdog.interim.take();
            answers.iter().for_each(|answer| write_head(answer, &mut this.interim));
            ready!(this.poll_interim(cx))?;
            this.watchdog.interim.were_sent();
        }
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        let was_flushed = this.idle.flushed.swap(true, Relaxed);
        this.upgraded |= this.idle.upgrades.load(Relaxed);
        if !was_flushed && this.ends.is_some() {
            // This may be the end of the answer, and then hyper reads the end of the agent's side.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.idle.write_pending();
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    #[tokio::test]
    async fn written_bytes_that_are_not_flushed_keep_the_stream_busy() {
        let idle = Arc::new(H1Idle::default());
        let (io, mut peer) = duplex(4);
        let mut io = TrackedIo::new(io, Bytes::new(), idle.clone(), Arc::new(Watchdog::idle()));
        assert!(idle.is_idle());
        io.write_all(b"one").await.unwrap();
        assert!(!idle.is_idle());
        io.flush().await.unwrap();
        assert!(idle.is_idle());
        peer.read_exact(&mut [0; 3]).await.unwrap();
        io.shutdown().await.unwrap();
        assert!(!idle.is_idle(), "it has said its last");
    }

    #[test]
    fn a_stream_is_busy_until_its_request_is_received_and_answered() {
        let idle = H1Idle::default();
        idle.request_begun(true);
        idle.answer_ready();
        assert!(!idle.is_idle());
        idle.body_received();
        assert!(idle.is_idle());
        idle.request_begun(false);
        assert!(!idle.is_idle());
        idle.answer_ready();
        assert!(idle.is_idle());
    }

    #[tokio::test]
    async fn bytes_that_were_read_ahead_come_before_those_of_the_socket() {
        let (io, mut peer) = duplex(64);
        let watchdog = Arc::new(Watchdog::idle());
        let mut io = TrackedIo::new(io, Bytes::from_static(b"abc"), Arc::default(), watchdog);
        peer.write_all(b"def").await.unwrap();
        let mut read = [0; 2];
        io.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ab");
        let mut read = [0; 4];
        io.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"cdef");
    }

    async fn end_after(io: &mut TrackedIo<DuplexStream>) -> Duration {
        let begun = Instant::now();
        assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 0);
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_agent_is_answered_until_the_half_closed_timeout() {
        let (io, mut peer) = duplex(64);
        let (idle, watchdog) = (Arc::new(H1Idle::default()), Arc::new(Watchdog::idle()));
        let mut io = TrackedIo::new(io, Bytes::new(), idle.clone(), watchdog.clone());
        idle.request_begun(true);
        watchdog.begin_exchange();
        peer.shutdown().await.unwrap();
        assert_eq!(end_after(&mut io).await, HALF_CLOSED_TIMEOUT, "its body is not received yet");
        idle.body_received();
        io.write_all(b"an event").await.unwrap();
        assert_eq!(end_after(&mut io).await, HALF_CLOSED_TIMEOUT, "from the last write");
        io.write_all(b"the end").await.unwrap();
        idle.answer_ready();
        watchdog.end_exchange();
        assert_eq!(end_after(&mut io).await, HALF_CLOSED_TIMEOUT, "it is not flushed");
        io.flush().await.unwrap();
        assert_eq!(end_after(&mut io).await, Duration::ZERO, "the exchange has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_agent_that_takes_no_bytes_is_not_waited_for_longer() {
        let (io, mut peer) = duplex(4);
        let (idle, watchdog) = (Arc::new(H1Idle::default()), Arc::new(Watchdog::idle()));
        let mut io = TrackedIo::new(io, Bytes::new(), idle.clone(), watchdog.clone());
        idle.request_begun(false);
        watchdog.begin_exchange();
        io.write_all(b"full").await.unwrap();
        peer.shutdown().await.unwrap();
        let begun = Instant::now();
        let half = HALF_CLOSED_TIMEOUT / 2;
        assert!(tokio::time::timeout(half, io.read(&mut [0; 8])).await.is_err());
        assert!(tokio::time::timeout(half / 2, io.write(b"more")).await.is_err());
        end_after(&mut io).await;
        assert_eq!(begun.elapsed(), HALF_CLOSED_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_agents_websocket_is_reported_at_once() {
        let (io, mut peer) = duplex(64);
        let (idle, watchdog) = (Arc::new(H1Idle::default()), Arc::new(Watchdog::idle()));
        let mut io = TrackedIo::new(io, Bytes::new(), idle.clone(), watchdog.clone());
        idle.request_begun(false);
        watchdog.begin_exchange();
        idle.upgrade_ready();
        idle.answer_ready();
        io.write_all(b"101").await.unwrap();
        io.flush().await.unwrap();
        peer.shutdown().await.unwrap();
        assert_eq!(end_after(&mut io).await, Duration::ZERO);
        io.write_all(b"a frame").await.unwrap();
        io.shutdown().await.unwrap();
        assert_eq!(end_after(&mut io).await, Duration::ZERO, "a WebSocket has no answer");
    }
}
