//! Checks methods of HTTP and names of header fields in provider files and rules. Services have methods of their own
//! (`PURGE`, `LIST`), so only misspelt ones are refused: their actions and rules would cover no request.

use http::{HeaderName, Method};

use super::document::Problems;
use crate::inject::steering;

const COMMON: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Fields that a credential must not be written to: routing, framing, hop-by-hop, our own (RFC 9110 §7.6.1).
/// `Cookie` has a placement of its own.
const FORBIDDEN: &[&str] = &[
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "keyward-connection",
    "max-forwards",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Whether a rule may name it: letters, digits, `-` and `_`, as all methods of services have. HTTP permits `*` and
/// `api.acme.test` too, which are mistakes that would cover no request.
pub fn is_plain(text: &str) -> bool {
    let is_usual = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !text.is_empty() && text.bytes().all(is_usual)
}

/// The usual method that `text` misspells, whatever the case of its letters.
pub fn misspelt(text: &str) -> Option<&'static str> {
    let upper = text.to_ascii_uppercase();
    let is_common = COMMON.contains(&upper.as_str());
    COMMON.iter().find(|common| !is_common && is_misspelt(&upper, common)).copied()
}

/// The method; reports text that is none, or that is one with its letters mixed up, in lower case, or with one too many,
/// too few or wrong.
pub(super) fn method(text: &str, at: &str, problems: &mut Problems<'_>) -> Option<Method> {
    let Ok(method) = Method::from_bytes(text.as_bytes()) else {
        problems.add(at, "this is not a method", "write GET, POST or another");
        return None;
    };
    let is_common = COMMON.contains(&text);
    if let Some(meant) = COMMON.iter().find(|common| !is_common && is_misspelt(text, common)) {
        let message = format_args!("`{text}` is not a method");
        problems.add(at, message, format_args!("did you mean `{meant}`?"));
        return None;
    }
    Some(method)
}

fn is_misspelt(text: &str, method: &str) -> bool {
    let sorted = |text: &str| {
        let mut letters: Vec<u8> = text.bytes().map(|b| b.to_ascii_uppercase()).collect();
        letters.sort_unstable();
        letters
    };
    let is_mixed_up = sorted(text) == sorted(method);
    let is_near = lacks_one(text, method) || lacks_one(method, text) || has_one_wrong(text, method);
    text != method && (is_mixed_up || is_near)
}

/// Whether `short` is `long` without one letter.
fn lacks_one(short: &str, long: &str) -> bool {
    let at = short.bytes().zip(long.bytes()).take_while(|(a, b)| a == b).count();
    short.len() + 1 == long.len() && short.as_bytes()[at..] == long.as_bytes()[at + 1..]
}

/// Whether one letter differs. With another first letter, or in three letters, it may be a method of a service: `READ`.
fn has_one_wrong(text: &str, method: &str) -> bool {
    let pairs = || text.bytes().zip(method.bytes());
    let begins_alike = pairs().next().is_some_and(|(a, b)| a == b);
    let is_long = text.len() > 3 && text.len() == method.len();
    is_long && begins_alike && pairs().filter(|(a, b)| a != b).count() == 1
}

/// Parses a header name that credentials may be written to.
pub(super) fn header_name(name: &str, at: &str, problems: &mut Problems<'_>) -> Option<HeaderName> {
    let header = field_name(name, at, problems)?;
    if FORBIDDEN.contains(&header.as_str()) || steers(&header) {
        let remedy = "choose another field";
        problems.add(at, format_args!("`{header}` steers the request itself"), remedy);
        return None;
    }
    Some(header)
}

/// Parses a header name that is only read.
pub(super) fn field_name(name: &str, at: &str, problems: &mut Problems<'_>) -> Option<HeaderName> {
    let header = HeaderName::from_bytes(name.as_bytes()).ok();
    if header.is_none() {
        problems.add(at, "this is not a header field's name", "write letters and hyphens");
    }
    header
}

/// Whether the field makes a server use another path or method.
fn steers(header: &HeaderName) -> bool {
    steering::is_path_field(header) || steering::is_method_field(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Catalogue, check};

    #[test]
    fn misspelt_methods_are_refused_and_those_of_services_are_not() {
        for (text, meant) in [
            ("GTE", Some("GET")),
            ("get", Some("GET")),
            ("GETS", Some("GET")),
            ("PSOT", Some("POST")),
            ("POTS", Some("POST")),
            ("PTCH", Some("PATCH")),
            ("DELET", Some("DELETE")),
            ("DELTE", Some("DELETE")),
            ("DELERE", Some("DELETE")),
            ("GET", None),
            ("OPTIONS", None),
            ("PURGE", None),
            ("LIST", None),
            ("LINK", None),
            ("READ", None),
            ("SEARCH", None),
            ("QUERY", None),
            ("PROPFIND", None),
            ("MKCOL", None),
            ("UNLOCK", None),
        ] {
            let found = COMMON.iter().find(|common| is_misspelt(text, common)).copied();
            assert_eq!(found, meant, "{text}");
        }
        for (text, meant) in [("delte", Some("DELETE")), ("get", None), ("propfind", None)] {
            assert_eq!(misspelt(text), meant, "{text}");
        }
    }

    /// Those of the HTTP Method Registry of IANA.
    #[test]
    fn no_registered_method_counts_as_misspelt() {
        let registered = "ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD \
            LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE \
            OPTIONS ORDERPATCH PATCH POST PRI PROPFIND PROPPATCH PUT QUERY REBIND REPORT SEARCH \
            TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL";
        for method in registered.split_whitespace() {
            assert_eq!(misspelt(method), None, "{method}");
        }
    }

    #[test]
    fn a_misspelt_method_of_an_action_or_a_test_is_refused_by_line_and_key() {
        let text = "id: acme\nname: Acme\nhosts: [acme.test]\nauth: [{ id: k, kind: bearer }]\n\
            actions: [{ name: read, label: Read, requests: [{ methods: [GET, GTE] }] }]\n\
            test: { url: 'https://acme.test/me', method: psot }\n";
        let found = check::file("p.yaml", text, &Catalogue::built_in()).map(|_| ());
        let found = found.expect_err("it is wrong");
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "p.yaml:5: actions[0].requests[0].methods[1]: `GTE` is not a method; did you mean `GET`?",
                "p.yaml:6: test.method: `psot` is not a method; did you mean `POST`?",
            ]
        );
    }
}
