//! [`Listener`]: a bound socket that agents connect to. Each core accepts through its own [`Acceptor`], which also
//! rejects streams above the limit. `streams/cores.rs` serves the accepted streams. [`HandedOver`]: whether another process has
//! taken the listening sockets of this one.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use super::proxy_tls::ProxyTls;
use keyward_base::id::OrgId;
use keyward_net::wire;

/// The answer to a stream above the limit.
const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nKeyward-Error: overloaded\r\n\
    X-Content-Type-Options: nosniff\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A bound listener, for all agents or for one.
#[derive(Debug)]
pub struct Listener {
    socket: BoundSocket,
    owner: Option<Arc<ListenerOwner>>,
    proxy_tls: Option<Arc<ProxyTls>>,
    overloaded: &'static [u8],
    handed_over: HandedOver,
    /// Turns true when the listener closes and its streams end; `None`: as long as the gateway accepts.
    closing: Option<watch::Receiver<bool>>,
    /// A spare descriptor, released when the process has none left for the next stream. Acceptors accept one at a
    /// time, so that only one of them uses it.
    reserve: Mutex<Option<OwnedFd>>,
}

/// The agent that a listener belongs to: every client of the listener acts as this agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerOwner {
    /// The agent's org.
    pub org: OrgId,
    pub agent: String,
}

#[derive(Debug)]
enum BoundSocket {
    Tcp(std::net::TcpListener),
    /// With its socket file, which is removed when the listener ends; `None` for an inherited socket.
    Unix(std::os::unix::net::UnixListener, Option<PathBuf>),
}

/// Accepts from a listener on one core.
#[derive(Debug)]
pub struct Acceptor {
    socket: Polled,
    listener: Arc<Listener>,
}

#[derive(Debug)]
enum Polled {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An accepted socket, registered with the runtime of its core.
#[derive(Debug)]
pub enum NewSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// An accepted socket without a runtime, on its way to another core.
#[derive(Debug)]
pub enum DetachedSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Listener {
    /// Binds TCP.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn tcp(addr: SocketAddr) -> io::Result<Self> {
        Self::inherited_tcp(TcpListener::bind(addr).await?.into_std()?)
    }

    /// Binds a Unix socket. A stale socket file is replaced; any other file is kept.
    ///
    /// # Errors
    /// When another process listens on it, another file has that path, or it cannot be created.
    pub async fn unix(path: PathBuf) -> io::Result<Self> {
        if UnixStream::connect(&path).await.is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(&path)?,
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self::new(BoundSocket::Unix(UnixListener::bind(&path)?.into_std()?, Some(path))))
    }

    /// Takes a TCP listener that was inherited.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn inherited_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // Streams take it from their listener (tcp(7)).
        socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
        wire::enable(&listener)?;
        Ok(Self::new(BoundSocket::Tcp(listener)))
    }

    /// Takes a Unix listener that was inherited.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn inherited_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::new(BoundSocket::Unix(listener, None)))
    }

    /// Takes a Unix listener of another process together with its socket file.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn inherited_unix_at(
        listener: std::os::unix::net::UnixListener,
        path: PathBuf,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::new(BoundSocket::Unix(listener, Some(path))))
    }

    fn new(socket: BoundSocket) -> Self {
        let listener = Self {
            socket,
            owner: None,
            proxy_tls: None,
            overloaded: OVERLOADED,
            handed_over: HandedOver::default(),
            closing: None,
            reserve: Mutex::default(),
        };
        *listener.reserve.lock() = listener.spare();
        listener
    }

    /// Makes the listener one agent's own. Its socket file is accessible to the gateway's user only.
    ///
    /// # Errors
    /// When the file's mode cannot be set.
    pub fn owned_by(mut self, owner: ListenerOwner) -> io::Result<Self> {
        if let BoundSocket::Unix(_, Some(path)) = &self.socket {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
        }
        self.owner = Some(Arc::new(owner));
        Ok(self)
    }

    /// Makes TCP streams of the listener begin with TLS.
    pub fn with_tls(mut self, proxy_tls: Arc<ProxyTls>) -> Self {
        self.proxy_tls = Some(proxy_tls);
        self
    }

    /// Sends this to streams above the limit: the listener speaks another protocol than HTTP.
    pub fn with_overload_answer(mut self, answer: &'static [u8]) -> Self {
        self.overloaded = answer;
        self
    }

    /// Keeps the socket file when another process has taken the listener over.
    pub fn kept_when(mut self, handed_over: HandedOver) -> Self {
        self.handed_over = handed_over;
        self
    }

    /// Closes the listener, and ends its streams, when this turns true.
    pub(crate) fn closed_by(mut self, closing: watch::Receiver<bool>) -> Self {
        self.closing = Some(closing);
        self
    }

    /// Turns true when the listener closes, if it closes before the gateway stops accepting.
    pub(crate) fn closing(&self) -> Option<&watch::Receiver<bool>> {
        self.closing.as_ref()
    }

    /// The bound TCP address.
    pub fn addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            BoundSocket::Tcp(listener) => listener.local_addr().ok(),
            BoundSocket::Unix(..) => None,
        }
    }

    /// The path of the Unix socket, if it has one.
    pub fn path(&self) -> Option<PathBuf> {
        match &self.socket {
            BoundSocket::Tcp(_) => None,
            BoundSocket::Unix(listener, _) => {
                listener.local_addr().ok()?.as_pathname().map(ToOwned::to_owned)
            }
        }
    }

    /// The owner, if the listener belongs to one agent.
    pub fn owner(&self) -> Option<&Arc<ListenerOwner>> {
        self.owner.as_ref()
    }

    /// The TLS of its streams, if it has any.
    pub fn proxy_tls(&self) -> Option<&Arc<ProxyTls>> {
        self.proxy_tls.as_ref()
    }

    /// Makes an acceptor. Call inside the runtime that will accept.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn acceptor(self: Arc<Self>) -> io::Result<Acceptor> {
        let socket = match &self.socket {
            BoundSocket::Tcp(listener) => {
                Polled::Tcp(TcpListener::from_std(listener.try_clone()?)?)
            }
            BoundSocket::Unix(listener, _) => {
                Polled::Unix(UnixListener::from_std(listener.try_clone()?)?)
            }
        };
        Ok(Acceptor { socket, listener: self })
    }

    fn spare(&self) -> Option<OwnedFd> {
        self.as_fd().try_clone_to_owned().ok()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            BoundSocket::Tcp(listener) => listener.as_fd(),
            BoundSocket::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let BoundSocket::Unix(_, Some(path)) = &self.socket
            && !self.handed_over.is_set()
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(%error, "a socket file was gone before its listener");
        }
    }
}

