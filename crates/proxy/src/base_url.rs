//! Base URLs, for programs that cannot use a proxy. `http://ADDRESS/to/CONNECTION/…` and `http://CONNECTION.localhost/…` mean
//! `https://HOST/…`, where HOST is the host of that connection.
//!
//! This file parses base URLs; `streams/base_url_requests.rs` serves requests by them. [`ServedBaseUrls`] lists the host names
//! under which the gateway serves base URLs. [`BaseUrlError::text`] is the table of code, message and hint of each refusal.

use std::fmt;
use std::sync::Arc;

use http::uri::PathAndQuery;

use keyward_base::agent::Agent;
use keyward_base::codes::{Code, RefusalText};
use keyward_base::host::{Host, Scheme, Target};
use keyward_rules::policy::{Account, Policy};
use keyward_rules::provider::decode::nearest;

/// The prefix of base URLs by path.
const TO: &str = "/to/";

/// The suffix of base URLs by host name. RFC 6761 §6.3: such names resolve to this machine.
const BELOW_LOCALHOST: &str = ".localhost";

/// `listen.base_urls` and `listen.base_url_hosts`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServedBaseUrls {
    /// Base URLs are not served.
    Off,
    /// Served at every IP address, at `localhost`, and at these names.
    At(Vec<Host>),
}

/// A parsed base URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BaseUrl {
    /// The gateway's authority as the client knows it.
    gateway: Target,
    /// The prefix before the upstream's path: `/to/NAME` or nothing.
    prefix: String,
    connection: String,
    host: Option<String>,
}

impl Default for ServedBaseUrls {
    fn default() -> Self {
        Self::At(Vec::new())
    }
}

impl BaseUrl {
    /// Parses the base URL of a request for `path` (without its query), on a listener with URLs of `scheme`.
    /// `None`: the request uses no base URL.
    ///
    /// # Errors
    /// When base URLs are off, or the authority is not the gateway's: after DNS rebinding, a page sends its own
    /// name. IP addresses need no list, because DNS cannot change them.
    pub fn read(
        scheme: Scheme,
        authority: Option<&str>,
        path: &str,
        urls: &ServedBaseUrls,
    ) -> Option<Result<Self, BaseUrlError>> {
        let own = authority.and_then(|text| Target::parse(scheme, text).ok());
        let below = own.as_ref().and_then(|own| own.host().name()?.strip_suffix(BELOW_LOCALHOST));
        let (prefix, named, host) = match (below, path.strip_prefix(TO)) {
            (Some(name), _) => (String::new(), name.to_owned(), None),
            (None, Some(rest)) => {
                let segment = rest.split('/').next().unwrap_or(rest);
                let (name, host) = match segment.split_once('@') {
                    Some((name, host)) => (name, Some(host.to_owned())),
                    None => (segment, None),
                };
                (format!("{TO}{segment}"), name.to_owned(), host)
            }
            (None, None) => return None,
        };
        let ServedBaseUrls::At(names) = urls else { return Some(Err(BaseUrlError::Off)) };
        let is_ours = |own: &Target| below.is_some() || is_ours(own.host(), names);
        Some(match own.as_ref().is_some_and(is_ours) {
            true => own
                .map(|gateway| Self { gateway, prefix, connection: named, host })
                .ok_or(BaseUrlError::NotOurs),
            false => Err(BaseUrlError::NotOurs),
        })
    }

    /// The name or id of the connection.
    pub fn connection(&self) -> &str {
        &self.connection
    }

    /// The host that the URL names, if it names one.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The prefix before the upstream's path.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The upstream's path and query in `sent`, byte for byte.
    pub fn upstream_path(&self, sent: &str) -> String {
        let rest = sent.strip_prefix(&self.prefix).unwrap_or(sent);
        match rest.starts_with(['/', '*']) {
            true => rest.to_owned(),
            false => format!("/{rest}"),
        }
    }

    /// Whether `origin`, such as `http://127.0.0.1:8080`, is the one that the client used.
    pub fn is_own(&self, origin: &str) -> bool {
        let scheme = self.gateway.scheme();
        let authority = origin.split_once("://").filter(|(name, _)| *name == scheme.as_str());
        let parsed = authority.and_then(|(_, authority)| Target::parse(scheme, authority).ok());
        parsed.is_some_and(|parsed| parsed == self.gateway)
    }

    /// The base URL of a request, by its URI and `Host`.
    pub(crate) fn of<B>(
        request: &http::Request<B>,
        scheme: Scheme,
        urls: &ServedBaseUrls,
    ) -> Option<Result<Self, BaseUrlError>> {
        let sent = request.uri().path_and_query().map(PathAndQuery::path)?;
        let mut hosts = request.headers().get_all(http::header::HOST).iter();
        let authority = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok(),
            _ => None,
        };
        Self::read(scheme, authority, sent, urls)
    }
}

fn is_ours(host: &Host, names: &[Host]) -> bool {
    match host {
        Host::V4(_) | Host::V6(_) => true,
        Host::Name(name) => &**name == "localhost" || names.contains(host),
    }
}

