//! [`Upstream`]: the stream to the server; [`Leaving`]: how the end of a session is told apart.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::refused::Refused;
use keyward_base::database::StreamSecurity;
use keyward_proxy::{CheckedUpstream, ServiceExchange, SessionEnd};
use keyward_rules::policy::DatabasePermit;

/// A stream to the server of a permit. The end of the server's bytes is an error: a session ends with its server's stream,
/// and its agent may be idle.
#[derive(Debug)]
pub enum Upstream {
    Cleartext(CheckedUpstream),
    Tls(Box<TlsStream<CheckedUpstream>>),
}

impl Upstream {
    /// Secures a dialled stream as the permit says.
    ///
    /// # Errors
    /// When the server does not prove to be the permit's host.
    pub async fn secured(
        exchange: &mut ServiceExchange,
        stream: CheckedUpstream,
        permit: &DatabasePermit,
    ) -> Result<Self, Refused> {
        match permit.endpoint().security {
            StreamSecurity::Cleartext => Ok(Self::Cleartext(stream)),
            StreamSecurity::VerifiedTls => {
                Ok(Self::Tls(Box::new(exchange.secure(stream, permit).await?)))
            }
        }
    }

    /// Whether the server has proved its name.
    pub fn is_verified(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

/// An agent's stream, which notes that the agent has ended the session: by its last message, as `is_last` finds, or by
/// closing its side. What is noted decides about the outcome in the audit log alone, so messages are not told apart.
pub struct Leaving<'a, S> {
    stream: &'a mut S,
    left: Arc<AtomicBool>,
    is_last: fn(&[u8]) -> bool,
}

/// Whether the agent has ended its session.
#[derive(Debug)]
pub struct Left(Arc<AtomicBool>);

impl<'a, S> Leaving<'a, S> {
    pub fn new(stream: &'a mut S, is_last: fn(&[u8]) -> bool) -> (Self, Left) {
        let left = Arc::<AtomicBool>::default();
        (Self { stream, left: left.clone(), is_last }, Left(left))
    }
}

impl Left {
    /// Notes how a session has ended. The server ends its stream when the agent has said goodbye, or has gone.
    pub fn note(&self, exchange: &mut ServiceExchange, end: SessionEnd) {
        if end == SessionEnd::ServerClosed && self.0.load(Relaxed) {
            exchange.completed();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Leaving<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        ready!(Pin::new(&mut *this.stream).poll_read(cx, out))?;
        let read = &out.filled()[before..];
        this.left.store(read.is_empty() || (this.is_last)(read), Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Leaving<'_, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().stream).poll_shutdown(cx)
    }
}

macro_rules! each {
    ($self:expr, $stream:ident => $body:expr) => {
        match $self.get_mut() {
            Upstream::Cleartext($stream) => $body,
            Upstream::Tls($stream) => $body,
        }
    };
}

impl AsyncRead for Upstream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(each!(self, stream => Pin::new(stream).poll_read(cx, out)))?;
        match out.filled().len() == before {
            true => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            false => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
