//! State that the probe's streams share: the recorded events, and which requests the probe accepts.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::seen::{ProbeEvent, RequestRoute};
use keyward_proxy::Preface;
use keyward_proxy::ca::cache::LeafCache;

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
