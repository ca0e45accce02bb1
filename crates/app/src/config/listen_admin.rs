//! `admin_tls`, `admin_proxies` and `admin_cors` of `listen:`: how the admin listener is reached over the network.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_yaml::Value;

use super::listen_tls::{self, Certificate};
use super::reading::ConfigReading;
use keyward_base::host::{Scheme, Target};
use keyward_rules::provider::document::item_of;

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
    let mut admin = ListenAdmin { tls, ..ListenAdmin::default() };
    for (index, text) in proxies.iter().enumerate() {
        match network(text) {
            Some(network) => admin.proxies.push(network),
            None => {
                let path = item_of("listen.admin_proxies", index);
                let message = format!("`{text}` is not an address or a network");
                reading.problems.add(&path, message, "write `10.0.0.5` or `10.0.0.0/24`");
            }
        }
    }
    for (index, text) in origins.iter().enumerate() {
        match origin(text) {
            Some(origin) => admin.origins.push(origin),
            None => {
                let path = item_of("listen.admin_cors", index);
                let message = format!("`{text}` is not the origin of a site");
                let remedy = "write `https://console.example.com`, without a path and without `*`";
                reading.problems.add(&path, message, remedy);
            }
        }
    }
    admin
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
