//! `listen:` and `public_url:`: where Keyward is reached by agents, over the network as the admin API, and by
//! services that post webhooks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use serde::Deserialize;
use serde_yaml::Value;

use super::listen_at::{self, ListenAgent, ListenAgentText};
use super::listen_at::{ListenAt, at};
use super::listen_databases::{self, ListenDatabase, ListenDatabaseText};
use super::listen_tls::{self, Certificate};
use super::listen_tls::{base_url, tcp};
use super::reading::ConfigReading;
use keyward_base::host::{Host, Scheme, Target};
use keyward_base::keys::section;
use keyward_proxy::base_url::ServedBaseUrls;
use keyward_rules::provider::document::{item_of, key_of};

/// The ports of a fresh install.
const PROXY_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 8081;

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenSettings {
    /// For agents; never empty.
    pub proxy: Vec<ListenAt>,
    /// For health, the CA, consents and the API.
    pub admin: SocketAddr,
    /// How the admin listener is reached over the network.
    pub admin_access: ListenAdmin,
    /// For metrics alone.
    pub metrics: Option<SocketAddr>,
    /// For webhooks of services alone.
    pub hooks: Option<ListenHooks>,
    pub agents: Vec<ListenAgent>,
    /// For sessions with databases.
    pub databases: Vec<ListenDatabase>,
    /// Which base URLs the listeners for all agents serve.
    pub base_urls: ServedBaseUrls,
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct ListenText {
        /// For agents. Port 0 means any free port; a socket's path is relative to the data directory. With
        /// `tls`, agents use TLS to the proxy itself (`HTTPS_PROXY=https://…`): with `cert` and `key`, PEM
        /// files whose changes are applied, or without them with leaves of Keyward's CA for its address,
        /// `localhost` and `names`.
        #[key("`IP:PORT`, `unix:PATH` or `{ at: IP:PORT, tls: { cert, key, names } }`, or list of them", "127.0.0.1:8080")]
        proxy: Option<Value>,
        /// For the page with the CA and how to trust it (`/ca`), `/healthz`, `/readyz`, `/ca.pem`, `/ca.crt` and
        /// `/bundle.pem`; for a personal access token the API (`/api/v1`) and `/metrics`: from other machines only
        /// over TLS, see `admin_tls` and `admin_proxies`. While `public_url` names `localhost`, which means 127.0.0.1
        /// and `::1`, the gateway listens at both.
        #[key("`IP:PORT`", "127.0.0.1:8081")]
        admin: Option<String>,
        /// For `/metrics` in the format of Prometheus, `/healthz` and `/readyz`, over plain HTTP and without authentication.
        #[key("`IP:PORT`")]
        metrics: Option<String>,
        /// For [webhooks of services](../guides/hooks.md) alone (`/hooks/…`), so that they do not need the admin
        /// listener.
        #[key(map of ListenHooksText)]
        hooks: Option<Value>,
        /// Listeners of one agent each, for clients that cannot authenticate to a proxy.
        #[key(list of ListenAgentText)]
        agents: Option<Value>,
        /// Listeners for sessions with [databases](../guides/databases.md).
        #[key(list of ListenDatabaseText)]
        databases: Option<Value>,
        /// Serve [base URLs](../guides/base-url.md), for programs that cannot use a proxy. Not on `agents`.
        #[key(one of ["true", "false"], "true")]
        base_urls: Option<bool>,
        /// Host names for base URLs, in addition to addresses, `localhost` and `*.localhost`; for example
        /// that of a container.
        #[key("list of host names", "[]")]
        #[serde(default)]
        base_url_hosts: Vec<String>,
        /// TLS for the admin listener: with `cert` and `key`, PEM files whose changes are applied, or without them
        /// with leaves of Keyward's CA for its address, `localhost` and `names`. Then it speaks TLS only.
        #[key("`{ cert, key, names }`")]
        admin_tls: Option<Value>,
        /// Reverse proxies that terminate TLS for the admin listener. `X-Forwarded-Proto: https` (or `Forwarded`)
        /// of these is believed, and `X-Forwarded-For` names the client in rate limits and the audit log.
        #[key("list of addresses and networks", "[]")]
        #[serde(default)]
        admin_proxies: Vec<String>,
        /// Origins of other sites whose pages may use the API (CORS), such as `https://console.example.com`.
        #[key("list of origins", "[]")]
        #[serde(default)]
        admin_cors: Vec<String>,
    }
}

