//! Connects to a target: resolves once, checks every address, connects to a checked address. `guard.rs` decides
//! which addresses pass, `race.rs` connects, `client.rs` does TLS. `corporate.rs` says which targets use a
//! corporate proxy; `proxy_tunnel.rs` speaks to it.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;

use super::corporate::{CorporateProxy, ForwardingStream};
pub use super::dial_error::{DialError, ProxyFault};
use super::guard::{AllowPrivate, CheckedAddr, Guard, IpClass};
use super::lookups::Lookups;
use super::proxy_tunnel;
use super::race::{interleave, race};
use super::seed_list::{SeedList, SeedListError, SeedLists};
use super::wire::Wire;
use keyward_base::host::{Host, Scheme, Target};

/// Addresses of a named server that are tried.
const NAMED_ADDRESSES_MAX: usize = 8;

/// Connects to a server that a person names for a command line of their own, in any network and without a corporate
/// proxy. With `http`, which is cleartext, only to this machine, whatever the name resolves to.
///
/// # Errors
/// When the name does not resolve to such an address, or none accepts within `within`.
pub async fn dial_named(target: &Target, within: Duration) -> Result<TcpStream, DialError> {
    let guard = Guard::default();
    let dialler = Dialler::new(guard.clone(), Vec::new(), NAMED_ADDRESSES_MAX);
    let dialled = async {
        let addresses = dialler.addresses(target).await?.into_iter();
        let is_here = |addr: &SocketAddr| addr.ip().to_canonical().is_loopback();
        let allowed = addresses.filter(|addr| target.scheme() == Scheme::Https || is_here(addr));
        let checked = allowed.filter_map(|addr| guard.check_configured(addr).ok());
        let candidates: Vec<_> = checked.take(NAMED_ADDRESSES_MAX).collect();
        if candidates.is_empty() {
            let host = target.host().clone();
            return Err(DialError::Refused { host, class: IpClass::Public });
        }
        let raced = race(interleave(candidates)).await;
        raced
            .map(|raced| raced.stream)
            .map_err(|source| DialError::Connect { target: target.clone(), source })
    };
    let timeout = |_| DialError::Timeout { target: target.clone() };
    tokio::time::timeout(within, dialled).await.map_err(timeout)?
}

/// A connected stream.
#[derive(Debug)]
pub struct Dialled {
    /// A stream to a checked address, or through the corporate proxy.
    pub stream: Wire,
    /// Whether the address is on the explicit private list. Always false through a proxy, which resolves the
    /// name.
    pub private: bool,
    /// How requests are written when the proxy forwards them.
    pub forwarded: Option<ForwardingStream>,
}

/// The result of [`Dialler::resolve_and_check`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AddressVerdict {
    /// The addresses, each as the guard accepts it, or with the class for which it is refused.
    Addresses(Vec<(SocketAddr, Result<CheckedAddr, IpClass>)>),
    /// The target is reached through the corporate proxy, which resolves it.
    ByProxy { proxy: Target },
}

/// Resolves and dials. One per process.
#[derive(Debug)]
pub struct Dialler {
    settings: ArcSwap<DialSettings>,
    addresses_max: usize,
    lookups: Lookups,
    seed_lists: ArcSwap<SeedLists>,
}

/// The parts of the configuration that a reload replaces together.
#[derive(Clone, Debug)]
struct DialSettings {
    guard: Guard,
    overrides: Vec<Override>,
    proxy: Option<CorporateProxy>,
}

/// What a stream is used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum DialPurpose {
    /// Arbitrary bytes in both directions.
    Stream,
    /// HTTP requests; a proxy may forward those in cleartext individually.
    Requests,
    /// Bytes for a server that the operator configured: its address is in any network but not one of our listeners.
    Configured,
}

/// An entry of `upstream.resolve`.
#[derive(Clone, Debug)]
struct Override {
    host: Host,
    port: Option<u16>,
    addr: SocketAddr,
}

