//! `admin_tls`, `admin_proxies` and `admin_cors` of `listen:`: how the admin listener is reached over the network.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_yaml::Value;

use super::listen_tls::{self, Certificate};
use super::reading::ConfigReading;
use keyward_base::host::{Scheme, Target};

/// Access to the admin listener over the network.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListenAdmin {
    /// The certificate, if the listener speaks TLS.
    pub tls: Option<Certificate>,
    /// Reverse proxies whose forwarded fields are believed.
    pub proxies: Vec<IpNet>,
    /// Origins of other sites whose pages may use the API.
    pub origins: Vec<Target>,
}

/// Reads the three keys.
pub(super) fn admin(
    tls: Option<&Value>,
    proxies: &[String],
    origins: &[String],
    reading: &mut ConfigReading<'_>,
) -> ListenAdmin {
    let tls = tls.and_then(|tls| listen_tls::certificate(tls, "listen.admin_tls", reading));
    let network = |text: &str| {
        network(text).ok_or_else(|| format!("`{text}` is not an address or a network"))
    };
    let remedy = "write `10.0.0.5` or `10.0.0.0/24`";
    let proxies = reading.parsed(proxies, "listen.admin_proxies", network, remedy);
    let origin =
        |text: &str| origin(text).ok_or_else(|| format!("`{text}` is not the origin of a site"));
    let remedy = "write `https://console.example.com`, without a path and without `*`";
    let origins = reading.parsed(origins, "listen.admin_cors", origin, remedy);
    ListenAdmin { tls, proxies, origins }
}

/// An address or a network. `/0` would believe every client.
fn network(text: &str) -> Option<IpNet> {
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().map(IpNet::from).ok())?;
    (network.prefix_len() > 0 && network.trunc() == network).then_some(network)
}

/// `https://HOST` or `https://HOST:PORT`; without TLS only on this machine.
fn origin(text: &str) -> Option<Target> {
    let (scheme, authority) = match text.split_once("://")? {
        ("https", rest) => (Scheme::Https, rest),
        ("http", rest) => (Scheme::Http, rest),
        _ => return None,
    };
    let origin = Target::parse(scheme, authority).ok()?;
    (scheme == Scheme::Https || origin.host().is_this_machine()).then_some(origin)
}
