//! [`Upstream`]: the stream to the server, and the copying of a session's bytes. TLS is negotiated before anything else is
//! sent: no other byte is read before it (CVE-2021-23222).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::channel_binding::server_end_point;
use super::read_only::filter::{Kept, StatementFilter};
use super::read_only::watch::ModeWatch;
use super::refused::Refused;
use keyward_base::codes::Code;
use keyward_base::database::StreamSecurity;
use keyward_proxy::{CheckedUpstream, Gateway, ServiceExchange, ServiceStream, SessionEnd};
use keyward_rules::policy::DatabasePermit;

/// A stream to the server of a permit. The end of the server's bytes is an error: a session ends with its server's stream,
/// and its agent may be idle.
#[derive(Debug)]
pub enum Upstream {
    Cleartext(CheckedUpstream),
    Tls(Box<TlsStream<CheckedUpstream>>),
}

impl Upstream {
    /// Dials the server, with TLS unless the permit says otherwise.
    ///
    /// # Errors
    /// When it cannot be reached, has no TLS, or does not prove to be the permit's host.
    pub async fn reach(
        exchange: &mut ServiceExchange,
        permit: &DatabasePermit,
    ) -> Result<Self, Refused> {
        let mut stream = exchange.dial(permit).await?;
        if permit.endpoint().security == StreamSecurity::Cleartext {
            return Ok(Self::Cleartext(stream));
        }
        let within = exchange.connect_timeout();
        let takes_tls = tokio::time::timeout(within, ask_for_tls(&mut stream)).await;
        match takes_tls {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                let text = Code::UpstreamTls.because("the database server offers no TLS");
                let hint = "switch TLS on at the server, or set `sslmode: disable`";
                return Err(Refused::Keyward(text.hint(hint)));
            }
            Ok(Err(_)) | Err(_) => {
                let text = "the server does not answer as PostgreSQL does";
                return Err(Refused::Keyward(Code::UpstreamProtocol.because(text)));
            }
        }
        Ok(Self::Tls(Box::new(exchange.secure(stream, permit).await?)))
    }

    /// Another stream to the server of an open session.
    pub async fn reach_again(gateway: &Arc<Gateway>, permit: &DatabasePermit) -> Option<Self> {
        let mut stream = ServiceExchange::dial_again(gateway, permit).await?;
        if permit.endpoint().security == StreamSecurity::Cleartext {
            return Some(Self::Cleartext(stream));
        }
        if !ask_for_tls(&mut stream).await.ok()? {
            return None;
        }
        let stream = ServiceExchange::secure_again(gateway, stream, permit).await?;
        Some(Self::Tls(Box::new(stream)))
    }

    /// Whether the server has proved its name.
    pub fn is_verified(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What ties SCRAM to the stream, over TLS.
    pub fn channel_binding(&self) -> Option<Vec<u8>> {
        let Self::Tls(stream) = self else { return None };
        let (_, session) = stream.get_ref();
        server_end_point(session.peer_certificates()?.first()?)
    }
}

/// Whether the server takes TLS. Reads its one byte alone.
async fn ask_for_tls(stream: &mut CheckedUpstream) -> io::Result<bool> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Copies a session's bytes until it ends. `kept`: what a read-only session keeps.
pub async fn copy(
    exchange: &mut ServiceExchange,
    mut stream: ServiceStream,
    upstream: Upstream,
    kept: Option<Kept>,
) {
    let left = Arc::new(AtomicBool::new(false));
    let agents = Leaving { stream: stream.socket(), left: left.clone() };
    let end = match kept {
        None => exchange.splice(agents, upstream).await,
        Some(kept) => {
            let changed = Arc::new(AtomicBool::new(false));
            let agents = StatementFilter::new(agents, kept);
            let upstream = ModeWatch::new(upstream, changed.clone());
            let end = exchange.splice(agents, upstream).await;
            if changed.load(Relaxed) {
                tracing::warn!(
                    id = "read_only_left",
                    exchange = exchange.id(),
                    "ended a session that was no longer read-only: give the connection a role that may only read"
                );
                return exchange.refused_by_protocol(Code::Denied);
            }
            end
        }
    };
    // The server ends its stream when the agent has said goodbye, or has gone.
    if end == SessionEnd::ServerClosed && left.load(Relaxed) {
        exchange.completed();
    }
}

/// `Terminate`: the last message of a client. Most then wait for the server to close the stream.
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// The agent's stream, which notes that the agent has ended the session, by its last message or by closing its side. What
/// is noted decides about the outcome in the audit log alone, so messages are not told apart.
struct Leaving<'a, S> {
    stream: &'a mut S,
    left: Arc<AtomicBool>,
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
        this.left.store(read.is_empty() || read.ends_with(TERMINATE), Relaxed);
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
