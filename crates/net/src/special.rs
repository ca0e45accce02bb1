//! Special-purpose addresses: the IANA registries of IPv4 and IPv6, the metadata services of clouds, and IPv6
//! forms that embed an IPv4 address. Data and look-up only; `guard.rs` decides. The standard library's
//! predicates (`is_private`, …) miss several entries, so they are not used.

use keyward_base::names::labelled_enum;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

labelled_enum! {
    /// The class of an address. All but [`IpClass::Public`] are refused unless allowed.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub enum IpClass by as_str {
        /// Globally reachable unicast.
        Public = "public",
        /// `0.0.0.0/8` and `::`, which many systems treat as loopback.
        Unspecified = "unspecified",
        /// `127.0.0.0/8`, `::1`.
        Loopback = "loopback",
        /// RFC 1918.
        Private = "private",
        /// Carrier-grade NAT, RFC 6598.
        SharedNat = "shared NAT",
        /// `169.254.0.0/16`, `fe80::/10`.
        LinkLocal = "link-local",
        /// `fc00::/7`, RFC 4193.
        UniqueLocal = "unique local",
        /// `fec0::/10`, deprecated by RFC 3879, still routed inside some sites.
        SiteLocal = "site-local",
        /// A cloud's metadata service, which gives credentials to any client.
        Metadata = "cloud metadata",
        /// IETF protocol assignments, ORCHID, segment identifiers.
        Protocol = "protocol assignment",
        /// Reserved for documentation.
        Documentation = "documentation",
        /// Reserved for benchmarks.
        Benchmarking = "benchmarking",
        /// A tunnel or translation prefix: 6to4, Teredo, IPv4-compatible, local NAT64.
        Transition = "transition",
        /// Discard-only, RFC 6666.
        Discard = "discard",
        Multicast = "multicast",
        /// `255.255.255.255`.
        Broadcast = "broadcast",
        /// `240.0.0.0/4`, and IPv6 outside the global unicast `2000::/3`.
        Reserved = "reserved",
        /// One of our listeners, by any address of this machine.
        Own = "own listener",
    }
}

impl fmt::Display for IpClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// IANA IPv4 special-purpose registry; more specific entries come first.
/// <https://www.iana.org/assignments/iana-ipv4-special-registry>
///
/// The few globally reachable anycast addresses in `192.0.0.0/24` serve no API and are refused.
const V4: &[(Ipv4Addr, u8, IpClass)] = &[
    (Ipv4Addr::new(255, 255, 255, 255), 32, IpClass::Broadcast),
    (Ipv4Addr::new(0, 0, 0, 0), 8, IpClass::Unspecified),
    (Ipv4Addr::new(10, 0, 0, 0), 8, IpClass::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, IpClass::SharedNat),
    (Ipv4Addr::new(127, 0, 0, 0), 8, IpClass::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, IpClass::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, IpClass::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, IpClass::Protocol),
    (Ipv4Addr::new(192, 0, 2, 0), 24, IpClass::Documentation),
    // The 6to4 relay anycast, deprecated by RFC 7526.
    (Ipv4Addr::new(192, 88, 99, 0), 24, IpClass::Transition),
    (Ipv4Addr::new(192, 168, 0, 0), 16, IpClass::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, IpClass::Benchmarking),
    (Ipv4Addr::new(198, 51, 100, 0), 24, IpClass::Documentation),
    (Ipv4Addr::new(203, 0, 113, 0), 24, IpClass::Documentation),
    (Ipv4Addr::new(224, 0, 0, 0), 4, IpClass::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, IpClass::Reserved),
];

/// IANA IPv6 special-purpose registry, and multicast; more specific entries come first.
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>
const V6: &[(Ipv6Addr, u8, IpClass)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, IpClass::Unspecified),
    (Ipv6Addr::LOCALHOST, 128, IpClass::Loopback),
    // IPv4-compatible, deprecated by RFC 4291 §2.5.5.1.
    (Ipv6Addr::UNSPECIFIED, 96, IpClass::Transition),
    // IPv4-translated, RFC 2765.
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96, IpClass::Transition),
    // NAT64 for local use, RFC 8215.
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, IpClass::Transition),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, IpClass::Discard),
    // The dummy prefix, RFC 9780.
    (Ipv6Addr::new(0x100, 0, 0, 1, 0, 0, 0, 0), 64, IpClass::Discard),
    // Teredo, RFC 4380.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, IpClass::Transition),
    (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48, IpClass::Benchmarking),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, IpClass::Protocol),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, IpClass::Documentation),
    // 6to4, RFC 3056.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, IpClass::Transition),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, IpClass::Documentation),
    // Segment routing identifiers, RFC 9602.
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16, IpClass::Protocol),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, IpClass::UniqueLocal),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, IpClass::LinkLocal),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, IpClass::SiteLocal),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, IpClass::Multicast),
];