impl Acceptor {
    /// Accepts the next stream. Returns the peer's address for TCP.
    ///
    /// # Errors
    /// Of accept(2), and when the peer of a Unix socket is another user than the gateway's.
    pub async fn accept(&self) -> io::Result<(NewSocket, Option<IpAddr>)> {
        let (socket, peer) = poll_fn(|cx| {
            let mut reserve = self.listener.reserve.lock();
            let accepted = ready!(self.poll_accept(cx));
            if accepted.is_ok() && reserve.is_none() {
                *reserve = self.listener.spare();
            }
            Poll::Ready(accepted)
        })
        .await?;
        match &socket {
            NewSocket::Unix(unix) if self.listener.owner.is_some() && !is_of_our_user(unix) => {
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            _ => Ok((socket, peer)),
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(NewSocket, Option<IpAddr>)>> {
        Poll::Ready(match &self.socket {
            Polled::Tcp(listener) => {
                let accepted = ready!(listener.poll_accept(cx));
                accepted.map(|(tcp, peer)| (NewSocket::Tcp(tcp), Some(peer.ip().to_canonical())))
            }
            Polled::Unix(listener) => {
                ready!(listener.poll_accept(cx)).map(|(unix, _)| (NewSocket::Unix(unix), None))
            }
        })
    }

    /// Rejects one waiting stream with the spare descriptor. Returns whether there was a spare one.
    pub async fn reject_one(&self) -> bool {
        poll_fn(|cx| {
            let mut reserve = self.listener.reserve.lock();
            let had_one = reserve.take().is_some();
            // The waiting client may have left meanwhile.
            if had_one && let Poll::Ready(Ok((socket, _))) = self.poll_accept(cx) {
                self.reject(socket);
            }
            *reserve = self.listener.spare();
            Poll::Ready(had_one)
        })
        .await
    }

    /// Answers that the gateway is overloaded, and closes the stream.
    pub fn reject(&self, socket: NewSocket) {
        let is_answered = match socket.detach() {
            // A client that expects TLS cannot read a cleartext answer.
            _ if self.listener.proxy_tls.is_some() => false,
            Ok(DetachedSocket::Tcp(tcp)) => answer_and_close(tcp, self.listener.overloaded),
            Ok(DetachedSocket::Unix(unix)) => answer_and_close(unix, self.listener.overloaded),
            Err(_) => false,
        };
        tracing::warn!(
            id = "streams_refused",
            answered = is_answered,
            "refused a stream: too many are open"
        );
    }

    pub fn listener(&self) -> &Listener {
        &self.listener
    }
}

impl NewSocket {
    /// Removes the socket from the runtime of its core.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn detach(self) -> io::Result<DetachedSocket> {
        match self {
            Self::Tcp(tcp) => tcp.into_std().map(DetachedSocket::Tcp),
            Self::Unix(unix) => unix.into_std().map(DetachedSocket::Unix),
        }
    }
}

impl DetachedSocket {
    /// Joins the runtime that this is called in.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn attach(self) -> io::Result<NewSocket> {
        match self {
            Self::Tcp(tcp) => TcpStream::from_std(tcp).map(NewSocket::Tcp),
            Self::Unix(unix) => UnixStream::from_std(unix).map(NewSocket::Unix),
        }
    }
}

/// Whether the peer is our own user or root: a file's mode alone does not hold everywhere.
fn is_of_our_user(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own || peer.uid() == 0 => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "refused a peer on an agent's socket");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "a peer of an agent's socket has no user id");
            false
        }
    }
}

