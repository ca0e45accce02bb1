//! Who asks: `Proxy-Authorization` (RFC 9110 §11.7) to [`Agent`]. The token alone decides; a name
//! beside it must be the agent's.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::header::{HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Gateway;
use super::alarm;
use super::error::Refusal;
use super::session::Accepted;
use crate::base::agent::{Agent, TOKEN_PREFIX};

/// Addresses whose failures are remembered; the one that failed longest ago is forgotten first.
const ADDRESSES_MAX: usize = 4_096;

/// The window in which failures of an address are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// Failed authentications by address. The right token is let in however many failed before it.
#[derive(Debug)]
pub struct Guesses {
    max: u32,
    failures: Mutex<LruCache<IpAddr, (Instant, u32)>>,
}

/// What an agent presented.
pub struct Presented {
    name: Option<String>,
    token: Zeroizing<String>,
}

/// An agent, and the token that proved it.
pub struct Proof {
    /// The agent.
    pub agent: Agent,
    /// As it was presented.
    pub token: Zeroizing<String>,
}

/// The agent of a request to the proxy. On a listener of an agent's own it is that agent, whatever
/// `Proxy-Authorization` says: clients that cannot be told otherwise send one of another proxy.
///
/// # Errors
/// [`Refusal::Unauthenticated`] without a right token; [`Refusal::Guessing`] when the address
/// failed too often within a minute; [`Refusal::OwnerGone`] without the listener's agent.
pub fn authenticate(
    gateway: &Gateway,
    accepted: &Accepted,
    fields: &HeaderMap,
) -> Result<Agent, Refusal> {
    match &accepted.owner {
        Some(owner) => {
            let agent = gateway.directory.view().of_listener(&owner.org, &owner.agent);
            agent.ok_or_else(|| Refusal::OwnerGone { agent: owner.agent.clone() })
        }
        None => by_token(gateway, accepted.peer, fields),
    }
}

fn by_token(gateway: &Gateway, peer: Option<IpAddr>, fields: &HeaderMap) -> Result<Agent, Refusal> {
    let mut values = fields.get_all(PROXY_AUTHORIZATION).iter();
    let (value, extra) = (values.next(), values.next());
    let Some(value) = value else { return Err(Refusal::Unauthenticated) };
    let presented = match extra {
        None => Presented::read(value),
        Some(_) => None,
    };
    let proof = presented.and_then(|presented| prove(gateway, presented));
    proof.map(|proof| proof.agent).ok_or_else(|| gateway.guesses.failed(peer))
}

/// The agent whose token this is, if the name beside it is the agent's.
pub fn prove(gateway: &Gateway, presented: Presented) -> Option<Proof> {
    let Presented { name, token } = presented;
    let Some(agent) = gateway.directory.view().authenticate(&token, gateway.clock.now()) else {
        alarm::token(gateway, &token);
        return None;
    };
    name.is_none_or(|name| *agent.name == *name).then_some(Proof { agent, token })
}

impl Presented {
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

    /// As a program means a pair that it sends to its API: the user is none of ours. Some services
    /// take the key as the user, beside a password that says nothing.
    pub fn of_program(self) -> Self {
        let Self { name, token } = self;
        let token = match name {
            Some(user) if is_issued(&user) && !is_issued(&token) => Zeroizing::new(user),
            _ => token,
        };
        Self { name: None, token }
    }

    /// The token.
    pub fn token(&self) -> &str {
        &self.token
    }
}

fn is_issued(token: &str) -> bool {
    token.starts_with(TOKEN_PREFIX)
}

impl Guesses {
    /// At most `max` failures of an address within a minute.
    pub fn new(max: u32) -> Self {
        let capacity = NonZeroUsize::new(ADDRESSES_MAX).expect("a constant above zero");
        Self { max, failures: Mutex::new(LruCache::new(capacity)) }
    }

    /// Notes a failure of `peer` and answers what it gets.
    pub fn failed(&self, peer: Option<IpAddr>) -> Refusal {
        let Some(peer) = peer else { return Refusal::Unauthenticated };
        let now = Instant::now();
        let mut failures = self.failures.lock();
        let (since, count) = failures.get_or_insert_mut(peer, || (now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        match *count > self.max {
            true => Refusal::Guessing { retry_after: WINDOW - now.duration_since(*since) },
            false => Refusal::Unauthenticated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<(Option<String>, String)> {
        let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        Presented::read(&value).map(|p| (p.name, p.token.to_string()))
    }

    fn basic(pair: &str) -> String {
        STANDARD.encode(pair)
    }

    #[test]
    fn what_is_no_credential_is_none() {
        for bad in ["", "Basic", "Basic %%%", "Digest x", "Basicx", "Bearer"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_form_that_clients_send_is_read() {
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

    #[tokio::test(start_paused = true)]
    async fn guesses_are_limited_by_address_and_forgiven_after_a_minute() {
        let guesses = Guesses::new(2);
        let (one, other) = (Some(IpAddr::from([127, 0, 0, 1])), Some(IpAddr::from([127, 0, 0, 2])));
        let limited = |peer| matches!(guesses.failed(peer), Refusal::Guessing { .. });
        assert_eq!([limited(one), limited(one), limited(one)], [false, false, true]);
        assert!(!limited(other));
        tokio::time::advance(WINDOW).await;
        assert!(!limited(one));
    }
}
