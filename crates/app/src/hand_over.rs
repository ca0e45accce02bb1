//! Hands the listening sockets of a gateway over to another process, so that a restart refuses no connection. The sockets
//! stay open all the time: what arrives while neither process accepts waits in the queues of the kernel.
//!
//! Protocol on `next.sock`: the gateway sends the names of its sockets with the descriptors, the other process sends
//! one byte when the gateway shall end, and the stream closes when the gateway has ended.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

use keyward_databases::{InheritedListeners, StoredListeners};
use keyward_proxy::HandedOver;

/// The socket's name in the data directory.
const SOCKET_NAME: &str = "next.sock";

/// The name under which the listener of `next.sock` itself is passed on.
const OWN: &str = "handover";

/// The most descriptors of one message: `SCM_MAX_FD` of Linux.
const SOCKETS_MAX: usize = 253;

/// Most bytes of all names.
const NAMES_BYTES_MAX: usize = 64 * 1024;

/// How long a message may take. Both processes are ready for it.
const MESSAGE_WITHIN: Duration = Duration::from_secs(10);

/// Streams that were accepted a moment before have this long for their first request.
pub(super) const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(2);

/// The byte with which the successor asks the gateway to end.
const END: u8 = b'e';

/// The sockets of this gateway, on offer to another process.
pub(super) struct HandOver {
    sockets: Vec<(String, OwnedFd)>,
    listener: UnixListener,
    path: PathBuf,
    handed_over: HandedOver,
}

/// The successor has the sockets and is not ready yet. If this process ends meanwhile, the successor owns the socket
/// files.
struct WaitingSuccessor<'a> {
    handed_over: &'a HandedOver,
    has_heard: bool,
}

/// The successor has the sockets. Held until this process ends, so that the successor notices the end.
pub(super) struct Successor(
    #[expect(dead_code, reason = "closed when the process ends")] UnixStream,
);

/// The sockets of a running gateway, which this process has received.
pub(super) struct Predecessor {
    sockets: Vec<(String, OwnedFd)>,
    stream: unix::UnixStream,
}

/// Gives listeners their sockets, of a predecessor or new ones, and remembers them for a successor.
pub(super) struct Sockets {
    received: Vec<(String, OwnedFd)>,
    given: Vec<(String, OwnedFd)>,
    pub(super) handed_over: HandedOver,
}

impl Sockets {
    /// Takes the sockets that the predecessor has sent.
    pub(super) fn of(predecessor: Option<&mut Predecessor>) -> Self {
        let received = predecessor.map(|it| std::mem::take(&mut it.sockets)).unwrap_or_default();
        Self { received, given: Vec::new(), handed_over: HandedOver::default() }
    }

    /// The predecessor's socket of this name.
    pub(super) fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let at = self.received.iter().position(|(its, _)| its == name)?;
        Some(self.received.remove(at).1)
    }

    /// The predecessor's sockets of stored listeners for databases.
    pub(super) fn take_databases(&mut self) -> InheritedListeners {
        InheritedListeners::taken_from(&mut self.received, self.handed_over.clone())
    }

    /// Remembers a listener's socket.
    pub(super) fn give(&mut self, name: String, socket: impl AsFd) -> io::Result<()> {
        self.given.push((name, socket.as_fd().try_clone_to_owned()?));
        Ok(())
    }

    /// Offers the sockets in the data directory. The caller has the store, or the sockets of the gateway before, so
    /// that no other process does the same.
    pub(super) fn offer(mut self, data_dir: &Path) -> anyhow::Result<HandOver> {
        let path = data_dir.join(SOCKET_NAME);
        let listener = match self.take(OWN) {
            Some(own) => unix::UnixListener::from(own),
            None => bound(&path).with_context(|| format!("cannot bind {}", path.display()))?,
        };
        self.give(OWN.to_owned(), &listener)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        Ok(HandOver { sockets: self.given, listener, path, handed_over: self.handed_over })
    }
}

