//! From a target to a connected stream: resolve once, judge every address, connect an address that
//! was judged.
//!
//! Which addresses pass is `guard.rs`, connecting them `race.rs`, TLS `client.rs`.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::guard::{AllowPrivate, Checked, Guard, IpClass};
pub use super::race::Dialled;
use super::race::{interleave, race};
use crate::base::host::{Host, Target};

/// Look-ups under way at once. The system resolver blocks a thread for each, also after its asker
/// has given up; a runtime has 512 of them, for the store as well.
const LOOKUPS_MAX: usize = 256;

/// Why there is no stream. No message holds an address, so that each may reach an agent; the
/// sources are for the log.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No address of the host may be dialled.
    #[error("{host} has only addresses that are refused ({class})")]
    Refused {
        /// The host.
        host: Host,
        /// Why the first of them is refused.
        class: IpClass,
    },
    /// No such name.
    #[error("cannot resolve {host}")]
    Resolve {
        /// The host.
        host: Host,
        /// What the resolver says.
        #[source]
        source: io::Error,
    },
    /// Nothing answers.
    #[error("cannot connect to {host}")]
    Connect {
        /// The host.
        host: Host,
        /// Why the last attempt failed.
        #[source]
        source: io::Error,
    },
    /// The time given ran out.
    #[error("connecting to {host} took too long")]
    Timeout {
        /// The host.
        host: Host,
    },
}

/// Resolves and dials. One serves the whole process.
#[derive(Debug)]
pub struct Dialler {
    ways: ArcSwap<Ways>,
    addresses_max: usize,
    lookups: Arc<Semaphore>,
}

/// What the configuration says of addresses. Replaced whole.
#[derive(Debug)]
struct Ways {
    guard: Guard,
    overrides: Vec<Override>,
}

/// An entry of `upstream.resolve`.
#[derive(Debug)]
struct Override {
    host: Host,
    port: Option<u16>,
    addr: SocketAddr,
}

impl Dialler {
    /// `resolve`: host, and port where one was given, to the address dialled instead; it is judged
    /// like any other. `addresses_max`: how many addresses of a name are tried.
    pub fn new(
        guard: Guard,
        resolve: Vec<(Host, Option<u16>, SocketAddr)>,
        addresses_max: usize,
    ) -> Self {
        let ways = ArcSwap::from_pointee(Ways::new(guard, resolve));
        Self { ways, addresses_max, lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// Dials by another `allow_private` and another `resolve` from now on. Our listeners stay ours.
    pub fn replace(&self, allow: Vec<AllowPrivate>, resolve: Vec<(Host, Option<u16>, SocketAddr)>) {
        let guard = self.ways.load().guard.allowing(allow);
        self.ways.store(Arc::new(Ways::new(guard, resolve)));
    }

    /// Connects the target within `within`, which covers resolving and all addresses together.
    ///
    /// Addresses that are refused are never dialled, also not as a fallback for others. Dropping
    /// the future closes every attempt.
    ///
    /// # Errors
    /// When nothing may be dialled or nothing answers in time.
    pub async fn dial(&self, target: &Target, within: Duration) -> Result<Dialled, DialError> {
        match tokio::time::timeout(within, self.dial_unbounded(target)).await {
            Ok(result) => result,
            Err(_) => Err(DialError::Timeout { host: target.host().clone() }),
        }
    }

    /// Resolves and judges without connecting, for `explain`.
    ///
    /// # Errors
    /// When the name does not resolve.
    pub async fn judge(
        &self,
        target: &Target,
    ) -> Result<Vec<(SocketAddr, Result<(), IpClass>)>, DialError> {
        let addresses = self.addresses(target).await?;
        Ok(addresses.into_iter().map(|addr| (addr, self.check(addr).map(drop))).collect())
    }

    async fn dial_unbounded(&self, target: &Target) -> Result<Dialled, DialError> {
        let addresses = self.addresses(target).await?;
        let host = || target.host().clone();
        let candidates = self
            .candidates(addresses)
            .map_err(|class| DialError::Refused { host: host(), class })?;
        race(candidates).await.map_err(|source| DialError::Connect { host: host(), source })
    }

    /// The one look-up. Never empty when it succeeds.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, DialError> {
        if let Some(addr) = self.overridden(target) {
            return Ok(vec![addr]);
        }
        let host = target.host();
        let literal = |ip: IpAddr| Ok(vec![SocketAddr::new(ip, target.port())]);
        let name = match host {
            Host::Name(name) => name.to_string(),
            Host::V4(v4) => return literal((*v4).into()),
            Host::V6(v6) => return literal((*v6).into()),
        };
        let mut addresses = lookup(Arc::clone(&self.lookups), name, target.port())
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

    /// An entry that names the port wins over one that does not.
    fn overridden(&self, target: &Target) -> Option<SocketAddr> {
        let ways = self.ways.load();
        let of_host = || ways.overrides.iter().filter(|entry| entry.host == *target.host());
        of_host()
            .find(|entry| entry.port == Some(target.port()))
            .or_else(|| of_host().find(|entry| entry.port.is_none()))
            .map(|entry| entry.addr)
    }

    /// What may be dialled, in the order of trying.
    fn candidates(&self, addresses: Vec<SocketAddr>) -> Result<Vec<Checked>, IpClass> {
        let verdicts: Vec<_> = addresses.into_iter().map(|addr| self.check(addr)).collect();
        let allowed: Vec<_> = verdicts.iter().copied().filter_map(Result::ok).collect();
        if allowed.is_empty() {
            return Err(verdicts.into_iter().find_map(Result::err).unwrap_or(IpClass::Reserved));
        }
        let mut ordered = interleave(allowed);
        ordered.truncate(self.addresses_max.max(1));
        Ok(ordered)
    }

    /// The guard's verdict; and where one of our listeners has the port, whether the system says
    /// that the address is this machine's, which no list can know for certain.
    fn check(&self, addr: SocketAddr) -> Result<Checked, IpClass> {
        let guard = &self.ways.load().guard;
        let checked = guard.check(addr)?;
        let addr = checked.addr();
        match guard.listens_on(addr.port()) && is_this_machine(addr) {
            true => Err(IpClass::Own),
            false => Ok(checked),
        }
    }
}

impl Ways {
    fn new(guard: Guard, resolve: Vec<(Host, Option<u16>, SocketAddr)>) -> Self {
        let as_override = |(host, port, addr)| Override { host, port, addr };
        Self { guard, overrides: resolve.into_iter().map(as_override).collect() }
    }
}

/// Asks the system's resolver. The permit stays with the blocked thread, not with the asker.
async fn lookup(permits: Arc<Semaphore>, name: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
    let task = tokio::task::spawn_blocking(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
        drop(permit);
        found
    });
    task.await.map_err(io::Error::other)?
}

/// Whether the system would send from `addr` to reach `addr`. Nothing is sent: connecting a
/// datagram socket only chooses the route.
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

