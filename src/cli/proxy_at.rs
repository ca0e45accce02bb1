//! [`ProxyAt`]: where agents reach the proxy, for the lines that people paste.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::client::Client;
use super::settings::{Global, dialable};
use keyward_app::config::ListenAgent;
use keyward_base::host::Host;
use keyward_base::id::OrgId;
use keyward_model::{Agent, Shown};

/// The proxy listener's default.
const PROXY_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Where clients of this machine reach the proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ProxyAt {
    /// Whether it is spoken to by TLS.
    pub(crate) tls: bool,
    /// The address to connect.
    pub(crate) addr: SocketAddr,
    /// The name of a gateway elsewhere that listens on every address.
    pub(crate) host: Option<Host>,
}

impl ProxyAt {
    /// The first TCP listener without TLS, which every client can use, else the first with it.
    pub(crate) fn among(listen: &[String]) -> Option<Self> {
        let all = || listen.iter().filter_map(|at| Self::parse(at));
        all().find(|at| !at.tls).or_else(|| all().next())
    }

    /// `127.0.0.1:8080` or `https://127.0.0.1:8443`; nothing for a Unix socket.
    pub(crate) fn parse(at: &str) -> Option<Self> {
        let (tls, addr) = match at.strip_prefix("https://") {
            Some(addr) => (true, addr),
            None => (false, at),
        };
        addr.parse().ok().map(|addr| Self { tls, addr: dialable(addr), host: None })
    }
}

impl ProxyAt {
    /// For a proxy variable.
    pub(crate) fn url(&self, agent: &str, token: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{agent}:{token}@{}", self.place())
    }

    fn place(&self) -> String {
        match &self.host {
            Some(host) => format!("{host}:{}", self.addr.port()),
            None => self.addr.to_string(),
        }
    }
}

impl std::fmt::Display for ProxyAt {
    /// `127.0.0.1:8080` or `https://127.0.0.1:8443`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.tls { "https://" } else { "" }, self.place())
    }
}

/// The first listener of an agent's own that is reached over TCP.
pub(crate) fn tcp_listener(agent: &Shown<Agent>) -> Option<SocketAddr> {
    agent.facts.listeners.iter().find_map(|at| at.parse().ok())
}

impl Global {
    /// Where agents reach the proxy, for the lines that people paste: where the running gateway
    /// says it listens, else what is configured. A configuration that cannot be read is another
    /// command's complaint: the default is shown then.
    pub(crate) async fn proxy_at(&self, client: &Client) -> ProxyAt {
        let running = client.status().await.map(|status| status.proxy);
        if let Some(host) = client.host() {
            return Self::proxy_of(host, &running.unwrap_or_default());
        }
        let of_config = || {
            let listen = self.load().ok()?.listen.proxy;
            ProxyAt::among(&listen.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let found = running.and_then(|listen| ProxyAt::among(&listen)).or_else(of_config);
        found.unwrap_or(ProxyAt { tls: false, addr: PROXY_DEFAULT, host: None })
    }

    /// Where the proxy of a gateway elsewhere is reached. Only a listener on every address has its name.
    fn proxy_of(host: &Host, listen: &[String]) -> ProxyAt {
        let found = ProxyAt::among(listen);
        let mut found = found.unwrap_or(ProxyAt { tls: false, addr: PROXY_DEFAULT, host: None });
        let bare = |at: &String| at.trim_start_matches("https://").parse::<SocketAddr>().ok();
        let is_open = |at: SocketAddr| at.ip().is_unspecified() && at.port() == found.addr.port();
        if listen.iter().filter_map(bare).any(is_open) {
            found.host = Some(host.clone());
        }
        found
    }

    /// The agent's own listener over TCP: of the running gateway, else as it is configured.
    pub(crate) fn own_listener(&self, client: &Client, agent: &Shown<Agent>) -> Option<SocketAddr> {
        // A listener of a single agent is on loopback.
        if client.host().is_some_and(|host| !host.is_this_machine()) {
            return None;
        }
        if !client.is_private() {
            return tcp_listener(agent);
        }
        let listen = self.load().ok()?.listen;
        let org = match &self.org {
            Some(name) => OrgId::named(name.strip_prefix("org_").unwrap_or(name)).ok()?,
            None => OrgId::default_org(),
        };
        let own = |own: &&ListenAgent| own.agent == agent.name && own.org == org;
        let mut own = listen.agents.iter().filter(own);
        // A free port is known to the gateway alone.
        own.find_map(|own| own.at.tcp().filter(|at| at.port() != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(listen: &[&str]) -> Option<String> {
        let listen: Vec<String> = listen.iter().map(|at| (*at).to_owned()).collect();
        ProxyAt::among(&listen).map(|at| at.url("ci", "kwa_t"))
    }

    #[test]
    fn a_tcp_listener_without_tls_is_chosen_before_one_with_tls() {
        assert_eq!(among(&["unix:/run/k.sock"]), None);
        let tls = "https://0.0.0.0:8443";
        assert_eq!(among(&[tls]).as_deref(), Some("https://ci:kwa_t@127.0.0.1:8443"));
        let both = among(&["unix:/run/k.sock", tls, "[::]:8080"]);
        assert_eq!(both.as_deref(), Some("http://ci:kwa_t@[::1]:8080"));
    }
}
