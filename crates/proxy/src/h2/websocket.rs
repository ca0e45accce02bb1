//! WebSockets over an agent's HTTP/2 stream (RFC 8441). The handshake becomes one of HTTP/1.1, which every upstream
//! supports; the DATA frames of the stream carry the WebSocket.

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

use super::{BytesGuard, bytes_with_guard, described};

/// The GUID that a server appends to the key (RFC 6455 §4.2.2).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The largest write in bytes: a DATA frame of the usual size.
const PIECE_MAX: usize = 16 * 1024;

/// The agent's side of a WebSocket, before the upstream has accepted the handshake.
#[derive(Debug)]
pub struct PendingWebSocket {
    duplex: oneshot::Receiver<Http2Duplex>,
    /// The `Sec-WebSocket-Accept` that accepts this handshake.
    accept: HeaderValue,
}

/// The handshake while it is not answered.
#[derive(Debug)]
pub struct WebSocketHandshake {
    frames: RecvStream,
    joined: oneshot::Sender<Http2Duplex>,
    /// The `Sec-WebSocket-Accept` for the agent's own key, if it sent one.
    agents_accept: Option<HeaderValue>,
}

/// An HTTP/2 stream as a byte stream in both directions.
#[derive(Debug)]
pub struct Http2Duplex {
    recv: RecvStream,
    send: SendStream<Bytes>,
    /// Received and not yet read.
    left: Bytes,
    /// What counts the exchange. The exchange may end before h2 has written all.
    counted: Option<BytesGuard>,
    /// Keeps the agent's stream open until this is dropped.
    _ends: oneshot::Sender<()>,
}

/// Whether the request is a WebSocket handshake.
pub fn is_handshake(request: &Request<RecvStream>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    *request.method() == Method::CONNECT && protocol.is_some_and(|it| it.as_str() == "websocket")
}

/// Converts the handshake to HTTP/1.1. `None` when the system gives no random bytes.
pub fn bridge(
    request: Request<RecvStream>,
) -> Option<(Request<()>, PendingWebSocket, WebSocketHandshake)> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).ok()?;
    let key = STANDARD.encode(nonce);
    let (mut head, frames) = request.into_parts();
    head.method = Method::GET;
    head.extensions.remove::<Protocol>();
    // The DATA that follows is the WebSocket's. The upstream would take its next request for the content.
    head.headers.remove(header::CONTENT_LENGTH);
    let agents_accept = agents_accept(&head.headers);
    let accept = accept(key.as_bytes())?;
    head.headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::try_from(key).ok()?);
    let (joined, duplex) = oneshot::channel();
    let (joins, bridge) =
        (PendingWebSocket { duplex, accept }, WebSocketHandshake { frames, joined, agents_accept });
    Some((Request::from_parts(head, ()), joins, bridge))
}

/// The `Sec-WebSocket-Accept` for the agent's key; `None` unless it sent one key. RFC 8441 has no key, but the undici of
/// Node 26 sends one and fails without an answer to it.
pub fn agents_accept(fields: &HeaderMap) -> Option<HeaderValue> {
    let mut keys = fields.get_all(header::SEC_WEBSOCKET_KEY).iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) => accept(key.as_bytes()),
        _ => None,
    }
}

/// Whether these fields of an upstream accept the handshake that `accept` is for (RFC 6455 §4.1).
pub fn is_agreed(fields: &HeaderMap, accept: &HeaderValue) -> bool {
    let mut accepts = fields.get_all(header::SEC_WEBSOCKET_ACCEPT).iter();
    (accepts.next(), accepts.next()) == (Some(accept), None)
}

fn accept(key: &[u8]) -> Option<HeaderValue> {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    HeaderValue::try_from(STANDARD.encode(digest)).ok()
}

impl PendingWebSocket {
    /// Whether these fields of the upstream accept this handshake.
    pub fn is_agreed_by(&self, fields: &HeaderMap) -> bool {
        is_agreed(fields, &self.accept)
    }

    /// The agent's stream; `None` when the agent has closed it.
    pub async fn joined(self) -> Option<Http2Duplex> {
        self.duplex.await.ok()
    }
}

impl WebSocketHandshake {
    /// Converts the upstream's 101 to an HTTP/2 answer (RFC 8441 §5).
    pub fn agree(&self, head: &mut http::response::Parts) {
        head.status = StatusCode::OK;
        match &self.agents_accept {
            Some(accept) => head.headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone()),
            None => head.headers.remove(header::SEC_WEBSOCKET_ACCEPT),
        };
    }

    /// The agent's stream, if the handshake was refused.
    pub fn into_frames(self) -> RecvStream {
        self.frames
    }

    /// Hands the stream over. The receiver resolves when the stream has ended. `counted`: what counts the exchange.
    pub fn join(
        self,
        send: SendStream<Bytes>,
        counted: Option<BytesGuard>,
    ) -> oneshot::Receiver<()> {
        let (_ends, ended) = oneshot::channel();
        let (recv, left) = (self.frames, Bytes::new());
        let duplex = Http2Duplex { recv, send, left, counted, _ends };
        // When the upstream has left meanwhile, there is no receiver: the stream is dropped, and so reset.
        drop(self.joined.send(duplex));
        ended
    }
}

impl AsyncRead for Http2Duplex {
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

impl AsyncWrite for Http2Duplex {
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
        let mut piece = Bytes::copy_from_slice(&bytes[..count]);
        if let Some(counted) = &this.counted {
            piece = bytes_with_guard(piece, counted.clone());
        }
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
    io::Error::new(kind, described(&error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::h2::unread_answer::UnreadAnswer;

    const SENT: usize = 32 * 1024;

    #[tokio::test]
    async fn a_websocket_that_has_ended_is_counted_until_what_it_sent_was_written() {
        let (mut unread, frames, stream) = UnreadAnswer::begin().await;
        let (counted, (joined, duplex)) = (Arc::new(()), oneshot::channel());
        let bridge = WebSocketHandshake { frames, joined, agents_accept: None };
        let ended = bridge.join(stream, Some(counted.clone()));
        let mut duplex = duplex.await.unwrap();
        duplex.write_all(&vec![b'.'; SENT]).await.unwrap();
        duplex.shutdown().await.unwrap();
        drop(duplex);
        assert!(ended.await.is_err(), "it has ended");
        unread.write().await;
        assert_ne!(Arc::strong_count(&counted), 1, "it is not written");
        assert_eq!(unread.read().await, SENT);
        assert_eq!(Arc::strong_count(&counted), 1, "it is written");
    }

    #[test]
    fn the_key_is_answered_as_in_the_example_of_the_rfc() {
        // RFC 6455 §1.3.
        let accept = accept(b"dGhlIHNhbXBsZSBub25jZQ==").expect("a value");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
