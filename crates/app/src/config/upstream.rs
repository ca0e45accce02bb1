//! `upstream:`: roots that are trusted, addresses that may be dialled, DNS, and the corporate proxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde_yaml::Value;

use super::environment::VariableSource;
use super::reading::ConfigReading;
use super::secret::{SecretSource, SecretSourceError};
use super::source;
use keyward_base::host::{Host, Scheme, Target};
use keyward_base::keys::section;
use keyward_net::corporate::{CorporateLoginError, CorporateProxy, ProxyException};
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
    upstream.proxy = proxy(text.proxy.as_ref(), reading);
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

const PATH: &str = "upstream.proxy";

/// A proxy that upstreams are reached by.
#[derive(Clone, Debug)]
pub struct UpstreamProxy {
    /// Where it is; the scheme says how it is spoken to.
    at: Target,
    /// Targets that are dialled directly.
    except: Vec<ProxyException>,
    /// User and password.
    login: Option<(String, SecretSource)>,
}

/// Why there is no login.
#[derive(Debug, thiserror::Error)]
pub enum ProxyLoginError {
    /// There is no password.
    #[error("`upstream.proxy.password`: {0}")]
    Password(#[from] SecretSourceError),
    /// It cannot be sent.
    #[error("`upstream.proxy`: {0}")]
    Login(#[from] CorporateLoginError),
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct ProxyText {
        /// Its address; `https://` uses TLS to the proxy. With both schemes, credentials pass it only inside
        /// TLS with the upstream.
        #[key("`http://HOST:PORT` or `https://HOST:PORT`", required)]
        url: Option<String>,
        /// Hosts that are reached directly: `.corp.example` is every name below, `git.corp.example` that
        /// name, `10.0.0.0/8` targets that are written as such an address. Names are not resolved for the
        /// comparison. `localhost`, loopback addresses and hosts of `resolve` never use the proxy.
        #[key("list of hosts, `.DOMAIN` and networks", "[]")]
        #[serde(default)]
        except: Vec<String>,
        /// The user for Basic authentication to the proxy (RFC 7617).
        #[key("text")]
        user: Option<String>,
        /// The password of `user`.
        #[key("[secret](#secrets)")]
        password: Option<Value>,
    }
}

impl UpstreamProxy {
    /// The proxy with its login, which is read now. A command does not see the `hidden` variables.
    ///
    /// # Errors
    /// When there is no password, or it cannot be sent.
    pub fn load(
        &self,
        environment: &VariableSource,
        hidden: &[&str],
    ) -> Result<CorporateProxy, ProxyLoginError> {
        let proxy = self.without_login();
        let Some((user, password)) = &self.login else { return Ok(proxy) };
        Ok(proxy.with_login(user, &password.load(environment, hidden)?)?)
    }

    /// The proxy without its login, to find out which targets use it.
    pub fn without_login(&self) -> CorporateProxy {
        CorporateProxy::new(self.at.clone(), self.except.clone())
    }

    /// Where the password is read from.
    pub(super) fn password(&self) -> Option<&SecretSource> {
        self.login.as_ref().map(|(_, password)| password)
    }
}

pub(super) fn proxy(
    value: Option<&Value>,
    reading: &mut ConfigReading<'_>,
) -> Option<UpstreamProxy> {
    let text = reading.section::<ProxyText>(value, PATH)?;
    let remedy = "write `.corp.example`, `git.corp.example` or `10.0.0.0/8`";
    let at_except = key_of(PATH, "except");
    let except = reading.parsed(&text.except, &at_except, ProxyException::parse, remedy);
    let password = text
        .password
        .as_ref()
        .and_then(|value| source::secret(value, &key_of(PATH, "password"), reading));
    let login = match (text.user, text.password.is_some()) {
        (Some(user), true) => password.map(|password| (user, password)),
        (None, false) => None,
        _ => {
            let message = "`user` and `password` belong together";
            reading.problems.add(PATH, message, "name both, or omit both");
            None
        }
    };
    let url = reading.required(text.url, "url", PATH);
    if url.is_empty() {
        return None;
    }
    Some(UpstreamProxy { at: at(&url, reading)?, except, login })
}

/// The text of a wrong URL is not repeated: it may be a password.
fn at(url: &str, reading: &mut ConfigReading<'_>) -> Option<Target> {
    let path = key_of(PATH, "url");
    if url.contains('@') {
        let remedy = "remove them, and add `user: NAME` and `password: { env: NAME }` beside `url`";
        reading.problems.add(&path, "the URL holds a user or a password", remedy);
        return None;
    }
    let http = url.strip_prefix("http://").map(|rest| (Scheme::Http, rest));
    let https = || url.strip_prefix("https://").map(|rest| (Scheme::Https, rest));
    let at = http.or_else(https).and_then(|(scheme, rest)| {
        Target::parse(scheme, rest.strip_suffix('/').unwrap_or(rest)).ok()
    });
    if at.is_none() {
        let remedy = "write `http://proxy.example:3128` or `https://proxy.example:3129`";
        reading.problems.add(&path, "this is not the URL of a proxy", remedy);
    }
    at
}