impl Dialler {
    /// `resolve`: host (and port, if given) to the address that is dialled instead, which is checked as well.
    /// `addresses_max`: how many addresses of a name are tried.
    pub fn new(
        guard: Guard,
        resolve: Vec<(Host, Option<u16>, SocketAddr)>,
        addresses_max: usize,
    ) -> Self {
        let settings = ArcSwap::from_pointee(DialSettings::new(guard, resolve, None));
        let lookups = Lookups::by_system();
        Self { settings, addresses_max, lookups, seed_lists: ArcSwap::default() }
    }

    /// Asks these DNS servers for lists of servers, instead of those of the system.
    pub fn ask_dns(&self, servers: Vec<SocketAddr>) {
        self.seed_lists.store(Arc::new(SeedLists::new(servers)));
    }

    /// The servers that DNS lists under a name for MongoDB.
    ///
    /// # Errors
    /// When DNS lists none within this time.
    pub async fn seed_list(&self, name: &str, within: Duration) -> Result<SeedList, SeedListError> {
        self.seed_lists.load_full().of(name, within).await
    }

    /// Uses a corporate proxy.
    pub fn with_proxy(self, proxy: Option<CorporateProxy>) -> Self {
        self.settings
            .rcu(|settings| DialSettings { proxy: proxy.clone(), ..DialSettings::clone(settings) });
        self
    }

    /// Replaces `allow_private`, `resolve` and the proxy. The addresses of our listeners stay.
    pub fn replace(
        &self,
        allow: Vec<AllowPrivate>,
        resolve: Vec<(Host, Option<u16>, SocketAddr)>,
        proxy: Option<CorporateProxy>,
    ) {
        self.settings.rcu(|settings| {
            let guard = settings.guard.allowing(allow.clone());
            DialSettings::new(guard, resolve.clone(), proxy.clone())
        });
    }

    /// Never dials this address from now on: a listener of ours was opened there.
    pub fn add_own(&self, addr: SocketAddr) {
        self.settings.rcu(|settings| DialSettings {
            guard: settings.guard.with_own(addr),
            ..DialSettings::clone(settings)
        });
    }

    /// Our listener at this address was closed.
    pub fn remove_own(&self, addr: SocketAddr) {
        self.settings.rcu(|settings| DialSettings {
            guard: settings.guard.without_own(addr),
            ..DialSettings::clone(settings)
        });
    }

    /// Opens a stream to the target. `within` covers resolving, all connection attempts, and the corporate
    /// proxy's response.
    ///
    /// Refused addresses are never dialled, not even as a fallback. Dropping the future closes every attempt.
    ///
    /// # Errors
    /// When every address is refused or none accepts in time.
    pub async fn dial(&self, target: &Target, within: Duration) -> Result<Dialled, DialError> {
        self.dial_for(DialPurpose::Stream, target, within).await
    }

    /// Like [`Dialler::dial`], for HTTP/1.1 requests; [`corporate::fit`](super::corporate::fit) converts each
    /// to the stream's form.
    ///
    /// # Errors
    /// As [`Dialler::dial`].
    pub async fn dial_for_requests(
        &self,
        target: &Target,
        within: Duration,
    ) -> Result<Dialled, DialError> {
        self.dial_for(DialPurpose::Requests, target, within).await
    }

    /// Like [`Dialler::dial`], for a server that the configuration names for Keyward's own use. It may be in any
    /// network; only our own listeners are refused.
    ///
    /// # Errors
    /// As [`Dialler::dial`].
    pub async fn dial_configured(
        &self,
        target: &Target,
        within: Duration,
    ) -> Result<Dialled, DialError> {
        self.dial_for(DialPurpose::Configured, target, within).await
    }

    async fn dial_for(
        &self,
        stream_use: DialPurpose,
        target: &Target,
        within: Duration,
    ) -> Result<Dialled, DialError> {
        let proxy = self.proxy_for(target);
        let dialled = async {
            match &proxy {
                None => self.dial_directly(target, stream_use).await,
                Some(proxy) => self.dial_by(proxy, target, stream_use, within).await,
            }
        };
        match (tokio::time::timeout(within, dialled).await, &proxy) {
            (Ok(result), _) => result,
            (Err(_), None) => Err(DialError::Timeout { target: target.clone() }),
            (Err(_), Some(proxy)) => {
                let target = format!("{}:{}", target.host(), target.port());
                Err(DialError::proxy(proxy.at(), ProxyFault::Timeout { target }))
            }
        }
    }

