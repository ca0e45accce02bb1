//! [`AnswerRewrite`] adapts an answer for a client that used a base URL: redirects to the same upstream go through
//! the gateway again, cookies stay with their connection, and nothing is said about the gateway's whole host.

use http::HeaderMap;
use http::header::{Entry, HeaderValue, LOCATION, SET_COOKIE};

use keyward_base::host::{Scheme, Target};

/// Fields by which an answer changes what a client does with all of its host, or deletes what the host has stored. The
/// upstream may say so of itself, and not of the gateway's host, where other connections and programs are.
const OF_WHOLE_HOST: &str = "strict-transport-security clear-site-data public-key-pins public-key-pins-report-only expect-ct \
    accept-ch critical-ch nel report-to origin-agent-cluster service-worker-allowed set-login";

/// The upstream, and its base URL as the client knows it.
#[derive(Debug)]
pub struct AnswerRewrite {
    /// The scheme of the base URL.
    scheme: Scheme,
    prefix: String,
    target: Target,
}

impl AnswerRewrite {
    /// `prefix` is prepended to the paths of `target`.
    pub fn new(scheme: Scheme, prefix: &str, target: Target) -> Self {
        Self { scheme, prefix: prefix.to_owned(), target }
    }

    /// Rewrites redirects and cookies, and removes what is about the whole host; all else is unchanged.
    pub fn apply(&self, fields: &mut HeaderMap) {
        for gone in OF_WHOLE_HOST.split(' ') {
            fields.remove(gone);
        }
        if let Entry::Occupied(mut locations) = fields.entry(LOCATION) {
            for value in locations.iter_mut() {
                let rewritten = value.to_str().ok().and_then(|text| self.location(text));
                if let Some(rewritten) = rewritten.and_then(|text| HeaderValue::try_from(text).ok())
                {
                    *value = rewritten;
                }
            }
        }
        if let Entry::Occupied(mut cookies) = fields.entry(SET_COOKIE) {
            for value in cookies.iter_mut() {
                if let Ok(confined) = HeaderValue::from_bytes(&self.cookie(value.as_bytes())) {
                    *value = confined;
                }
            }
        }
    }

    /// The redirect by the base URL; `None` if it may stay unchanged. Dot segments are not resolved; the client
    /// does that.
    fn location(&self, text: &str) -> Option<String> {
        if let Some(rest) = text.strip_prefix("//") {
            // The client would complete it by the scheme of the base URL.
            let absolute = format!("{}://{rest}", self.target.scheme().as_str());
            return self.absolute(&absolute).or(Some(absolute));
        }
        match text.starts_with('/') {
            true => self.below(text),
            false => self.absolute(text),
        }
    }

