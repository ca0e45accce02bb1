//! [`Between`]: whether hyper's HTTP/1.1 server stands between two requests with nothing in hand. Then it
//! can be taken apart, and its stream be idle without its buffers. hyper does not say it, and to take it
//! apart at another time would lose bytes, or the place in a message.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is known of one stream. hyper serves one request of it after the other.
#[derive(Debug)]
pub struct Between {
    /// The last request has got its answer; what is left of that is in hyper's hand.
    answered: AtomicBool,
    /// Its body has come whole.
    uploaded: AtomicBool,
    /// What hyper had to write it has written.
    flushed: AtomicBool,
}

impl Default for Between {
    fn default() -> Self {
        let yes = || AtomicBool::new(true);
        Self { answered: yes(), uploaded: yes(), flushed: yes() }
    }
}

impl Between {
    /// A request begins, with a body if it has one.
    pub fn asked(&self, body: bool) {
        self.answered.store(false, Relaxed);
        self.uploaded.store(!body, Relaxed);
    }

    /// Its answer is hyper's to write.
    pub fn answered(&self) {
        self.answered.store(true, Relaxed);
    }

    /// Its body has ended, and not by a fault.
    pub fn uploaded(&self) {
        self.uploaded.store(true, Relaxed);
    }

    fn writes(&self) {
        self.flushed.store(false, Relaxed);
    }

    /// Whether there is nothing in hand, provided that the body of the last answer has ended.
    pub fn holds(&self) -> bool {
        [&self.answered, &self.uploaded, &self.flushed].iter().all(|yes| yes.load(Relaxed))
    }
}

/// A stream as hyper is given it.
#[derive(Debug)]
pub struct Watched<IO> {
    io: IO,
    /// Read first.
    early: Bytes,
    between: Arc<Between>,
}

impl<IO> Watched<IO> {
    /// Tells `between` of `io`, of which `early` was read already.
    pub fn new(io: IO, early: Bytes, between: Arc<Between>) -> Self {
        Self { io, early, between }
    }

    /// The stream, without what it told.
    pub fn into_inner(self) -> IO {
        self.io
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
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

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.between.writes();
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.between.writes();
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        this.between.flushed.store(true, Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.between.writes();
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_written_and_not_flushed_is_in_hand() {
        let between = Arc::new(Between::default());
        let (io, mut peer) = duplex(4);
        let mut io = Watched::new(io, Bytes::new(), between.clone());
        assert!(between.holds());
        io.write_all(b"one").await.unwrap();
        assert!(!between.holds());
        io.flush().await.unwrap();
        assert!(between.holds());
        peer.read_exact(&mut [0; 3]).await.unwrap();
        io.shutdown().await.unwrap();
        assert!(!between.holds(), "it has said its last");
    }

    #[test]
    fn a_request_is_in_hand_until_it_is_answered_and_its_body_has_come() {
        let between = Between::default();
        between.asked(true);
        between.answered();
        assert!(!between.holds());
        between.uploaded();
        assert!(between.holds());
        between.asked(false);
        assert!(!between.holds());
        between.answered();
        assert!(between.holds());
    }

    #[tokio::test]
    async fn what_was_read_already_comes_first() {
        let (io, mut peer) = duplex(64);
        let mut io = Watched::new(io, Bytes::from_static(b"abc"), Arc::default());
        peer.write_all(b"def").await.unwrap();
        let mut read = [0; 2];
        io.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ab");
        let mut read = [0; 4];
        io.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"cdef");
    }
}
