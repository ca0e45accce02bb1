//! The observations of the probe: what it saw of one stream, as values without IO, and what its streams share: the
//! recorded events, and which requests the probe accepts.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, Request};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use keyward_proxy::Preface;
use keyward_proxy::ca::cache::LeafCache;
use keyward_rules::inject::placeholder;

/// Fields that APIs take credentials from.
const CREDENTIALS: &[&str] =
    &["authorization", "x-api-key", "api-key", "x-auth-token", "private-token"];

/// How far one attempt to reach a host came, in the order of progress.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ProbeEvent {
    /// The client does not speak HTTP to a proxy.
    OtherProtocol(OtherProtocol),
    /// Missing or wrong credentials for the proxy, also after a 407.
    Unauthenticated {
        host: String,
    },
    /// A base URL without the agent's token, or at a listener of one agent, which serves no base URLs.
    WithoutToken {
        connection: String,
        at_own: bool,
    },
    /// A tunnel without data.
    EmptyTunnel {
        host: String,
    },
    /// A tunnel whose data is not TLS.
    NotTls {
        host: String,
    },
    HandshakeFailed {
        host: String,
        why: HandshakeFailure,
    },
    /// A TLS handshake without a request.
    NoRequest {
        host: String,
    },
    Request(ProbedRequest),
}

/// What a client speaks that is not HTTP to a proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum OtherProtocol {
    Tls,
    Socks,
    /// HTTP to an origin server.
    OriginForm,
    Unknown,
}

/// Why a handshake failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum HandshakeFailure {
    /// The client rejects the certificate, by an alert or by closing the connection.
    Untrusted {
        alert: Option<String>,
    },
    Other(String),
}

/// How a request reached the probe.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum RequestRoute {
    /// The proxy variables.
    Variables,
    /// A shared listener of the gateway, whose address the program has from elsewhere.
    Listener(String),
    /// A listener of one agent; `None`: the agent of the probe.
    OwnListener { agent: Option<String> },
    /// The base URL of a connection.
    BaseUrl(String),
}

/// A request that arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ProbedRequest {
    pub(super) by: RequestRoute,
    pub(super) host: String,
    pub(super) method: String,
    /// Absolute, without the query, which may contain a secret.
    pub(super) url: String,
    pub(super) credential: CarriedCredential,
}

/// The credential in a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum CarriedCredential {
    /// A placeholder in this place.
    Placeholder(String),
    /// Another value in this field.
    Own(String),
    Nothing,
}

impl ProbeEvent {
    pub(super) fn host(&self) -> Option<&str> {
        match self {
            Self::OtherProtocol(_) | Self::WithoutToken { .. } => None,
            Self::Unauthenticated { host }
            | Self::EmptyTunnel { host }
            | Self::NotTls { host }
            | Self::HandshakeFailed { host, .. }
            | Self::NoRequest { host } => Some(host),
            Self::Request(asked) => Some(&asked.host),
        }
    }
}

impl ProbedRequest {
    pub(super) fn new<B>(scheme: &str, host: &str, by: RequestRoute, request: &Request<B>) -> Self {
        let uri = request.uri();
        Self {
            by,
            host: host.to_owned(),
            method: request.method().to_string(),
            url: format!("{scheme}://{host}{}", uri.path()),
            credential: CarriedCredential::of(uri, request.headers()),
        }
    }
}

impl CarriedCredential {
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

/// Also inside a Basic credential.
fn holds_placeholder(value: &[u8]) -> bool {
    let pair = value.get(..6).filter(|scheme| scheme.eq_ignore_ascii_case(b"basic "));
    let pair = pair.and_then(|_| STANDARD.decode(value[6..].trim_ascii()).ok());
    !placeholder::scan(value).is_empty()
        || pair.is_some_and(|pair| !placeholder::scan(&pair).is_empty())
}

/// Most recorded events, also the bound of leaves.
pub(super) const EVENTS_MAX: usize = 10_000;
/// Most recorded user agents.
const AGENTS_MAX: usize = 64;

/// Everything that the probe observed.
#[derive(Debug, Default)]
pub(super) struct Observations {
    pub(super) events: Vec<ProbeEvent>,
    /// User agents of the clients.
    pub(super) agents: BTreeSet<String>,
}

/// The listener that accepted a stream.
#[derive(Clone, Debug)]
pub(super) enum ListenerKind {
    /// The listener of the proxy variables; it requires the probe's token.
    Variables,
    /// The listener that replaces the agent's own; no token.
    Own,
    /// A listener of the gateway, which handed the stream over.
    Gateway(Preface),
}

/// State shared by all streams.
pub(super) struct ProbeState {
    pub(super) leaves: LeafCache,
    pub(super) token: String,
    pub(super) seen: Mutex<Observations>,
    pub(super) streams: Arc<Semaphore>,
}

impl ProbeState {
    pub(super) fn saw(&self, event: ProbeEvent) {
        let mut seen = self.seen.lock();
        if seen.events.len() < EVENTS_MAX {
            seen.events.push(event);
        }
    }

