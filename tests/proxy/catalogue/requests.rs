//! How clients send requests to a built-in provider, and what it must receive.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use keyward_rules::inject::credential::Clears;
use keyward_rules::inject::placement::{Location, Place};
use keyward_rules::inject::template::{Encoding, TemplatePart, ValueTemplate};
use serde_json::Value;

use super::accounts::{Account, Spot};
use test_support::wire::Head;
use test_support::*;

/// What is sent in every field that could hold a credential, and arrives in none.
const STALE: &str = "stale-0123456789";

/// How a client sends its credential.
#[derive(Clone, Copy, Debug)]
pub(super) enum Client {
    /// Not at all.
    Bare,
    /// The placeholder, where the service documents it.
    Sdk,
    /// Something, wherever the service could look.
    Confused,
}

impl Client {
    pub(super) const ALL: [Self; 3] = [Self::Bare, Self::Sdk, Self::Confused];

    /// A request, whole. It has a JSON body if the credential goes into one.
    pub(super) fn request(
        self,
        spot: &Spot,
        clears: &Clears,
        values: &BTreeMap<String, String>,
    ) -> String {
        let (mut path, mut query, mut fields) = (spot.path.clone(), vec!["x=1".to_owned()], vec![]);
        let is_body = |place: &&Place| matches!(place.at, Location::Body(_));
        let in_body = spot.places.iter().filter(is_body);
        let mut body = Value::Null;
        for place in in_body {
            let given = match self {
                Self::Bare => None,
                Self::Sdk => Some(rendered(&place.value, values)),
                Self::Confused => Some(STALE.to_owned()),
            };
            body["x"] = 1.into();
            if let (Location::Body(path), Some(given)) = (&place.at, given) {
                body[path.to_string()] = given.into();
            }
        }
        match self {
            Self::Bare => {}
            Self::Sdk => {
                for place in &spot.places {
                    let value = rendered(&place.value, values);
                    match &place.at {
                        Location::Header(name) => fields.push(format!("{name}: {value}")),
                        Location::Query(name) => query.push(format!("{name}={value}")),
                        Location::QueryString => query.push(value),
                        Location::Cookie(name) => fields.push(format!("Cookie: {name}={value}")),
                        Location::Path(_) => path = beneath(&value, &path),
                        Location::Body(_) => {}
                        Location::Signature => panic!("signing keys are not sent"),
                        Location::Login(part) => panic!("no request has a login: {part:?}"),
                    }
                }
            }
            Self::Confused => {
                fields.extend(clears.headers.iter().map(|name| format!("{name}: {STALE}")));
                query.extend(clears.queries.iter().map(|name| format!("{name}={STALE}")));
                fields.extend(clears.cookies.iter().map(|name| format!("Cookie: {name}={STALE}")));
            }
        }
        let (method, body) = match body {
            Value::Null => ("GET", String::new()),
            body => ("POST", body.to_string()),
        };
        if !body.is_empty() {
            fields
                .push(format!("Content-Type: application/json\r\nContent-Length: {}", body.len()));
        }
        let fields: String = fields.iter().map(|field| format!("\r\n{field}")).collect();
        let head = format!("{method} {path}?{}{fields}", query.join("&"));
        request_text(&head, &spot.host) + &body
    }
}

/// The template with `values`, by other means than Keyward's own.
pub(super) fn rendered(template: &ValueTemplate, values: &BTreeMap<String, String>) -> String {
    let part = |part: &TemplatePart| match part {
        TemplatePart::Literal(text) => text.to_string(),
        TemplatePart::Field(name) => values[&**name].clone(),
    };
    let text: String = template.parts().iter().map(part).collect();
    match template.encoding() {
        Encoding::Plain => text,
        Encoding::Basic => format!("Basic {}", BASE64_STANDARD.encode(text)),
    }
}

/// `/bot1:abc/` before `/some/thing`. A sample of `/file/**` begins with the prefix's own segment.
pub(super) fn beneath(prefix: &str, path: &str) -> String {
    let own = prefix.split('/').nth(1).unwrap_or_default();
    let rest = path.strip_prefix(&format!("/{own}/")).unwrap_or(&path[1..]);
    format!("{prefix}{rest}")
}

