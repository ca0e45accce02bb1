//! Removes fields from a message before a credential is written: hop-by-hop fields, fields that will be
//! written, placeholders.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::credential::Clears;
use super::names::{is_alias, is_mapped, is_one_of, parameters};
use super::placeholder::{PlaceholderCore, holds_mark, scan};
use super::steering;

/// Fields that a proxy must not forward (RFC 9110 §7.6.1).
const HOP_BY_HOP: [&str; 6] =
    ["connection", "te", "transfer-encoding", "upgrade", "keep-alive", "http2-settings"];

/// What proxies report about a response (RFC 9209).
static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// A field that is a list, which can lose single members.
struct ListField {
    name: HeaderName,
    separator: u8,
}

/// Pairs of names and values (RFC 6265 §4.2.1).
static COOKIES: ListField = ListField { name: header::COOKIE, separator: b';' };

/// The protocols that a client offers for a WebSocket (RFC 6455 §4.1). Programs in browsers send keys there, because they
/// can set no other field of a handshake.
static SUBPROTOCOLS: ListField =
    ListField { name: header::SEC_WEBSOCKET_PROTOCOL, separator: b',' };

impl ListField {
    /// Keeps the members for which `keep` is true; removes fields that become empty. If no member is removed, all stay as
    /// they were sent: browsers send cookies that are not ASCII, although RFC 6265 §4.1.1 has none.
    fn retain(&self, fields: &mut HeaderMap, keep: impl Fn(&[u8]) -> bool) {
        let is_kept = |member: &&[u8]| member.is_empty() || keep(member);
        let mut sent = fields.get_all(&self.name).iter();
        if sent.all(|value| self.members(value).all(|member| is_kept(&member))) {
            return;
        }
        let before: Vec<HeaderValue> = fields.get_all(&self.name).iter().cloned().collect();
        fields.remove(&self.name);
        for value in before {
            let members = self.members(&value);
            let kept: Vec<&[u8]> =
                members.filter(|member| !member.is_empty() && is_kept(member)).collect();
            let kept_value = HeaderValue::from_bytes(&kept.join(&[self.separator, b' '][..]));
            if let (false, Ok(value)) = (kept.is_empty(), kept_value) {
                fields.append(self.name.clone(), value);
            }
        }
    }

    /// The members of a value, without spaces around them.
    fn members<'a>(&self, value: &'a HeaderValue) -> impl Iterator<Item = &'a [u8]> {
        value.as_bytes().split(|byte| *byte == self.separator).map(<[u8]>::trim_ascii)
    }
}

/// Removes fields that make a server use another path or other content than the permitted one.
pub fn steering(fields: &mut HeaderMap) {
    remove_where(fields, |name| steering::is_path_field(name) || steering::is_content_alias(name));
}

/// Removes hop-by-hop fields, all fields that `Connection` names, every `Proxy-…` field except `Proxy-Status`
/// (RFC 9209 allows forwarding it), and every `Keyward-…` field. `Host` and the fields that say how the content is read
/// stay even if `Connection` names them: without its `Content-Type`, a server may read another content than the one that
/// was permitted. Aliases count as the same.
pub fn hop_by_hop(fields: &mut HeaderMap) {
    if fields.contains_key(header::CONNECTION) {
        for name in named_by_connection(fields) {
            fields.remove(name);
        }
    }
    remove_where(fields, |name| {
        let name = name.as_str();
        is_one_of(name, &HOP_BY_HOP) || is_proxys(name)
    });
}

fn named_by_connection(fields: &HeaderMap) -> Vec<HeaderName> {
    let tokens = fields.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    tokens
        .flat_map(|value| value.split(','))
        .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
        .filter(|name| *name != header::HOST && !steering::is_content_field(name))
        .collect()
}

/// Whether it is a field for proxies (RFC 9110 §11.7), or ours.
fn is_proxys(name: &str) -> bool {
    let is_below = |beginning: &str| {
        let rest = name.strip_prefix(beginning).map(str::as_bytes);
        rest.and_then(<[u8]>::first).is_some_and(|next| is_mapped(*next))
    };
    (is_below("proxy") && name != "proxy-status") || is_below("keyward")
}

