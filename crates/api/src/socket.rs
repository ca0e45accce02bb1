//! `admin.sock`: the listener for the local command line. The file has mode 0600 in a 0700 directory, and the
//! peer's user id is checked with the kernel.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use keyward_proxy::HandedOver;

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "admin.sock";

/// The bound socket; its file is removed when dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    handed_over: HandedOver,
}

/// Why the socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another gateway is listening on it.
    #[error("another gateway answers on {0}: stop it, or choose another data directory")]
    InUse(PathBuf),
    /// The path is occupied by something that is not our socket.
    #[error("{0} is not a socket: move it away")]
    NotASocket(PathBuf),
    /// The path is too long: `sun_path` holds 104 to 108 bytes.
    #[error("the path {0} is too long for a socket: choose a shorter data directory")]
    TooLong(PathBuf),
    /// The operating system refuses.
    #[error("cannot bind {path}")]
    Io { path: PathBuf, source: io::Error },
}

impl AdminSocket {
    /// Binds `admin.sock` in `data_dir`. A socket without a listener was left by a killed process and is
    /// replaced. The caller holds the store's lock, so that no second gateway does so at the same time.
    ///
    /// # Errors
    /// When a running gateway answers, the path is occupied, or the system refuses.
    pub async fn bind(data_dir: &Path) -> Result<Self, SocketError> {
        let path = data_dir.join(SOCKET_NAME);
        let failed = |source: io::Error| SocketError::Io { path: path.clone(), source };
        clear(&path).await?;
        let listener = UnixListener::bind(&path).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => SocketError::TooLong(path.clone()),
            _ => failed(error),
        })?;
        // Until this line the directory's mode 0700 and the peer check keep other users out.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, path, handed_over: HandedOver::default() })
    }

    /// Takes the socket of another process, whose file stays.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn from_predecessor(
        data_dir: &Path,
        listener: std::os::unix::net::UnixListener,
    ) -> Result<Self, SocketError> {
        let path = data_dir.join(SOCKET_NAME);
        let failed = |source: io::Error| SocketError::Io { path: path.clone(), source };
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self { listener, path, handed_over: HandedOver::default() })
    }

    /// Keeps the file when another process has taken the socket over.
    pub fn kept_when(mut self, handed_over: HandedOver) -> Self {
        self.handed_over = handed_over;
        self
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts the next stream of a permitted peer; others are closed.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        let own = rustix::process::geteuid().as_raw();
        loop {
            let (stream, _) = self.listener.accept().await?;
            match stream.peer_cred() {
                Ok(peer) if may_enter(peer.uid(), own) => return Ok(stream),
                Ok(peer) => tracing::warn!(uid = peer.uid(), "refused a peer on the admin socket"),
                Err(error) => tracing::warn!(%error, "a peer of the admin socket has no user id"),
            }
        }
    }
}

impl AsFd for AdminSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if self.handed_over.is_set() {
            return;
        }
        // If it stays, the next start finds it stale and replaces it.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the file of the admin socket was already removed");
        }
    }
}

/// Whether the peer is our own user or root.
fn may_enter(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

/// Removes a stale socket.
async fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |source: io::Error| SocketError::Io { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "replacing a stale socket");
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Err(SocketError::TooLong(path.to_owned()))
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_runtime<F: Future>(work: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    }

    #[test]
    fn only_the_owner_and_root_may_enter() {
        assert!(may_enter(1000, 1000) && may_enter(0, 1000));
        assert!(!may_enter(1001, 1000) && !may_enter(1000, 0));
    }

    #[test]
    fn a_live_socket_is_an_error_that_names_it() {
        in_runtime(async {
            let dir = tempfile::tempdir().unwrap();
            let first = AdminSocket::bind(dir.path()).await.unwrap();
            let error = AdminSocket::bind(dir.path()).await.unwrap_err();
            assert!(matches!(&error, SocketError::InUse(path) if path == first.path()), "{error}");
            assert!(UnixStream::connect(first.path()).await.is_ok(), "the first one still answers");
        });
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        in_runtime(async {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(SOCKET_NAME);
            // The file outlives its listener, as after kill -9.
            drop(UnixListener::bind(&path).unwrap());
            assert!(path.exists());
            let socket = AdminSocket::bind(dir.path()).await.unwrap();
            assert!(UnixStream::connect(socket.path()).await.is_ok());
        });
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        in_runtime(async {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(SOCKET_NAME);
            std::fs::write(&path, "mine").unwrap();
            let error = AdminSocket::bind(dir.path()).await.unwrap_err();
            assert!(matches!(error, SocketError::NotASocket(_)), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        });
    }

    #[test]
    fn the_socket_is_accessible_to_its_owner_only_and_removed_on_drop() {
        in_runtime(async {
            let dir = tempfile::tempdir().unwrap();
            let socket = AdminSocket::bind(dir.path()).await.unwrap();
            let path = socket.path().to_owned();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            drop(socket);
            assert!(!path.exists());
        });
    }

    #[test]
    fn a_path_that_is_too_long_for_a_socket_is_refused_as_too_long() {
        in_runtime(async {
            let dir = tempfile::tempdir().unwrap();
            let deep = dir.path().join("d".repeat(120));
            std::fs::create_dir(&deep).unwrap();
            let error = AdminSocket::bind(&deep).await.unwrap_err();
            assert!(matches!(error, SocketError::TooLong(_)), "{error}");
        });
    }
}