/// Instance metadata services over IPv4.
const METADATA_V4: &[(Ipv4Addr, u8)] = &[
    // AWS, Azure, Google, Oracle, DigitalOcean, Hetzner, IBM, OpenStack; the rest of the network
    // holds their name, time and workload identity services.
    (Ipv4Addr::new(169, 254, 169, 0), 24),
    // AWS task roles (.2) and pod identity (.23).
    (Ipv4Addr::new(169, 254, 170, 0), 24),
    // Tencent, Scaleway.
    (Ipv4Addr::new(169, 254, 0, 23), 32),
    (Ipv4Addr::new(169, 254, 42, 42), 32),
    // Alibaba, Volcano Engine.
    (Ipv4Addr::new(100, 100, 100, 200), 32),
    (Ipv4Addr::new(100, 96, 0, 96), 32),
    // Azure's host agent: looks public, answers only inside.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    // Oracle Cloud Classic.
    (Ipv4Addr::new(192, 0, 0, 192), 32),
];

/// Instance metadata services over IPv6.
const METADATA_V6: &[(Ipv6Addr, u8)] = &[
    // AWS: metadata (::254), names (::253), time (::123), pod identity (::23).
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 112),
    // Google.
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128),
    // Oracle.
    (Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 128),
    // Scaleway.
    (Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42), 128),
    // Linode.
    (Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1), 128),
    // OpenStack.
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 128),
];

