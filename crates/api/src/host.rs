//! The names that the TCP listener accepts in `Host`. In a DNS rebinding attack, a page of another site sends
//! its own name, and gets a 421.

use std::net::{IpAddr, SocketAddr};

use http::header::HOST;
use http::{HeaderMap, Uri};

use super::error::ApiError;
use keyward_base::host::{Host, Scheme, Target};

/// The accepted names and ports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnNames {
    port: u16,
    named: Vec<(Host, u16)>,
}

/// The stream that a request came on: an extension of each request over TCP. Who repeats a request to the routers
/// within the process repeats this as well.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub local: SocketAddr,
    /// The other end: a client, or a reverse proxy.
    pub peer: SocketAddr,
    /// Whether the listener speaks TLS.
    pub is_tls: bool,
}

/// The client of a request that has not proved anything yet: an extension, which authentication removes.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnprovedSender(pub(super) IpAddr);

impl OwnNames {
    /// `port`: the listener's. `named`: further authorities, such as that of `public_url`.
    pub fn new(port: u16, named: Vec<(Host, u16)>) -> Self {
        Self { port, named }
    }

    /// Checks a request's authority: `localhost` or the local address of the stream, at the listener's port, or
    /// a further name. Loopback literals need no list, because the local address of a stream is the one that
    /// its client dialled.
    ///
    /// # Errors
    /// 400 when `Host` occurs twice, 421 when it is missing or not accepted.
    pub(super) fn check(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        arrival: Arrival,
    ) -> Result<(), ApiError> {
        let mut fields = headers.get_all(HOST).iter();
        let first = fields.next().ok_or(ApiError::Misdirected)?;
        if fields.next().is_some() {
            return Err(ApiError::Unreadable("`Host` is given more than once".to_owned()));
        }
        let field = first.to_str().map_err(|_| ApiError::Misdirected)?;
        let target = uri.authority().map(http::uri::Authority::as_str);
        match self.is_ours(field, arrival) && target.is_none_or(|name| self.is_ours(name, arrival))
        {
            true => Ok(()),
            false => Err(ApiError::Misdirected),
        }
    }

    fn is_ours(&self, authority: &str, arrival: Arrival) -> bool {
        let scheme = if arrival.is_tls { Scheme::Https } else { Scheme::Http };
        let Ok(asked) = Target::parse(scheme, authority) else { return false };
        let (host, port) = (asked.host(), asked.port());
        // Without a port it is that of the scheme, and behind a proxy that terminates TLS, of `https`.
        let is_bare = !authority.rsplit(']').next().unwrap_or_default().contains(':');
        let is_port = |at: u16| at == port || is_bare && at == Scheme::Https.default_port();
        if self.named.iter().any(|(name, at)| name == host && is_port(*at)) {
            return true;
        }
        let local = arrival.local;
        port == self.port
            && match host {
                Host::Name(name) => &**name == "localhost",
                Host::V4(v4) => IpAddr::V4(*v4) == local.ip().to_canonical(),
                Host::V6(v6) => IpAddr::V6(*v6) == local.ip(),
            }
    }
}

/// Checks a request to a listener without a list of names. On loopback, `Host` must be `localhost` or an address, so
/// that no page of another site reads the answer by DNS rebinding; elsewhere, clients use any name.
///
/// # Errors
/// As [`OwnNames::check`].
pub(super) fn check_loopback(headers: &HeaderMap, local: SocketAddr) -> Result<(), ApiError> {
    if !local.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let mut fields = headers.get_all(HOST).iter();
    let field = fields.next().and_then(|field| field.to_str().ok());
    let host = field.and_then(|field| Target::parse(Scheme::Http, field).ok());
    let is_ours = host.is_some_and(|target| match target.host() {
        Host::Name(name) => &**name == "localhost",
        Host::V4(_) | Host::V6(_) => true,
    });
    match is_ours && fields.next().is_none() {
        true => Ok(()),
        false => Err(ApiError::Misdirected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival() -> Arrival {
        let at = "127.0.0.1:8081".parse().unwrap();
        Arrival { local: at, peer: at, is_tls: false }
    }

    fn status(names: &OwnNames, hosts: &[&str], uri: &str) -> u16 {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        match names.check(&uri.parse().unwrap(), &headers, arrival()) {
            Ok(()) => 200,
            Err(error) => error.code().status().as_u16(),
        }
    }

    #[test]
    fn foreign_hosts_are_421() {
        let names = OwnNames::new(8081, vec![(Host::parse("kw.example.com").unwrap(), 443)]);
        let foreign = [
            "evil.example:8081",
            "localhost",
            "localhost:80",
            "localhost:+8081",
            "localhost:08081x",
            "127.0.0.2:8081",
            "0177.0.0.1:8081",
            "[::1]:8081",
            "kw.example.com:80",
            "kw.example.com:8081",
            "localhost.evil.example:8081",
            "user@localhost:8081",
            "",
        ];
        for host in foreign {
            assert_eq!(status(&names, &[host], "/healthz"), 421, "{host}");
        }
        assert_eq!(status(&names, &[], "/healthz"), 421);
        assert_eq!(status(&names, &["localhost:8081"], "http://evil.example/healthz"), 421);
    }

    #[test]
    fn a_request_with_two_host_fields_is_a_400() {
        let names = OwnNames::new(8081, Vec::new());
        assert_eq!(status(&names, &["localhost:8081", "localhost:8081"], "/healthz"), 400);
    }

    #[test]
    fn requests_for_the_names_of_the_gateway_are_answered() {
        let names = OwnNames::new(8081, vec![(Host::parse("kw.example.com").unwrap(), 443)]);
        for host in [
            "localhost:8081",
            "LOCALHOST:8081",
            "127.0.0.1:8081",
            "kw.example.com:443",
            "kw.example.com",
        ] {
            assert_eq!(status(&names, &[host], "/healthz"), 200, "{host}");
        }
        assert_eq!(status(&names, &["localhost:8081"], "http://localhost:8081/healthz"), 200);
    }
}
