//! [`StuckIo`]: the socket of an upstream that does not read, for tests.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::CLOSING_TIMEOUT;

/// An IO that moves no byte. Its sender is dropped with it.
pub(super) struct StuckIo {
    _open: oneshot::Sender<()>,
}

impl StuckIo {
    /// The IO, and what notices its end.
    pub(super) fn new() -> (Self, oneshot::Receiver<()>) {
        let (open, closed) = oneshot::channel();
        (Self { _open: open }, closed)
    }
}

impl AsyncRead for StuckIo {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for StuckIo {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// Checks that a stream is closed once it was dropped for the closing timeout.
pub(super) async fn closes_in_time<S>(stream: S, closed: oneshot::Receiver<()>) {
    let dropped = Instant::now();
    drop(stream);
    assert!(timeout(CLOSING_TIMEOUT * 2, closed).await.is_ok(), "it is open still");
    assert!(dropped.elapsed() >= CLOSING_TIMEOUT);
}