impl ListenSettings {
    /// The certificates of all listeners, each with the key of the configuration that names it.
    pub fn certificates(&self) -> impl Iterator<Item = (&'static str, &Certificate)> {
        let proxy = self.proxy.iter().filter_map(|at| match at {
            ListenAt::Tls(tls) => Some(("listen.proxy", &tls.by)),
            ListenAt::Tcp(_) | ListenAt::Unix(_) => None,
        });
        let admin = self.admin_access.tls.iter().map(|by| ("listen.admin_tls", by));
        let databases = self.databases.iter().filter_map(|listen| listen.tls.as_ref());
        let databases = databases.map(|by| ("listen.databases", by));
        let hooks = self.hooks.iter().filter_map(|hooks| hooks.tls.as_ref());
        proxy.chain(admin).chain(databases).chain(hooks.map(|by| ("listen.hooks", by)))
    }
}

impl Default for ListenSettings {
    fn default() -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            proxy: vec![ListenAt::Tcp(SocketAddr::new(loopback, PROXY_PORT))],
            admin: SocketAddr::new(loopback, ADMIN_PORT),
            admin_access: ListenAdmin::default(),
            metrics: None,
            hooks: None,
            agents: Vec::new(),
            databases: Vec::new(),
            base_urls: ServedBaseUrls::default(),
        }
    }
}

pub(super) fn listen(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> ListenSettings {
    let mut listen = ListenSettings::default();
    let Some(text) = reading.section::<ListenText>(value, "listen") else { return listen };
    let (named, origins) = (&text.admin_proxies, &text.admin_cors);
    listen.admin_access = admin(text.admin_tls.as_ref(), named, origins, reading);
    if let Some(admin) = &text.admin {
        listen.admin = tcp(admin, "listen.admin", reading).unwrap_or(listen.admin);
    }
    let metrics = text.metrics.as_deref();
    listen.metrics = metrics.and_then(|at| tcp(at, "listen.metrics", reading));
    listen.hooks = hooks(text.hooks.as_ref(), reading);
    if let Some(proxy) = &text.proxy {
        listen.proxy = proxies(proxy, reading);
    }
    listen.agents = listen_at::agents(text.agents.as_ref(), reading);
    listen.databases = listen_databases::databases(text.databases.as_ref(), reading);
    listen.base_urls = base_urls(text.base_urls, &text.base_url_hosts, reading);
    clashes(&listen, reading);
    listen
}

fn base_urls(
    on: Option<bool>,
    names: &[String],
    reading: &mut ConfigReading<'_>,
) -> ServedBaseUrls {
    let host = |name: &str| Host::parse(name).map_err(|_| "this is not the name of a host");
    let remedy = "write a name without a port, such as `keyward`";
    let hosts = reading.parsed(names, "listen.base_url_hosts", host, remedy);
    match on {
        Some(false) => ServedBaseUrls::Off,
        Some(true) | None => ServedBaseUrls::At(hosts),
    }
}

fn proxies(value: &Value, reading: &mut ConfigReading<'_>) -> Vec<ListenAt> {
    let path = "listen.proxy";
    let Value::Sequence(items) = value else {
        return place(value, path, reading).into_iter().collect();
    };
    if items.is_empty() {
        reading.problems.add(path, "there is no listener for agents", "name at least one");
    }
    let read = |(index, item)| place(item, &item_of(path, index), reading);
    items.iter().enumerate().filter_map(read).collect()
}

/// An address or a unix socket, with or without TLS.
fn place(value: &Value, path: &str, reading: &mut ConfigReading<'_>) -> Option<ListenAt> {
    match value {
        Value::Mapping(_) => listen_tls::tls(value, path, reading).map(ListenAt::Tls),
        _ => at(value, path, reading),
    }
}

/// Two listeners at one place: the second could not be opened.
fn clashes(listen: &ListenSettings, reading: &mut ConfigReading<'_>) {
    for (index, at) in listen.proxy.iter().enumerate() {
        if listen.proxy[..index].iter().any(|other| at.clashes(other)) {
            let message = format!("two listeners are at {at}");
            reading.problems.add("listen.proxy", message, "remove one");
        }
    }
    let admin = ListenAt::Tcp(listen.admin);
    if let Some(at) = listen.proxy.iter().find(|at| at.clashes(&admin)) {
        let message = format!("the admin listener is at {at} as well");
        reading.problems.add("listen.proxy", message, "choose another port for one of them");
    }
    let tcp = |key: &str, at: SocketAddr| (format!("listen.{key}"), "port", ListenAt::Tcp(at));
    let named = |key: &'static str| {
        move |(index, at): (usize, &ListenAt)| {
            let path = key_of(&item_of(&format!("listen.{key}"), index), "at");
            (path, "place", at.clone())
        }
    };
    let mut others: Vec<_> = listen.metrics.map(|at| tcp("metrics", at)).into_iter().collect();
    others.extend(listen.hooks.as_ref().map(|hooks| tcp("hooks", hooks.at)));
    others.extend(listen.agents.iter().map(|own| &own.at).enumerate().map(named("agents")));
    others.extend(listen.databases.iter().map(|own| &own.at).enumerate().map(named("databases")));
    let mut taken: Vec<ListenAt> = listen.proxy.iter().cloned().chain([admin]).collect();
    for (path, what, at) in others {
        if let Some(other) = taken.iter().find(|other| other.clashes(&at)) {
            let message = format!("another listener is at {other} as well");
            let remedy = format!("choose another {what} for one of them");
            reading.problems.add(&path, message, remedy);
        }
        taken.push(at);
    }
}