    /// Resolves and checks without connecting, for `explain`.
    ///
    /// # Errors
    /// When the name does not resolve.
    pub async fn resolve_and_check(&self, target: &Target) -> Result<AddressVerdict, DialError> {
        let judged = |addr| (addr, self.check(addr));
        if let Some(proxy) = self.proxy_for(target) {
            let literal = target.host().address().map(|ip| SocketAddr::new(ip, target.port()));
            return Ok(match literal.map(judged).filter(|(_, verdict)| verdict.is_err()) {
                Some(refused) => AddressVerdict::Addresses(vec![refused]),
                None => AddressVerdict::ByProxy { proxy: proxy.at().clone() },
            });
        }
        let addresses = self.addresses(target).await?;
        Ok(AddressVerdict::Addresses(addresses.into_iter().map(judged).collect()))
    }

    /// The address of the corporate proxy for this target, if it uses one.
    pub fn proxy_address(&self, target: &Target) -> Option<Target> {
        self.proxy_for(target).map(|proxy| proxy.at().clone())
    }

    /// The proxy for this target. A target with an entry in `resolve` is dialled directly.
    fn proxy_for(&self, target: &Target) -> Option<CorporateProxy> {
        let settings = self.settings.load();
        let proxy = settings.proxy.as_ref().filter(|proxy| proxy.is_used_for(target))?;
        self.overridden(target).is_none().then(|| proxy.clone())
    }

    async fn dial_directly(
        &self,
        target: &Target,
        stream_use: DialPurpose,
    ) -> Result<Dialled, DialError> {
        let addresses = self.addresses(target).await?;
        let refused = |class| DialError::Refused { host: target.host().clone(), class };
        let candidates = self.candidates(addresses, stream_use).map_err(refused)?;
        let raced = race(candidates).await;
        let raced =
            raced.map_err(|source| DialError::Connect { target: target.clone(), source })?;
        Ok(Dialled { stream: raced.stream.into(), private: raced.private, forwarded: None })
    }

    /// Dials through the proxy. It resolves names, so only literal addresses are checked.
    async fn dial_by(
        &self,
        proxy: &CorporateProxy,
        target: &Target,
        stream_use: DialPurpose,
        within: Duration,
    ) -> Result<Dialled, DialError> {
        if let Some(ip) = target.host().address() {
            let refused = |class| DialError::Refused { host: target.host().clone(), class };
            self.check_for(stream_use, SocketAddr::new(ip, target.port())).map_err(refused)?;
        }
        let fault = |fault| DialError::proxy(proxy.at(), fault);
        let stream = self.reach(proxy).await.map_err(fault)?;
        let stream = proxy_tunnel::enter(proxy, stream, within).await.map_err(fault)?;
        if stream_use == DialPurpose::Requests && target.scheme() == Scheme::Http {
            let forwarded = Some(proxy.forwarding(target));
            return Ok(Dialled { stream, private: false, forwarded });
        }
        let stream = proxy_tunnel::tunnel(proxy, stream, target).await.map_err(fault)?;
        Ok(Dialled { stream, private: false, forwarded: None })
    }

    /// Connects to the proxy. The operator chose its address, so only our own listeners are refused.
    async fn reach(&self, proxy: &CorporateProxy) -> Result<TcpStream, ProxyFault> {
        let addresses = self.addresses(proxy.at()).await.map_err(|error| match error {
            DialError::Resolve { source, .. } => ProxyFault::Resolve(source),
            other => ProxyFault::Resolve(io::Error::other(other)),
        })?;
        let check = |addr| self.check_for(DialPurpose::Configured, addr).ok();
        let checked = addresses.into_iter().filter_map(check);
        let candidates: Vec<_> = checked.take(self.addresses_max.max(1)).collect();
        if candidates.is_empty() {
            return Err(ProxyFault::Own);
        }
        let raced = race(interleave(candidates)).await;
        raced.map(|raced| raced.stream).map_err(ProxyFault::Connect)
    }

