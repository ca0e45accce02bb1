//! The global options, and the parts of the configuration that commands need.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use super::client::{Client, named_url};
use super::failure::{Exit, Failure};
use crate::config::{self, Config, ListenAgent};
use keyward_base::host::Host;
use keyward_base::id::OrgId;
use keyward_model::{Agent, Shown};

/// The proxy listener's default.
const PROXY_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// data directory; default: $KEYWARD_DATA
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// configuration file; default: $KEYWARD_CONFIG, else keyward.yaml in DIR
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// a gateway elsewhere, as the user of KEYWARD_TOKEN; default: $KEYWARD_URL
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) gateway: Option<String>,
    /// organisation to work in; default: default
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) org: Option<String>,
    /// print JSON, with the field names of the API
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// print tables in full: ids, all of a list, exact times
    #[arg(long, global = true)]
    pub(crate) wide: bool,
}

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

impl Global {
    /// The data directory. Needs no configuration, so that a broken one stops no command that a
    /// running gateway can answer.
    pub(crate) fn data_dir(&self) -> Result<PathBuf, Failure> {
        Ok(config::data_dir(self.data.as_deref())?)
    }

    /// The whole configuration.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        let data = self.data_dir()?;
        if data.exists() && !data.is_dir() {
            let message = format!("the data directory {} is not a directory", data.display());
            return Err(Failure::new(Exit::Failed, message)
                .hint("choose another with --data or KEYWARD_DATA"));
        }
        Ok(Config::load(self.config.as_deref(), self.data.as_deref())?)
    }

    /// `keyward` with the options that name this install, for the lines that people paste.
    pub(crate) fn keyward(&self) -> String {
        let mut line = "keyward".to_owned();
        for (option, path) in [("--data", &self.data), ("--config", &self.config)] {
            if let Some(path) = path {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                line.push_str(&format!(" {option} {}", quoted(&path.to_string_lossy())));
            }
        }
        if let Some(url) = &self.gateway {
            line.push_str(&format!(" --gateway {}", quoted(url)));
        }
        if let Some(org) = &self.org {
            line.push_str(&format!(" --org {}", quoted(org)));
        }
        line
    }

    /// A remedy of the gateway's, with the options that name this install in its commands.
    pub(crate) fn remedy(&self, remedy: &str) -> String {
        remedy.replace("`keyward ", &format!("`{} ", self.keyward()))
    }

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

    /// Refuses a command that works with a gateway of this machine only.
    ///
    /// # Errors
    /// When `--gateway` or `KEYWARD_URL` names another one.
    pub(crate) fn here(&self, command: &str) -> Result<(), Failure> {
        match named_url(self) {
            None => Ok(()),
            Some(_) => {
                let message = format!(
                    "`keyward {command}` works with a gateway of this machine, and KEYWARD_URL or --gateway names another one"
                );
                let hint = match command {
                    "run" => {
                        "`keyward env` prints the variables for a program; or unset KEYWARD_URL"
                    }
                    _ => "unset KEYWARD_URL, or run this command on the gateway's machine",
                };
                Err(Failure::usage(message).hint(hint))
            }
        }
    }

    /// The agent's own listener over TCP: of the running gateway, else as it is configured.
    pub(crate) fn own_listener(&self, client: &Client, agent: &Shown<Agent>) -> Option<SocketAddr> {
        // A listener of a single agent is on loopback.
        if client.host().is_some_and(|host| !host.is_this_machine()) {
            return None;
        }
        if !client.is_in_process() {
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

    /// Where the admin listener is reached from this machine in cleartext; `None` if it speaks TLS.
    pub(crate) fn admin_addr(&self) -> Result<Option<SocketAddr>, Failure> {
        let listen = self.load()?.listen;
        Ok(listen.admin_access.tls.is_none().then(|| dialable(listen.admin)))
    }
}

/// The URL of the admin listener, as a status names it: without a scheme, it speaks cleartext.
pub(crate) fn admin_url(admin: &str) -> String {
    match admin.starts_with("https://") {
        true => admin.to_owned(),
        false => format!("http://{admin}"),
    }
}

/// The first listener of an agent's own that is reached over TCP.
pub(crate) fn tcp_listener(agent: &Shown<Agent>) -> Option<SocketAddr> {
    agent.facts.listeners.iter().find_map(|at| at.parse().ok())
}

/// A word for a POSIX shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    match word.chars().all(plain) && !word.is_empty() {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A listener on every address is dialled by loopback.
pub(crate) fn dialable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(listen: &[&str]) -> Option<String> {
        let listen: Vec<String> = listen.iter().map(|at| (*at).to_owned()).collect();
        ProxyAt::among(&listen).map(|at| at.url("ci", "kwa_t"))
    }

    #[test]
    fn a_listener_without_tls_is_for_every_client_and_comes_first() {
        assert_eq!(among(&["unix:/run/k.sock"]), None);
        let tls = "https://0.0.0.0:8443";
        assert_eq!(among(&[tls]).as_deref(), Some("https://ci:kwa_t@127.0.0.1:8443"));
        let both = among(&["unix:/run/k.sock", tls, "[::]:8080"]);
        assert_eq!(both.as_deref(), Some("http://ci:kwa_t@[::1]:8080"));
    }

    #[test]
    fn pasted_lines_name_the_install_and_survive_a_shell() {
        let global = Global { data: Some("/a b/it's".into()), ..Global::default() };
        assert_eq!(global.keyward(), r"keyward --data '/a b/it'\''s'");
        assert_eq!(Global::default().keyward(), "keyward");
        let remedy = "get a key, then: `keyward connection rotate keyward `";
        assert_eq!(Global::default().remedy(remedy), remedy);
        let global = Global { org: Some("acme".to_owned()), ..Global::default() };
        let named = "get a key, then: `keyward --org acme connection rotate keyward `";
        assert_eq!(global.remedy(remedy), named);
    }

    #[test]
    fn a_listener_on_every_address_is_dialled_by_loopback() {
        let table = [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ];
        for (listen, dial) in table {
            assert_eq!(dialable(listen.parse().unwrap()).to_string(), dial);
        }
    }
}