/// Reads `public_url:`, without a slash at its end.
pub(super) fn public_url(
    value: Option<&Value>,
    listen: &ListenSettings,
    reading: &mut ConfigReading<'_>,
) -> String {
    let scheme = if listen.admin_access.tls.is_some() { "https" } else { "http" };
    let default = || format!("{scheme}://localhost:{}", listen.admin.port());
    let Some(url) = reading.section::<String>(value, "public_url") else { return default() };
    base_url(url, "public_url", reading)
}

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

/// The listener for webhooks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenHooks {
    /// The address; port 0 is any free one.
    pub at: SocketAddr,
    /// The URL at which services reach it, without a slash at its end; `None`: that of its address.
    pub url: Option<String>,
    /// What it proves itself by, if it speaks TLS.
    pub tls: Option<Certificate>,
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct ListenHooksText {
        /// Port 0 means any free port.
        #[key("`IP:PORT`", required)]
        at: Option<String>,
        /// The URL at which services reach it: the base of the hooks' URLs, by default that of `at`. Some services sign it.
        #[key("URL of a server")]
        url: Option<String>,
        /// With `cert` and `key`, PEM files whose changes are applied, or without them with leaves of Keyward's CA for
        /// its address, `localhost` and `names`. Then it speaks TLS only.
        #[key("`{ cert, key, names }`")]
        tls: Option<Value>,
    }
}

impl ListenHooks {
    /// The base of the hooks' URLs, for a listener that is bound here.
    pub fn base(&self, bound: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.url.clone().unwrap_or_else(|| format!("{scheme}://{bound}"))
    }
}

pub(super) fn hooks(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> Option<ListenHooks> {
    let path = "listen.hooks";
    let text = reading.section::<ListenHooksText>(value, path)?;
    let at = reading.required(text.at, "at", path);
    if at.is_empty() {
        return None;
    }
    let at = tcp(&at, "listen.hooks.at", reading)?;
    let tls = text.tls.as_ref();
    let tls = tls.and_then(|tls| listen_tls::certificate(tls, "listen.hooks.tls", reading));
    let url = text.url.map(|url| base_url(url, "listen.hooks.url", reading));
    Some(ListenHooks { at, url, tls })
}
