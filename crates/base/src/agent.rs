//! [`Agent`]: who is asking. Made by `directory/` from a token; everything after authentication
//! takes it by reference.

use std::sync::Arc;

use super::id::{AgentId, OrgId, TokenId};

/// Begins issued tokens, for people and secret scanners.
pub const TOKEN_PREFIX: &str = "kwa_";

/// An authenticated agent, as the data path sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Agent {
    /// The agent.
    pub id: AgentId,
    /// Its organisation: nothing of another one exists for it.
    pub org: OrgId,
    /// Its name, unique in the organisation; unreserved URL characters.
    pub name: Arc<str>,
    /// The token that authenticated it; none on a listener that is the agent's own.
    pub token: Option<TokenId>,
}

/// Whether `text` can be an agent's name or a chosen token: RFC 3986 §2.3 unreserved characters
/// only, because several clients do not decode the user-info of a proxy URL.
pub fn is_unreserved(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
}
