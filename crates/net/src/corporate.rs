//! [`CorporateProxy`]: an HTTP proxy that the network requires, with its exceptions. Pure; `proxy_tunnel.rs` speaks
//! to it. The proxy resolves names, so their addresses are not checked here. Loopback targets never use the
//! proxy, where they would mean the proxy's machine.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, Request, StatusCode, Uri, header, uri};
use ipnet::IpNet;
use rustls::ClientConfig;

use super::dial_error::{DialError, ProxyFault};
use super::tls;
use keyward_base::host::{Host, Scheme, Target};
use keyward_base::secret::Secret;

/// Names of this machine (RFC 6761 §6.3), and of the metadata service of the cloud that it runs in
/// (<https://cloud.google.com/compute/docs/metadata/querying-metadata>).
const OWN_NAMES: &[&str] = &["localhost", "metadata.google.internal", "metadata.goog"];

/// A configured proxy. Replaced when the configuration changes.
#[derive(Clone, Debug)]
pub struct CorporateProxy {
    at: Target,
    except: Vec<ProxyException>,
    /// `Basic …`, marked sensitive.
    authorization: Option<HeaderValue>,
    /// TLS configuration, for a proxy that is reached over TLS.
    tls: Option<Arc<ClientConfig>>,
}

/// A target that is dialled directly.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProxyException {
    /// All names below this one.
    Below(Arc<str>),
    /// Exactly this name.
    Name(Arc<str>),
    /// Targets written as an address in this network. Names are not resolved for this check.
    Net(IpNet),
}

/// Text that is not a valid exception.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no host, domain or network")]
pub struct ProxyExceptionError(pub String);

/// A proxy stream on which requests are sent in absolute form (RFC 9112 §3.2.2), with the data they need. For
/// cleartext: many proxies refuse CONNECT to ports other than 443.
#[derive(Clone, Debug)]
pub struct ForwardingStream {
    by: Target,
    /// The target's authority.
    authority: uri::Authority,
    authorization: Option<HeaderValue>,
}

/// A login that cannot be sent as a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CorporateLoginError {
    /// The user name contains a colon (RFC 7617 §2).
    #[error("the user name holds a colon or a control character")]
    User,
    /// The password contains control characters (RFC 7617 §2).
    #[error("the password holds a control character")]
    Password,
}

impl ProxyException {
    /// Parses `.corp.example` (all below it), `host.corp.example`, `10.0.0.0/8`, `10.1.2.3` or `fd00::/8`.
    ///
    /// # Errors
    /// When the text is none of these.
    pub fn parse(text: &str) -> Result<Self, ProxyExceptionError> {
        let wrong = || ProxyExceptionError(text.to_owned());
        if let Ok(net) = text.parse::<IpNet>() {
            return if net.trunc() == net { Ok(Self::Net(net)) } else { Err(wrong()) };
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Net(address.to_canonical().into()));
        }
        let (below, name) = match text.strip_prefix('.') {
            Some(domain) => (true, domain),
            None => (false, text),
        };
        match (Host::parse(name), below) {
            (Ok(Host::Name(name)), true) => Ok(Self::Below(name)),
            (Ok(Host::Name(name)), false) => Ok(Self::Name(name)),
            _ => Err(wrong()),
        }
    }

    fn covers(&self, host: &Host) -> bool {
        match (self, host.name(), host.address()) {
            (Self::Below(domain), Some(name), _) => is_below(name, domain),
            (Self::Name(own), Some(name), _) => **own == *name,
            (Self::Net(net), _, Some(address)) => net.contains(&address),
            _ => false,
        }
    }
}

impl CorporateProxy {
    /// A proxy at `at`; its scheme says whether TLS is used.
    pub fn new(at: Target, except: Vec<ProxyException>) -> Self {
        Self { at, except, authorization: None, tls: None }
    }

