//! Listeners and cores: sockets are accepted on the background runtime and handed to the core with
//! the fewest open streams, each a thread with a runtime of its own.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::drive::draining;
use super::front::Front;
use super::pulse::Pulse;
pub use super::session::Owner;
use super::session::{Accepted, Counted};
use super::standing::Standing;
use super::stream::{Agents, Socket};
use super::{Core, Gateway, connect};
use crate::base::host::Scheme;

/// How long accepting pauses when the process is out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// How long streams that are cut have to say so: WebSockets take no longer.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// What a stream gets when there are as many as there may be.
const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nKeyward-Error: overloaded\r\n\
    Retry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A bound listener, for every agent or for one.
#[derive(Debug)]
pub struct Listener {
    socket: Bound,
    owner: Option<Arc<Owner>>,
    front: Option<Arc<Front>>,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    /// With its file, which is removed when the listener ends; an inherited one is another's to
    /// remove.
    Unix(UnixListener, Option<PathBuf>),
}

/// A socket on its way to a core: without a runtime.
enum Handed {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    /// TLS comes first.
    Fronted(std::net::TcpStream, Arc<Front>),
}

/// The threads that serve agents' streams.
#[derive(Debug)]
pub struct Cores {
    gateway: Arc<Gateway>,
    cores: Vec<Handle>,
}