    /// Resolves the name. A success is never empty.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, DialError> {
        if let Some(addr) = self.overridden(target) {
            return Ok(vec![addr]);
        }
        let host = target.host();
        let literal = |ip: IpAddr| Ok(vec![SocketAddr::new(ip, target.port())]);
        let name = match host {
            Host::Name(name) => name,
            Host::V4(v4) => return literal((*v4).into()),
            Host::V6(v6) => return literal((*v6).into()),
        };
        let mut addresses = self
            .lookups
            .addresses(name, target.port())
            .await
            .and_then(|found| match found.is_empty() {
                true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
                false => Ok(found),
            })
            .map_err(|source| DialError::Resolve { host: host.clone(), source })?;
        let mut seen = HashSet::new();
        addresses.retain(|addr| seen.insert(*addr));
        Ok(addresses)
    }

    /// The override for the target. An entry with a port takes precedence.
    fn overridden(&self, target: &Target) -> Option<SocketAddr> {
        let settings = self.settings.load();
        let of_host = || settings.overrides.iter().filter(|entry| entry.host == *target.host());
        of_host()
            .find(|entry| entry.port == Some(target.port()))
            .or_else(|| of_host().find(|entry| entry.port.is_none()))
            .map(|entry| entry.addr)
    }

    /// The addresses that may be dialled, in the order of attempts.
    fn candidates(
        &self,
        addresses: Vec<SocketAddr>,
        stream_use: DialPurpose,
    ) -> Result<Vec<CheckedAddr>, IpClass> {
        let check = |addr| self.check_for(stream_use, addr);
        let verdicts: Vec<_> = addresses.into_iter().map(check).collect();
        let allowed: Vec<_> = verdicts.iter().copied().filter_map(Result::ok).collect();
        if allowed.is_empty() {
            return Err(verdicts.into_iter().find_map(Result::err).unwrap_or(IpClass::Reserved));
        }
        let mut ordered = interleave(allowed);
        ordered.truncate(self.addresses_max.max(1));
        Ok(ordered)
    }

    /// Checks an address with the guard. If one of our listeners has the port, it also asks the system whether
    /// the address is local, which no list can know for certain.
    fn check(&self, addr: SocketAddr) -> Result<CheckedAddr, IpClass> {
        self.check_for(DialPurpose::Stream, addr)
    }

    fn check_for(&self, stream_use: DialPurpose, addr: SocketAddr) -> Result<CheckedAddr, IpClass> {
        let guard = &self.settings.load().guard;
        let checked = match stream_use {
            DialPurpose::Stream | DialPurpose::Requests => guard.check(addr)?,
            DialPurpose::Configured => guard.check_configured(addr)?,
        };
        match reaches_own(guard, checked.addr()) {
            true => Err(IpClass::Own),
            false => Ok(checked),
        }
    }
}

impl DialSettings {
    fn new(
        guard: Guard,
        resolve: Vec<(Host, Option<u16>, SocketAddr)>,
        proxy: Option<CorporateProxy>,
    ) -> Self {
        let as_override = |(host, port, addr)| Override { host, port, addr };
        Self { guard, overrides: resolve.into_iter().map(as_override).collect(), proxy }
    }
}

/// Whether the address would reach one of our listeners although it is not in the configuration.
fn reaches_own(guard: &Guard, addr: SocketAddr) -> bool {
    guard.listens_on(addr.port()) && is_this_machine(addr)
}