    /// Authenticates with Basic (RFC 7617), in UTF-8.
    ///
    /// # Errors
    /// When user or password cannot be sent this way.
    pub fn with_login(
        mut self,
        user: &str,
        password: &Secret,
    ) -> Result<Self, CorporateLoginError> {
        if user.contains(':') || user.chars().any(char::is_control) {
            return Err(CorporateLoginError::User);
        }
        if password.expose().iter().any(u8::is_ascii_control) {
            return Err(CorporateLoginError::Password);
        }
        let pair = Secret::new([user.as_bytes(), b":", password.expose()].concat());
        let value = Secret::from(format!("Basic {}", BASE64_STANDARD.encode(pair.expose())));
        let mut value =
            HeaderValue::from_bytes(value.expose()).expect("base64 is made of visible characters");
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// Verifies a proxy that is reached over TLS in the same way as upstreams. Proxies are offered HTTP/1.1
    /// only.
    pub fn verified_as(mut self, upstreams: &ClientConfig) -> Self {
        self.tls = (self.at.scheme() == Scheme::Https).then(|| {
            let mut config = upstreams.clone();
            config.alpn_protocols = vec![tls::ALPN_HTTP1.to_vec()];
            Arc::new(config)
        });
        self
    }

    /// The proxy's address.
    pub fn at(&self) -> &Target {
        &self.at
    }

    /// Whether the target is reached through the proxy.
    pub fn is_used_for(&self, target: &Target) -> bool {
        !is_own(target.host()) && !self.except.iter().any(|except| except.covers(target.host()))
    }

    /// What requests in absolute form need for this target.
    pub(super) fn forwarding(&self, target: &Target) -> ForwardingStream {
        let authority = target.authority();
        let authority = authority.try_into().expect("a target's authority is one of a URI");
        ForwardingStream {
            by: self.at.clone(),
            authority,
            authorization: self.authorization.clone(),
        }
    }

    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    pub(super) fn tls(&self) -> Option<&Arc<ClientConfig>> {
        self.tls.as_ref()
    }
}

impl PartialEq for CorporateProxy {
    /// Compares without TLS, which depends on the roots.
    fn eq(&self, other: &Self) -> bool {
        let Self { at, except, authorization, tls: _ } = self;
        (at, except, authorization) == (&other.at, &other.except, &other.authorization)
    }
}

impl fmt::Display for CorporateProxy {
    /// `http://corp.example:3128`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}

/// Converts a request to the form that its stream needs: absolute for a forwarding proxy, otherwise origin
/// form. The request may have the other form from an earlier attempt.
pub fn fit<B>(request: &mut Request<B>, forwarded: Option<&ForwardingStream>) {
    match forwarded {
        Some(forwarded) => forwarded.fit(request),
        None if request.uri().scheme().is_some() => {
            *request.uri_mut() = rewritten(request.uri(), None);
            request.headers_mut().remove(header::PROXY_AUTHORIZATION);
        }
        None => {}
    }
}

impl ForwardingStream {
    /// The error for a 407, with which the corporate proxy rejects its login. The agent does not get the 407,
    /// because that would ask for the agent's own login.
    pub fn refused(&self, status: StatusCode) -> Option<DialError> {
        let wants_login = status == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        wants_login.then(|| DialError::proxy(&self.by, ProxyFault::Login))
    }