/// Errors that say something of the accepted socket only (accept(2)).
pub fn affects_one_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Sends the answer, and closes the socket. Never waits, because the socket's buffer is empty and the socket does not
/// block. Received bytes are read, because closing without reading can cost the peer the answer (RFC 9112 §9.6).
fn answer_and_close(mut socket: impl io::Read + io::Write, answer: &[u8]) -> bool {
    let written = socket.write(answer);
    let mut sent = [0; 4096];
    let read = socket.read(&mut sent);
    tracing::trace!(?read, "received from a refused stream");
    written.is_ok()
}

/// Set when another process has the listeners: their socket files then stay. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct HandedOver(Arc<AtomicBool>);

impl HandedOver {
    /// Another process accepts from now on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether another process accepts.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt;

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_not_replaced_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "mine").unwrap();
        assert!(Listener::unix(path.clone()).await.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn accepted_tcp_streams_have_nodelay_and_keepalive() {
        let listener = Arc::new(Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap());
        let _client = TcpStream::connect(listener.addr().unwrap()).await.unwrap();
        let (NewSocket::Tcp(tcp), _) = listener.acceptor().unwrap().accept().await.unwrap() else {
            panic!("it came over TCP");
        };
        assert!(tcp.nodelay().unwrap());
        assert!(sockopt::socket_keepalive(&tcp).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&tcp).unwrap(), std::time::Duration::from_secs(30));
    }

    #[tokio::test]
    async fn each_stream_is_accepted_by_one_acceptor() {
        let listener = Arc::new(Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap());
        let doors = [listener.clone().acceptor().unwrap(), listener.clone().acceptor().unwrap()];
        let client = TcpStream::connect(listener.addr().unwrap()).await.unwrap();
        let ((_, peer), other) = tokio::select! {
            socket = doors[0].accept() => (socket.unwrap(), &doors[1]),
            socket = doors[1].accept() => (socket.unwrap(), &doors[0]),
        };
        assert_eq!(peer, Some(client.local_addr().unwrap().ip()));
        assert!(futures_util::FutureExt::now_or_never(other.accept()).is_none());
    }

    #[tokio::test]
    async fn a_stream_is_refused_with_the_reserved_descriptor() {
        use tokio::io::AsyncReadExt;
        let listener = Arc::new(Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap());
        let acceptor = listener.clone().acceptor().unwrap();
        let mut client = TcpStream::connect(listener.addr().unwrap()).await.unwrap();
        let mut told = Vec::new();
        {
            let mut reads = std::pin::pin!(client.read_to_end(&mut told));
            loop {
                // Also before a client has connected.
                assert!(acceptor.reject_one().await, "it had one");
                tokio::select! {
                    biased;
                    read = &mut reads => {
                        read.unwrap();
                        break;
                    }
                    () = tokio::task::yield_now() => {}
                }
            }
        }
        assert_eq!(told, OVERLOADED);
        assert!(listener.reserve.lock().take().is_some(), "it has one again");
        assert!(!acceptor.reject_one().await, "that was the last");
    }

    #[tokio::test]
    async fn a_socket_without_a_listener_is_replaced() {
        let path = tempfile::tempdir().unwrap().keep().join("proxy.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(Listener::unix(path.clone()).await.is_ok());
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