/// Whether the system would use `addr` as the source address to reach `addr`. Nothing is sent: connecting a
/// datagram socket only selects the route. A list of own addresses would be incomplete: those of interfaces change.
fn is_this_machine(addr: SocketAddr) -> bool {
    let any: IpAddr = match addr {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(addr)?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == addr.ip())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::sockopt;

    use super::*;
    use crate::corporate::ProxyException;
    use crate::guard::AllowPrivate;
    use crate::lookups::tests::with_dead_name;
    use keyward_base::host::Scheme;

    const LONG: Duration = Duration::from_secs(60);

    fn guard(allow: &[&str], own: Vec<SocketAddr>) -> Guard {
        let parse = |text: &&str| AllowPrivate::parse(text).expect("network");
        Guard::new(allow.iter().map(parse).collect(), own)
    }

    fn loopback_guard() -> Guard {
        guard(&["127.0.0.0/8:*", "[::1]:*"], vec![])
    }

    fn target(authority: &str) -> Target {
        Target::parse(Scheme::Https, authority).expect("target")
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let addr = listener.local_addr().expect("address");
        (listener, addr)
    }

    /// An address that refuses connections.
    fn closed() -> SocketAddr {
        listener().1
    }

    fn overriding(guard: Guard, host: &str, addr: SocketAddr) -> Dialler {
        Dialler::new(guard, vec![(Host::parse(host).expect("host"), None, addr)], 16)
    }

    #[tokio::test]
    async fn a_configured_server_may_be_private_but_is_never_a_listener_of_ours() {
        let ((_server, at), (_own, own)) = (listener(), listener());
        let dialler = Dialler::new(guard(&[], vec![own]), vec![], 16);
        let at = target(&at.to_string());
        assert!(matches!(dialler.dial(&at, LONG).await, Err(DialError::Refused { .. })));
        assert!(dialler.dial_configured(&at, LONG).await.is_ok());
        let refused = dialler.dial_configured(&target(&own.to_string()), LONG).await;
        let own = matches!(refused, Err(DialError::Refused { class: IpClass::Own, .. }));
        assert!(own, "{refused:?}");
    }

    #[tokio::test]
    async fn a_literal_address_that_is_refused_is_never_connected() {
        let (listener, at) = listener();
        listener.set_nonblocking(true).expect("nonblocking");
        let dialler = Dialler::new(Guard::default(), vec![], 16);
        for authority in [
            format!("127.0.0.1:{}", at.port()),
            format!("[::ffff:127.0.0.1]:{}", at.port()),
            format!("0.0.0.0:{}", at.port()),
            format!("[::]:{}", at.port()),
            format!("[64:ff9b::7f00:1]:{}", at.port()),
        ] {
            let result = dialler.dial(&target(&authority), LONG).await;
            assert!(matches!(result, Err(DialError::Refused { .. })), "{authority}: {result:?}");
        }
        let accepted = listener.accept().map(drop).expect_err("nobody came");
        assert_eq!(accepted.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_name_that_points_to_a_refused_address_is_refused() {
        let (_listener, at) = listener();
        let rebound = overriding(Guard::default(), "api.example.com", at);
        let error = rebound.dial(&target("api.example.com"), LONG).await.expect_err("refused");
        assert!(matches!(error, DialError::Refused { class: IpClass::Loopback, .. }), "{error}");
        assert!(!error.to_string().contains("127.0.0.1"), "{error}");
        let localhost = Dialler::new(Guard::default(), vec![], 16);
        let result = localhost.dial(&target("localhost"), LONG).await;
        assert!(matches!(result, Err(DialError::Refused { .. })), "{result:?}");
    }

    #[test]
    fn a_refused_address_beside_good_ones_is_not_even_a_fallback() {
        let dialler = Dialler::new(Guard::default(), vec![], 16);
        let mixed = vec![addr("169.254.169.254:443"), addr("8.8.8.8:443"), addr("[fd00::1]:443")];
        let candidates = dialler.candidates(mixed, DialPurpose::Stream).expect("one is left");
        let addresses: Vec<_> = candidates.iter().map(CheckedAddr::addr).collect();
        assert_eq!(addresses, [addr("8.8.8.8:443")]);
        let refused = vec![addr("169.254.169.254:443"), addr("10.0.0.1:443")];
        assert_eq!(dialler.candidates(refused, DialPurpose::Stream), Err(IpClass::Metadata));
    }

    /// The address that this machine sends from, or loopback without a route.
    fn own_address() -> IpAddr {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("socket");
        let routed = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
        routed.map_or(Ipv4Addr::LOCALHOST.into(), |at| at.ip())
    }

    #[tokio::test]
    async fn own_listeners_are_refused_at_an_address_that_is_not_listed() {
        let (_listener, at) = listener();
        // Only another address of our listeners is known, and the allow list contains this one.
        let own = vec![SocketAddr::new(IpAddr::from([198, 51, 100, 7]), at.port())];
        let machine = own_address();
        let dialler = Dialler::new(guard(&[&format!("{machine}:*")], own), vec![], 16);
        let target = target(&SocketAddr::new(machine, at.port()).to_string());
        let result = dialler.dial(&target, LONG).await;
        assert!(
            matches!(result, Err(DialError::Refused { class: IpClass::Own, .. })),
            "{result:?}"
        );
    }

    #[test]
    fn the_system_knows_its_own_addresses() {
        assert!(is_this_machine(addr("127.0.0.1:9")));
        assert!(!is_this_machine(addr("192.0.2.1:9")));
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_has_its_own_error() {
        let dialler = Dialler::new(loopback_guard(), vec![], 16);
        // A name with a space is invalid, so the resolver refuses without a query.
        let target = Target::new(Scheme::Https, Host::Name("no such name".into()), 443);
        let result = dialler.dial(&target, LONG).await;
        assert!(matches!(result, Err(DialError::Resolve { .. })), "{result:?}");
    }

    #[tokio::test]
    async fn names_that_do_not_resolve_do_not_block_look_ups_of_other_names() {
        let (_listener, at) = listener();
        let (lookups, _dead, _) = with_dead_name(4);
        let mut dialler = Dialler::new(loopback_guard(), vec![], 16);
        dialler.lookups = lookups;
        let [dead, ok] =
            ["dead.test", "ok.test"].map(|name| target(&format!("{name}:{}", at.port())));
        let all = futures_util::future::join_all((0..300).map(|_| dialler.dial(&dead, LONG)));
        tokio::select! {
            _ = all => panic!("they hang"),
            dialled = dialler.dial(&ok, LONG) => assert!(dialled.is_ok(), "{dialled:?}"),
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_an_error_without_the_address() {
        let closed = closed();
        let dialler = Dialler::new(loopback_guard(), vec![], 16);
        let error = dialler.dial(&target(&closed.to_string()), LONG).await.expect_err("closed");
        assert!(matches!(error, DialError::Connect { .. }), "{error}");
        let overridden = overriding(loopback_guard(), "api.test", closed);
        let error = overridden.dial(&target("api.test"), LONG).await.expect_err("closed");
        assert_eq!(error.to_string(), "cannot connect to api.test");
    }

    #[tokio::test]
    async fn connecting_to_a_silent_address_times_out() {
        let (full, _held) = crate::race::tests::full_listener();
        let dialler = Dialler::new(loopback_guard(), vec![], 16);
        let result = dialler.dial(&target(&full.to_string()), Duration::from_millis(1)).await;
        assert!(matches!(result, Err(DialError::Timeout { .. })), "{result:?}");
    }

    #[tokio::test]
    async fn the_stream_to_the_checked_address_has_nodelay_and_keepalive() {
        let (listener, at) = listener();
        let dialler = overriding(loopback_guard(), "api.test", at);
        let dialled = dialler.dial(&target("api.test"), LONG).await.expect("connected");
        let (_, peer) = listener.accept().expect("accepted");
        let tcp = dialled.stream.tcp();
        assert_eq!(tcp.local_addr().expect("local"), peer);
        assert_eq!((tcp.peer_addr().expect("peer"), dialled.private), (at, true));
        assert!(tcp.nodelay().expect("option"));
        assert!(sockopt::socket_keepalive(tcp).expect("option"));
        assert_eq!(sockopt::tcp_keepidle(tcp).expect("option"), Duration::from_secs(30));
    }

    #[tokio::test]
    async fn an_override_with_a_port_wins_over_one_without() {
        let host = || Host::parse("api.test").expect("host");
        let (any, only) = (addr("192.0.2.1:1"), addr("192.0.2.2:2"));
        let entries = vec![(host(), None, any), (host(), Some(8443), only)];
        let dialler = Dialler::new(Guard::default(), entries, 16);
        let judged = async |authority: &str| dialler.resolve_and_check(&target(authority)).await;
        let refused = |addr| AddressVerdict::Addresses(vec![(addr, Err(IpClass::Documentation))]);
        assert_eq!(judged("api.test").await.expect("judged"), refused(any));
        assert_eq!(judged("api.test:8443").await.expect("judged"), refused(only));
    }

    fn by(proxy: SocketAddr, guard: Guard, except: &[&str]) -> Dialler {
        let at = Target::parse(Scheme::Http, &proxy.to_string()).expect("proxy");
        let except =
            except.iter().map(|text| ProxyException::parse(text).expect("exception")).collect();
        let resolve = vec![(Host::parse("known.test").expect("host"), None, closed())];
        Dialler::new(guard, resolve, 16).with_proxy(Some(CorporateProxy::new(at, except)))
    }

    #[tokio::test]
    async fn a_refused_address_is_not_requested_from_the_proxy_either() {
        let (proxy, at) = listener();
        proxy.set_nonblocking(true).expect("nonblocking");
        let dialler = by(at, Guard::default(), &["192.0.2.0/24"]);
        for (authority, class) in [
            ("169.254.169.254", IpClass::Metadata),
            ("10.0.0.1", IpClass::Private),
            ("[::ffff:10.0.0.1]", IpClass::Private),
            ("[64:ff9b::a00:1]", IpClass::Private),
            ("127.0.0.1", IpClass::Loopback),
            ("0.0.0.0", IpClass::Unspecified),
            ("localhost", IpClass::Loopback),
            ("192.0.2.1", IpClass::Documentation),
        ] {
            let result = dialler.dial(&target(authority), LONG).await;
            let Err(DialError::Refused { class: told, .. }) = result else {
                panic!("{authority}: {result:?}");
            };
            assert_eq!(told, class, "{authority}");
            let judged = dialler.resolve_and_check(&target(authority)).await.expect("judged");
            assert!(matches!(judged, AddressVerdict::Addresses(_)), "{authority}: {judged:?}");
        }
        // A target in `resolve` is reached at its entry's address.
        let result = by(at, loopback_guard(), &[]).dial(&target("known.test"), LONG).await;
        assert!(matches!(result, Err(DialError::Connect { .. })), "{result:?}");
        let accepted = proxy.accept().map(drop).expect_err("nobody came");
        assert_eq!(accepted.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_proxy_that_is_the_gateway_closed_silent_or_unresolved_has_a_distinct_error() {
        let fault = async |dialler: Dialler, within| match dialler
            .dial(&target("api.test"), within)
            .await
        {
            Err(error @ DialError::Proxy { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        };
        let (_own, at) = listener();
        let told = fault(by(at, guard(&["127.0.0.0/8:*"], vec![at]), &[]), LONG).await;
        assert_eq!(told, format!("the corporate proxy {at} is this gateway itself"));
        let at = closed();
        let told = fault(by(at, Guard::default(), &[]), LONG).await;
        assert_eq!(told, format!("the corporate proxy {at} cannot be reached"));
        let (_silent, at) = listener();
        let told = fault(by(at, Guard::default(), &[]), Duration::from_millis(1)).await;
        assert!(told.ends_with("did not connect to api.test:443 in time"), "{told}");
        let nowhere = Target::new(Scheme::Http, Host::Name("no such name".into()), 3128);
        let proxy = CorporateProxy::new(nowhere, vec![]);
        let told =
            fault(Dialler::new(Guard::default(), vec![], 16).with_proxy(Some(proxy)), LONG).await;
        assert!(told.ends_with("cannot be resolved"), "{told}");
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let texts = ["[2a00::1]:1", "[2a00::2]:1", "10.0.0.1:1", "8.8.8.8:1"];
        let addresses: Vec<_> = texts.iter().map(|text| addr(text)).collect();
        let dialler = Dialler::new(Guard::default(), vec![], 2);
        let candidates = dialler.candidates(addresses, DialPurpose::Stream).expect("public");
        let kept: Vec<_> = candidates.iter().map(CheckedAddr::addr).collect();
        assert_eq!(kept, [addr("[2a00::1]:1"), addr("8.8.8.8:1")]);
    }
}
