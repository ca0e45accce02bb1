//! [`H1Idle`] tracks whether hyper's HTTP/1.1 server is idle between two requests. Only then can hyper be removed
//! from the stream without losing bytes or the position in a message; hyper itself does not report it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The state of one stream. hyper serves its requests one after the other.
#[derive(Debug)]
pub struct H1Idle {
    /// The last request was answered; hyper may still be writing the answer.
    answered: AtomicBool,
    /// Its body was received completely.
    uploaded: AtomicBool,
    /// hyper has written and flushed everything.
    flushed: AtomicBool,
}

impl Default for H1Idle {
    fn default() -> Self {
        let yes = || AtomicBool::new(true);
        Self { answered: yes(), uploaded: yes(), flushed: yes() }
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
}

impl<IO> TrackedIo<IO> {
    /// Reports the activity of `io` to `idle`. `early` was read from `io` already.
    pub fn new(io: IO, early: Bytes, idle: Arc<H1Idle>) -> Self {
        Self { io, early, idle }
    }

    pub fn into_inner(self) -> IO {
        self.io
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for TrackedIo<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, out);
        }
        let length = this.early.len().min(out.remaining());
        out.put_slice(&this.early[..length]);
        this.early.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for TrackedIo<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.idle.write_pending();
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.idle.write_pending();
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        this.idle.flushed.store(true, Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.idle.write_pending();
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_written_and_not_flushed_is_in_hand() {
        let idle = Arc::new(H1Idle::default());
        let (io, mut peer) = duplex(4);
        let mut io = TrackedIo::new(io, Bytes::new(), idle.clone());
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
    fn a_request_is_in_hand_until_it_is_answered_and_its_body_has_come() {
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
    async fn what_was_read_already_comes_first() {
        let (io, mut peer) = duplex(64);
        let mut io = TrackedIo::new(io, Bytes::from_static(b"abc"), Arc::default());
        peer.write_all(b"def").await.unwrap();
        let mut read = [0; 2];
        io.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ab");
        let mut read = [0; 4];
        io.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"cdef");
    }
}
