//! Authenticates agents by `Proxy-Authorization` (RFC 9110 §11.7). The token alone decides; a name next to it must
//! be the agent's.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::header::{HeaderValue, PROXY_AUTHORIZATION};
use http::uri::PathAndQuery;
use http::{Request, Uri};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::authorize::token_alerts;
use crate::body::request_body::RequestBody;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::session::AcceptedStream;
use keyward_base::agent::{Agent, TOKEN_PREFIX};

/// The credentials that an agent presented.
pub struct PresentedToken {
    name: Option<String>,
    token: Zeroizing<String>,
}

/// An agent, and the token that proved it.
pub struct Authenticated {
    pub agent: Arc<Agent>,
    /// The token as it was presented.
    pub token: Zeroizing<String>,
}

/// Why a presented token proves no agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenError {
    /// It is unknown, or another agent's than the name says.
    Unknown,
    /// It is of a session that has ended. This is no guess, so it does not count as one.
    SessionEnded,
}

/// The agent of a request to the proxy. On a listener of one agent it is that agent, whatever `Proxy-Authorization`
/// contains: some clients always send the field, for another proxy.
///
/// # Errors
/// [`Refusal::Unauthenticated`] without credentials, [`Refusal::TokenRefused`] with invalid ones; [`Refusal::SessionEnded`] with that of a session that has ended;
/// [`Refusal::TooManyFailures`] when the address failed too
/// often within a minute; [`Refusal::ListenerAgentGone`] when the listener's agent is not available;
/// [`Refusal::BadRequest`] when the token is also in the URL.
pub fn authenticate(
    gateway: &Gateway,
    accepted: &AcceptedStream,
    request: &Request<RequestBody>,
) -> Result<Arc<Agent>, Refusal> {
    match &accepted.owner {
        Some(owner) => {
            let agent = gateway.directory.view().agent_of_listener(&owner.org, &owner.agent);
            let gone = || Refusal::ListenerAgentGone { agent: owner.agent.clone() };
            agent.map(Arc::new).ok_or_else(gone)
        }
        None => by_token(gateway, accepted.peer, request),
    }
}

fn by_token(
    gateway: &Gateway,
    peer: Option<IpAddr>,
    request: &Request<RequestBody>,
) -> Result<Arc<Agent>, Refusal> {
    let mut values = request.headers().get_all(PROXY_AUTHORIZATION).iter();
    let (value, extra) = (values.next(), values.next());
    let Some(value) = value else { return Err(Refusal::Unauthenticated) };
    let presented = match extra {
        None => PresentedToken::read(value),
        Some(_) => None,
    };
    let proof = presented
        .ok_or(TokenError::Unknown)
        .and_then(|presented| authenticate_token(gateway, presented));
    let Authenticated { agent, token } = proof.map_err(|unproved| match unproved {
        TokenError::SessionEnded => Refusal::SessionEnded,
        TokenError::Unknown => failure(gateway, peer),
    })?;
    if is_in_url(request.uri(), &token) {
        token_alerts::report_of_refused_request(gateway, &agent, None, request);
        return Err(Refusal::BadRequest(
            "the URL contains the agent's token; send it in `Proxy-Authorization` only",
        ));
    }
    Ok(agent)
}

/// Counts a failed authentication of `peer`. Returns the refusal for it.
pub fn failure(gateway: &Gateway, peer: Option<IpAddr>) -> Refusal {
    match gateway.auth_failures.failed(peer) {
        Some(retry_after) => Refusal::TooManyFailures { retry_after },
        None => Refusal::TokenRefused,
    }
}

/// Whether the URL contains the text, plain or encoded.
pub fn is_in_url(uri: &Uri, text: &str) -> bool {
    let sent = uri.path_and_query().map_or("", PathAndQuery::as_str);
    sent.contains(text)
        || sent.contains('%') && percent_decode_str(sent).decode_utf8_lossy().contains(text)
}

