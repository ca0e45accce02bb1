//! [`Guard`]: which upstream addresses may be dialled. Pure: `dial.rs` resolves and connects, `special.rs` has
//! the tables.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;

use super::special;
pub use super::special::{IpClass, classify};

/// A network and ports that may be dialled although they are not public (`allow_private`): `10.1.2.0/24:443`,
/// `127.0.0.0/8:8000-9000`, `[fd00::]/8:443`, `127.0.0.1:9443`. `:*` means every port and must be written
/// explicitly.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AllowPrivate {
    net: IpNet,
    ports: RangeInclusive<u16>,
}

/// Text that is not a network with ports.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not a network with ports: {remedy}", text = .0, remedy = remedy(.0))]
pub struct AllowError(pub String);

/// A remedy for common mistakes.
fn remedy(text: &str) -> &'static str {
    let is_v6 = text.matches(':').count() > 1;
    let mapped = text.to_ascii_lowercase().contains("::ffff:");
    match () {
        () if is_v6 && mapped => {
            "an IPv4-mapped address is judged as the IPv4 address in it: write 10.1.2.0/24:443"
        }
        () if is_v6 => {
            "put IPv6 in brackets, and the prefix length after them: [fd00::]/8:443, \
             [fd12:3456::1]:443 or [::1]:8000-9000"
        }
        () => "write 10.1.2.0/24:443 or 127.0.0.1:8000-9000, and IPv6 in brackets: [fd00::]/8:443",
    }
}

/// The rules for addresses; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allow: Arc<[AllowPrivate]>,
    own: Arc<[SocketAddr]>,
}

/// An address that passed [`Guard`]. Only the guard makes one, and the dialler connects to nothing else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CheckedAddr {
    addr: SocketAddr,
    private: bool,
}

impl AllowPrivate {
    /// Parses one entry of `upstream.allow_private`.
    ///
    /// # Errors
    /// When the text is not a network with ports. Also refused: a network with host bits set, which is usually
    /// a mistake; `/0`, which restricts nothing; IPv4-mapped IPv6, which is checked as the IPv4 address.
    pub fn parse(text: &str) -> Result<Self, AllowError> {
        let parsed = split(text).and_then(|(net, ports)| {
            let (net, ports) = (parse_net(&net)?, parse_ports(ports)?);
            Some(Self { net, ports })
        });
        parsed.ok_or_else(|| AllowError(text.to_owned()))
    }

    fn covers(&self, addr: SocketAddr) -> bool {
        self.ports.contains(&addr.port()) && self.net.contains(&addr.ip())
    }

    /// Whether it contains exactly one address.
    fn is_single(&self) -> bool {
        self.net.prefix_len() == self.net.max_prefix_len()
    }
}

impl CheckedAddr {
    /// The address to connect to; an IPv4-mapped address is converted to IPv4.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it is on the explicit private list.
    pub fn private(&self) -> bool {
        self.private
    }
}

impl Guard {
    /// `own`: the addresses of our listeners. They are never dialled, neither by an unspecified or loopback
    /// address nor by an address in the list, whatever `allow` contains. For a listener on an unspecified
    /// address, also give the address of each interface.
    pub fn new(allow: Vec<AllowPrivate>, own: Vec<SocketAddr>) -> Self {
        let own = own.into_iter().map(canonical).collect();
        Self { allow: allow.into(), own }
    }

    /// The same listeners with another `allow` list.
    pub fn allowing(&self, allow: Vec<AllowPrivate>) -> Self {
        Self { allow: allow.into(), own: self.own.clone() }
    }

    /// The same with one more listener of ours.
    pub(super) fn with_own(&self, addr: SocketAddr) -> Self {
        let own = self.own.iter().copied().chain([canonical(addr)]);
        Self { allow: self.allow.clone(), own: own.collect() }
    }

    /// The same without one listener at this address.
    pub(super) fn without_own(&self, addr: SocketAddr) -> Self {
        let mut own = self.own.to_vec();
        if let Some(at) = own.iter().position(|own| *own == canonical(addr)) {
            own.remove(at);
        }
        Self { allow: self.allow.clone(), own: own.into() }
    }

    /// Checks one address.
    ///
    /// # Errors
    /// The class for which it is refused.
    pub fn check(&self, addr: SocketAddr) -> Result<CheckedAddr, IpClass> {
        let addr = canonical(addr);
        if self.is_own(addr) {
            return Err(IpClass::Own);
        }
        let mut named = self.allow.iter().filter(|allow| allow.covers(addr));
        let class = classify(addr.ip());
        let private = match class {
            // A range that happens to contain a metadata service does not allow it.
            IpClass::Metadata => named.any(AllowPrivate::is_single),
            _ => named.next().is_some(),
        };
        match private || class == IpClass::Public {
            true => Ok(CheckedAddr { addr, private }),
            false => Err(class),
        }
    }