/// Classifies an address. An address that embeds an IPv4 address is refused if that one is.
pub fn classify(ip: IpAddr) -> IpClass {
    match ip.to_canonical() {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

fn classify_v4(ip: Ipv4Addr) -> IpClass {
    if METADATA_V4.iter().any(|&(net, bits)| v4_in(ip, net, bits)) {
        return IpClass::Metadata;
    }
    V4.iter().find(|&&(net, bits, _)| v4_in(ip, net, bits)).map_or(IpClass::Public, |entry| entry.2)
}

fn classify_v6(ip: Ipv6Addr) -> IpClass {
    let inner = embedded_v4(ip);
    let carries = |class| inner.iter().any(|&v4| classify_v4(v4) == class);
    if METADATA_V6.iter().any(|&(net, bits)| v6_in(ip, net, bits)) || carries(IpClass::Metadata) {
        return IpClass::Metadata;
    }
    if let Some(entry) = V6.iter().find(|&&(net, bits, _)| v6_in(ip, net, bits)) {
        return entry.2;
    }
    let refused = inner.iter().map(|&v4| classify_v4(v4)).find(|&class| class != IpClass::Public);
    match refused {
        Some(class) => class,
        None if is_nat64(ip) || is_global_unicast(ip) => IpClass::Public,
        None => IpClass::Reserved,
    }
}

/// The IPv4 addresses that `ip` may translate to. The prefix length of local-use NAT64 is the operator's choice
/// (RFC 6052 §2.2), so all candidates are returned.
pub(super) fn embedded_v4(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    let o = ip.octets();
    let last = Ipv4Addr::new(o[12], o[13], o[14], o[15]);
    match ip.segments() {
        // Mapped, compatible, translated, and the well-known NAT64 prefix (RFC 6052 §2.1).
        [0, 0, 0, 0, 0, 0 | 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![last],
        // Octet 8 of these layouts is skipped.
        [0x64, 0xff9b, 1, ..] => vec![
            Ipv4Addr::new(o[6], o[7], o[9], o[10]),
            Ipv4Addr::new(o[7], o[9], o[10], o[11]),
            Ipv4Addr::new(o[9], o[10], o[11], o[12]),
            last,
        ],
        [0x2002, ..] => vec![Ipv4Addr::new(o[2], o[3], o[4], o[5])],
        // Teredo: the server as it is, the client inverted (RFC 4380 §4).
        [0x2001, 0, ..] => vec![
            Ipv4Addr::new(o[4], o[5], o[6], o[7]),
            Ipv4Addr::new(!o[12], !o[13], !o[14], !o[15]),
        ],
        // ISATAP, RFC 5214 §6.1: under any prefix, with or without the universal bit.
        [_, _, _, _, 0 | 0x0200, 0x5efe, ..] => vec![last],
        _ => Vec::new(),
    }
}

fn is_nat64(ip: Ipv6Addr) -> bool {
    v6_in(ip, Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96)
}

/// RFC 4291 §2.4: the range that IANA has assigned to the public internet.
fn is_global_unicast(ip: Ipv6Addr) -> bool {
    v6_in(ip, Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3)
}

/// `bits` is 1 to 32.
fn v4_in(ip: Ipv4Addr, net: Ipv4Addr, bits: u8) -> bool {
    (ip.to_bits() ^ net.to_bits()) >> (32 - u32::from(bits)) == 0
}

/// `bits` is 1 to 128.
fn v6_in(ip: Ipv6Addr, net: Ipv6Addr, bits: u8) -> bool {
    (ip.to_bits() ^ net.to_bits()) >> (128 - u32::from(bits)) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(text: &str) -> IpClass {
        classify(text.parse().expect(text))
    }

    #[test]
    fn no_address_of_the_special_purpose_registries_is_public() {
        use IpClass::*;
        let table = [
            ("0.0.0.0", Unspecified),
            ("0.255.255.255", Unspecified),
            ("10.0.0.0", Private),
            ("10.255.255.255", Private),
            ("100.64.0.0", SharedNat),
            ("100.127.255.255", SharedNat),
            ("127.0.0.1", Loopback),
            ("127.255.255.254", Loopback),
            ("169.254.0.1", LinkLocal),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("192.0.0.1", Protocol),
            ("192.0.0.9", Protocol),
            ("192.0.2.1", Documentation),
            ("192.88.99.1", Transition),
            ("192.168.0.1", Private),
            ("198.18.0.1", Benchmarking),
            ("198.19.255.255", Benchmarking),
            ("198.51.100.1", Documentation),
            ("203.0.113.255", Documentation),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("240.0.0.1", Reserved),
            ("255.255.255.254", Reserved),
            ("255.255.255.255", Broadcast),
            ("::", Unspecified),
            ("::1", Loopback),
            ("::2", Transition),
            ("100::1", Discard),
            ("100:0:0:1::1", Discard),
            ("200::1", Reserved),
            ("1fff::1", Reserved),
            ("2001:2::1", Benchmarking),
            ("2001:10::1", Protocol),
            ("2001:20::1", Protocol),
            ("2001:1ff:ffff::1", Protocol),
            ("2001:db8::1", Documentation),
            ("3fff:fff::1", Documentation),
            ("4000::1", Reserved),
            ("5f00::1", Protocol),
            ("fc00::1", UniqueLocal),
            ("fdff:ffff::1", UniqueLocal),
            ("fe80::1", LinkLocal),
            ("febf::1", LinkLocal),
            ("fec0::1", SiteLocal),
            ("ff02::1", Multicast),
            ("ff0e::1", Multicast),
        ];
        for (text, expected) in table {
            assert_eq!(class(text), expected, "{text}");
        }
    }

    #[test]
    fn metadata_services_of_clouds_are_known_in_every_form() {
        for text in [
            "169.254.169.254",
            "169.254.169.253",
            "169.254.170.2",
            "169.254.170.23",
            "169.254.0.23",
            "169.254.42.42",
            "100.100.100.200",
            "100.96.0.96",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fd00:a9fe:a9fe::1",
            "fe80::a9fe:a9fe",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::",
            "2002:a9fe:a9fe::1",
            "2001:0:a9fe:a9fe::1",
            "2001:0:808:808:0:0:5601:5601",
            "2a00::5efe:a9fe:a9fe",
            "2a00::200:5efe:a9fe:a9fe",
        ] {
            assert_eq!(class(text), IpClass::Metadata, "{text}");
        }
    }

    #[test]
    fn neighbours_of_special_networks_are_public() {
        for text in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "3ffe::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2a00::5efe:808:808",
        ] {
            assert_eq!(class(text), IpClass::Public, "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_embedded_form_of_a_refused_address_is_refused(
            bits in any::<u32>(),
            special in 0..V4.len(),
            prefix in 0x2003_u16..0x3000,
        ) {
            let (net, len, _) = V4[special];
            let host = bits.checked_shr(u32::from(len)).unwrap_or(0);
            let v4 = Ipv4Addr::from_bits(net.to_bits() | host);
            prop_assert_ne!(classify_v4(v4), IpClass::Public);
            let [a, b, c, d] = v4.octets();
            let (hi, lo) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let forms = [
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, hi, lo),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, hi, lo),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, hi, lo),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, hi, lo),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, hi, lo),
                Ipv6Addr::new(0x2002, hi, lo, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, hi, lo, 0, 0, !0x0808, !0x0808),
                Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, 0, 0, !hi, !lo),
                Ipv6Addr::new(prefix, 0, 0, 0, 0, 0x5efe, hi, lo),
                Ipv6Addr::new(prefix, 0, 0, 0, 0x0200, 0x5efe, hi, lo),
            ];
            for form in forms {
                prop_assert_ne!(classify(IpAddr::V6(form)), IpClass::Public, "{}", form);
            }
        }

        #[test]
        fn no_ipv6_address_outside_of_global_unicast_is_public(bits in any::<u128>()) {
            let ip = Ipv6Addr::from_bits(bits);
            if classify(IpAddr::V6(ip)) == IpClass::Public {
                let mapped = ip.to_ipv4_mapped().is_some();
                prop_assert!(is_global_unicast(ip) || is_nat64(ip) || mapped);
            }
        }
    }
}