/// Removes fields that are never forwarded in a response, in addition to hop-by-hop fields: `Alt-Svc` (RFC
/// 7838), which would bypass the proxy, and fields that only Keyward may set.
pub fn answer(fields: &mut HeaderMap) {
    hop_by_hop(fields);
    fields.remove(header::ALT_SVC);
    without_our_status(fields);
}

/// Removes the lines of `Proxy-Status` that mention Keyward anywhere. Not every parser respects quotes in a
/// list, so no reading may contain a member that claims to be ours.
fn without_our_status(fields: &mut HeaderMap) {
    const OURS: &[u8] = b"keyward";
    let is_ours = |value: &HeaderValue| {
        value.as_bytes().windows(OURS.len()).any(|piece| piece.eq_ignore_ascii_case(OURS))
    };
    if !fields.get_all(&PROXY_STATUS).iter().any(is_ours) {
        return;
    }
    let all: Vec<HeaderValue> = fields.get_all(&PROXY_STATUS).iter().cloned().collect();
    fields.remove(&PROXY_STATUS);
    for value in all.into_iter().filter(|value| !is_ours(value)) {
        fields.append(PROXY_STATUS.clone(), value);
    }
}

/// Removes trailer fields that could change how the message is framed, routed or authenticated (RFC 9110
/// §6.5.1).
pub fn trailers(fields: &mut HeaderMap) {
    answer(fields);
    for name in [header::CONTENT_LENGTH, header::HOST, header::TRAILER, header::AUTHORIZATION] {
        fields.remove(name);
    }
    for name in [header::SET_COOKIE, header::CONTENT_ENCODING, header::CONTENT_TYPE] {
        fields.remove(name);
    }
}

/// Fields that determine how a request is processed; they are not allowed in trailers.
static MODIFIERS: [HeaderName; 16] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::CACHE_CONTROL,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::COOKIE,
    header::EXPECT,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::MAX_FORWARDS,
    header::ORIGIN,
    header::PRAGMA,
    header::RANGE,
];

/// Does the same for request trailers, and removes fields that modify or steer the request, and every
/// placeholder.
pub fn request_trailers(fields: &mut HeaderMap) {
    trailers(fields);
    steering(fields);
    remove_where(fields, steering::is_judged_field);
    for name in &MODIFIERS {
        fields.remove(name);
    }
    placeholder_fields(fields);
}

/// Removes every instance and alias of a field.
pub fn every(fields: &mut HeaderMap, name: &HeaderName) {
    remove_where(fields, |other| is_alias(other.as_str(), name.as_str()));
}

/// Replaces every instance and alias of a field.
pub fn replace(fields: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    every(fields, name);
    fields.insert(name.clone(), value.clone());
}

/// Examines each field once: most messages have none of them, and a look-up per name costs more.
fn remove_where(fields: &mut HeaderMap, is_gone: impl Fn(&HeaderName) -> bool) {
    let gone: Vec<HeaderName> = fields.keys().filter(|name| is_gone(name)).cloned().collect();
    for name in gone {
        fields.remove(name);
    }
}

/// Removes every instance and alias of the cleared fields, and the cleared cookies.
pub fn cleared(fields: &mut HeaderMap, clears: &Clears) {
    remove_where(fields, |name| clears.covers(name));
    if !clears.cookies.is_empty() {
        let is_cleared = |name: &[u8]| clears.cookies.iter().any(|gone| gone.as_bytes() == name);
        COOKIES.retain(fields, |pair| !is_cleared(cookie_name(pair)));
    }
}

/// The cookie's name. Its grammar has only graphic characters of ASCII. Servers trim blanks around it (RFC 6265 §5.2), and
/// some also characters outside of ASCII, such as U+00A0.
fn cookie_name(pair: &[u8]) -> &[u8] {
    let mut name = pair.split(|byte| *byte == b'=').next().unwrap_or(pair);
    while let [first, rest @ ..] = name
        && !first.is_ascii_graphic()
    {
        name = rest;
    }
    while let [rest @ .., last] = name
        && !last.is_ascii_graphic()
    {
        name = rest;
    }
    name
}