    /// Accepts an address that the configuration names for itself, in any network: that of a corporate proxy.
    /// The result is never private, because the proxy is not the target.
    ///
    /// # Errors
    /// When the address is one of our listeners.
    pub(super) fn check_configured(&self, addr: SocketAddr) -> Result<CheckedAddr, IpClass> {
        let addr = canonical(addr);
        match self.is_own(addr) {
            true => Err(IpClass::Own),
            false => Ok(CheckedAddr { addr, private: false }),
        }
    }

    /// Whether one of our listeners has this port. Then an unlisted address of this machine would reach it.
    pub(super) fn listens_on(&self, port: u16) -> bool {
        self.own.iter().any(|own| own.port() == port)
    }

    fn is_own(&self, addr: SocketAddr) -> bool {
        let is_local = |ip: IpAddr| {
            ip.is_loopback() || ip.is_unspecified() || self.own.iter().any(|own| own.ip() == ip)
        };
        let carried = match addr.ip() {
            IpAddr::V4(_) => Vec::new(),
            IpAddr::V6(v6) => special::embedded_v4(v6),
        };
        self.listens_on(addr.port())
            && (is_local(addr.ip()) || carried.into_iter().any(|v4| is_local(IpAddr::V4(v4))))
    }
}

/// Converts IPv4-mapped addresses to IPv4, as the system does when it connects.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(addr.ip().to_canonical(), addr.port())
        }
        _ => addr,
    }
}

/// Splits into network and ports, and removes the brackets of IPv6.
fn split(text: &str) -> Option<(String, &str)> {
    match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let (length, ports) = rest.split_once(':')?;
            let plain = address.contains(':') && (length.is_empty() || length.starts_with('/'));
            plain.then(|| (format!("{address}{length}"), ports))
        }
        None => {
            let (net, ports) = text.split_once(':')?;
            Some((net.to_owned(), ports))
        }
    }
}

