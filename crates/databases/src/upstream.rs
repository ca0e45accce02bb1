//! [`Upstream`]: the stream to the server; [`watch_agent_end`]: detects that the agent ends its session.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};

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

impl Drop for Upstream {
    fn drop(&mut self) {
        // TLS ends with a close_notify. Without waiting: a peer that reads nothing gets none.
        let mut context = Context::from_waker(Waker::noop());
        let _ = Pin::new(self).poll_shutdown(&mut context);
    }
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
    session: AgentEnded,
    is_last: fn(&[u8]) -> bool,
}

/// Whether the agent has ended its session, and whether the session is idle.
#[derive(Clone, Debug, Default)]
pub struct AgentEnded {
    ended: Arc<AtomicBool>,
    idle: Arc<AtomicBool>,
}

/// Detects that the server's answer may have ended: `is_end` recognises what comes last, outside of transactions where that can be
/// seen.
#[derive(Debug)]
pub struct AnswerEndWatch {
    session: AgentEnded,
    is_end: fn(&[u8]) -> bool,
}

/// The agent's stream, and whether its agent has ended the session.
pub fn watch_agent_end<S>(
    stream: &mut S,
    is_last: fn(&[u8]) -> bool,
) -> (WatchedStream<&mut S, AgentEndWatch>, AgentEnded) {
    let session = AgentEnded::default();
    (WatchedStream::new(stream, AgentEndWatch { session: session.clone(), is_last }), session)
}

impl StreamWatch for AgentEndWatch {
    fn observe(&mut self, read: &[u8]) -> Result<(), Abort> {
        self.session.ended.store(read.is_empty() || (self.is_last)(read), Relaxed);
        self.session.idle.store(false, Relaxed);
        Ok(())
    }
}

impl StreamWatch for AnswerEndWatch {
    fn observe(&mut self, read: &[u8]) -> Result<(), Abort> {
        self.session.idle.store((self.is_end)(read), Relaxed);
        Ok(())
    }
}

impl AgentEnded {
    /// Notes how a session has ended. The server ends its stream when the agent has ended the session or closed its side.
    pub fn note(&self, exchange: &mut ServiceExchange, end: SessionEnd) {
        if end == SessionEnd::ServerClosed && self.ended.load(Relaxed) {
            exchange.completed();
        }
    }

    /// The server's stream, which is watched for the ends of answers.
    pub fn answers<U>(
        &self,
        upstream: U,
        is_end: fn(&[u8]) -> bool,
    ) -> WatchedStream<U, AnswerEndWatch> {
        // A new session has asked for nothing.
        self.idle.store(true, Relaxed);
        WatchedStream::new(upstream, AnswerEndWatch { session: self.clone(), is_end })
    }

    /// Whether the session waits for nothing of its server.
    pub fn is_idle(&self) -> bool {
        self.idle.load(Relaxed)
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
