//! [`ForwardedFields`]: the statements of reverse proxies about a request: `X-Forwarded-Proto` and `X-Forwarded-For`,
//! or `Forwarded` (RFC 7239). Pure; `network.rs` decides which proxies are trusted.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

/// The forwarded fields of a request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct ForwardedFields {
    /// Whether any of the fields is present.
    pub(super) is_present: bool,
    /// Every protocol that is named; `https` or something else.
    protocols: Vec<bool>,
    /// The clients of `X-Forwarded-For`, from the outermost; `None` where the text is not an address.
    listed: Vec<Option<IpAddr>>,
    /// Those of `Forwarded`.
    elements: Vec<Option<IpAddr>>,
}

impl ForwardedFields {
    /// Parses the fields.
    pub(super) fn of(fields: &HeaderMap) -> Self {
        let mut found = Self::default();
        for text in texts(fields, "x-forwarded-proto") {
            let protocols = text.split(',').map(str::trim);
            found.protocols.extend(protocols.map(|word| word.eq_ignore_ascii_case("https")));
        }
        for text in texts(fields, "x-forwarded-for") {
            found.listed.extend(text.split(',').map(address));
        }
        for text in texts(fields, "forwarded") {
            for element in parts(text, ',') {
                let mut client = None;
                for (name, value) in parts(element, ';').filter_map(|pair| pair.split_once('=')) {
                    let value = value.trim().trim_matches('"');
                    match &*name.trim().to_ascii_lowercase() {
                        "for" => client = address(value),
                        "proto" => found.protocols.push(value.eq_ignore_ascii_case("https")),
                        _ => {}
                    }
                }
                found.elements.push(client);
            }
        }
        let names = ["x-forwarded-proto", "x-forwarded-for", "forwarded"];
        found.is_present = names.iter().any(|name| fields.contains_key(*name));
        found
    }

    /// Whether the client used TLS: it is said, and nothing contradicts it.
    pub(super) fn is_secure(&self) -> bool {
        !self.protocols.is_empty() && self.protocols.iter().all(|is_https| *is_https)
    }

    /// The client of `peer`, a proxy that is believed: the last address that no believed proxy has. `peer` itself if
    /// the fields name no client, or if both fields are present and differ: a client can send the one that the proxy
    /// does not set.
    pub(super) fn client(&self, peer: IpAddr, is_believed: impl Fn(IpAddr) -> bool) -> IpAddr {
        let last = |clients: &[Option<IpAddr>]| {
            let mut client = peer;
            for address in clients.iter().rev() {
                match address {
                    Some(address) => client = *address,
                    None => break,
                }
                if !is_believed(client) {
                    break;
                }
            }
            client
        };
        let (listed, element) = (last(&self.listed), last(&self.elements));
        match (self.listed.is_empty(), self.elements.is_empty()) {
            (false, true) => listed,
            (true, false) => element,
            _ if listed == element => listed,
            _ => peer,
        }
    }
}

fn texts<'f>(fields: &'f HeaderMap, name: &'static str) -> impl Iterator<Item = &'f str> {
    // A value that is not text says nothing that can be believed.
    fields.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"))
}

/// The parts of a list, outside of quotes.
fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c: char| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|at| at.ip());
    bare.parse().ok().or_else(with_port).map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &'static str)]) -> ForwardedFields {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        ForwardedFields::of(&map)
    }

    #[test]
    fn tls_is_believed_only_if_every_protocol_is_https() {
        for (fields, is_secure) in [
            (&[][..], false),
            (&[("x-forwarded-for", "192.0.2.1")], false),
            (&[("x-forwarded-proto", "http")], false),
            (&[("x-forwarded-proto", "https, http")], false),
            (&[("x-forwarded-proto", "http, https")], false),
            (&[("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")], false),
            (&[("x-forwarded-proto", "https"), ("forwarded", "proto=http")], false),
            (&[("x-forwarded-proto", "https\u{e9}")], false),
            (&[("x-forwarded-proto", "")], false),
            (&[("forwarded", "for=\"a;proto=https\"")], false),
            (&[("x-forwarded-proto", "HTTPS")], true),
            (&[("forwarded", "for=192.0.2.1;Proto=\"https\";by=x")], true),
            (&[("x-forwarded-proto", "https"), ("forwarded", "for=x;proto=https")], true),
        ] {
            assert_eq!(of(fields).is_secure(), is_secure, "{fields:?}");
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxy() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let peer = ip("10.0.0.1");
        let is_believed = |ip: IpAddr| ip.to_string().starts_with("10.");
        for (fields, client) in [
            (&[][..], "10.0.0.1"),
            (&[("x-forwarded-for", "203.0.113.9")], "203.0.113.9"),
            // The client sent the first itself.
            (&[("x-forwarded-for", "198.51.100.1, 203.0.113.9")], "203.0.113.9"),
            (&[("x-forwarded-for", "198.51.100.1, 203.0.113.9, 10.0.0.7")], "203.0.113.9"),
            (&[("x-forwarded-for", "198.51.100.1, unknown, 10.0.0.7")], "10.0.0.7"),
            (&[("x-forwarded-for", "203.0.113.9:4711")], "203.0.113.9"),
            (&[("x-forwarded-for", "::ffff:203.0.113.9")], "203.0.113.9"),
            (&[("forwarded", "for=\"[2001:db8::1]:80\";proto=https")], "2001:db8::1"),
            (&[("forwarded", "for=_hidden, for=203.0.113.9")], "203.0.113.9"),
            (&[("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=198.51.100.1")], "10.0.0.1"),
            (
                &[("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")],
                "203.0.113.9",
            ),
        ] {
            assert_eq!(of(fields).client(peer, is_believed), ip(client), "{fields:?}");
        }
    }
}
