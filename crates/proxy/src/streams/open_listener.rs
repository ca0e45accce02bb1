//! [`OpenListener`]: a listener that is closed while the gateway runs, with its streams.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use keyward_net::dial::Dialler;

/// A listener from which streams are accepted until it is closed, or until the gateway drains. Opened by
/// [`super::cores::Cores::open`].
#[derive(Debug)]
pub struct OpenListener {
    pub(super) addr: Option<SocketAddr>,
    pub(super) path: Option<PathBuf>,
    /// Refers to the listener's socket, for a process that takes it over.
    pub(super) socket: io::Result<OwnedFd>,
    /// Turns true when the listener closes.
    pub(super) closing: watch::Sender<bool>,
    /// Accepts.
    pub(super) task: JoinHandle<()>,
    /// Knows the address as one of the gateway's own.
    pub(super) dialler: Arc<Dialler>,
}

impl OpenListener {
    /// The bound TCP address.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// The path of the unix socket.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// A descriptor of the listening socket, for a process that takes the listener over.
    ///
    /// # Errors
    /// When no descriptor is left, now or when the listener was opened.
    pub fn try_clone_socket(&self) -> io::Result<OwnedFd> {
        match &self.socket {
            Ok(socket) => socket.try_clone(),
            Err(error) => Err(error.kind().into()),
        }
    }

    /// Closes the listener, and ends its streams as a revocation does. When this returns, the port is free.
    pub async fn close(self) {
        self.closing.send_replace(true);
        self.wait_until_stopped().await;
    }

    /// Waits until the gateway stops accepting. The streams stay.
    pub async fn wait_until_stopped(self) {
        let Self { addr, task, dialler, .. } = self;
        if let Err(error) = task.await {
            tracing::error!(%error, "a listener failed");
        }
        addr.into_iter().for_each(|addr| dialler.remove_own(addr));
    }
}

impl fmt::Display for OpenListener {
    /// `127.0.0.1:6432`, or `unix:` and a path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.addr, &self.path) {
            (Some(addr), _) => addr.fmt(f),
            (None, Some(path)) => write!(f, "unix:{}", path.display()),
            (None, None) => f.write_str("unix:"),
        }
    }
}
