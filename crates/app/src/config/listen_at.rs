//! [`ListenAt`]: an address, or a unix socket, to listen at.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_yaml::Value;

use super::addresses::tcp;
use super::listen_tls::ListenTls;
use super::reading::ConfigReading;

/// An address to listen at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListenAt {
    /// TCP; port 0 is any free one.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
    /// TCP, where agents speak TLS to the proxy itself.
    Tls(ListenTls),
}

impl fmt::Display for ListenAt {
    /// `127.0.0.1:8080`, `unix:/run/keyward.sock` or `https://127.0.0.1:8443`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tls(ListenTls { at, .. }) => write!(f, "https://{at}"),
        }
    }
}

/// An address, or a unix socket.
pub(super) fn at(value: &Value, path: &str, reading: &mut ConfigReading<'_>) -> Option<ListenAt> {
    let Some(text) = value.as_str() else {
        let remedy = "write `127.0.0.1:8080` or `unix:/run/keyward.sock`";
        reading.problems.add(path, "this is not an address", remedy);
        return None;
    };
    let Some(socket) = text.strip_prefix("unix:") else {
        return tcp(text, path, reading).map(ListenAt::Tcp);
    };
    let socket = reading.state(socket, path)?;
    if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let message = format!("a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes");
        reading.problems.add(
            path,
            message,
            "choose a shorter one, such as `unix:/run/keyward.sock`",
        );
        return None;
    }
    Some(ListenAt::Unix(socket))
}

impl ListenAt {
    /// The address, over TCP.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) | Self::Tls(ListenTls { at: addr, .. }) => Some(*addr),
            Self::Unix(_) => None,
        }
    }

    /// The same at the address that the system chose.
    pub fn bound(&self, addr: Option<SocketAddr>) -> Self {
        match (self, addr) {
            (Self::Tcp(_), Some(addr)) => Self::Tcp(addr),
            (Self::Tls(tls), Some(at)) => Self::Tls(ListenTls { at, by: tls.by.clone() }),
            _ => self.clone(),
        }
    }

    pub(super) fn clashes(&self, other: &Self) -> bool {
        let (Some(a), Some(b)) = (self.tcp(), other.tcp()) else { return self == other };
        let any = a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() != 0 && a.port() == b.port() && (any || a.ip() == b.ip())
    }
}

/// `sun_path` is 108 bytes with its NUL on Linux, 104 elsewhere.
const SOCKET_PATH_BYTES_MAX: usize = 103;