    fn absolute(&self, text: &str) -> Option<String> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme {
            _ if scheme.eq_ignore_ascii_case("https") => Scheme::Https,
            _ if scheme.eq_ignore_ascii_case("http") => Scheme::Http,
            _ => return None,
        };
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        match Target::parse(scheme, authority).is_ok_and(|target| target == self.target) {
            true if rest.starts_with('/') => self.below(rest),
            true => self.below(&format!("/{rest}")),
            false => None,
        }
    }

    /// A path of the target. Without a prefix, a path with two leading slashes would name a host.
    fn below(&self, path: &str) -> Option<String> {
        let names_host = self.prefix.is_empty() && path[1..].starts_with(['/', '\\']);
        (!names_host).then(|| format!("{}{path}", self.prefix))
    }

    /// The cookie, limited to this connection: a client has one cookie jar for all of `127.0.0.1`, and would send
    /// one connection's cookies to another's upstream. Without a prefix, the gateway's host is the connection's alone.
    /// `Domain` goes: the client would drop a cookie of another host than the gateway's (RFC 6265 §5.3). So does `Secure`
    /// over cleartext: the client would not send the cookie there, or not store it (RFC 6265 §5.4).
    fn cookie(&self, value: &[u8]) -> Vec<u8> {
        let mut path: &[u8] = b"";
        let mut kept: Vec<&[u8]> = Vec::new();
        for (index, part) in value.split(|byte| *byte == b';').enumerate() {
            let (name, text) = match part.iter().position(|byte| *byte == b'=') {
                Some(at) => (&part[..at], part[at + 1..].trim_ascii()),
                None => (part, &b""[..]),
            };
            let is =
                |attribute: &[u8]| index > 0 && name.trim_ascii().eq_ignore_ascii_case(attribute);
            if is(b"domain") || (is(b"secure") && self.scheme == Scheme::Http) {
                continue;
            }
            if is(b"path") && !self.prefix.is_empty() {
                // RFC 6265 §5.2.4: the last one counts, and only a path that begins with a slash.
                path = if text.starts_with(b"/") { text } else { b"" };
            } else {
                kept.push(part);
            }
        }
        let cookie = kept.join(&b';');
        match self.prefix.is_empty() {
            true => cookie,
            false => [&cookie[..], b"; Path=", self.prefix.as_bytes(), path].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(prefix: &str) -> AnswerRewrite {
        rewrite_at(Scheme::Http, prefix)
    }

    fn rewrite_at(scheme: Scheme, prefix: &str) -> AnswerRewrite {
        AnswerRewrite::new(scheme, prefix, Target::parse(Scheme::Https, "api.a.test").unwrap())
    }

    fn rewritten(prefix: &str, location: &str) -> String {
        let mut fields = HeaderMap::new();
        fields.insert(LOCATION, location.parse().unwrap());
        rewrite(prefix).apply(&mut fields);
        fields[LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn redirects_to_other_origins_and_relative_paths_stay_unchanged() {
        for other in [
            "https://other.test/a",
            "https://api.a.test.evil.test/a",
            "https://api.a.test@evil.test/a",
            "https://api.a.test:8443/a",
            "http://api.a.test/a",
            "ftp://api.a.test/a",
            "https://",
            "a/b?c",
            "../a",
            "?a",
            "",
        ] {
            assert_eq!(rewritten("/to/work", other), other);
            assert_eq!(rewritten("", other), other);
        }
    }

    #[test]
    fn redirects_to_the_upstream_lead_through_the_gateway() {
        for (location, path) in [
            ("https://api.a.test/v2/a%2fb?c#d", "/v2/a%2fb?c#d"),
            ("HTTPS://API.a.test:443/v2", "/v2"),
            ("https://api.a.test", "/"),
            ("https://api.a.test?c", "/?c"),
            ("//api.a.test/v2", "/v2"),
            ("/v2", "/v2"),
        ] {
            assert_eq!(rewritten("/to/work", location), format!("/to/work{path}"), "{location}");
            assert_eq!(rewritten("", location), path, "{location}");
        }
    }

    #[test]
    fn a_redirect_without_a_scheme_gets_the_scheme_of_the_upstream() {
        assert_eq!(rewritten("/to/work", "//other.test/a"), "https://other.test/a");
    }

    #[test]
    fn fields_about_the_whole_host_are_not_passed_from_an_upstream_to_the_gateway_s_host() {
        for prefix in ["/to/work", ""] {
            let mut fields = HeaderMap::new();
            for name in OF_WHOLE_HOST.split(' ') {
                fields.insert(name, "a".parse().unwrap());
            }
            fields.append("strict-transport-security", "max-age=31536000".parse().unwrap());
            fields.append("cache-control", "no-store".parse().unwrap());
            rewrite(prefix).apply(&mut fields);
            assert_eq!(fields.keys().collect::<Vec<_>>(), ["cache-control"], "{prefix}");
        }
    }

    #[test]
    fn an_upstream_path_that_looks_like_a_host_does_not_become_one() {
        for path in ["//evil.test/", "/\\evil.test/"] {
            let location = format!("https://api.a.test{path}");
            assert_eq!(rewritten("", &location), location);
            assert_eq!(rewritten("/to/work", &location), format!("/to/work{path}"));
        }
    }

    #[test]
    fn a_cookie_is_confined_to_its_connection() {
        for (cookie, confined) in [
            ("a=b", "a=b; Path=/to/work"),
            ("a=path=/x", "a=path=/x; Path=/to/work"),
            ("path=/x", "path=/x; Path=/to/work"),
            ("a=b; Path=/; HttpOnly", "a=b; HttpOnly; Path=/to/work/"),
            ("a=b; path = /v1 ;PATH=/v2", "a=b; Path=/to/work/v2"),
            ("a=b; Path=/v1; Path", "a=b; Path=/to/work"),
            ("a=b; Path=../x", "a=b; Path=/to/work"),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(SET_COOKIE, cookie.parse().unwrap());
            rewrite("/to/work").apply(&mut fields);
            assert_eq!(fields[SET_COOKIE], confined);
            fields.insert(SET_COOKIE, cookie.parse().unwrap());
            rewrite("").apply(&mut fields);
            assert_eq!(fields[SET_COOKIE], cookie, "a host of its own has its own jar");
        }
    }

    #[test]
    fn a_cookie_of_the_upstream_s_domain_becomes_one_of_the_gateway_s_host() {
        for (cookie, confined, own) in [
            ("a=b; Domain=api.a.test; Path=/", "a=b; Path=/to/work/", "a=b; Path=/"),
            ("a=b;domain = .a.test ;HttpOnly", "a=b;HttpOnly; Path=/to/work", "a=b;HttpOnly"),
            ("domain=a.test", "domain=a.test; Path=/to/work", "domain=a.test"),
        ] {
            for (prefix, expected) in [("/to/work", confined), ("", own)] {
                let mut fields = HeaderMap::new();
                fields.insert(SET_COOKIE, cookie.parse().unwrap());
                rewrite(prefix).apply(&mut fields);
                assert_eq!(fields[SET_COOKIE], expected);
            }
        }
    }

    #[test]
    fn a_secure_cookie_of_the_upstream_is_stored_and_sent_over_cleartext_too() {
        for (cookie, cleartext) in [
            ("a=b; Path=/; Secure; HttpOnly", "a=b; Path=/; HttpOnly"),
            ("a=b;SECURE", "a=b"),
            ("a=b; secure = x ; SameSite=None", "a=b; SameSite=None"),
            ("secure; Secure", "secure"),
        ] {
            for (scheme, expected) in [(Scheme::Http, cleartext), (Scheme::Https, cookie)] {
                let mut fields = HeaderMap::new();
                fields.insert(SET_COOKIE, cookie.parse().unwrap());
                rewrite_at(scheme, "").apply(&mut fields);
                assert_eq!(fields[SET_COOKIE], expected, "{scheme:?}");
            }
        }
    }
}