/// The cores of all placeholders in fields and URL. Placeholders in bodies do not select a connection.
pub fn placeholders(fields: &HeaderMap, path_and_query: &str) -> Vec<PlaceholderCore> {
    let mut found: Vec<PlaceholderCore> = Vec::new();
    let mut add = |text: &[u8]| {
        for (_, core) in scan(text) {
            if !found.contains(&core) {
                found.push(core);
            }
        }
    };
    for value in fields.values() {
        add(value.as_bytes());
        if let Some(pair) = basic_pair(value) {
            add(&pair);
        }
    }
    add(path_and_query.as_bytes());
    if path_and_query.contains('%') {
        add(&percent_decode_str(path_and_query).collect::<Vec<u8>>());
    }
    found
}

/// The `user:password` of a Basic value (RFC 7617), in any field.
fn basic_pair(value: &HeaderValue) -> Option<Vec<u8>> {
    let bytes = value.as_bytes();
    let (scheme, rest) = (bytes.get(..6)?, bytes.get(6..)?);
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let rest = rest.trim_ascii();
    STANDARD.decode(rest).or_else(|_| STANDARD_NO_PAD.decode(rest)).ok()
}

/// Whether the value contains a placeholder, also inside a Basic pair.
fn holds_placeholder(value: &HeaderValue) -> bool {
    !scan(value.as_bytes()).is_empty()
        || basic_pair(value).is_some_and(|pair| !scan(&pair).is_empty())
}

/// Removes every field that contains a placeholder; of cookies and of a WebSocket's protocols only the members that do.
pub fn placeholder_fields(fields: &mut HeaderMap) {
    for list in [&COOKIES, &SUBPROTOCOLS] {
        list.retain(fields, |member| scan(member).is_empty());
    }
    let holders: Vec<HeaderName> = fields
        .iter()
        .filter(|(_, value)| holds_placeholder(value))
        .map(|(name, _)| name.clone())
        .collect();
    for name in holders {
        fields.remove(name);
    }
}

/// Removes every field that contains `text`, also inside a Basic pair. Used for the agent's token, which a
/// client may send in the credential's place.
pub fn holding(fields: &mut HeaderMap, text: &str) {
    let wanted = text.as_bytes();
    let within = |bytes: &[u8]| bytes.windows(wanted.len().max(1)).any(|piece| piece == wanted);
    let holds = |value: &HeaderValue| {
        within(value.as_bytes()) || basic_pair(value).is_some_and(|pair| within(&pair))
    };
    let holders: Vec<HeaderName> =
        fields.iter().filter(|(_, value)| holds(value)).map(|(name, _)| name.clone()).collect();
    for name in holders {
        fields.remove(name);
    }
}

