//! [`Upstream`]: the stream to the server; [`watch_agent_end`]: detects that the agent ends its session.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::stream::{Abort, StreamWatch, WatchedStream};
use keyward_base::database::StreamSecurity;
use keyward_proxy::{CheckedUpstream, FailedAttempt, Gateway, ServiceExchange, SessionEnd};
use keyward_rules::policy::DatabasePermit;

/// A stream to the server of a permit, secured as the permit says. Made only by [`Upstream::secured`]. The end of the server's
/// bytes is an error, so that the session ends even if its agent is idle.
#[derive(Debug)]
pub struct Upstream(SecuredStream);

#[derive(Debug)]
enum SecuredStream {
    Cleartext(CheckedUpstream),
    Tls(Box<TlsStream<CheckedUpstream>>),
}

impl Upstream {
    /// Dials the server of the permit and secures the stream, for protocols that begin with TLS.
    ///
    /// # Errors
    /// When it cannot be reached, or does not prove to be the permit's host.
    pub async fn reach(gateway: &Gateway, permit: &DatabasePermit) -> Result<Self, FailedAttempt> {
        let stream = ServiceExchange::dial(gateway, permit).await?;
        Self::secured(gateway, stream, permit).await
    }

    /// Secures a dialled stream as the permit says.
    ///
    /// # Errors
    /// When the server does not prove to be the permit's host.
    pub async fn secured(
        gateway: &Gateway,
        stream: CheckedUpstream,
        permit: &DatabasePermit,
    ) -> Result<Self, FailedAttempt> {
        Ok(Self(match permit.endpoint().security {
            StreamSecurity::Cleartext => SecuredStream::Cleartext(stream),
            StreamSecurity::VerifiedTls => {
                let secured = ServiceExchange::secure(gateway, stream, permit).await?;
                SecuredStream::Tls(Box::new(secured))
            }
        }))
    }

    /// The port from which the server sees the stream, unless something between changes it.
    pub fn local_port(&self) -> Option<u16> {
        match &self.0 {
            SecuredStream::Cleartext(stream) => stream.local_port(),
            SecuredStream::Tls(stream) => stream.get_ref().0.local_port(),
        }
    }

    /// Whether the server has proved its name.
    pub fn is_verified(&self) -> bool {
        self.tls().is_some()
    }

    /// The TLS by which the server has proved its name.
    pub fn tls(&self) -> Option<&TlsStream<CheckedUpstream>> {
        match &self.0 {
            SecuredStream::Cleartext(_) => None,
            SecuredStream::Tls(stream) => Some(stream),
        }
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
    fn observe(&mut self, read: &[u8]) -> Result<(), Abort> {
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
        match &mut $self.get_mut().0 {
            SecuredStream::Cleartext($stream) => $body,
            SecuredStream::Tls($stream) => $body,
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