fn bound(path: &Path) -> io::Result<unix::UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = unix::UnixListener::bind(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

impl HandOver {
    /// Resolves when another process has the sockets, those of stored listeners included, and asks this one to end. Dropped
    /// before, the offer ends.
    pub(super) async fn wait_for_successor(self, stored: &StoredListeners) -> Successor {
        loop {
            match self.attempt(stored).await {
                Ok(Some(stream)) => {
                    self.handed_over.set();
                    return Successor(stream);
                }
                Ok(None) => tracing::info!(
                    "another process requested the sockets, and closed the stream before it had them"
                ),
                Err(error) => {
                    tracing::warn!(%error, "the sockets could not be handed over");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Sends the sockets to the next process that asks; `None` if it ends before it is ready.
    async fn attempt(&self, stored: &StoredListeners) -> io::Result<Option<UnixStream>> {
        let (mut stream, _) = self.listener.accept().await?;
        let (peer, own) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
        if peer != own && peer != 0 {
            return Err(io::Error::other(format!("user {peer} is not the gateway's user")));
        }
        tracing::info!(id = "hand_over", "another process takes the listening sockets");
        let stored = stored.sockets().await?;
        let sending = async {
            loop {
                stream.writable().await?;
                match stream.try_io(tokio::io::Interest::WRITABLE, || self.send(&stream, &stored)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return done,
                }
            }
        };
        tokio::time::timeout(MESSAGE_WITHIN, sending).await??;
        let mut word = [0];
        let waiting = WaitingSuccessor { handed_over: &self.handed_over, has_heard: false };
        let heard = stream.read(&mut word).await;
        waiting.heard();
        match heard? {
            1 if word == [END] => Ok(Some(stream)),
            _ => Ok(None),
        }
    }

    /// One message, which is sent whole: it is smaller than the buffer of a new socket.
    fn send(&self, stream: &UnixStream, stored: &[(String, OwnedFd)]) -> io::Result<()> {
        let all = || self.sockets.iter().chain(stored);
        let names: Vec<_> = all().map(|(name, _)| name.as_str()).collect();
        let sockets: Vec<_> = all().map(|(_, socket)| socket.as_fd()).collect();
        let names = names.join("\n");
        if sockets.len() > SOCKETS_MAX || names.len() > NAMES_BYTES_MAX {
            return Err(io::Error::other(format!(
                "a gateway with more than {SOCKETS_MAX} listeners cannot be taken over: stop it first"
            )));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&sockets));
        let sent =
            sendmsg(stream, &[IoSlice::new(names.as_bytes())], &mut control, SendFlags::empty())?;
        if sent == names.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

impl WaitingSuccessor<'_> {
    fn heard(mut self) {
        self.has_heard = true;
    }
}

impl Drop for WaitingSuccessor<'_> {
    fn drop(&mut self) {
        if !self.has_heard {
            self.handed_over.set();
        }
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        if !self.handed_over.is_set()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "the socket for a hand-over was gone already");
        }
    }
}

impl Predecessor {
    /// Asks the gateway of the data directory for its sockets; `None` if none runs. Blocks for a moment.
    pub(super) fn find(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = data_dir.join(SOCKET_NAME);
        let stream = match unix::UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot use {}", path.display()));
            }
        };
        let received = received(stream);
        let failed = || format!("the gateway at {} does not hand over its sockets", path.display());
        received.map(Some).with_context(failed)
    }

    /// Asks the gateway to end.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.stream.write_all(&[END])
    }

    /// Asks the gateway to end, and waits until it has.
    pub(super) async fn ended(mut self) -> anyhow::Result<Self> {
        let waiting = move || {
            self.end()?;
            self.stream.set_read_timeout(None)?;
            // The predecessor sends nothing: its stream ends with its process.
            match self.stream.read(&mut [0]) {
                Ok(_) => Ok(self),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(self),
                Err(error) => Err(error),
            }
        };
        let ended = tokio::task::spawn_blocking(waiting).await?;
        ended.context("the previous gateway does not stop")
    }
}

