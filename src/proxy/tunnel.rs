//! Copying bytes both ways: tunnels that are not looked into, and streams after an upgrade.
//! A FIN from one side is passed on as a half-close; the other direction goes on.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Gateway;
use super::record::Record;
use super::session::Session;
use crate::observe::event::Outcome;

/// Bytes copied at a time in each direction.
const BUFFER_BYTES: usize = 16 * 1024;

/// Counts what is read from a stream.
struct Counted<'a, IO> {
    io: IO,
    count: &'a AtomicU64,
}

/// Copies until both directions have ended, one breaks, nothing moves for `tunnel_idle_timeout`, or
/// what the session rests on is lost.
pub async fn splice<A, U>(
    agents: A,
    upstream: U,
    record: &mut Record,
    session: &Session,
    gateway: &Gateway,
) where
    A: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let idle = gateway.limits.tunnel_idle_timeout;
    let bytes_in = record.bytes_in();
    let bytes_out = AtomicU64::new(0);
    let mut agents = Counted { io: agents, count: &bytes_in };
    let mut upstream = Counted { io: upstream, count: &bytes_out };
    let copy = tokio::io::copy_bidirectional_with_sizes(
        &mut agents,
        &mut upstream,
        BUFFER_BYTES,
        BUFFER_BYTES,
    );
    let counts = [&*bytes_in, &bytes_out];
    let outcome = tokio::select! {
        result = copy => match result {
            Ok(_) => Outcome::Completed,
            Err(_) => Outcome::ClientAborted,
        },
        () = silence(&counts, idle) => Outcome::Ended,
        () = session.standing().lost(gateway) => Outcome::Ended,
    };
    record.sent(bytes_out.load(Relaxed));
    record.ended(outcome);
}

/// Resolves when no count has changed for `idle`, at most twice it.
pub async fn silence(counts: &[&AtomicU64], idle: Duration) {
    let sum = || counts.iter().map(|count| count.load(Relaxed)).fold(0, u64::wrapping_add);
    let mut before = sum();
    loop {
        tokio::time::sleep(idle).await;
        let now = sum();
        if now == before {
            return;
        }
        before = now;
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<'_, IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        let result = Pin::new(&mut this.io).poll_read(cx, out);
        this.count.fetch_add((out.filled().len() - before) as u64, Relaxed);
        result
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<'_, IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
