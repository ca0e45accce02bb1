//! What every command takes, and the few things commands need to know of the configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
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
        Ok(Config::load(self.config.as_deref(), self.data.as_deref())?)
    }

    /// Where agents reach the proxy, for the lines that people paste. A configuration that cannot
    /// be read is another command's complaint: the default is shown then.
    pub(crate) fn proxy_addr(&self) -> SocketAddr {
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

/// A listener on every address is dialled by loopback.
fn dialable(listen: SocketAddr) -> SocketAddr {
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
