//! [`HostPattern`]: a pattern of hosts and ports. Text is parsed by [`Host::parse`], so that patterns and
//! requests are compared in the same canonical form.

use std::fmt;
use std::sync::Arc;

use super::PatternError;
use crate::host::{Host, Scheme, Target};

/// `api.example.com`, `*.example.com`, each with `:port` when it is not the scheme's own.
///
/// Matches whole labels of a canonical host; a wildcard matches one or more labels.
/// The port belongs to the pattern (DI7): absent means 443, and 80 for cleartext targets.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostPattern {
    names: HostNames,
    port: Option<u16>,
}

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum HostNames {
    Exact(Host),
    /// All names below this one, stored without the leading dot.
    Below(Arc<str>),
}

impl HostPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// When the text is not a pattern, or the wildcard covers a public suffix.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let error = || PatternError::Host(text.to_owned());
        let (wildcard, authority) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let target = Target::parse(Scheme::Https, authority).map_err(|_| error())?;
        let host = target.host().clone();
        let port = has_port(authority).then_some(target.port());
        if !wildcard {
            return Ok(Self { names: HostNames::Exact(host), port });
        }
        let Host::Name(suffix) = host else { return Err(error()) };
        match is_public_suffix(&suffix) {
            true => Err(PatternError::PublicSuffix(text.to_owned())),
            false => Ok(Self { names: HostNames::Below(suffix), port }),
        }
    }

    /// The pattern that matches exactly this host, on the default ports.
    pub fn exact(host: Host) -> Self {
        Self { names: HostNames::Exact(host), port: None }
    }

    /// Whether the pattern matches the target's host and port.
    pub fn matches(&self, target: &Target) -> bool {
        self.matches_port(target) && self.covers(target.host())
    }

    /// Whether the pattern matches the host, on any port.
    pub fn covers(&self, host: &Host) -> bool {
        match (&self.names, host) {
            (HostNames::Exact(exact), host) => exact == host,
            (HostNames::Below(suffix), Host::Name(name)) => is_below(name, suffix),
            (HostNames::Below(_), Host::V4(_) | Host::V6(_)) => false,
        }
    }

    /// Whether the pattern matches the target's port, for any host.
    pub fn matches_port(&self, target: &Target) -> bool {
        match self.port {
            Some(port) => port == target.port(),
            None => target.port() == target.scheme().default_port(),
        }
    }

    /// As [`matches`](Self::matches), whichever scheme is spoken: for what is refused.
    pub fn matches_any_scheme(&self, target: &Target) -> bool {
        self.matches_port_of_any_scheme(target.port()) && self.covers(target.host())
    }

    /// Whether the pattern matches the port of a target with either scheme: without a port, it matches 443 and 80.
    pub fn matches_port_of_any_scheme(&self, port: u16) -> bool {
        let is_default = |scheme: Scheme| scheme.default_port() == port;
        match self.port {
            Some(own) => own == port,
            None => is_default(Scheme::Https) || is_default(Scheme::Http),
        }
    }

    /// Whether some target matches both patterns.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.shares_port(other)
            && match (&self.names, &other.names) {
                (HostNames::Exact(host), _) => other.covers(host),
                (_, HostNames::Exact(host)) => self.covers(host),
                (HostNames::Below(a), HostNames::Below(b)) => {
                    a == b || is_below(a, b) || is_below(b, a)
                }
            }
    }

    /// Whether every target that matches `other` also matches this pattern. A pattern without a port matches
    /// 443 for TLS and 80 for cleartext, and contains patterns that name either port.
    pub fn contains(&self, other: &Self) -> bool {
        let names = match (&self.names, &other.names) {
            (_, HostNames::Exact(host)) => self.covers(host),
            (HostNames::Exact(_), HostNames::Below(_)) => false,
            (HostNames::Below(a), HostNames::Below(b)) => a == b || is_below(b, a),
        };
        names && (self.port == other.port || self.port.is_none() && self.shares_port(other))
    }

    /// The exact host; `None` for a wildcard.
    pub fn literal(&self) -> Option<&Host> {
        match &self.names {
            HostNames::Exact(host) => Some(host),
            HostNames::Below(_) => None,
        }
    }

    /// The suffix after `*.`; `None` for an exact host.
    pub fn suffix(&self) -> Option<&str> {
        match &self.names {
            HostNames::Exact(_) => None,
            HostNames::Below(suffix) => Some(suffix),
        }
    }

    /// The port used for TLS.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(443)
    }

    pub fn has_explicit_port(&self) -> bool {
        self.port.is_some()
    }

    fn shares_port(&self, other: &Self) -> bool {
        match (self.port, other.port) {
            (Some(a), Some(b)) => a == b,
            (None, None) => true,
            (Some(port), None) | (None, Some(port)) => matches!(port, 80 | 443),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.names {
            HostNames::Exact(host) => write!(f, "{host}")?,
            HostNames::Below(suffix) => write!(f, "*.{suffix}")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Whether a parsed authority names a port.
fn has_port(authority: &str) -> bool {
    authority.rfind(']').map_or(authority, |bracket| &authority[bracket..]).contains(':')
}

/// Whether `name` is `suffix` with one or more labels before it.
fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// Whether `name` is a public suffix (private section included) or a single label.
fn is_public_suffix(name: &str) -> bool {
    psl::suffix(name.as_bytes()).is_none_or(|suffix| suffix.as_bytes() == name.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn https(authority: &str) -> Target {
        Target::parse(Scheme::Https, authority).expect(authority)
    }

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).expect(text)
    }

    #[test]
    fn invalid_host_patterns_are_refused() {
        for bad in [
            "",
            "*",
            "*.",
            "*.*",
            "*.*.example.com",
            "a.*.example.com",
            "*example.com",
            "**.a.com",
            "*.example.com.*",
            ".example.com",
            "exa mple.com",
            "https://example.com",
            "a@b.com",
            "example.com/",
            "example.com:",
            "example.com:0",
            "example.com:65536",
            "example.com:+1",
            "*.10.0.0.1",
            "*.[::1]",
            "[::1",
            "::1",
            "1.2.3",
            "0x7f.1",
            "*.example..com",
            "example.com:*",
            "exa%6dple.com",
            "example.com?x",
            "*.example.com:",
        ] {
            assert_eq!(HostPattern::parse(bad), Err(PatternError::Host(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn a_wildcard_never_covers_a_public_suffix() {
        for bad in [
            "*.com",
            "*.co.uk",
            "*.COM",
            "*.github.io",
            "*.test",
            "*.localhost",
            "*.foo.ck",
            "*.herokuapp.com",
            "*.com:8443",
            "*.com.",
            "*.xn--p1ai",
            "*.рф",
        ] {
            let refused = Err(PatternError::PublicSuffix(bad.to_owned()));
            assert_eq!(HostPattern::parse(bad), refused, "{bad}");
        }
    }

    #[test]
    fn look_alikes_do_not_match() {
        let (exact, below) = (pattern("api.example.com"), pattern("*.example.com"));
        for other in [
            "xapi.example.com",
            "api.example.com.evil.test",
            "api-example.com",
            "example.com",
            "a.api.example.com",
            "api.example.co",
            "api.example.com:8443",
            "apixexample.com",
        ] {
            assert!(!exact.matches(&https(other)), "{other}");
        }
        for other in [
            "example.com",
            "evilexample.com",
            "example.com.evil.test",
            "evil-example.com",
            "a.example.com:8443",
            "a.example.org",
            "a.xexample.com",
            "10.0.0.1",
            "[::1]",
        ] {
            assert!(!below.matches(&https(other)), "{other}");
        }
    }

    #[test]
    fn patterns_and_hosts_are_compared_in_canonical_form() {
        for (text, authority) in [
            ("API.Example.COM", "api.example.com"),
            ("api.example.com.", "api.example.com:443"),
            ("*.Example.com", "a.b.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("*.bücher.example", "a.xn--bcher-kva.example"),
            ("127.0.0.1:9443", "127.0.0.1:9443"),
            ("[::1]:9443", "[0:0::1]:9443"),
            ("*.example.com:8443", "a.example.com:8443"),
        ] {
            assert!(pattern(text).matches(&https(authority)), "{text} {authority}");
        }
    }

    #[test]
    fn a_pattern_matches_its_port_or_else_the_default_port_of_the_scheme() {
        let http = |authority| Target::parse(Scheme::Http, authority).expect(authority);
        let (bare, tls) = (pattern("a.example.com"), pattern("a.example.com:443"));
        assert!(bare.matches(&http("a.example.com")));
        assert!(!bare.matches(&http("a.example.com:443")));
        assert!(!bare.matches(&https("a.example.com:80")));
        assert!(!tls.matches(&http("a.example.com")));
        assert!(tls.matches(&https("a.example.com")));
        assert!(!bare.has_explicit_port() && tls.has_explicit_port());
    }

    #[test]
    fn a_pattern_without_a_port_matches_both_default_ports_where_any_scheme_counts() {
        let (bare, named) = (pattern("a.example.com"), pattern("a.example.com:8443"));
        for (authority, by_bare, by_named) in [
            ("a.example.com:443", true, false),
            ("a.example.com:80", true, false),
            ("a.example.com:8443", false, true),
            ("b.example.com:80", false, false),
        ] {
            for scheme in [Scheme::Http, Scheme::Https] {
                let target = Target::parse(scheme, authority).expect(authority);
                let found = [&bare, &named].map(|pattern| pattern.matches_any_scheme(&target));
                assert_eq!(found, [by_bare, by_named], "{target}");
            }
        }
    }

    #[test]
    fn overlap_is_found_in_both_directions() {
        for (a, b, meet) in [
            ("a.example.com", "*.example.com", true),
            ("*.a.example.com", "*.example.com", true),
            ("example.com", "*.example.com", false),
            ("*.xexample.com", "*.example.com", false),
            ("a.example.com:8443", "*.example.com", false),
            ("a.example.com:443", "*.example.com", true),
            ("10.0.0.1", "10.0.0.1", true),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), meet, "{a} {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), meet, "{b} {a}");
        }
    }

    proptest! {
        #[test]
        fn a_wildcard_matches_whole_labels_only(
            prefix in "[a-z0-9_-]{0,6}(\\.[a-z0-9]{1,4}){0,2}",
            suffix in "zq[a-z]{1,6}\\.(com|org|test|co\\.uk)",
            glued in any::<bool>(),
        ) {
            let below = pattern(&format!("*.{suffix}"));
            let joint = if glued { "" } else { "." };
            if let Ok(host) = Host::parse(&format!("{prefix}{joint}{suffix}")) {
                let label_bounded = !glued && !prefix.is_empty();
                prop_assert_eq!(below.covers(&host), label_bounded, "{}", host);
            }
            let tail = Host::parse(&format!("a.{suffix}.evil.test")).expect("a host");
            prop_assert!(!below.covers(&tail));
        }

        #[test]
        fn a_pattern_reads_back_as_written(
            text in "(\\*\\.)?[a-z]{1,6}\\.example\\.com(:[1-9][0-9]{0,3})?"
        ) {
            prop_assert_eq!(pattern(&text).to_string(), text);
        }

        #[test]
        fn no_text_makes_parsing_panic(text in "\\PC{0,40}") {
            let _ = HostPattern::parse(&text);
        }
    }
}
