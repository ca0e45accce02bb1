//! [`Listener`]: where agents come in. Each core that accepts has a [`Door`] to it; a door tells who came
//! and turns away whom there is no room for. What becomes of a stream is `cores`'.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::front::Front;
pub use super::session::Owner;

/// What a stream gets when there are as many as there may be.
const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nKeyward-Error: overloaded\r\n\
    Retry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A bound listener, for every agent or for one.
#[derive(Debug)]
pub struct Listener {
    socket: Bound,
    owner: Option<Arc<Owner>>,
    front: Option<Arc<Front>>,
    /// A descriptor to give back when there is none left for the next stream. Doors accept one at a
    /// time, so that no other takes it first.
    reserve: Mutex<Option<OwnedFd>>,
}

#[derive(Debug)]
enum Bound {
    Tcp(std::net::TcpListener),
    /// With its file, which is removed when the listener ends; an inherited one is another's to
    /// remove.
    Unix(std::os::unix::net::UnixListener, Option<PathBuf>),
}

/// One core's way to accept from a listener.
#[derive(Debug)]
pub struct Door {
    socket: Polled,
    listener: Arc<Listener>,
}

#[derive(Debug)]
enum Polled {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An accepted socket, registered with the runtime of the door's core.
#[derive(Debug)]
pub enum Came {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// The same on its way to another core: without a runtime.
#[derive(Debug)]
pub enum Handed {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// Over a Unix socket.
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

    /// Binds a Unix socket. A socket that nobody listens on is replaced; any other file stays.
    ///
    /// # Errors
    /// When somebody listens on it, something else stands there, or it cannot be made.
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
        Ok(Self::new(Bound::Unix(UnixListener::bind(&path)?.into_std()?, Some(path))))
    }

    /// A socket that was bound for us and inherited.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn inherited_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // Streams take it from their listener (tcp(7)).
        socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
        Ok(Self::new(Bound::Tcp(listener)))
    }

    /// Likewise.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn inherited_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::new(Bound::Unix(listener, None)))
    }

    fn new(socket: Bound) -> Self {
        let listener = Self { socket, owner: None, front: None, reserve: Mutex::default() };
        *listener.reserve.lock() = listener.spare();
        listener
    }

    /// The same for one agent: whoever reaches it is that agent. A socket file is for our user alone.
    ///
    /// # Errors
    /// When the file's mode cannot be set.
    pub fn owned_by(mut self, owner: Owner) -> io::Result<Self> {
        if let Bound::Unix(_, Some(path)) = &self.socket {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
        }
        self.owner = Some(Arc::new(owner));
        Ok(self)
    }

    /// The same, where TCP streams begin with TLS.
    pub fn behind(mut self, front: Arc<Front>) -> Self {
        self.front = Some(front);
        self
    }

    /// The bound TCP address.
    pub fn addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Bound::Tcp(listener) => listener.local_addr().ok(),
            Bound::Unix(..) => None,
        }
    }

    /// The Unix socket's path, when it has one.
    pub fn path(&self) -> Option<PathBuf> {
        match &self.socket {
            Bound::Tcp(_) => None,
            Bound::Unix(listener, _) => {
                listener.local_addr().ok()?.as_pathname().map(ToOwned::to_owned)
            }
        }
    }

    /// The agent that it is for, when that is one.
    pub fn owner(&self) -> Option<&Arc<Owner>> {
        self.owner.as_ref()
    }

    /// How its streams begin with TLS, when they do.
    pub fn front(&self) -> Option<&Arc<Front>> {
        self.front.as_ref()
    }

    /// A way to accept from it. Call inside the runtime that will accept.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub fn door(self: Arc<Self>) -> io::Result<Door> {
        let socket = match &self.socket {
            Bound::Tcp(listener) => Polled::Tcp(TcpListener::from_std(listener.try_clone()?)?),
            Bound::Unix(listener, _) => {
                Polled::Unix(UnixListener::from_std(listener.try_clone()?)?)
            }
        };
        Ok(Door { socket, listener: self })
    }

    fn spare(&self) -> Option<OwnedFd> {
        let socket = match &self.socket {
            Bound::Tcp(listener) => listener.as_fd(),
            Bound::Unix(listener, _) => listener.as_fd(),
        };
        socket.try_clone_to_owned().ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Bound::Unix(_, Some(path)) = &self.socket
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(%error, "a socket file was gone before its listener");
        }
    }
}

