//! [`Wire`]: a connected outbound stream over TCP, or over TLS with a corporate proxy, including bytes that
//! followed the proxy's response.
//!
//! TCP keepalive. Without it, a NAT or firewall forgets a stream that is silent for some minutes, and neither end
//! learns that it is gone; nor does the gateway learn that a peer has vanished.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// The silence before the first probe. NATs forget streams after one minute (some home routers) to six minutes (AWS).
const IDLE: Duration = Duration::from_secs(30);

/// The time between two probes without an answer. Linux gives a stream up after nine.
const INTERVAL: Duration = Duration::from_secs(15);

/// A stream to a target, or to the proxy that forwards to it.
#[derive(Debug)]
pub struct Wire {
    leg: Leg,
    /// Bytes after the head of the proxy's response: the target's first bytes.
    early: Bytes,
}

#[derive(Debug)]
enum Leg {
    Tcp(TcpStream),
    /// Boxed, because it is rare and ten times as large.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// TLS with a proxy.
    pub(super) fn over_tls(stream: TlsStream<TcpStream>) -> Self {
        Self { leg: Leg::Tls(Box::new(stream)), early: Bytes::new() }
    }

    /// The port from which the other side sees the stream, unless something between them changes it.
    pub fn local_port(&self) -> Option<u16> {
        let stream = match &self.leg {
            Leg::Tcp(stream) => stream,
            Leg::Tls(stream) => stream.get_ref().0,
        };
        stream.local_addr().ok().map(|at| at.port())
    }

    /// The socket of a stream without a proxy.
    #[cfg(test)]
    pub(super) fn tcp(&self) -> &TcpStream {
        match &self.leg {
            Leg::Tcp(stream) => stream,
            Leg::Tls(_) => panic!("it goes by a proxy"),
        }
    }

    /// Reads with a system call, regardless of the runtime's cached readiness. `poll_read` makes no call while
    /// the cached readiness is empty, although data or the end of the stream may have arrived since.
    ///
    /// # Errors
    /// `WouldBlock` when there is no data; otherwise as `poll_read`.
    pub fn read_now(&mut self, out: &mut ReadBuf<'_>) -> io::Result<()> {
        match &self.leg {
            Leg::Tcp(stream) => {
                let count = (&*SockRef::from(stream)).read(out.initialize_unfilled())?;
                out.advance(count);
                Ok(())
            }
            // Only the TLS layer can read the data; the end of the stream is visible without it.
            Leg::Tls(stream) => {
                let mut first = [MaybeUninit::uninit()];
                match SockRef::from(stream.get_ref().0).peek(&mut first)? {
                    0 => Ok(()),
                    _ => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
        }
    }

    /// Returns the same stream with `early` as its first bytes.
    pub(super) fn with_early(mut self, early: Bytes) -> Self {
        self.early = early;
        self
    }
}

impl From<TcpStream> for Wire {
    fn from(stream: TcpStream) -> Self {
        Self { leg: Leg::Tcp(stream), early: Bytes::new() }
    }
}

macro_rules! each_leg {
    ($self:expr, $stream:ident => $body:expr) => {
        match &mut $self.get_mut().leg {
            Leg::Tcp($stream) => $body,
            Leg::Tls($stream) => $body,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.early.is_empty() {
            let length = this.early.len().min(out.remaining());
            out.put_slice(&this.early[..length]);
            this.early.advance(length);
            return Poll::Ready(Ok(()));
        }
        match &mut this.leg {
            Leg::Tcp(stream) => Pin::new(stream).poll_read(cx, out),
            Leg::Tls(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each_leg!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each_leg!(self, stream => Pin::new(stream).poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_leg!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_leg!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// Enables keepalive for a stream, or for all streams that a listener accepts: they take it from the listener (tcp(7)).
///
/// # Errors
/// When the system refuses the options.
pub fn enable(socket: &impl AsFd) -> io::Result<()> {
    let probes = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL);
    SockRef::from(socket).set_tcp_keepalive(&probes)
}