/// The maximum number of hosts that a refusal lists.
const LISTED_MAX: usize = 8;

/// The target of the base URL and the name of its connection.
///
/// # Errors
/// When the agent has no such connection, or the host is ambiguous.
pub fn target(
    policy: &Policy,
    agent: &Agent,
    base_url: &BaseUrl,
) -> Result<(Target, Arc<str>), BaseUrlError> {
    let Some(account) = policy.account(agent, base_url.connection()) else {
        let names = policy.account_names(agent);
        let near = nearest(base_url.connection(), names).map(Into::into);
        return Err(BaseUrlError::Unknown { name: base_url.connection().into(), near });
    };
    let name = account.name.clone();
    let target = match base_url.host() {
        None => account.base_url_target().ok_or_else(|| BaseUrlError::ManyHosts {
            connection: name.clone(),
            hosts: hosts_of(account),
        })?,
        Some(host) => Target::parse(Scheme::Https, host)
            .ok()
            .filter(|target| account.owning(target).is_some())
            .ok_or_else(|| BaseUrlError::NotItsHost {
                connection: name.clone(),
                hosts: hosts_of(account),
            })?,
    };
    Ok((target, name))
}

fn hosts_of(account: &Account) -> String {
    let hosts: Vec<_> = account.hosts.iter().take(LISTED_MAX).map(ToString::to_string).collect();
    hosts.join(", ")
}

/// Why a base URL is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BaseUrlError {
    /// `listen.base_urls: false`.
    Off,
    /// A listener of one agent's own asks for no token, so that any page could use it.
    OwnListener,
    /// `Host` is missing, given twice, or a name that is not ours.
    NotOurs,
    /// The request comes, or may come, from a page of another site.
    CrossSite,
    /// No right token.
    Unauthenticated {
        /// Whether it carries a placeholder.
        placeholder: bool,
        /// Whether a browser sent it. A browser is not asked for a password, because it would then send it for any
        /// page.
        browser: bool,
    },
    /// The token is where URLs are logged.
    TokenInUrl,
    /// The agent has no such connection.
    Unknown {
        /// The name in the URL, truncated.
        name: Quoted,
        /// The most similar name of a connection that the agent has.
        near: Option<Arc<str>>,
    },
    /// All hosts of its provider are wildcards.
    ManyHosts {
        /// The name of the connection.
        connection: Arc<str>,
        /// The hosts of the connection.
        hosts: String,
    },
    /// The host in the URL does not belong to the connection.
    NotItsHost {
        /// The name of the connection.
        connection: Arc<str>,
        /// The hosts of the connection.
        hosts: String,
    },
}

/// Text from a client, truncated for quoting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Quoted(String);

/// The maximum number of quoted characters, the maximum length of a name.
const QUOTED_CHARS_MAX: usize = 64;

impl From<&str> for Quoted {
    fn from(text: &str) -> Self {
        Self(text.chars().take(QUOTED_CHARS_MAX).collect())
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BaseUrlError {
    /// Code, message and hint.
    pub fn text(&self) -> RefusalText {
        match self {
            Self::Off => Code::BaseUrlRefused
                .because("base URLs are switched off")
                .hint("set `listen.base_urls: true`, or use the gateway as a proxy"),
            Self::OwnListener => Code::BaseUrlRefused
                .because("base URLs do not work on the listener of one agent")
                .hint("send it to a listener of `listen.proxy`, with the agent's token"),
            Self::NotOurs => Code::HostMismatch
                .because("`Host` is not a name of this gateway")
                .hint("use its address, `localhost`, or a name that `listen.base_url_hosts` lists"),
            Self::CrossSite => {
                Code::CrossSiteRefused.because("requests of other sites are refused").usual_hint()
            }
            Self::Unauthenticated { placeholder: true, .. } => Code::BaseUrlUnauthenticated
                .because("the request carries a placeholder where the agent's token belongs")
                .usual_hint(),
            Self::Unauthenticated { placeholder: false, .. } => Code::BaseUrlUnauthenticated
                .because("the request carries no valid token of an agent")
                .usual_hint(),
            Self::TokenInUrl => Code::BadRequest.because("the URL contains the agent's token").hint(
                "send it in a field, such as `Keyward-Token`, and issue a new one: URLs are logged",
            ),
            Self::Unknown { name, near } => Code::ConnectionMissing
                .because(format!("this agent has no connection `{name}`"))
                .hint(match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("bind it: `keyward agent bind NAME {name}`"),
                }),
            Self::ManyHosts { connection, hosts } => Code::BadTarget
                .because(format!(
                    "connection `{connection}` has only wildcard hosts, so its base URL must \
                     name a host"
                ))
                .hint(name_a_host(connection, hosts)),
            Self::NotItsHost { connection, hosts } => Code::Denied
                .because(format!("the host in the URL is not a host of connection `{connection}`"))
                .hint(name_a_host(connection, hosts)),
        }
    }

    /// The connection concerned.
    pub fn connection(&self) -> Option<&Arc<str>> {
        match self {
            Self::ManyHosts { connection, .. } | Self::NotItsHost { connection, .. } => {
                Some(connection)
            }
            _ => None,
        }
    }
}

impl fmt::Display for BaseUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text().message)
    }
}