impl Door {
    /// Who comes next, and from where.
    ///
    /// # Errors
    /// Of accept(2), and when the peer is not who the listener is for.
    pub async fn accept(&self) -> io::Result<(Came, Option<IpAddr>)> {
        let (came, peer) = poll_fn(|cx| {
            let mut reserve = self.listener.reserve.lock();
            let accepted = ready!(self.poll_accept(cx));
            if accepted.is_ok() && reserve.is_none() {
                *reserve = self.listener.spare();
            }
            Poll::Ready(accepted)
        })
        .await?;
        match &came {
            Came::Unix(unix) if self.listener.owner.is_some() && !is_of_our_user(unix) => {
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            _ => Ok((came, peer)),
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Came, Option<IpAddr>)>> {
        Poll::Ready(match &self.socket {
            Polled::Tcp(listener) => {
                let accepted = ready!(listener.poll_accept(cx));
                accepted.map(|(tcp, peer)| (Came::Tcp(tcp), Some(peer.ip().to_canonical())))
            }
            Polled::Unix(listener) => {
                ready!(listener.poll_accept(cx)).map(|(unix, _)| (Came::Unix(unix), None))
            }
        })
    }

    /// Turns whoever waits away, with the descriptor in reserve. Answers whether there was one.
    pub async fn turn_one_away(&self) -> bool {
        poll_fn(|cx| {
            let mut reserve = self.listener.reserve.lock();
            let had_one = reserve.take().is_some();
            // Who waited may have gone meanwhile.
            if had_one && let Poll::Ready(Ok((came, _))) = self.poll_accept(cx) {
                self.turn_away(came);
            }
            *reserve = self.listener.spare();
            Poll::Ready(had_one)
        })
        .await
    }

    /// Tells a stream that there is no room for it, and closes it.
    pub fn turn_away(&self, came: Came) {
        let told = match came.hand_over() {
            // In cleartext it would only be a riddle.
            _ if self.listener.front.is_some() => false,
            Ok(Handed::Tcp(tcp)) => tell_and_close(tcp),
            Ok(Handed::Unix(unix)) => tell_and_close(unix),
            Err(_) => false,
        };
        tracing::warn!(told, "turned a stream away: too many are open");
    }

    /// What it accepts from.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }
}

impl Came {
    /// Leaves the runtime of its core.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn hand_over(self) -> io::Result<Handed> {
        match self {
            Self::Tcp(tcp) => tcp.into_std().map(Handed::Tcp),
            Self::Unix(unix) => unix.into_std().map(Handed::Unix),
        }
    }
}

impl Handed {
    /// Joins the runtime that this is called in.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn take(self) -> io::Result<Came> {
        match self {
            Self::Tcp(tcp) => TcpStream::from_std(tcp).map(Came::Tcp),
            Self::Unix(unix) => UnixStream::from_std(unix).map(Came::Unix),
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
pub fn is_of_one_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Errors that say that the process, or the system, has no descriptor left (accept(2)).
pub fn is_of_descriptors(error: &io::Error) -> bool {
    let none_left = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| none_left.contains(&code))
}

/// The socket's buffer is empty and non-blocking: this never waits. What was sent already is read,
/// because closing on it could cost the peer our answer (RFC 9112 §9.6).
fn tell_and_close(mut socket: impl io::Read + io::Write) -> bool {
    let written = socket.write(OVERLOADED);
    let mut sent = [0; 4096];
    let read = socket.read(&mut sent);
    tracing::trace!(?read, "a stream that is turned away had sent this");
    written.is_ok()
}

#[cfg(test)]
mod tests {
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
    async fn what_comes_over_tcp_is_sent_without_delay() {
        let listener = Arc::new(Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap());
        let _client = TcpStream::connect(listener.addr().unwrap()).await.unwrap();
        let (Came::Tcp(tcp), _) = listener.door().unwrap().accept().await.unwrap() else {
            panic!("it came over TCP");
        };
        assert!(tcp.nodelay().unwrap());
    }

    #[tokio::test]
    async fn each_stream_comes_to_one_door_only() {
        let listener = Arc::new(Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap());
        let doors = [listener.clone().door().unwrap(), listener.clone().door().unwrap()];
        let client = TcpStream::connect(listener.addr().unwrap()).await.unwrap();
        let ((_, peer), other) = tokio::select! {
            came = doors[0].accept() => (came.unwrap(), &doors[1]),
            came = doors[1].accept() => (came.unwrap(), &doors[0]),
        };
        assert_eq!(peer, Some(client.local_addr().unwrap().ip()));
        assert!(futures_util::FutureExt::now_or_never(other.accept()).is_none());
    }

    #[tokio::test]
    async fn a_stream_is_turned_away_with_the_descriptor_in_reserve() {
        use tokio::io::AsyncReadExt;
        let listener = Arc::new(Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap());
        let door = listener.clone().door().unwrap();
        let mut client = TcpStream::connect(listener.addr().unwrap()).await.unwrap();
        let mut told = Vec::new();
        {
            let mut reads = std::pin::pin!(client.read_to_end(&mut told));
            loop {
                // Also while nobody has come yet.
                assert!(door.turn_one_away().await, "it had one");
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
        assert!(!door.turn_one_away().await, "that was the last");
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_replaced() {
        let path = tempfile::tempdir().unwrap().keep().join("proxy.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(Listener::unix(path.clone()).await.is_ok());
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