    pub(super) fn saw_agent(&self, fields: &HeaderMap) {
        let mut seen = self.seen.lock();
        if let Some(Ok(agent)) = fields.get(USER_AGENT).map(HeaderValue::to_str)
            && seen.agents.len() < AGENTS_MAX
        {
            seen.agents.insert(agent.to_owned());
        }
    }

    /// Whether a request may use the proxy. The gateway's tokens are unknown to the probe, so any token is
    /// accepted.
    pub(super) fn admits(&self, kind: &ListenerKind, fields: &HeaderMap) -> bool {
        match kind {
            ListenerKind::Own | ListenerKind::Gateway(Preface { agent: Some(_), .. }) => true,
            ListenerKind::Variables => self.has_token(fields.get(PROXY_AUTHORIZATION)),
            ListenerKind::Gateway(_) => fields.contains_key(PROXY_AUTHORIZATION),
        }
    }

    /// The same for a base URL, where any field may contain the token.
    pub(super) fn admits_by_base_url(&self, kind: &ListenerKind, fields: &HeaderMap) -> bool {
        match kind {
            ListenerKind::Own | ListenerKind::Gateway(Preface { agent: Some(_), .. }) => false,
            ListenerKind::Variables => fields.values().any(|value| self.has_token(Some(value))),
            ListenerKind::Gateway(_) => {
                fields.contains_key(AUTHORIZATION)
                    || fields.contains_key(PROXY_AUTHORIZATION)
                    || fields.values().any(|value| is_token(value.as_bytes()))
            }
        }
    }

    /// The token as such, after a scheme, or as user or password of Basic.
    fn has_token(&self, value: Option<&HeaderValue>) -> bool {
        let Some(text) = value.and_then(|value| value.to_str().ok()) else { return false };
        let (scheme, rest) = text.split_once(' ').unwrap_or(("", text));
        if !scheme.eq_ignore_ascii_case("basic") {
            return rest.trim() == self.token;
        }
        let pair = STANDARD.decode(rest.trim());
        let pair = pair.ok().and_then(|pair| String::from_utf8(pair).ok());
        pair.is_some_and(|pair| pair.split(':').any(|part| part == self.token))
    }
}

fn is_token(value: &[u8]) -> bool {
    value.starts_with(keyward_base::agent::TOKEN_PREFIX.as_bytes())
}

impl ListenerKind {
    /// How requests of this listener are reported.
    pub(super) fn by(&self) -> RequestRoute {
        match self {
            Self::Variables => RequestRoute::Variables,
            Self::Own => RequestRoute::OwnListener { agent: None },
            Self::Gateway(Preface { listener, agent: None }) => {
                RequestRoute::Listener(listener.clone())
            }
            Self::Gateway(Preface { agent, .. }) => {
                RequestRoute::OwnListener { agent: agent.clone() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_rules::inject::placeholder::Placeholder;

    fn carries(uri: &str, field: Option<(&str, String)>) -> CarriedCredential {
        let mut fields = HeaderMap::new();
        if let Some((name, value)) = field {
            let name: http::HeaderName = name.parse().unwrap();
            fields.insert(name, value.parse().unwrap());
        }
        CarriedCredential::of(&uri.parse().unwrap(), &fields)
    }

    #[test]
    fn a_placeholder_is_distinguished_from_the_programs_own_credential() {
        let placeholder = Placeholder::issue("sk-", None);
        let placeholder = placeholder.as_str();
        let at = |name: &str| CarriedCredential::Placeholder(format!("`{name}`"));
        let bearer = |text: &str| Some(("authorization", format!("Bearer {text}")));
        assert_eq!(carries("/", bearer(placeholder)), at("authorization"));
        assert_eq!(
            carries("/", bearer("sk-real")),
            CarriedCredential::Own("authorization".to_owned())
        );
        let basic = STANDARD.encode(format!("x:{placeholder}"));
        assert_eq!(
            carries("/", Some(("authorization", format!("basic {basic}")))),
            at("authorization")
        );
        assert_eq!(carries("/", Some(("x-own", placeholder.to_owned()))), at("x-own"));
        let url = format!("/bot{placeholder}/x");
        assert_eq!(carries(&url, None), CarriedCredential::Placeholder("the URL".to_owned()));
        assert_eq!(carries("/?a=b", None), CarriedCredential::Nothing);
    }

    #[test]
    fn the_reported_url_of_a_request_has_no_query() {
        let request = Request::get("/a?key=canary").body(()).unwrap();
        let asked = ProbedRequest::new("https", "a.test", RequestRoute::Variables, &request);
        assert_eq!(asked.url, "https://a.test/a");
    }
}