impl std::error::Error for BaseUrlError {}

fn name_a_host(connection: &str, hosts: &str) -> String {
    format!("name one of its hosts: /to/{connection}@HOST/…, where HOST is in {hosts}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(authority: &str, path: &str) -> Option<Result<BaseUrl, BaseUrlError>> {
        let urls = ServedBaseUrls::At(vec![Host::parse("keyward").unwrap()]);
        BaseUrl::read(Scheme::Http, Some(authority), path, &urls)
    }

    #[test]
    fn a_base_url_without_a_host_name_of_the_gateway_is_refused() {
        for authority in [
            "evil.test:8080",
            "localhost.evil.test",
            "evil-localhost",
            "keyward.evil.test",
            "user@localhost",
            "local host",
            "",
        ] {
            assert!(
                matches!(read(authority, "/to/work/"), Some(Err(BaseUrlError::NotOurs))),
                "{authority}"
            );
        }
        let none = BaseUrl::read(Scheme::Http, None, "/to/work/", &ServedBaseUrls::default());
        assert!(matches!(none, Some(Err(BaseUrlError::NotOurs))));
    }

    #[test]
    fn base_urls_that_are_off_are_refused_by_path_and_by_host() {
        for (authority, path) in [("127.0.0.1:1", "/to/work/"), ("work.localhost", "/")] {
            let read = BaseUrl::read(Scheme::Http, Some(authority), path, &ServedBaseUrls::Off);
            assert!(matches!(read, Some(Err(BaseUrlError::Off))), "{authority}");
        }
    }

    #[test]
    fn a_path_without_the_base_url_prefix_is_not_a_base_url() {
        for path in ["/", "/to", "/To/work/", "//to/work/", "/%74o/work/", "/a/to/work", "*"] {
            assert_eq!(read("127.0.0.1:8080", path), None, "{path}");
        }
    }

    #[test]
    fn a_connection_is_named_by_path_or_host() {
        for (authority, path, connection, host) in [
            ("127.0.0.1:8080", "/to/work/v1", "work", None),
            ("10.0.0.1", "/to/work", "work", None),
            ("[::1]:1", "/to/work/", "work", None),
            ("LOCALHOST:8080", "/to/work/", "work", None),
            ("keyward:8080", "/to/work/", "work", None),
            ("localhost", "/to/work@api.a.test:8443/x", "work", Some("api.a.test:8443")),
            ("localhost", "/to//x", "", None),
            ("localhost", "/to/../x", "..", None),
            ("Work-1.localhost:8080", "/v1", "work-1", None),
            ("a.b.localhost.", "/to/other/", "a.b", None),
        ] {
            let base_url = read(authority, path).unwrap().unwrap();
            assert_eq!(
                (base_url.connection(), base_url.host()),
                (connection, host),
                "{authority}{path}"
            );
        }
    }

    #[test]
    fn the_path_and_query_after_the_connection_reach_the_upstream_unchanged() {
        let behind = |authority, sent: &str| {
            let path = sent.split('?').next().unwrap();
            read(authority, path).unwrap().unwrap().upstream_path(sent)
        };
        for (sent, upstream) in [
            ("/to/work", "/"),
            ("/to/work?a=1", "/?a=1"),
            ("/to/work/", "/"),
            ("/to/work/a%2fb/%C3%BC//c/../d?x=/to/work", "/a%2fb/%C3%BC//c/../d?x=/to/work"),
            ("/to/work@api.a.test/to/work/", "/to/work/"),
        ] {
            assert_eq!(behind("localhost", sent), upstream, "{sent}");
        }
        assert_eq!(behind("work.localhost", "/to/work/a%20b?c"), "/to/work/a%20b?c");
    }

    #[test]
    fn the_origin_of_a_base_url_includes_scheme_and_port() {
        let base_url = read("127.0.0.1:8080", "/to/work/").unwrap().unwrap();
        assert!(base_url.is_own("http://127.0.0.1:8080"));
        for other in [
            "https://127.0.0.1:8080",
            "http://127.0.0.1",
            "http://127.0.0.1:8081",
            "http://localhost:8080",
            "http://127.0.0.1:8080/x",
            "127.0.0.1:8080",
            "null",
            "",
        ] {
            assert!(!base_url.is_own(other), "{other}");
        }
        let (own, urls) = (Some("127.0.0.1:8080"), ServedBaseUrls::default());
        let base_url = BaseUrl::read(Scheme::Https, own, "/to/work/", &urls).unwrap().unwrap();
        assert!(
            base_url.is_own("https://127.0.0.1:8080") && !base_url.is_own("http://127.0.0.1:8080")
        );
    }
}
