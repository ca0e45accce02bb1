//! Sockets of both legs: [`AgentStream`] reports activity to its watchdog, [`UpstreamSocket`] ignores writes after
//! a failed one, so that an early answer can still be read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::watchdog::Watchdog;
use keyward_net::wire::Wire;

/// Any stream of bytes.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A stream of an agent, in cleartext or inside a tunnel.
pub trait AgentIo: Io + 'static {
    /// Makes the end of the stream a reset. A FIN would be the end of an answer without a length.
    fn end_by_reset(&self);
}

#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// TLS with the proxy itself.
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS with a listener for another protocol than HTTP.
    ServiceTls(ServiceTls),
}

/// TLS that ends with a close_notify however its stream ends: messages of the protocol show whether an answer is whole.
#[derive(Debug)]
pub struct ServiceTls(Box<TlsStream<TcpStream>>);

impl ServiceTls {
    pub fn new(stream: Box<TlsStream<TcpStream>>) -> Self {
        Self(stream)
    }
}

impl Drop for ServiceTls {
    fn drop(&mut self) {
        // Without waiting: a peer that reads nothing gets none.
        let mut context = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.0).poll_shutdown(&mut context);
    }
}

/// An agent's stream: its socket, bytes that were read ahead of a tunnel, and its watchdog.
#[derive(Debug)]
pub struct AgentStream {
    socket: Socket,
    early: Bytes,
    watchdog: Arc<Watchdog>,
}

/// An upstream's socket. After a failed write it discards further writes, so that an answer which the upstream sent
/// before it stopped reading can still be read: hyper would drop it because of the failed write.
#[derive(Debug)]
pub struct UpstreamSocket {
    socket: Wire,
    deaf: bool,
    state: Arc<SocketState>,
}

/// The state of an upstream's socket, shared with the pool that keeps the stream.
#[derive(Debug, Default)]
pub struct SocketState {
    /// The next pending read makes a system call.
    check: AtomicBool,
    /// Bytes that the system has accepted for sending.
    written: AtomicU64,
    /// Bytes that were read.
    received: AtomicU64,
}

impl AgentStream {
    /// Wraps an accepted socket.
    pub fn new(socket: Socket, watchdog: Arc<Watchdog>) -> Self {
        Self { socket, early: Bytes::new(), watchdog }
    }

    pub fn watchdog(&self) -> &Arc<Watchdog> {
        &self.watchdog
    }

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The socket of a stream of which nothing was read ahead.
    pub fn into_socket(self) -> Socket {
        self.socket
    }

    /// Tells the watchdog of bytes that the system accepted. A peer that does not read accepts none.
    fn wrote(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = wrote {
            self.watchdog.on_write();
        }
        wrote
    }

    /// Turns the stream into a tunnel: `early` is read first, and `watchdog` observes it from now on.
    pub fn into_tunnel(self, early: Bytes, watchdog: Arc<Watchdog>) -> Self {
        // An empty `Bytes` may still hold its read buffer.
        let early = if early.is_empty() { Bytes::new() } else { early };
        Self { socket: self.socket, early, watchdog }
    }
}

impl AgentIo for AgentStream {
    fn end_by_reset(&self) {
        // With TLS, the missing close_notify shows it. Unix sockets have no reset.
        if let Socket::Tcp(tcp) = &self.socket {
            // An error means that the socket is broken already.
            let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AgentIo for Box<TlsStream<AgentStream>> {
    fn end_by_reset(&self) {
        // The missing close_notify shows it.
    }
}

impl UpstreamSocket {
    /// Wraps a dialled socket.
    pub fn new(socket: Wire) -> Self {
        Self { socket, deaf: false, state: Arc::default() }
    }

    pub fn state(&self) -> &Arc<SocketState> {
        &self.state
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.socket).poll_read(cx, out);
        if read.is_ready() || !self.state.check.swap(false, Relaxed) {
            return read;
        }
        // The pending read has registered the waker.
        match self.socket.read_now(out) {
            Err(error) if is_pending(&error) => Poll::Pending,
            read => Poll::Ready(read),
        }
    }

    fn wrote(&mut self, result: Poll<io::Result<usize>>, len: usize) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Err(_)) => {
                self.deaf = true;
                Poll::Ready(Ok(len))
            }
            Poll::Ready(Ok(count)) => {
                self.state.written.fetch_add(count as u64, Relaxed);
                Poll::Ready(Ok(count))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl SocketState {
    /// Makes the next read bypass the cached readiness of the runtime. hyper and h2 read before they write, so they
    /// notice that the upstream has closed a stream before they write a request to it.
    pub fn check_before_write(&self) {
        self.check.store(true, Relaxed);
    }

    /// The number of bytes that the system has accepted so far.
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// The number of bytes that were read so far.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }
}

macro_rules! each_socket {
    ($self:expr, $socket:ident => $body:expr) => {
        match &mut $self.socket {
            Socket::Tcp($socket) => $body,
            Socket::Unix($socket) => $body,
            Socket::Tls($socket) | Socket::ServiceTls(ServiceTls($socket)) => $body,
        }
    };
}

impl AsyncRead for AgentStream {
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
            this.watchdog.on_read();
            return Poll::Ready(Ok(()));
        }
        let before = out.filled().len();
        let result = match &mut this.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(cx, out),
            Socket::Unix(socket) => Pin::new(socket).poll_read(cx, out),
            Socket::Tls(socket) | Socket::ServiceTls(ServiceTls(socket)) => {
                Pin::new(socket).poll_read(cx, out)
            }
        };
        if out.filled().len() > before {
            this.watchdog.on_read();
        }
        result
    }
}

