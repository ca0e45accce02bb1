//! [`Upstream`]: the stream to the server; [`watch_agent_end`]: detects that the agent ends its session.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::refused::Refused;
use crate::stream::{Cut, StreamWatch, WatchedStream};
use keyward_base::database::StreamSecurity;
use keyward_proxy::{CheckedUpstream, ServiceExchange, SessionEnd};
use keyward_rules::policy::DatabasePermit;

/// A stream to the server of a permit. The end of the server's bytes is an error, so that the session ends even if its
/// agent is idle.
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

/// Detects that the agent ends its session: by a last message, which `is_last` recognises, or by closing its side. The
/// result only sets the outcome in the audit log, so message boundaries are not parsed.
#[derive(Debug)]
pub struct AgentEndWatch {
    ended: Arc<AtomicBool>,
    is_last: fn(&[u8]) -> bool,
}

/// Whether the agent has ended its session.
#[derive(Debug)]
pub struct AgentEnded(Arc<AtomicBool>);

/// The agent's stream, and whether its agent has ended the session.
pub fn watch_agent_end<S>(
    stream: &mut S,
    is_last: fn(&[u8]) -> bool,
) -> (WatchedStream<&mut S, AgentEndWatch>, AgentEnded) {
    let ended = Arc::<AtomicBool>::default();
    (WatchedStream::new(stream, AgentEndWatch { ended: ended.clone(), is_last }), AgentEnded(ended))
}

impl StreamWatch for AgentEndWatch {
    fn came(&mut self, read: &[u8]) -> Result<(), Cut> {
        self.ended.store(read.is_empty() || (self.is_last)(read), Relaxed);
        Ok(())
    }
}

impl AgentEnded {
    /// Notes how a session has ended. The server ends its stream when the agent has ended the session or closed its side.
    pub fn note(&self, exchange: &mut ServiceExchange, end: SessionEnd) {
        if end == SessionEnd::ServerClosed && self.0.load(Relaxed) {
            exchange.completed();
        }
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