/// Parameters of a target, by name.
pub(super) fn parameters<'t>(target: &'t str, name: &str) -> Vec<&'t str> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

pub(super) fn cookies(head: &Head, name: &str) -> Vec<String> {
    let all = head.all("cookie").join("; ");
    let pairs = all.split("; ").filter_map(|pair| pair.split_once('='));
    pairs.filter(|(given, _)| *given == name).map(|(_, value)| value.to_owned()).collect()
}

/// What stands in a request, Basic pairs decoded too.
fn readable(request: &Message) -> String {
    let head = &request.head;
    let pairs = head.fields.iter().filter_map(|(_, value)| value.strip_prefix("Basic "));
    let decoded = pairs.filter_map(|pair| BASE64_STANDARD.decode(pair).ok());
    let mut text = String::from_utf8_lossy(&head.raw).into_owned();
    decoded.for_each(|pair| text.push_str(&String::from_utf8_lossy(&pair)));
    text.push_str(&String::from_utf8_lossy(&request.body));
    text
}

/// The credential stands in its places and nothing else where another could.
pub(super) fn assert_received(
    account: &Account,
    spot: &Spot,
    request: &Message,
    canary: &str,
    case: &str,
) {
    let head = &request.head;
    assert_eq!(head.one("host"), Some(&*spot.host), "{case}");
    for place in &spot.places {
        assert_written(account, spot, place, request, case);
    }
    let written = |at: &Location| spot.places.iter().any(|place| place.at == *at);
    if !spot.places.iter().any(|place| matches!(place.at, Location::Path(_))) {
        assert_eq!(head.target().split('?').next(), Some(&*spot.path), "{case}");
    }
    let clears = &account.instance.clears;
    for name in clears.headers.iter().filter(|name| !written(&Location::Header((*name).clone()))) {
        assert!(!head.has(name.as_str()), "{case}: {name}");
    }
    for name in clears.queries.iter().filter(|name| !written(&Location::Query((*name).clone()))) {
        assert!(parameters(head.target(), name).is_empty(), "{case}: {name}");
    }
    for name in clears.cookies.iter().filter(|name| !written(&Location::Cookie((*name).clone()))) {
        assert!(cookies(head, name).is_empty(), "{case}: {name}");
    }
    let text = readable(request);
    assert!(!text.contains("kwph") && !text.contains(STALE), "{case}: {text}");
    let places = spot.places.iter().flat_map(|place| place.value.fields());
    let expected = places.filter(|name| account.values[*name].contains(canary)).count();
    assert_eq!(text.matches(canary).count(), expected, "{case}: the secret, how often");
}

/// The value of one place stands there, once.
fn assert_written(account: &Account, spot: &Spot, place: &Place, request: &Message, case: &str) {
    let (head, value) = (&request.head, rendered(&place.value, &account.values));
    match &place.at {
        Location::Header(name) => assert_eq!(head.all(name.as_str()), [value], "{case}"),
        Location::Query(name) => {
            let found = parameters(head.target(), name);
            assert_eq!(found.len(), 1, "{case}: {name}");
            let decoded = percent_encoding::percent_decode_str(found[0]).decode_utf8_lossy();
            assert_eq!(decoded, value, "{case}");
        }
        Location::QueryString => {
            assert!(head.target().ends_with(&format!("&{value}")), "{case}: {}", head.target());
        }
        Location::Cookie(name) => assert_eq!(cookies(head, name), [value], "{case}"),
        Location::Path(_) => {
            let path = beneath(&value, &spot.path);
            assert_eq!(head.target().split('?').next(), Some(&*path), "{case}");
        }
        Location::Body(path) => {
            let text = String::from_utf8_lossy(&request.body);
            let found = match head.one("content-type") {
                Some("application/json") => {
                    request.json()[path.to_string()].as_str() == Some(&value)
                }
                _ => text.split('&').any(|pair| pair == format!("{path}={value}")),
            };
            assert!(found, "{case}: {path} in {text}");
        }
        Location::Signature => panic!("signing keys are not sent"),
        Location::Login(part) => panic!("no request has a login: {part:?}"),
    }
}