impl AsyncWrite for AgentStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = each_socket!(this, socket => Pin::new(socket).poll_write(cx, bytes));
        this.wrote(wrote)
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
        let this = self.get_mut();
        let wrote = each_socket!(this, socket => Pin::new(socket).poll_write_vectored(cx, bytes));
        this.wrote(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_socket!(self.get_mut(), socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_socket!(self.get_mut(), socket => Pin::new(socket).poll_shutdown(cx))
    }
}

impl AsyncRead for UpstreamSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        let read = this.poll_bytes(cx, out);
        let bytes = out.filled().len() - before;
        if bytes > 0 {
            // Only this reader changes it.
            let received = &this.state.received;
            received.store(received.load(Relaxed) + bytes as u64, Relaxed);
        }
        read
    }
}

fn is_pending(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl AsyncWrite for UpstreamSocket {
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
        this.wrote(result, bytes.len())
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
        this.wrote(result, length)
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;

    use super::*;
    use crate::body::request_body::RequestBody;

    /// An upstream with a blocking socket. The runtime polls our socket only when the test awaits.
    fn pair() -> (UpstreamSocket, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ours.set_nonblocking(true).unwrap();
        let (peer, _) = listener.accept().unwrap();
        (UpstreamSocket::new(TcpStream::from_std(ours).unwrap().into()), peer)
    }

    fn post() -> http::Request<RequestBody> {
        let mut request = http::Request::new(RequestBody::own(Bytes::from_static(b"an order")));
        *request.method_mut() = http::Method::POST;
        request
    }

    /// How the upstream ends its stream.
    #[derive(Clone, Copy, Debug)]
    enum UpstreamEnds {
        Closes,
        Resets,
    }

    impl UpstreamEnds {
        fn end(self, peer: std::net::TcpStream) {
            if let Self::Resets = self {
                let linger = Some(std::time::Duration::ZERO);
                socket2::SockRef::from(&peer).set_linger(linger).unwrap();
            }
            drop(peer);
        }
    }

    /// hyper's client on a stream on which one request was answered.
    async fn kept_alive() -> (http1::SendRequest<RequestBody>, Arc<SocketState>, std::net::TcpStream)
    {
        let (upstream, mut peer) = pair();
        let state = upstream.state().clone();
        let (mut sender, connection) = http1::handshake(TokioIo::new(upstream)).await.unwrap();
        tokio::spawn(connection);
        let first = tokio::spawn(sender.send_request(post()));
        while state.written() == 0 {
            tokio::task::yield_now().await;
        }
        let mut head = [0; 1024];
        assert!(peer.read(&mut head).unwrap() > 0);
        peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(first.await.unwrap().unwrap().status(), 200);
        sender.ready().await.unwrap();
        (sender, state, peer)
    }

    #[tokio::test]
    async fn a_write_that_an_agent_does_not_take_is_no_activity() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _agent = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let watchdog = Arc::new(Watchdog::idle());
        let mut stream = AgentStream::new(Socket::Tcp(socket), watchdog.clone());
        let mut wrote = async || {
            futures_util::poll!(std::future::poll_fn(|cx| {
                Pin::new(&mut stream).poll_write(cx, &[0; 64 * 1024])
            }))
        };
        while wrote().await.is_ready() {
            assert!(watchdog.has_moved());
        }
        for _ in 0..2 {
            assert!(wrote().await.is_pending() && !watchdog.has_moved());
        }
    }

    #[tokio::test]
    async fn a_request_on_a_stream_that_the_upstream_already_ended_is_returned_unwritten() {
        for ends in [UpstreamEnds::Closes, UpstreamEnds::Resets] {
            let (mut sender, state, peer) = kept_alive().await;
            let written = state.written();
            ends.end(peer);
            state.check_before_write();
            let mut error = sender.try_send_request(post()).await.unwrap_err();
            let unsent = error.take_message().expect("the request");
            assert_eq!(unsent.method(), http::Method::POST, "{ends:?}");
            assert_eq!(state.written(), written, "{ends:?}: not one byte");
        }
    }

    #[tokio::test]
    async fn a_write_that_the_system_refuses_counts_no_bytes() {
        let (mut sender, state, peer) = kept_alive().await;
        let written = state.written();
        UpstreamEnds::Resets.end(peer);
        let mut error = sender.try_send_request(post()).await.unwrap_err();
        assert!(error.take_message().is_none(), "hyper has taken the request");
        assert_eq!(state.written(), written);
    }

    #[tokio::test]
    async fn a_request_that_the_system_accepted_counts_as_written() {
        let (mut sender, state, peer) = kept_alive().await;
        let written = state.written();
        UpstreamEnds::Closes.end(peer);
        let mut error = sender.try_send_request(post()).await.unwrap_err();
        assert!(error.take_message().is_none() && state.written() > written);
    }

    #[tokio::test]
    async fn a_stream_that_is_still_open_is_used_again_after_the_check() {
        let (mut sender, state, mut peer) = kept_alive().await;
        state.check_before_write();
        let again = tokio::spawn(sender.send_request(post()));
        let mut head = [0; 1024];
        let written = state.written();
        while state.written() == written {
            tokio::task::yield_now().await;
        }
        assert!(peer.read(&mut head).unwrap() > 0);
        peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!(again.await.unwrap().unwrap().status(), 204);
    }
}