/// The agent of the token, if the presented name is the agent's.
///
/// # Errors
/// When the token proves no agent, or another one.
pub fn authenticate_token(
    gateway: &Gateway,
    presented: PresentedToken,
) -> Result<Authenticated, TokenError> {
    let PresentedToken { name, token } = presented;
    let view = gateway.directory.view();
    let Some(agent) = view.authenticate(&token, gateway.clock.now()) else {
        if view.was_session(&token) {
            return Err(TokenError::SessionEnded);
        }
        token_alerts::report_former_token(gateway, &token);
        return Err(TokenError::Unknown);
    };
    match name.is_none_or(|name| *agent.name == *name) {
        true => Ok(Authenticated { agent: Arc::new(agent), token }),
        false => Err(TokenError::Unknown),
    }
}

impl PresentedToken {
    /// A token without a name.
    pub fn bare(token: &str) -> Self {
        Self { name: None, token: Zeroizing::new(token.to_owned()) }
    }

    /// Reads Basic (`name:token`, `token:`, `:token`, `token`) or Bearer, the scheme in any case.
    pub fn read(value: &HeaderValue) -> Option<Self> {
        let text = std::str::from_utf8(value.as_bytes()).ok()?;
        let (scheme, rest) = text.split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Self { name: None, token: Zeroizing::new(rest.to_owned()) });
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = STANDARD.decode(rest).or_else(|_| STANDARD_NO_PAD.decode(rest)).ok()?;
        Self::pair(&Zeroizing::new(pair))
    }

    /// Reads `name:token`, `token:`, `:token` or `token`.
    pub fn pair(pair: &[u8]) -> Option<Self> {
        let pair = std::str::from_utf8(pair).ok()?;
        let (name, token) = match pair.split_once(':') {
            None => (None, pair),
            Some((token, "")) | Some(("", token)) => (None, token),
            Some((name, token)) => (Some(name.to_owned()), token),
        };
        Some(Self { name, token: Zeroizing::new(token.to_owned()) })
    }

    /// Interprets a pair that a program sends as its API key: the user name is not an agent's. Some services take
    /// the key as the user name, with a meaningless password.
    pub fn of_program(self) -> Self {
        let Self { name, token } = self;
        let token = match name {
            Some(user) if is_issued(&user) && !is_issued(&token) => Zeroizing::new(user),
            _ => token,
        };
        Self { name: None, token }
    }

    pub fn token(&self) -> &str {
        &self.token
    }
}

fn is_issued(token: &str) -> bool {
    token.starts_with(TOKEN_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<(Option<String>, String)> {
        let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        PresentedToken::read(&value).map(|p| (p.name, p.token.to_string()))
    }

    fn basic(pair: &str) -> String {
        STANDARD.encode(pair)
    }

    #[test]
    fn a_value_without_a_basic_or_bearer_token_presents_no_token() {
        for bad in ["", "Basic", "Basic %%%", "Digest x", "Basicx", "Bearer"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_is_read_from_every_basic_and_bearer_form_that_clients_send() {
        let named = Some((Some("ci".to_owned()), "tok".to_owned()));
        let alone = Some((None, "tok".to_owned()));
        let cases = [
            (format!("Basic {}", basic("ci:tok")), &named),
            (format!("bAsIc {}", basic("ci:tok")), &named),
            (format!("Basic  {} ", basic("tok:")), &alone),
            (format!("Basic {}", basic("tok")), &alone),
            (format!("Basic {}", basic("tok").trim_end_matches('=')), &alone),
            (format!("basic {}", basic(":tok")), &alone),
            ("Bearer tok".to_owned(), &alone),
            ("bearer  tok".to_owned(), &alone),
        ];
        for (value, expected) in cases {
            assert_eq!(&read(&value), expected, "{value}");
        }
    }

    #[test]
    fn a_token_is_found_in_a_url_however_it_is_written() {
        for (url, found) in [
            ("/to/x/bottoken_123/me", true),
            ("/to/x/?key=token_123", true),
            ("http://a.test/?key=%74oken%5f123", true),
            ("/to/x/token_12", false),
            ("/", false),
        ] {
            assert_eq!(is_in_url(&url.parse().unwrap(), "token_123"), found, "{url}");
        }
    }
}
