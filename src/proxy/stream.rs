//! The sockets of both legs, dressed for hyper: the agent's with its pulse and early bytes, the
//! upstream's with a sink for writes after a failed one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::pulse::Pulse;
use crate::net::wire::Wire;

/// A stream of bytes, whatever it is made of.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// An accepted socket.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Over TLS with the proxy itself.
    Tls(Box<TlsStream<TcpStream>>),
}

/// An agent's stream: its socket, bytes that were read ahead of a tunnel, and its pulse.
#[derive(Debug)]
pub struct Agents {
    socket: Socket,
    early: Bytes,
    pulse: Arc<Pulse>,
}

/// An upstream's socket. After a failed write it swallows what follows, so that an answer sent
/// before the upstream stopped reading is still read: hyper would drop it for the write's error.
#[derive(Debug)]
pub struct Upstream {
    socket: Wire,
    deaf: bool,
}

impl Agents {
    /// Dresses an accepted socket.
    pub fn new(socket: Socket, pulse: Arc<Pulse>) -> Self {
        Self { socket, early: Bytes::new(), pulse }
    }

    /// Its pulse.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// The same stream as a tunnel: `early` is read first, and `pulse` tells of it from now on.
    pub fn into_tunnel(self, early: Bytes, pulse: Arc<Pulse>) -> Self {
        // Also what is empty holds the buffer that it was read into.
        let early = if early.is_empty() { Bytes::new() } else { early };
        Self { socket: self.socket, early, pulse }
    }
}

impl Upstream {
    /// Dresses a dialled socket.
    pub fn new(socket: Wire) -> Self {
        Self { socket, deaf: false }
    }

    fn swallow(&mut self, result: Poll<io::Result<usize>>, len: usize) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Err(_)) => {
                self.deaf = true;
                Poll::Ready(Ok(len))
            }
            other => other,
        }
    }
}

macro_rules! each_socket {
    ($self:expr, $socket:ident => $body:expr) => {
        match &mut $self.get_mut().socket {
            Socket::Tcp($socket) => $body,
            Socket::Unix($socket) => $body,
            Socket::Tls($socket) => $body,
        }
    };
}

impl AsyncRead for Agents {
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
            if this.early.is_empty() {
                this.early = Bytes::new();
            }
            this.pulse.read();
            return Poll::Ready(Ok(()));
        }
        let before = out.filled().len();
        let result = match &mut this.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(cx, out),
            Socket::Unix(socket) => Pin::new(socket).poll_read(cx, out),
            Socket::Tls(socket) => Pin::new(socket).poll_read(cx, out),
        };
        if out.filled().len() > before {
            this.pulse.read();
        }
        result
    }
}

impl AsyncWrite for Agents {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pulse.wrote();
        each_socket!(self, socket => Pin::new(socket).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // What rustls writes is nearly always one record, and send(2) costs less than writev(2).
        if let [only] = bytes {
            return self.poll_write(cx, only);
        }
        self.pulse.wrote();
        each_socket!(self, socket => Pin::new(socket).poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_socket!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_socket!(self, socket => Pin::new(socket).poll_shutdown(cx))
    }
}

impl AsyncRead for Upstream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, out)
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.swallow(result, bytes.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bytes {
            return self.poll_write(cx, only);
        }
        let this = self.get_mut();
        let length = bytes.iter().map(|slice| slice.len()).sum();
        if this.deaf {
            return Poll::Ready(Ok(length));
        }
        let result = Pin::new(&mut this.socket).poll_write_vectored(cx, bytes);
        this.swallow(result, length)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