    use super::*;
    use crate::base::host::Scheme;
    use crate::net::guard::AllowPrivate;

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

    /// An address where nobody listens any more.
    fn closed() -> SocketAddr {
        listener().1
    }

    fn overriding(guard: Guard, host: &str, addr: SocketAddr) -> Dialler {
        Dialler::new(guard, vec![(Host::parse(host).expect("host"), None, addr)], 16)
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
        let candidates = dialler.candidates(mixed).expect("one is left");
        let addresses: Vec<_> = candidates.iter().map(Checked::addr).collect();
        assert_eq!(addresses, [addr("8.8.8.8:443")]);
        let refused = vec![addr("169.254.169.254:443"), addr("10.0.0.1:443")];
        assert_eq!(dialler.candidates(refused), Err(IpClass::Metadata));
    }

    /// The address that this machine sends from, or loopback when it has no route at all.
    fn own_address() -> IpAddr {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("socket");
        let routed = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
        routed.map_or(Ipv4Addr::LOCALHOST.into(), |at| at.ip())
    }

    #[tokio::test]
    async fn own_listeners_are_refused_by_an_address_that_nobody_listed() {
        let (_listener, at) = listener();
        // Of our listeners only another address is known, and the allow list opens this one.
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
    async fn a_name_that_does_not_resolve_is_told_apart() {
        let dialler = Dialler::new(loopback_guard(), vec![], 16);
        // A blank cannot stand in a question, so the resolver refuses without asking anybody.
        let target = Target::new(Scheme::Https, Host::Name("no such name".into()), 443);
        let result = dialler.dial(&target, LONG).await;
        assert!(matches!(result, Err(DialError::Resolve { .. })), "{result:?}");
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
    async fn silence_ends_in_time() {
        let (full, _held) = crate::net::race::tests::full_listener();
        let dialler = Dialler::new(loopback_guard(), vec![], 16);
        let result = dialler.dial(&target(&full.to_string()), Duration::from_millis(1)).await;
        assert!(matches!(result, Err(DialError::Timeout { .. })), "{result:?}");
    }

    #[tokio::test]
    async fn the_stream_goes_to_the_judged_address_without_delay() {
        let (listener, at) = listener();
        let dialler = overriding(loopback_guard(), "api.test", at);
        let dialled = dialler.dial(&target("api.test"), LONG).await.expect("connected");
        let (_, peer) = listener.accept().expect("accepted");
        assert_eq!(dialled.stream.local_addr().expect("local"), peer);
        assert_eq!((dialled.addr, dialled.private), (at, true));
        assert!(dialled.stream.nodelay().expect("option"));
    }

    #[tokio::test]
    async fn an_override_with_a_port_wins_over_one_without() {
        let host = || Host::parse("api.test").expect("host");
        let (any, only) = (addr("192.0.2.1:1"), addr("192.0.2.2:2"));
        let entries = vec![(host(), None, any), (host(), Some(8443), only)];
        let dialler = Dialler::new(Guard::default(), entries, 16);
        let judged = async |authority: &str| dialler.judge(&target(authority)).await;
        let refused = Err(IpClass::Documentation);
        assert_eq!(judged("api.test").await.expect("judged"), [(any, refused)]);
        assert_eq!(judged("api.test:8443").await.expect("judged"), [(only, refused)]);
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let texts = ["[2a00::1]:1", "[2a00::2]:1", "10.0.0.1:1", "8.8.8.8:1"];
        let addresses: Vec<_> = texts.iter().map(|text| addr(text)).collect();
        let dialler = Dialler::new(Guard::default(), vec![], 2);
        let candidates = dialler.candidates(addresses).expect("public");
        let kept: Vec<_> = candidates.iter().map(Checked::addr).collect();
        assert_eq!(kept, [addr("[2a00::1]:1"), addr("8.8.8.8:1")]);
    }
}
