//! WebSocket over an agent's HTTP/2 stream (RFC 8441): the handshake becomes one of HTTP/1.1, which
//! every upstream knows, and the DATA of the stream carries the frames.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// What a server adds to the key (RFC 6455 §4.2.2).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What is written at once at most, in bytes: a DATA frame of the usual size.
const PIECE_MAX: usize = 16 * 1024;

/// The agent's side of a WebSocket, which it joins once the upstream has agreed to it.
#[derive(Debug)]
pub struct Joins {
    duplex: oneshot::Receiver<Duplex>,
    /// What the upstream says when it agrees to this handshake and no other.
    accept: HeaderValue,
}

/// What is kept of a handshake until it is answered.
#[derive(Debug)]
pub struct Bridge {
    frames: RecvStream,
    joined: oneshot::Sender<Duplex>,
}

/// A stream of HTTP/2 as bytes in both directions.
#[derive(Debug)]
pub struct Duplex {
    recv: RecvStream,
    send: SendStream<Bytes>,
    /// Taken off the stream and not yet read.
    left: Bytes,
    /// Dropped with it: the agent's stream is kept until then.
    _ends: oneshot::Sender<()>,
}

/// Whether the request is the handshake of a WebSocket.
pub fn is_handshake(request: &Request<RecvStream>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    *request.method() == Method::CONNECT && protocol.is_some_and(|it| it.as_str() == "websocket")
}

/// The handshake as HTTP/1.1 has it, and what its answer needs. `None` when there is no randomness.
pub fn bridge(request: Request<RecvStream>) -> Option<(Request<()>, Joins, Bridge)> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).ok()?;
    let key = STANDARD.encode(nonce);
    let (mut head, frames) = request.into_parts();
    head.method = Method::GET;
    head.extensions.remove::<Protocol>();
    let accept = HeaderValue::try_from(accept(&key)).ok()?;
    head.headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::try_from(key).ok()?);
    let (joined, duplex) = oneshot::channel();
    let (joins, bridge) = (Joins { duplex, accept }, Bridge { frames, joined });
    Some((Request::from_parts(head, ()), joins, bridge))
}

fn accept(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

impl Joins {
    /// Whether these are the fields of an upstream that agrees to this handshake and no other.
    pub fn is_agreed_by(&self, fields: &HeaderMap) -> bool {
        let mut accepts = fields.get_all(header::SEC_WEBSOCKET_ACCEPT).iter();
        (accepts.next(), accepts.next()) == (Some(&self.accept), None)
    }

    /// The agent's stream; `None` when it has gone.
    pub async fn joined(self) -> Option<Duplex> {
        self.duplex.await.ok()
    }
}

impl Bridge {
    /// Hands the stream over. What is answered resolves when it has ended.
    pub fn join(self, send: SendStream<Bytes>) -> oneshot::Receiver<()> {
        let (ends, ended) = oneshot::channel();
        let duplex = Duplex { recv: self.frames, send, left: Bytes::new(), _ends: ends };
        // Nobody waits for it when the upstream has left meanwhile: it is dropped, and so reset.
        drop(self.joined.send(duplex));
        ended
    }
}

/// The head of the answer as HTTP/2 has it (RFC 8441 §5).
pub fn agreed(head: &mut http::response::Parts) {
    head.status = StatusCode::OK;
    head.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
}

impl AsyncRead for Duplex {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.left.is_empty() {
            match ready!(this.recv.poll_data(cx)) {
                Some(Ok(data)) => this.left = data,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.left.len().min(out.remaining());
        out.put_slice(&this.left[..count]);
        this.left.advance(count);
        this.recv.flow_control().release_capacity(count).map_err(broken)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.send.reserve_capacity(bytes.len().min(PIECE_MAX));
        while this.send.capacity() == 0 {
            match ready!(this.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let count = this.send.capacity().min(bytes.len()).min(PIECE_MAX);
        let piece = Bytes::copy_from_slice(&bytes[..count]);
        this.send.send_data(piece, false).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's owner flushes.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A stream that was reset meanwhile has ended too.
        let _ = self.get_mut().send.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}

fn broken(error: h2::Error) -> io::Error {
    let kind = match error.is_reset() {
        true => io::ErrorKind::ConnectionReset,
        false => io::ErrorKind::BrokenPipe,
    };
    io::Error::new(kind, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_answered_as_in_the_example_of_the_rfc() {
        // RFC 6455 §1.3.
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
