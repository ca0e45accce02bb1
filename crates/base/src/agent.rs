//! [`Agent`]: the identity of an authenticated agent. `state::directory` makes it from a token; every later
//! stage takes it by reference.

use std::sync::Arc;

use super::id::{AgentId, OrgId, SessionId, TokenId, UserId};

/// Prefix of issued tokens, so that people and secret scanners recognise them.
pub const TOKEN_PREFIX: &str = "kwa_";

/// An authenticated agent, as the data path sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Agent {
    /// The agent's id, as audit events name it.
    pub id: AgentId,
    /// Its organisation. The agent cannot see anything of another organisation.
    pub org: OrgId,
    /// Unique in the organisation; consists of unreserved URL characters.
    pub name: Arc<str>,
    /// The token that authenticated it; `None` on a listener that belongs to the agent, and in a session.
    pub token: Option<TokenId>,
    /// The session that it acts in, whose token authenticated it. It narrows what the agent may use.
    pub session: Option<Arc<AgentSession>>,
}

/// The session that an agent acts in, as audit events name it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentSession {
    pub id: SessionId,
    /// What the session is for.
    pub label: Option<Box<str>>,
    /// The end user that it is for, with the name that the platform gave.
    pub user: Option<(UserId, Box<str>)>,
}

/// Whether `text` is valid as an agent's name or as a chosen token: only unreserved characters (RFC 3986 §2.3),
/// because several clients do not decode the user-info of a proxy URL.
pub fn is_unreserved(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
}
