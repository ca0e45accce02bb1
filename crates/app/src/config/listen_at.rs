//! [`ListenAt`]: an address, or a unix socket, to listen at. `listen.agents:`: listeners of one agent, for clients
//! that cannot authenticate to a proxy. Every client is the agent, so only this machine can connect.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde_yaml::Value;

use super::listen_tls::ListenTls;
use super::listen_tls::tcp;
use super::reading;
use super::reading::ConfigReading;
use keyward_base::id::OrgId;
use keyward_base::keys::section;
use keyward_rules::provider::document::{item_of, key_of};

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

/// A listener whose streams are one agent's without a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenAgent {
    /// The agent's name: of the configuration or of the store.
    pub agent: String,
    pub org: OrgId,
    pub at: ListenAt,
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct ListenAgentText {
        /// The agent of all requests at this listener.
        #[key("name of an agent", required)]
        #[serde(default)]
        agent: String,
        /// The agent's organisation, created when it is first named.
        #[key("name of an organisation", "default")]
        org: Option<String>,
        /// Only Keyward's own user and root can use a socket. TCP must be on loopback.
        #[key("`unix:PATH` or `IP:PORT`", required)]
        at: Option<Value>,
        /// Must be `true` over TCP, where every program of the machine can act as the agent.
        #[key(one of ["true", "false"], "false")]
        #[serde(default)]
        unsafe_no_auth: bool,
    }
}

pub(super) fn agents(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> Vec<ListenAgent> {
    let mut found = Vec::new();
    for (index, item) in reading.items(value, "listen.agents").iter().enumerate() {
        let path = item_of("listen.agents", index);
        let Some(text) = reading.section::<ListenAgentText>(Some(item), &path) else { continue };
        found.extend(agent(&text, &path, reading));
    }
    found
}

fn agent(
    text: &ListenAgentText,
    path: &str,
    reading: &mut ConfigReading<'_>,
) -> Option<ListenAgent> {
    reading::agent(&text.agent, &key_of(path, "agent"), reading);
    let org = reading.org(text.org.as_deref(), &key_of(path, "org"));
    let place = key_of(path, "at");
    let Some(written) = &text.at else {
        let remedy = "add `at: \"unix:ci.sock\"`, or a loopback address";
        reading.problems.add(path, "`at` is missing", remedy);
        return None;
    };
    let at = at(written, &place, reading)?;
    if let ListenAt::Tcp(addr) = at {
        if !addr.ip().is_loopback() {
            let message = format!("{addr} is not loopback: others could act as the agent");
            reading.problems.add(&place, message, "write `127.0.0.1:PORT`, or a `unix:` socket");
        } else if !text.unsafe_no_auth {
            let message = "every program of this machine can act as the agent over TCP";
            let remedy = "use a `unix:` socket, or add `unsafe_no_auth: true` when that is meant";
            reading.problems.add(path, message, remedy);
        }
    }
    Some(ListenAgent { agent: text.agent.clone(), org, at })
}