#[derive(Debug)]
struct Handle {
    sockets: UnboundedSender<(Handed, Accepted)>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Binds TCP.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn tcp(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self::new(Bound::Tcp(TcpListener::bind(addr).await?)))
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
        Ok(Self::new(Bound::Unix(UnixListener::bind(&path)?, Some(path))))
    }

    /// A socket that was bound for us and inherited.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn inherited_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::new(Bound::Tcp(TcpListener::from_std(listener)?)))
    }

    /// Likewise.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn inherited_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::new(Bound::Unix(UnixListener::from_std(listener)?, None)))
    }

    fn new(socket: Bound) -> Self {
        Self { socket, owner: None, front: None }
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

    /// A descriptor to give back when there is none left for the next stream.
    fn spare(&self) -> Option<OwnedFd> {
        let socket = match &self.socket {
            Bound::Tcp(listener) => listener.as_fd(),
            Bound::Unix(listener, _) => listener.as_fd(),
        };
        socket.try_clone_to_owned().ok()
    }

    async fn accept(&self) -> io::Result<(Handed, Option<std::net::IpAddr>)> {
        match &self.socket {
            Bound::Tcp(listener) => {
                let (tcp, peer) = listener.accept().await?;
                tcp.set_nodelay(true)?;
                let (tcp, peer) = (tcp.into_std()?, Some(peer.ip().to_canonical()));
                Ok(match &self.front {
                    Some(front) => (Handed::Fronted(tcp, front.clone()), peer),
                    None => (Handed::Tcp(tcp), peer),
                })
            }
            Bound::Unix(listener, _) => {
                let (unix, _) = listener.accept().await?;
                if self.owner.is_some() && !is_of_our_user(&unix) {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Ok((Handed::Unix(unix.into_std()?), None))
            }
        }
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

impl Cores {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When a thread or runtime cannot be made.
    pub fn start(gateway: Arc<Gateway>, count: usize) -> io::Result<Self> {
        let cores = (0..count.max(1))
            .map(|index| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let (sockets, handed) = unbounded_channel();
                let (open, shared) = (Arc::default(), gateway.clone());
                let thread = std::thread::Builder::new()
                    .name(format!("keyward-core-{index}"))
                    .spawn(move || runtime.block_on(run(shared, handed)))?;
                Ok(Handle { sockets, open, thread })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { gateway, cores })
    }

    /// Accepts until the gateway drains. A failed accept is one socket's loss, not an exit; without
    /// descriptors, streams are turned away one by one instead of waiting for nobody.
    pub async fn accept(self: Arc<Self>, listener: Listener) {
        let mut drain = self.gateway.draining.clone();
        let mut spare = listener.spare();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = draining(&mut drain) => return,
            };
            match accepted {
                Ok((socket, peer)) => self.hand_over(socket, (peer, listener.owner.clone())),
                Err(error) if is_of_one_socket(&error) => {}
                Err(error) if is_of_descriptors(&error) && spare.take().is_some() => {
                    // Who waits may have gone meanwhile.
                    let waiting = tokio::time::timeout(PAUSE, listener.accept()).await;
                    if let Ok(Ok((socket, _))) = waiting {
                        turn_away(socket);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting pauses");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            // Somebody else may have taken the one that was given back.
            spare = spare.or_else(|| listener.spare());
        }
    }

    fn hand_over(
        &self,
        socket: Handed,
        (peer, owner): (Option<std::net::IpAddr>, Option<Arc<Owner>>),
    ) {
        let Ok(permit) = self.gateway.streams.clone().try_acquire_owned() else {
            return turn_away(socket);
        };
        let least = self.cores.iter().min_by_key(|core| core.open.load(Relaxed));
        let core = least.expect("there is at least one core: see `start`");
        let pulse = Arc::new(Pulse::awaiting_head());
        let (standing, counted) = (Arc::new(Standing::default()), Counted::new(&core.open));
        let scheme = match &socket {
            Handed::Fronted(..) => Scheme::Https,
            Handed::Tcp(_) | Handed::Unix(_) => Scheme::Http,
        };
        let accepted = Accepted { peer, owner, scheme, pulse, standing, permit, counted };
        if core.sockets.send((socket, accepted)).is_err() {
            tracing::error!("a core has stopped");
        }
    }

    /// What ends all streams when it becomes true: [`Cores::finish`] waits no longer then.
    pub fn cutting(&self) -> watch::Sender<bool> {
        self.gateway.cutting.clone()
    }

    /// Waits until every stream has ended, at most for `within`; then ends what is left, and the
    /// threads. Answers whether all had ended by themselves.
    pub async fn finish(self, within: Duration) -> bool {
        let all = u32::try_from(self.gateway.limits.streams_max).unwrap_or(u32::MAX);
        let mut ended = pin!(self.gateway.streams.acquire_many(all));
        let clean = tokio::select! {
            _ = ended.as_mut() => true,
            () = self.gateway.cut() => false,
            () = tokio::time::sleep(within) => false,
        };
        if !clean {
            self.gateway.cutting.send_replace(true);
            // Whoever does not end even then is dropped with its runtime.
            let _ = tokio::time::timeout(LAST_WORDS_WITHIN, ended).await;
        }
        let threads: Vec<_> = self
            .cores
            .into_iter()
            .map(|Handle { sockets, thread, .. }| {
                drop(sockets);
                thread
            })
            .collect();
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().all(|t| t.join().is_ok()));
        joined.await.unwrap_or(false) && clean
    }
}

/// One core's life: dress each socket, serve it in a task. Ends when no more can come; what still
/// runs then is dropped with the runtime.
async fn run(gateway: Arc<Gateway>, mut sockets: UnboundedReceiver<(Handed, Accepted)>) {
    let core = Core::new(gateway);
    while let Some((handed, accepted)) = sockets.recv().await {
        let socket = match handed {
            Handed::Tcp(tcp) => TcpStream::from_std(tcp).map(Socket::Tcp),
            Handed::Unix(unix) => UnixStream::from_std(unix).map(Socket::Unix),
            Handed::Fronted(tcp, front) => match TcpStream::from_std(tcp) {
                Ok(tcp) => {
                    tokio::spawn(fronted(core.clone(), (tcp, front), accepted));
                    continue;
                }
                Err(error) => Err(error),
            },
        };
        match socket {
            Ok(socket) => {
                let stream = Agents::new(socket, accepted.pulse.clone());
                tokio::spawn(connect::serve(core.clone(), stream, accepted));
            }
            Err(error) => tracing::warn!(%error, "a stream was lost on its way to a core"),
        }
    }
}

/// A stream that begins with TLS. Who does not manage that was nobody yet: there is no exchange to
/// record.
async fn fronted(core: Arc<Core>, (tcp, front): (TcpStream, Arc<Front>), accepted: Accepted) {
    match front.enter(&core.gateway, tcp).await {
        Ok(tls) => {
            let stream = Agents::new(Socket::Tls(tls), accepted.pulse.clone());
            connect::serve(core, stream, accepted).await;
        }
        Err(cause) => {
            core.gateway.metrics.handshakes_failed.inc();
            let cause = cause.escape_debug().to_string();
            tracing::info!(cause, "no TLS with a client of the proxy");
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
fn is_of_one_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Errors that say that the process, or the system, has no descriptor left (accept(2)).
fn is_of_descriptors(error: &io::Error) -> bool {
    let none_left = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| none_left.contains(&code))
}

fn turn_away(socket: Handed) {
    let told = match socket {
        Handed::Tcp(tcp) => tell_and_close(tcp),
        Handed::Unix(unix) => tell_and_close(unix),
        // In cleartext it would only be a riddle.
        Handed::Fronted(..) => false,
    };
    tracing::warn!(told, "turned a stream away: too many are open");
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
    async fn a_socket_that_nobody_listens_on_is_replaced() {
        let path = tempfile::tempdir().unwrap().keep().join("proxy.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(Listener::unix(path.clone()).await.is_ok());
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
