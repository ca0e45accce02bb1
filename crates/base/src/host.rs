//! [`Host`] and [`Target`]: an authority, parsed once into a canonical value. Policy, leaf, dialler, SNI,
//! `Host` and pool key all use this value.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A DNS name or an address literal in canonical form: lower case, A-labels, no trailing dot.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Host {
    /// A DNS name of LDH labels (and `_`, which real services use).
    Name(Arc<str>),
    /// An IPv4 literal in four decimal parts.
    V4(Ipv4Addr),
    /// An IPv6 literal, without brackets and zone. An IPv4-mapped address is stored as `V4`.
    V6(Ipv6Addr),
}

/// The protocol that the upstream speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scheme {
    /// Cleartext HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// Scheme, host and port of an upstream.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Target {
    scheme: Scheme,
    host: Host,
    port: u16,
}

/// Why text is not a valid authority. The message is shown to the agent and quotes nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TargetError {
    /// There is no host.
    #[error("the host is empty")]
    Empty,
    /// `user@host`.
    #[error("user information is not allowed in a target")]
    UserInfo,
    /// A character that no host may contain: scheme, path, fragment, percent, space, control, wildcard.
    #[error("the target holds a character that a host cannot have")]
    Character,
    /// An empty label or one over 63 bytes.
    #[error("a label of the host is empty or longer than 63 bytes")]
    Label,
    /// A name over 253 bytes.
    #[error("the host is longer than 253 bytes")]
    TooLong,
    /// Not valid IDNA.
    #[error("the host is not a valid internationalised name")]
    Idna,
    /// IPv4 in octal, hexadecimal, short or integer form, a zone, or unbalanced brackets.
    #[error("an address must be four decimal parts, or IPv6 in brackets without a zone")]
    Address,
    /// Not `1..=65535` in plain decimal digits.
    #[error("the port must be a decimal number from 1 to 65535")]
    Port,
}

/// 253 characters of four bytes, and a dot. Longer text cannot be a name, so IDNA processing is skipped.
const TEXT_BYTES_MAX: usize = 4 * 253 + 1;

impl Host {
    /// Parses a host without a port. IPv6 must have brackets.
    ///
    /// # Errors
    /// When the text is anything other than a host.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if text.is_empty() {
            return Err(TargetError::Empty);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(TargetError::Address)?;
            let address: Ipv6Addr = inner.parse().map_err(|_| TargetError::Address)?;
            // The system dials a mapped address as IPv4, so it is the same host for every rule.
            return Ok(address.to_ipv4_mapped().map_or(Self::V6(address), Self::V4));
        }
        if text.contains('@') {
            return Err(TargetError::UserInfo);
        }
        if text.bytes().any(|b| b.is_ascii() && !is_name_byte(b)) {
            return Err(TargetError::Character);
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        let name = to_a_labels(text)?;
        let name = name.strip_suffix('.').unwrap_or(&name);
        check_labels(name)?;
        if ends_in_a_number(name) {
            // SS4: only the canonical form is an address. Other forms of `inet_aton` are refused, and so are
            // digits and dots that result from IDNA mapping.
            let address = canonical_v4(name).filter(|_| text.is_ascii());
            return address.map(Self::V4).ok_or(TargetError::Address);
        }
        Ok(Self::Name(name.into()))
    }

    /// The address, when the host is a literal.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(v4) => Some(IpAddr::V4(*v4)),
            Self::V6(v6) => Some(IpAddr::V6(*v6)),
        }
    }

    /// Whether the host can only be this machine, judged by its text alone.
    pub fn is_this_machine(&self) -> bool {
        match self.address() {
            Some(address) => address.is_loopback(),
            None => self.name() == Some("localhost"),
        }
    }

    /// The DNS name, when the host is not a literal.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::V4(_) | Self::V6(_) => None,
        }
    }
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')
}