fn parse_net(text: &str) -> Option<IpNet> {
    let net = match text.contains('/') {
        true => text.parse::<IpNet>().ok()?,
        false => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    let mapped = matches!(net.network(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    (net.trunc() == net && net.prefix_len() > 0 && !mapped).then_some(net)
}

fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    if text == "*" {
        return Some(1..=u16::MAX);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_port(first)?, parse_port(last)?);
    (first <= last).then_some(first..=last)
}

fn parse_port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|&port| plain && port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(texts: &[&str]) -> Vec<AllowPrivate> {
        texts.iter().map(|text| AllowPrivate::parse(text).expect(text)).collect()
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    fn private(guard: &Guard, text: &str) -> Result<bool, IpClass> {
        guard.check(addr(text)).map(|checked| checked.private())
    }

    #[test]
    fn text_that_is_not_a_network_with_ports_is_refused() {
        for bad in [
            "",
            ":",
            ":443",
            "10.1.2.0/24",
            "10.1.2.0/24:",
            "10.1.2.0/24:0",
            "10.1.2.0/24:65536",
            "10.1.2.0/24:+443",
            "10.1.2.0/24:443-",
            "10.1.2.0/24:-443",
            "10.1.2.0/24:9000-8000",
            "10.1.2.0/24:443:444",
            "10.1.2.0/33:443",
            "10.1.2.3/24:443",
            "10.1.2/24:443",
            "0.0.0.0/0:443",
            "example.com:443",
            "fd00::/8:443",
            "[fd00::]/8",
            "[fd00::/8]/8:443",
            "[fd00::/8:443",
            "[fd00::]x/8:443",
            "[fd00::1]/8:443",
            "[10.1.2.0]/24:443",
            "[::ffff:10.1.2.0]/120:443",
            "[::]/0:443",
            "[fe80::1%eth0]:443",
        ] {
            assert_eq!(AllowPrivate::parse(bad), Err(AllowError(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn the_error_says_how_ipv6_is_written() {
        let said = |text: &str| AllowPrivate::parse(text).expect_err(text).to_string();
        for text in ["fd00::/8:443", "::1:443", "[fd00::]/8", "[fe80::1%eth0]:443"] {
            let told = said(text);
            assert!(told.contains("[fd00::]/8:443, [fd12:3456::1]:443"), "{told}");
        }
        for written in ["[fd00::]/8:443", "[fd12:3456::1]:443", "[::1]:8000-9000"] {
            assert!(AllowPrivate::parse(written).is_ok(), "{written}");
        }
        assert!(said("[::ffff:10.1.2.0]/120:443").contains("write 10.1.2.0/24:443"));
        assert!(said("10.1.2.0/24").contains("IPv6 in brackets: [fd00::]/8:443"));
    }

    #[test]
    fn an_address_or_port_outside_of_the_allowed_networks_stays_refused() {
        let guard = Guard::new(
            allow(&["10.1.2.0/24:443", "127.0.0.0/8:8000-9000", "[fd00::]/8:443"]),
            vec![],
        );
        let table = [
            ("10.1.2.3:80", IpClass::Private),
            ("10.1.3.1:443", IpClass::Private),
            ("127.0.0.1:443", IpClass::Loopback),
            ("127.0.0.1:7999", IpClass::Loopback),
            ("127.0.0.1:9001", IpClass::Loopback),
            ("[::1]:8000", IpClass::Loopback),
            ("[::127.0.0.1]:8000", IpClass::Transition),
            ("[64:ff9b::10.1.2.3]:443", IpClass::Private),
            ("[fc00::1]:443", IpClass::UniqueLocal),
            ("[fd00::1]:80", IpClass::UniqueLocal),
            ("0.0.0.0:8000", IpClass::Unspecified),
        ];
        for (text, class) in table {
            assert_eq!(private(&guard, text), Err(class), "{text}");
        }
    }

    #[test]
    fn metadata_is_refused_inside_an_allowed_range_unless_named_singly() {
        let range = Guard::new(
            allow(&[
                "169.254.0.0/16:*",
                "168.63.0.0/16:*",
                "[fd00::]/8:*",
                "[64:ff9b:1::]/48:*",
                "100.64.0.0/10:*",
            ]),
            vec![],
        );
        for text in [
            "169.254.169.254:80",
            "168.63.129.16:80",
            "100.100.100.200:80",
            "[fd00:ec2::254]:80",
            "[64:ff9b:1::a9fe:a9fe]:80",
            "[::ffff:169.254.169.254]:80",
        ] {
            assert_eq!(private(&range, text), Err(IpClass::Metadata), "{text}");
        }
        assert_eq!(private(&range, "169.254.1.1:80"), Ok(true));
        let single = Guard::new(allow(&["169.254.169.254:80", "[fd00:ec2::254]/128:80"]), vec![]);
        assert_eq!(private(&single, "169.254.169.254:80"), Ok(true));
        assert_eq!(private(&single, "[fd00:ec2::254]:80"), Ok(true));
        assert_eq!(private(&single, "169.254.169.254:443"), Err(IpClass::Metadata));
        assert_eq!(private(&single, "169.254.169.253:80"), Err(IpClass::Metadata));
    }

    #[test]
    fn own_listeners_are_unreachable_by_any_address_of_this_machine() {
        let own = vec![addr("127.0.0.1:8080"), addr("0.0.0.0:8081"), addr("198.51.100.7:8081")];
        let allowed =
            ["127.0.0.0/8:*", "0.0.0.0/8:*", "[::1]:*", "[::]:*", "198.51.100.0/24:*", "[::]/96:*"];
        let guard = Guard::new(allow(&allowed), own);
        for text in [
            "127.0.0.1:8080",
            "127.9.9.9:8080",
            "0.0.0.0:8080",
            "[::1]:8080",
            "[::]:8080",
            "[::ffff:127.0.0.1]:8080",
            "[::127.0.0.1]:8080",
            "198.51.100.7:8080",
            "127.0.0.1:8081",
            "198.51.100.7:8081",
            "[::ffff:198.51.100.7]:8081",
        ] {
            assert_eq!(private(&guard, text), Err(IpClass::Own), "{text}");
        }
        assert_eq!(private(&guard, "127.0.0.1:8082"), Ok(true));
        assert_eq!(private(&guard, "198.51.100.8:8081"), Ok(true));
    }

    #[test]
    fn a_listener_that_is_opened_later_is_unreachable_until_it_closes() {
        let guard = Guard::new(allow(&["127.0.0.0/8:*"]), vec![addr("127.0.0.1:8080")]);
        let opened = guard.with_own(addr("127.0.0.1:6432"));
        for text in ["127.0.0.1:8080", "127.0.0.1:6432", "127.9.9.9:6432"] {
            assert_eq!(private(&opened, text), Err(IpClass::Own), "{text}");
        }
        let closed = opened.without_own(addr("127.0.0.1:6432"));
        assert_eq!(private(&closed, "127.0.0.1:6432"), Ok(true));
        assert_eq!(private(&closed, "127.0.0.1:8080"), Err(IpClass::Own));
    }

    #[test]
    fn public_addresses_pass_and_are_private_only_when_named() {
        let guard = Guard::new(allow(&["203.0.113.0/24:80", "8.8.4.4:80"]), vec![]);
        assert_eq!(private(&guard, "8.8.8.8:443"), Ok(false));
        assert_eq!(private(&guard, "8.8.4.4:80"), Ok(true));
        assert_eq!(private(&guard, "203.0.113.9:80"), Ok(true));
        assert_eq!(private(&guard, "[2606:4700::1111]:443"), Ok(false));
    }

    #[test]
    fn ipv6_networks_may_hold_their_length_inside_the_brackets() {
        assert_eq!(allow(&["[fd00::/8]:443"]), allow(&["[fd00::]/8:443"]));
    }

    #[test]
    fn a_mapped_address_is_judged_and_dialled_as_ipv4() {
        let guard = Guard::new(allow(&["10.1.2.3:443"]), vec![]);
        let checked = guard.check(addr("[::ffff:10.1.2.3]:443")).expect("allowed");
        assert_eq!(checked.addr(), addr("10.1.2.3:443"));
        assert!(checked.private());
    }
}