/// Removes query parameters that are cleared by their decoded name or contain a placeholder. `None` when nothing
/// changes, so that the bytes on the wire stay as they were sent.
pub fn query(raw: &str, clears: &Clears) -> Option<String> {
    let names = &clears.queries;
    let dependent = clears.dependent_queries.map_or(&[][..], |them| them.names_in(raw));
    let has_names = !(names.is_empty() && dependent.is_empty());
    let dropped = |pair: &str| {
        // Some servers also split parameters at `;` (HTML 4.01, appendix B.2.2), and some ignore case:
        // everything that could be read as the credential's parameter is removed as a whole.
        let is_gone = |name: &str| {
            let mut gone = names.iter().map(|gone| &**gone).chain(dependent.iter().copied());
            gone.any(|gone| name.eq_ignore_ascii_case(gone))
        };
        let is_named = || parameters(pair).any(|(name, _)| is_gone(&name));
        (has_names && is_named()) || holds_mark(pair)
    };
    if !raw.split('&').any(dropped) {
        return None;
    }
    Some(raw.split('&').filter(|pair| !dropped(pair)).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::super::placeholder::Placeholder;
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            fields.append(name, HeaderValue::from_str(value).unwrap());
        }
        fields
    }

    fn names(fields: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = fields.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn fields_named_in_connection_are_removed_except_host_and_those_of_the_content() {
        let mut head = fields(&[
            ("connection", "keep-alive, Host, content-length, x-secret-hop"),
            ("connection", "Content-Type, content-encoding"),
            ("content-type", "application/json"),
            ("content-encoding", "identity"),
            ("connection", "close"),
            ("host", "a.test"),
            ("content-length", "3"),
            ("x-secret-hop", "1"),
            ("close", "not a real field, but named"),
            ("accept", "*/*"),
        ]);
        hop_by_hop(&mut head);
        let left = ["accept", "content-encoding", "content-length", "content-type", "host"];
        assert_eq!(names(&head), left);
    }

    #[test]
    fn hop_by_hop_proxy_and_keyward_fields_are_removed() {
        let mut head = fields(&[
            ("proxy-authorization", "Basic eDp5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-anything", "1"),
            ("proxy-status", "cdn; error=dns_timeout"),
            ("keyward-connection", "x"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAM"),
            ("keep-alive", "timeout=5"),
            ("keep_alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("transfer_encoding", "chunked"),
            ("transfer~encoding", "chunked"),
            ("proxy.authorization", "Basic eDp5"),
            ("keyward!token", "x"),
            ("proxymity", "stays"),
            ("x_te", "stays"),
            ("x-proxy", "stays"),
        ]);
        hop_by_hop(&mut head);
        assert_eq!(names(&head), ["proxy-status", "proxymity", "x-proxy", "x_te"]);
    }

    #[test]
    fn all_duplicates_and_aliases_of_a_cleared_field_are_removed() {
        let mut head = fields(&[
            ("x-api-key", "one"),
            ("X-Api-Key", "two"),
            ("x_api_key", "three"),
            ("x-api_key", "four"),
            ("x.api~key", "five"),
            ("x-api'key", "six"),
            ("xxapi-key", "stays"),
            ("x-api-key2", "stays"),
        ]);
        let headers = vec![HeaderName::from_static("x-api-key")];
        cleared(&mut head, &Clears { headers, ..Clears::default() });
        assert_eq!(names(&head), ["x-api-key2", "xxapi-key"]);
    }

    #[test]
    fn a_cleared_field_with_underscores_is_removed_in_its_other_spellings_too() {
        let mut head = fields(&[("x-api-key", "one"), ("x_api-key", "two"), ("x_api_key", "3")]);
        let headers = vec![HeaderName::from_static("x_api_key")];
        cleared(&mut head, &Clears { headers, ..Clears::default() });
        assert!(head.is_empty(), "{head:?}");
    }

    #[test]
    fn a_cleared_cookie_with_blanks_around_its_name_is_removed() {
        let mut head = fields(&[("cookie", "sid =x;\tsid\t=y; b=2; sid")]);
        cleared(&mut head, &Clears { cookies: vec!["sid".into()], ..Clears::default() });
        assert_eq!(head["cookie"], "b=2");
    }

    #[test]
    fn a_parameter_that_a_server_may_read_as_the_credential_is_removed() {
        let clears = Clears { queries: vec!["api_key".into()], ..Clears::default() };
        for odd in ["API_KEY=1", "x;api_key=1", "x=1;%61pi_key=1", "api_key", "x=;API%5fKEY=1"] {
            assert_eq!(
                query(&format!("{odd}&b=2;c=3"), &clears).as_deref(),
                Some("b=2;c=3"),
                "{odd}"
            );
        }
        assert_eq!(query("my_api_key=1&api_key2=2&b=api_key", &clears), None);
    }

    #[test]
    fn a_dependent_parameter_is_removed_only_beside_the_one_that_it_depends_on() {
        let mut clears = Clears::default();
        clears.add_aws_signature();
        for kept in ["expires=5&signature=z&a=1", "Expires=5&Signature=z", "awsaccesskeyid=1"] {
            assert_eq!(query(kept, &clears), None, "{kept}");
        }
        for signed in [
            "AWSAccessKeyId=AK&Expires=5&a=1&Signature=z",
            "signature=z&%41WSAccessKeyId=AK&a=1&EXPIRES=5&X-Amz-Date=1",
        ] {
            assert_eq!(query(signed, &clears).as_deref(), Some("a=1"), "{signed}");
        }
        assert_eq!(query("x-amz-signature=1&Signature=z", &clears).unwrap(), "Signature=z");
    }

    #[test]
    fn only_the_named_cookie_is_removed() {
        let mut head = fields(&[("cookie", "a=1; sid=x; b=2"), ("cookie", "sid=y")]);
        cleared(&mut head, &Clears { cookies: vec!["sid".into()], ..Clears::default() });
        let left: Vec<_> = head.get_all("cookie").iter().collect();
        assert_eq!(left, ["a=1; b=2"]);
    }

    #[test]
    fn a_cleared_cookie_with_non_ascii_bytes_around_its_name_is_removed() {
        let mut head = HeaderMap::new();
        let sent = b"\xa0sid=x; \xc2\xa0sid\x85=y; b=2; \xa0 sid";
        head.append(header::COOKIE, HeaderValue::from_bytes(sent).unwrap());
        cleared(&mut head, &Clears { cookies: vec!["sid".into()], ..Clears::default() });
        assert_eq!(head["cookie"], "b=2");
    }

    #[test]
    fn cookies_that_are_not_ascii_stay_as_they_were_sent() {
        let cookie = |bytes: &[u8]| {
            let value = HeaderValue::from_bytes(bytes).unwrap();
            HeaderMap::from_iter([(header::COOKIE, value)])
        };
        let sent = "session=abc;name=é;  b=\u{fc}".as_bytes();
        let mut head = cookie(sent);
        placeholder_fields(&mut head);
        assert_eq!(head["cookie"].as_bytes(), sent);
        let placeholder = Placeholder::issue("sk-", None);
        let mut head = cookie(format!("name=é; key={}; sid=x", placeholder.as_str()).as_bytes());
        placeholder_fields(&mut head);
        cleared(&mut head, &Clears { cookies: vec!["sid".into()], ..Clears::default() });
        assert_eq!(head["cookie"].as_bytes(), "name=é".as_bytes());
    }

    #[test]
    fn placeholders_are_found_and_removed_wherever_they_stand() {
        let placeholder = Placeholder::issue("sk-", None);
        let text = placeholder.as_str();
        let basic = format!("bAsIc {}", STANDARD.encode(format!("user:{text}")));
        let encoded: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
        let mut head = fields(&[
            ("authorization", &format!("Bearer {text}")),
            ("x-basic", &basic),
            ("cookie", &format!("a=1; sid={text}")),
            ("x-other", "stays"),
        ]);
        assert_eq!(placeholders(&head, "/"), [placeholder.core()]);
        assert_eq!(
            placeholders(&HeaderMap::new(), &format!("/x?k={encoded}")),
            [placeholder.core()]
        );
        placeholder_fields(&mut head);
        assert_eq!(names(&head), ["cookie", "x-other"]);
        assert_eq!(head["cookie"], "a=1");
        let none = Clears::default();
        assert_eq!(query(&format!("a=1&k={encoded}&b=%20"), &none).unwrap(), "a=1&b=%20");
        assert_eq!(query(&format!("k={text}"), &none).unwrap(), "");
    }

    #[test]
    fn of_the_protocols_of_a_websocket_only_those_with_a_placeholder_are_removed() {
        let placeholder = Placeholder::issue("sk-", None);
        let held = format!("openai-insecure-api-key.{}", placeholder.as_str());
        let name = "sec-websocket-protocol";
        let left = |sent: &[&str]| -> Vec<String> {
            let sent: Vec<(&str, &str)> = sent.iter().map(|value| (name, *value)).collect();
            let mut head = fields(&sent);
            placeholder_fields(&mut head);
            head.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(left(&[&format!("realtime,{held} , beta")]), ["realtime, beta"]);
        assert_eq!(left(&["realtime", &held, &format!("{held}, beta")]), ["realtime", "beta"]);
        assert_eq!(left(&["realtime,  beta", "v1"]), ["realtime,  beta", "v1"]);
        assert!(left(&[&held]).is_empty());
    }

    #[test]
    fn a_query_without_anything_to_remove_keeps_its_bytes() {
        let clears = Clears { queries: vec!["key".into()], ..Clears::default() };
        assert_eq!(query("a=%2f&&b=+x", &clears), None);
        assert_eq!(query("a=%2f&&k%65y=1&b=+x", &clears).unwrap(), "a=%2f&&b=+x");
    }
}