fn received(stream: unix::UnixStream) -> io::Result<Predecessor> {
    stream.set_read_timeout(Some(MESSAGE_WITHIN))?;
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut names = vec![0; NAMES_BYTES_MAX];
    let message =
        recvmsg(&stream, &mut [IoSliceMut::new(&mut names)], &mut control, RecvFlags::empty())?;
    names.truncate(message.bytes);
    let mut sockets = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = part {
            sockets.extend(descriptors);
        }
    }
    for socket in &sockets {
        // Commands of secret sources must not inherit it.
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
    }
    let names = String::from_utf8(names).map_err(io::Error::other)?;
    let names: Vec<_> = names.lines().map(str::to_owned).collect();
    if names.is_empty() || names.len() != sockets.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Predecessor { sockets: names.into_iter().zip(sockets).collect(), stream })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use keyward_base::time::Clock;
    use keyward_state::crypto::keyring::Keyring;
    use keyward_state::directory::Directory;
    use keyward_state::store::memory::MemoryStore;

    fn offered(data: &Path) -> (HandOver, std::net::SocketAddr) {
        let mut sockets = Sockets::of(None);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        sockets.give("listen.proxy".to_owned(), &listener).unwrap();
        (sockets.offer(data).unwrap(), listener.local_addr().unwrap())
    }

    /// Offers, with the stored listeners of an empty store.
    async fn taken(offer: HandOver) -> Successor {
        let (store, keyring) = (Arc::new(MemoryStore::new()), Arc::new(Keyring::ephemeral()));
        let directory = Directory::open(store, keyring, Clock::System).await.unwrap();
        offer.wait_for_successor(&StoredListeners::new(Arc::new(directory))).await
    }

    #[tokio::test]
    async fn a_process_that_disconnects_early_leaves_the_sockets_to_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let (offer, at) = offered(folder.path());
        let taking = tokio::spawn(taken(offer));
        let path = folder.path().to_owned();
        let find = move || Predecessor::find(&path).unwrap();
        drop(tokio::task::spawn_blocking(find.clone()).await.unwrap().expect("one offers"));
        let mut second = tokio::task::spawn_blocking(find).await.unwrap().expect("it still offers");
        second.end().unwrap();
        let successor = taking.await.unwrap();
        let mut sockets = Sockets::of(Some(&mut second));
        assert!(sockets.take("listen.other").is_none());
        let taken = std::net::TcpListener::from(sockets.take("listen.proxy").expect("it was sent"));
        assert_eq!(taken.local_addr().unwrap(), at);
        assert!(sockets.take("listen.proxy").is_none(), "one socket, one listener");
        drop(successor);
        assert!(folder.path().join(SOCKET_NAME).exists(), "the successor offers on it");
    }

    #[tokio::test]
    async fn the_socket_file_stays_if_the_old_gateway_ends_while_a_successor_starts() {
        let folder = tempfile::tempdir().unwrap();
        let taking = tokio::spawn(taken(offered(folder.path()).0));
        let path = folder.path().to_owned();
        let found = tokio::task::spawn_blocking(move || Predecessor::find(&path).unwrap());
        let found = found.await.unwrap().expect("one offers");
        taking.abort();
        drop(taking.await);
        assert!(folder.path().join(SOCKET_NAME).exists());
        drop(found);
    }

    #[tokio::test]
    async fn no_predecessor_is_found_without_a_running_gateway() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Predecessor::find(folder.path()).unwrap().is_none());
        drop(offered(folder.path()));
        assert!(!folder.path().join(SOCKET_NAME).exists());
        // What a killed process leaves.
        drop(unix::UnixListener::bind(folder.path().join(SOCKET_NAME)).unwrap());
        assert!(Predecessor::find(folder.path()).unwrap().is_none());
        drop(offered(folder.path()));
    }
}
