//! The observations of the probe about one stream, as plain values.

use http::{HeaderMap, Request};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use keyward_rules::inject::placeholder;

/// Fields that APIs take credentials from.
const CREDENTIALS: &[&str] =
    &["authorization", "x-api-key", "api-key", "x-auth-token", "private-token"];

/// One attempt to reach a host, as far as it came. The order is that of progress.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// What came to the proxy's port is no HTTP.
    Foreign(Foreign),
    /// No credentials, also after a 407, or wrong ones.
    Unauthenticated { host: String },
    /// The base URL of a connection without the agent's token, or at a listener of one agent, which
    /// serves none.
    WithoutToken { connection: String, at_own: bool },
    /// A tunnel in which nothing came.
    Unused { host: String },
    /// A tunnel for something else than TLS.
    NotTls { host: String },
    /// The handshake failed.
    Unshaken { host: String, why: Unshaken },
    /// A handshake, and no request.
    Shaken { host: String },
    /// A request.
    Asked(Asked),
}

/// What speaks to a proxy's port other than HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Foreign {
    Tls,
    Socks,
    /// A request as servers get it, not proxies.
    Origin,
    Other,
}

/// Why a handshake failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Unshaken {
    /// The client refuses the certificate: by an alert, or by going away.
    Untrusted { alert: Option<String> },
    /// Another reason.
    Other(String),
}

/// By which way a request came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum By {
    /// The proxy variables.
    Variables,
    /// A listener of the gateway for all agents, which the program was given otherwise.
    Listener(String),
    /// A listener of one agent: this one, where another is not named.
    OwnListener { agent: Option<String> },
    /// The base URL of a connection.
    BaseUrl(String),
}

/// A request that arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Asked {
    pub(super) by: By,
    pub(super) host: String,
    pub(super) method: String,
    /// Absolute, without the query: a secret may stand there.
    pub(super) url: String,
    pub(super) carries: Carries,
}

/// The credential in a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Carries {
    /// A placeholder, in this field or the URL.
    Placeholder(String),
    /// Something else, in this field.
    Own(String),
    /// None.
    Nothing,
}

impl Event {
    /// The host that it was for.
    pub(super) fn host(&self) -> Option<&str> {
        match self {
            Self::Foreign(_) | Self::WithoutToken { .. } => None,
            Self::Unauthenticated { host }
            | Self::Unused { host }
            | Self::NotTls { host }
            | Self::Unshaken { host, .. }
            | Self::Shaken { host } => Some(host),
            Self::Asked(asked) => Some(&asked.host),
        }
    }
}

impl Asked {
    /// Of a request for `host`, over `scheme`.
    pub(super) fn new<B>(scheme: &str, host: &str, by: By, request: &Request<B>) -> Self {
        let uri = request.uri();
        Self {
            by,
            host: host.to_owned(),
            method: request.method().to_string(),
            url: format!("{scheme}://{host}{}", uri.path()),
            carries: Carries::of(uri, request.headers()),
        }
    }
}

impl Carries {
    fn of(uri: &http::Uri, fields: &HeaderMap) -> Self {
        let whole = uri.to_string();
        if !placeholder::scan(whole.as_bytes()).is_empty() {
            return Self::Placeholder("the URL".to_owned());
        }
        for (name, value) in fields {
            if holds_placeholder(value.as_bytes()) {
                return Self::Placeholder(format!("`{name}`"));
            }
        }
        let own = CREDENTIALS.iter().find(|name| fields.contains_key(**name));
        own.map_or(Self::Nothing, |name| Self::Own((*name).to_owned()))
    }
}

/// Plain, or in the pair of Basic.
fn holds_placeholder(value: &[u8]) -> bool {
    let pair = value.get(..6).filter(|scheme| scheme.eq_ignore_ascii_case(b"basic "));
    let pair = pair.and_then(|_| STANDARD.decode(value[6..].trim_ascii()).ok());
    !placeholder::scan(value).is_empty()
        || pair.is_some_and(|pair| !placeholder::scan(&pair).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_rules::inject::placeholder::Placeholder;

    fn carries(uri: &str, field: Option<(&str, String)>) -> Carries {
        let mut fields = HeaderMap::new();
        if let Some((name, value)) = field {
            let name: http::HeaderName = name.parse().unwrap();
            fields.insert(name, value.parse().unwrap());
        }
        Carries::of(&uri.parse().unwrap(), &fields)
    }

    #[test]
    fn a_placeholder_is_told_from_a_credential_of_the_programs_own() {
        let placeholder = Placeholder::issue("sk-", None);
        let placeholder = placeholder.as_str();
        let at = |name: &str| Carries::Placeholder(format!("`{name}`"));
        let bearer = |text: &str| Some(("authorization", format!("Bearer {text}")));
        assert_eq!(carries("/", bearer(placeholder)), at("authorization"));
        assert_eq!(carries("/", bearer("sk-real")), Carries::Own("authorization".to_owned()));
        let basic = STANDARD.encode(format!("x:{placeholder}"));
        assert_eq!(
            carries("/", Some(("authorization", format!("basic {basic}")))),
            at("authorization")
        );
        assert_eq!(carries("/", Some(("x-own", placeholder.to_owned()))), at("x-own"));
        let url = format!("/bot{placeholder}/x");
        assert_eq!(carries(&url, None), Carries::Placeholder("the URL".to_owned()));
        assert_eq!(carries("/?a=b", None), Carries::Nothing);
    }

    #[test]
    fn what_is_told_of_a_request_has_no_query() {
        let request = Request::get("/a?key=canary").body(()).unwrap();
        let asked = Asked::new("https", "a.test", By::Variables, &request);
        assert_eq!(asked.url, "https://a.test/a");
    }
}