/// Converts to lower-case A-labels (UTS 46). Pure ASCII without `xn--` only needs lower-casing.
fn to_a_labels(text: &str) -> Result<String, TargetError> {
    let lower = text.to_ascii_lowercase();
    if lower.is_ascii() && !lower.split('.').any(|label| label.starts_with("xn--")) {
        return Ok(lower);
    }
    let mapped = idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::URL)
        .map_err(|_| TargetError::Idna)?;
    // Mapping may produce characters that the raw text did not contain: full-width dots, soft hyphens, digits.
    if mapped.is_empty() || !mapped.bytes().all(is_name_byte) {
        return Err(TargetError::Idna);
    }
    Ok(mapped.into_owned())
}

fn check_labels(name: &str) -> Result<(), TargetError> {
    if name.is_empty() {
        return Err(TargetError::Empty);
    }
    if name.len() > 253 {
        return Err(TargetError::TooLong);
    }
    match name.split('.').all(|label| (1..=63).contains(&label.len())) {
        true => Ok(()),
        false => Err(TargetError::Label),
    }
}

/// Whether resolvers might parse the name as an address (WHATWG URL, "ends in a number").
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn canonical_v4(name: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = name.parse().ok()?;
    (address.to_string() == name).then_some(address)
}

impl fmt::Display for Host {
    /// Formats as in the `Host` field: IPv6 in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(v4) => v4.fmt(f),
            Self::V6(v6) => write!(f, "[{v6}]"),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Scheme {
    /// The port that applies when the authority has none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Target {
    /// Makes a target from parsed parts. `port` must not be 0.
    pub fn new(scheme: Scheme, host: Host, port: u16) -> Self {
        Self { scheme, host, port }
    }

    /// Parses `host[:port]` as written in a CONNECT request, an absolute URI or `Host`.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn parse(scheme: Scheme, authority: &str) -> Result<Self, TargetError> {
        if authority.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let after_host = match authority.rfind(']') {
            Some(bracket) => bracket + 1,
            // Half a bracket, or IPv6 without any.
            None if authority.starts_with('[') || authority.matches(':').count() > 1 => {
                return Err(TargetError::Address);
            }
            None => authority.find(':').unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at(after_host);
        let port = match port.strip_prefix(':') {
            Some(digits) => parse_port(digits)?,
            None if port.is_empty() => scheme.default_port(),
            None => return Err(TargetError::Address),
        };
        Ok(Self { scheme, host: Host::parse(host)?, port })
    }

    /// The protocol to the upstream.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The canonical host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host` or `host:port`; the port is included only if it is not the scheme's default.
    pub fn authority(&self) -> String {
        match self.port == self.scheme.default_port() {
            true => self.host.to_string(),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Whether `text` equals [`authority`](Self::authority) byte for byte. Faster than parsing or formatting.
    pub fn equals_authority(&self, text: &[u8]) -> bool {
        let Host::Name(name) = &self.host else { return *text == *self.authority().as_bytes() };
        match text.strip_prefix(name.as_bytes()) {
            Some([]) => self.port == self.scheme.default_port(),
            Some([b':', digits @ ..]) => {
                let port = std::str::from_utf8(digits).map(parse_port);
                self.port != self.scheme.default_port() && port == Ok(Ok(self.port))
            }
            _ => false,
        }
    }
}

fn parse_port(digits: &str) -> Result<u16, TargetError> {
    // `parse` alone would accept a sign; a leading zero means octal to some parsers and padding to others.
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    match digits.parse() {
        Ok(port) if plain => Ok(port),
        _ => Err(TargetError::Port),
    }
}

impl fmt::Display for Target {
    /// `https://host` or `https://host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme.as_str())?;
        f.write_str("://")?;
        fmt::Display::fmt(&self.host, f)?;
        match self.port == self.scheme.default_port() {
            true => Ok(()),
            false => write!(f, ":{}", self.port),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(authority: &str) -> Result<String, TargetError> {
        Target::parse(Scheme::Https, authority).map(|target| target.authority())
    }

    fn refused_with(expected: TargetError, authorities: &[&str]) {
        for authority in authorities {
            assert_eq!(parsed(authority), Err(expected), "{authority:?}");
        }
    }

    #[test]
    fn user_information_is_refused() {
        refused_with(
            TargetError::UserInfo,
            &[
                "user@api.example.com",
                "user:secret@api.example.com:443",
                "api.example.com@evil.test",
                "api.example.com:443@evil.test:443",
                "@api.example.com",
                "api.example.com@",
                "user@[::1]:443",
                "[::1]@evil.test",
            ],
        );
    }

    #[test]
    fn characters_that_no_host_contains_are_refused() {
        refused_with(
            TargetError::Character,
            &[
                "api.example.com\0",
                "api.example.com\0.evil.test",
                "api\r\n.example.com",
                "api.example.com\n",
                "\tapi.example.com",
                " api.example.com",
                "api.example.com ",
                "api example.com",
                "api\x7f.example.com",
                "api\x1b.example.com",
                "api%2eexample.com",
                "api.example.com%00",
                "api.example.com%",
                "%61pi.example.com",
                "api\\.example.com",
                "evil.test\\api.example.com",
                "*.example.com",
                "*",
                "api.example.com/",
                "api.example.com/v1",
                "//api.example.com",
                "api.example.com?x",
                "api.example.com#x",
                "evil.test#.example.com",
                "api.example.com;x",
                "api,example.com",
                "a,b",
                "{api}.example.com",
                "\"api.example.com\"",
                "<api.example.com>",
                "api.example.com&x",
                "api+x.example.com",
                "api~x.example.com",
                "api!example.com",
                "127.0.0.1%25lo",
                "a]",
                "a[::1]",
                "::1]",
            ],
        );
    }

    #[test]
    fn schemes_and_bad_ports_are_refused() {
        refused_with(
            TargetError::Port,
            &[
                "https://api.example.com",
                "https:api.example.com",
                "api.example.com:",
                "api.example.com:0",
                "api.example.com:00",
                "api.example.com:+443",
                "api.example.com:-443",
                "api.example.com: 443",
                "api.example.com:443 ",
                "api.example.com:00443",
                "api.example.com:0443",
                "api.example.com:000000000000000443",
                "api.example.com:65536",
                "api.example.com:4294967739",
                "api.example.com:99999999999999999999",
                "api.example.com:0x1bb",
                "api.example.com:4_43",
                "api.example.com:443/",
                "api.example.com:https",
                "api.example.com:\u{ff14}\u{ff14}\u{ff13}",
                "api.example.com:\u{664}\u{664}\u{663}",
                "api.example.com:443\0",
                "[::1]:",
                "[::1]:0",
                "[::1]:+443",
            ],
        );
    }

    #[test]
    fn ipv4_addresses_in_any_form_but_the_canonical_are_refused() {
        refused_with(
            TargetError::Address,
            &[
                "2130706433",
                "0",
                "1",
                "127.1",
                "127.0.1",
                "10.1.2",
                "0177.0.0.1",
                "0177.0.0.01",
                "127.0.0.01",
                "010.0.0.1",
                "0x7f.0.0.1",
                "0x7f000001",
                "0X7F000001",
                "0x7f.1",
                "0x",
                "127.0.0.0x1",
                "127.0.0.0X1",
                "example.0x7f",
                "example.1",
                "example.com.1",
                "256.0.0.1",
                "127.0.0.256",
                "127.0.0.1.1",
                "1.2.3.4.5",
                "017700000001",
                "4294967296",
                "\u{ff11}27.0.0.1",
                "127\u{3002}0\u{3002}0\u{3002}1",
                "127.0.0.\u{2460}",
                "\u{1d7cf}27.0.0.1",
            ],
        );
    }

    #[test]
    fn ipv6_addresses_in_any_form_but_the_canonical_are_refused() {
        refused_with(
            TargetError::Address,
            &[
                "[fe80::1%eth0]",
                "[fe80::1%25eth0]",
                "[fe80::1%1]:443",
                "::1",
                "2001:db8::1",
                "::ffff:127.0.0.1",
                "api.example.com:443:443",
                "[::1",
                "[::1:443",
                "[[::1]]",
                "[::1]]",
                "[::1]x",
                "[::1]443",
                "[::1].example.com",
                "[]",
                "[]:443",
                "[:]",
                "[1::2::3]",
                "[12345::]",
                "[::g]",
                "[ ::1]",
                "[127.0.0.1]",
                "[::127.0.0.01]",
                "[::ffff:0x7f.0.0.1]",
                "[api.example.com]",
                "[v1.fe80::a]",
            ],
        );
    }

    #[test]
    fn empty_and_overlong_names_are_refused() {
        let (label, name) = ("a".repeat(64), "a.".repeat(127) + "a");
        refused_with(TargetError::Empty, &["", ".", ":443"]);
        refused_with(
            TargetError::Label,
            &[
                "..",
                ".example.com",
                "api..example.com",
                "example.com..",
                "api.example.com..:443",
                "api\u{3002}\u{3002}example.com",
                &label,
                &format!("{label}.example.com"),
            ],
        );
        assert_eq!(name.len(), 255);
        refused_with(
            TargetError::TooLong,
            &[&name, &name[2..].replace('a', "ab"), &"\u{fc}".repeat(600), &"a".repeat(1_100)],
        );
    }

    #[test]
    fn names_that_are_not_valid_idna_are_refused() {
        refused_with(
            TargetError::Idna,
            &[
                "xn--",
                "xn--a.example.com",
                "xn--zzzzzzzzzzzz.example.com",
                "xn--api-.example.com",
                "XN--A.example.com",
                "\u{ad}",
                "api\u{2100}.example.com",
                "api.example.com\u{ff0f}v1",
                "user\u{ff20}api.example.com",
                "api.example.com\u{ff1a}443",
                "api\u{ff05}2eexample.com",
                "api\u{a0}x.example.com",
                "api\u{2028}.example.com",
                "api\u{202e}moc.example.com",
                "\u{301}api.example.com",
                "\u{5d0}a.example.com",
                "api\u{fffd}.example.com",
                "api\u{e000}.example.com",
            ],
        );
    }

    #[test]
    fn every_spelling_of_a_name_has_one_canonical_form() {
        let longest = format!("{}.{}", "a.".repeat(94) + "a", "b".repeat(63));
        assert_eq!(longest.len(), 253);
        let longest_with_dot = format!("{longest}.");
        for (authority, canonical) in [
            ("api.example.com", "api.example.com"),
            ("API.Example.COM", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("api.example.com:443", "api.example.com"),
            ("API.EXAMPLE.COM.:443", "api.example.com"),
            ("api.example.com:8443", "api.example.com:8443"),
            ("api.example.com:1", "api.example.com:1"),
            ("api.example.com:65535", "api.example.com:65535"),
            ("api.example.com:80", "api.example.com:80"),
            ("localhost", "localhost"),
            ("under_score.example.com", "under_score.example.com"),
            ("r3---sn-x.example.com", "r3---sn-x.example.com"),
            ("1.example.com", "1.example.com"),
            ("0x7f.example.com", "0x7f.example.com"),
            ("127.0.0.1.example.com", "127.0.0.1.example.com"),
            ("0xg", "0xg"),
            ("1password.com", "1password.com"),
            (&longest, &longest),
            (&longest_with_dot, &longest),
            // Names that look like one another stay apart.
            ("api.example.com.evil.test", "api.example.com.evil.test"),
            ("apiexample.com", "apiexample.com"),
            ("api-example.com", "api-example.com"),
            ("evilexample.com", "evilexample.com"),
            ("\u{430}pi.example.com", "xn--pi-6kc.example.com"),
            // IDNA, with its own mappings (UTS 46).
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("B\u{dc}CHER.example", "xn--bcher-kva.example"),
            ("bu\u{308}cher.example", "xn--bcher-kva.example"),
            ("XN--Bcher-KVA.example", "xn--bcher-kva.example"),
            ("stra\u{df}e.example", "xn--strae-oqa.example"),
            ("\u{ff41}pi.example.com", "api.example.com"),
            ("api\u{3002}example\u{ff0e}com", "api.example.com"),
            ("api.example.com\u{3002}", "api.example.com"),
            ("api.ex\u{ad}ample.com", "api.example.com"),
            // Addresses.
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("0.0.0.0", "0.0.0.0"),
            ("[::1]", "[::1]"),
            ("[::1]:443", "[::1]"),
            ("[2001:DB8:0:0::1]:8443", "[2001:db8::1]:8443"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
            ("[::FFFF:7F00:1]:8443", "127.0.0.1:8443"),
            ("[::127.0.0.1]", "[::7f00:1]"),
        ] {
            assert_eq!(parsed(authority).as_deref(), Ok(canonical), "{authority:?}");
        }
    }

    #[test]
    fn the_default_port_is_that_of_the_scheme() {
        let http = |authority| Target::parse(Scheme::Http, authority).expect("target");
        assert_eq!(http("api.example.com").port(), 80);
        assert_eq!(http("api.example.com:80").authority(), "api.example.com");
        assert!(!http("api.example.com").equals_authority(b"api.example.com:80"));
        assert!(!http("api.example.com:8080").equals_authority(b"api.example.com"));
        assert!(!http("api.example.com:8080").equals_authority(b"api.example.com:08080"));
        assert_eq!(http("api.example.com:443").to_string(), "http://api.example.com:443");
    }

    #[test]
    fn no_message_quotes_the_target() {
        for error in ["s3cret@x", "s3cret%", "s3cret..x", "s3cret:x", "s3cret.0x1"] {
            let message = parsed(error).expect_err(error).to_string();
            assert!(!message.contains("s3cret"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn a_displayed_target_parses_to_the_same_target(
            authority in prop_oneof![
                r"\PC{0,40}",
                r"[a-zA-Z0-9.:\[\]_\-]{0,40}",
                r"[a-zü-ÿ。-]{1,9}\.xn--[a-z0-9-]{1,9}",
                r"\[[0-9a-f:.]{0,30}\](:[0-9]{0,6})?",
                r"([0-9a-fx]{1,4}\.){1,4}[0-9]{1,3}",
            ]
        ) {
            if let Ok(target) = Target::parse(Scheme::Https, &authority) {
                let shown = target.authority();
                prop_assert_eq!(Target::parse(Scheme::Https, &shown), Ok(target.clone()));
                prop_assert!(target.equals_authority(shown.as_bytes()));
                prop_assert_eq!(target.equals_authority(authority.as_bytes()), authority == shown);
                prop_assert!(shown.is_ascii() && shown == shown.to_ascii_lowercase());
                prop_assert!(target.port() != 0);
                prop_assert_eq!(Host::parse(&target.host().to_string()), Ok(target.host().clone()));
            }
        }

        #[test]
        fn every_ip_address_and_port_is_parsed_from_its_text(bits in any::<u128>(), v4 in any::<u32>(), port in 1_u16..) {
            for ip in [IpAddr::from(Ipv6Addr::from(bits)), IpAddr::from(Ipv4Addr::from(v4))] {
                let shown = std::net::SocketAddr::new(ip, port).to_string();
                let target = Target::parse(Scheme::Https, &shown).expect("an address");
                prop_assert_eq!(target.host().address(), Some(ip.to_canonical()));
                prop_assert_eq!(target.port(), port);
            }
        }
    }
}
