//! What every command takes, and the few things commands need to know of the configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use super::client::Client;
use super::failure::{Exit, Failure};
use crate::config::{self, Config, ListenAt};

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
    /// print JSON, with the field names of the API
    #[arg(long, global = true)]
    pub(crate) json: bool,
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
                .hint("name another with --data or KEYWARD_DATA"));
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
        line
    }

    /// Where agents reach the proxy, for the lines that people paste: where the running gateway
    /// says it listens, else what is configured. A configuration that cannot be read is another
    /// command's complaint: the default is shown then.
    pub(crate) async fn proxy_addr(&self, client: &Client) -> SocketAddr {
        let running = client.status().await;
        let bound = running.into_iter().flat_map(|status| status.proxy);
        match bound.filter_map(|at| at.parse().ok()).next() {
            Some(addr) => dialable(addr),
            None => self.configured_proxy_addr(),
        }
    }

    fn configured_proxy_addr(&self) -> SocketAddr {
        let tcp = |at: &ListenAt| match at {
            ListenAt::Tcp(addr) => Some(*addr),
            ListenAt::Unix(_) => None,
        };
        let configured =
            self.load().ok().and_then(|config| config.listen.proxy.iter().find_map(tcp));
        dialable(configured.unwrap_or(PROXY_DEFAULT))
    }

    /// Where the admin listener is reached from this machine.
    pub(crate) fn admin_addr(&self) -> Result<SocketAddr, Failure> {
        Ok(dialable(self.load()?.listen.admin))
    }
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
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

    #[test]
    fn pasted_lines_name_the_install_and_survive_a_shell() {
        let global = Global { data: Some("/a b/it's".into()), ..Global::default() };
        assert_eq!(global.keyward(), r"keyward --data '/a b/it'\''s'");
        assert_eq!(Global::default().keyward(), "keyward");
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
