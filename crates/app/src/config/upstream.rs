//! `upstream:`: roots that are trusted, addresses that may be dialled, DNS, and the corporate proxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde_yaml::Value;

use super::corporate::{self, ProxyText, UpstreamProxy};
use super::reading::ConfigReading;
use keyward_base::host::{Host, Scheme, Target};
use keyward_base::keys::section;
use keyward_net::guard::AllowPrivate;
use keyward_rules::provider::document::{item_of, key_of};

/// How upstreams are reached.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// PEM files of roots beside the platform's.
    pub trust: Vec<PathBuf>,
    /// Networks that may be dialled although they are not public.
    pub allow_private: Vec<AllowPrivate>,
    /// Host, and port where one was given, to the address dialled instead.
    pub resolve: Vec<(Host, Option<u16>, SocketAddr)>,
    /// The DNS servers that are asked for SRV and TXT records; those of the system if there are none.
    pub dns: Vec<SocketAddr>,
    /// The proxy that everything else goes by.
    pub proxy: Option<UpstreamProxy>,
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct UpstreamText {
        /// PEM files of roots in addition to the platform's, or of the very certificates of servers.
        #[key("list of paths from the configuration file", "[]")]
        #[serde(default)]
        trust: Vec<String>,
        /// Networks and ports that may be dialled although they are loopback, private, link-local or a
        /// metadata service. `10.1.2.0/24:8000-9000` is a range of ports, `:*` every port. Write IPv6 in
        /// brackets, with the prefix length after them: `[fd00::]/8:443`, `[::1]:8443`. A name that resolves to
        /// both families needs an entry for each, as `127.0.0.1` and `::1` do. An IPv4-mapped address is
        /// treated as the IPv4 address in it; an address with a zone (`%eth0`) is never dialled.
        #[key("list of `NETWORK:PORTS`", "[]")]
        #[serde(default)]
        allow_private: Vec<String>,
        /// The proxy of a corporate network. All outbound traffic uses it, and it resolves names. Keyward
        /// does not read `HTTPS_PROXY` in its own environment.
        #[key(map of ProxyText)]
        proxy: Option<Value>,
        /// The DNS servers that list the servers of a `mongodb+srv` name; those of the system if the list is empty. Other names
        /// are resolved as the system does.
        #[key("list of `IP:PORT`", "[]")]
        #[serde(default)]
        dns: Vec<String>,
        /// Fixed addresses for names, with a port or for every port, like curl's `--resolve`. `allow_private`
        /// is still checked.
        #[key("map of `HOST` or `HOST:PORT` to `IP:PORT`", "{}")]
        #[serde(default)]
        resolve: BTreeMap<String, String>,
    }
}

pub(super) fn upstream(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> Upstream {
    let mut upstream = Upstream::default();
    let Some(text) = reading.section::<UpstreamText>(value, "upstream") else { return upstream };
    upstream.proxy = corporate::proxy(text.proxy.as_ref(), reading);
    for (index, file) in text.trust.iter().enumerate() {
        upstream.trust.extend(reading.input(file, &item_of("upstream.trust", index)));
    }
    let networks = &text.allow_private;
    upstream.allow_private =
        reading.parsed(networks, "upstream.allow_private", AllowPrivate::parse, "");
    for (index, server) in text.dns.iter().enumerate() {
        let path = item_of("upstream.dns", index);
        upstream.dns.extend(address(server, &path, "127.0.0.1:53", reading));
    }
    for (host, addr) in &text.resolve {
        let path = key_of("upstream.resolve", host);
        let Some(((host, port), addr)) = resolve(host, addr, &path, reading) else { continue };
        if upstream.resolve.iter().any(|(other, at, _)| *other == host && *at == port) {
            reading.problems.add(&path, "the host is given twice", "keep one");
        }
        upstream.resolve.push((host, port, addr));
    }
    upstream
}

fn resolve(
    host: &str,
    addr: &str,
    path: &str,
    reading: &mut ConfigReading<'_>,
) -> Option<((Host, Option<u16>), SocketAddr)> {
    let host = named(host);
    if host.is_none() {
        let remedy = "write `api.example.com` or `api.example.com:8443`";
        reading.problems.add(path, "this is not a host", remedy);
    }
    let addr = address(addr, path, "127.0.0.1:9443", reading);
    Some((host?, addr?))
}

fn address(
    text: &str,
    path: &str,
    example: &str,
    reading: &mut ConfigReading<'_>,
) -> Option<SocketAddr> {
    let addr = text.parse().ok().filter(|addr: &SocketAddr| addr.port() != 0);
    if addr.is_none() {
        let remedy = format!("write numbers, such as `{example}`");
        reading.problems.add(path, "the value is not an address with a port", remedy);
    }
    addr
}

fn named(text: &str) -> Option<(Host, Option<u16>)> {
    if let Ok(host) = Host::parse(text) {
        return Some((host, None));
    }
    let target = Target::parse(Scheme::Https, text).ok()?;
    Some((target.host().clone(), Some(target.port())))
}