    fn fit<B>(&self, request: &mut Request<B>) {
        *request.uri_mut() = rewritten(request.uri(), Some(&self.authority));
        let fields = request.headers_mut();
        match &self.authorization {
            Some(value) => drop(fields.insert(header::PROXY_AUTHORIZATION, value.clone())),
            None => drop(fields.remove(header::PROXY_AUTHORIZATION)),
        }
    }
}

fn rewritten(uri: &Uri, authority: Option<&uri::Authority>) -> Uri {
    let mut parts = uri::Parts::default();
    parts.path_and_query = uri.path_and_query().cloned();
    if let Some(authority) = authority {
        parts.scheme = Some(uri::Scheme::HTTP);
        parts.authority = Some(authority.clone());
    }
    Uri::from_parts(parts).expect("a path with both, or neither, of scheme and authority is a URI")
}

fn is_own(host: &Host) -> bool {
    match (host.name(), host.address()) {
        (Some(name), _) => OWN_NAMES.iter().any(|own| name == *own || is_below(name, own)),
        (None, address) => address.is_some_and(|address| address.is_loopback()),
    }
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(authority: &str) -> Target {
        Target::parse(Scheme::Https, authority).expect("target")
    }

    fn proxy(except: &[&str]) -> CorporateProxy {
        let except = except.iter().map(|text| ProxyException::parse(text).expect(text)).collect();
        CorporateProxy::new(Target::parse(Scheme::Http, "corp:3128").expect("proxy"), except)
    }

    #[test]
    fn an_exception_that_is_no_host_domain_or_network_is_refused() {
        for bad in [
            "",
            ".",
            "..corp",
            "*",
            "*.corp.example",
            "corp.example:443",
            "a b",
            "10.1.2.3/8",
            "10.0.0.0/33",
            "[fd00::1]",
            ".10.0.0.1",
            "user@corp",
            "127.1",
            "http://corp",
        ] {
            assert_eq!(
                ProxyException::parse(bad),
                Err(ProxyExceptionError(bad.to_owned())),
                "{bad}"
            );
        }
    }

    #[test]
    fn loopback_and_metadata_hosts_never_use_the_proxy() {
        let proxy = proxy(&[]);
        for own in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9:8443",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "metadata.google.internal",
            "Metadata.Goog.",
        ] {
            assert!(!proxy.is_used_for(&target(own)), "{own}");
        }
    }

    #[test]
    fn exceptions_match_whole_labels_and_networks() {
        let proxy = proxy(&[".Corp.example", "git.other.example.", "10.0.0.0/8", "fd00::/8"]);
        let direct = [
            "a.corp.example",
            "a.b.CORP.example.",
            "git.other.example:8443",
            "10.9.9.9",
            "[fd00::7]",
        ];
        for host in direct {
            assert!(!proxy.is_used_for(&target(host)), "{host}");
        }
        for host in [
            "corp.example",
            "acorp.example",
            "corp.example.com",
            "a.git.other.example",
            "other.example",
            "11.0.0.1",
            "[fc00::7]",
            "10.example.com",
        ] {
            assert!(proxy.is_used_for(&target(host)), "{host}");
        }
    }

    #[test]
    fn an_unsendable_proxy_login_is_refused_and_debug_shows_no_login() {
        let with =
            |user, password: &str| proxy(&[]).with_login(user, &Secret::from(password.to_owned()));
        assert_eq!(with("a:b", "x").expect_err("colon"), CorporateLoginError::User);
        assert_eq!(with("a\r\nX: y", "x").expect_err("line"), CorporateLoginError::User);
        assert_eq!(with("a", "x\r\nX: y").expect_err("line"), CorporateLoginError::Password);
        let shown = format!("{:?}", with("svc", "hunter2").expect("a login"));
        assert!(!shown.contains("hunter2") && !shown.contains("c3ZjOmh1bnRlcjI="), "{shown}");
    }

    #[test]
    fn a_request_that_is_sent_directly_loses_the_form_and_login_for_the_proxy() {
        let login = proxy(&[]).with_login("svc", &Secret::from("hunter2".to_owned()));
        let forwarded = login.expect("a login").forwarding(&target("api.test:8080"));
        let mut request = Request::get("/a?b").body(()).expect("request");
        fit(&mut request, None);
        assert_eq!(*request.uri(), "/a?b");
        for _ in 0..2 {
            fit(&mut request, Some(&forwarded));
            assert_eq!(*request.uri(), "http://api.test:8080/a?b");
            assert_eq!(request.headers()["proxy-authorization"], "Basic c3ZjOmh1bnRlcjI=");
        }
        fit(&mut request, None);
        assert_eq!(*request.uri(), "/a?b");
        assert!(request.headers().is_empty());
    }
}
