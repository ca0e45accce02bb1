//! Indexes of tokens: the session, login, link or connect session that the token with a given hash belongs to. Tokens
//! of agents and personal tokens are found in the view itself.

use std::sync::Arc;

use super::unique_index::UniqueIndex;
use crate::crypto::token::TokenHash;
use keyward_base::agent::Agent;
use keyward_base::id::{ConnectSessionId, OrgId, TokenId};
use keyward_base::shared_map::SharedNames;
use keyward_model::{Login, Record, Session, User};

/// Tokens of ended sessions that are remembered, so that their refusals say so. If there are more, all are dropped.
const ENDED_MAX: usize = 10_000;

#[derive(Clone, Debug, Default)]
pub(super) struct SessionTokens {
    live: UniqueIndex<TokenHash, Arc<Record<Session>>>,
    /// Tokens of sessions that were ended, or that expired and were removed.
    ended: SharedNames<TokenHash, ()>,
}

/// Tokens of logins and of links that users sign in with, and passkeys.
#[derive(Clone, Debug, Default)]
pub(super) struct LoginTokens {
    pub(super) live: UniqueIndex<TokenHash, Arc<Record<Login>>>,
    pub(super) links: UniqueIndex<TokenHash, Arc<Record<User>>>,
    /// By the hash of the credential's id.
    pub(super) passkeys: UniqueIndex<TokenHash, Arc<Record<User>>>,
}

/// Connect sessions by the hash of their link's token, and by that of their browser's cookie.
pub(super) type ConnectTokens = UniqueIndex<TokenHash, ConnectSessionAt>;

#[derive(Clone, Debug)]
pub(super) struct ConnectSessionAt {
    pub(super) org: OrgId,
    pub(super) id: ConnectSessionId,
}

/// A token of an agent that was valid once.
#[derive(Clone, Debug)]
pub struct FormerToken {
    pub agent: Agent,
    pub token: TokenId,
    /// `revoked` or `expired`.
    pub reason: &'static str,
}

impl SessionTokens {
    pub(super) fn add(&mut self, hash: TokenHash, session: &Arc<Record<Session>>) {
        self.live.put(hash, Arc::clone(session), |it| it.id == session.id);
    }

    /// Removes the token of a session, and remembers that the session has ended.
    pub(super) fn end(&mut self, hash: TokenHash, session: &Record<Session>) {
        self.live.remove(&hash, |it| it.id == session.id);
        if self.ended.len() >= ENDED_MAX {
            self.ended = SharedNames::default();
        }
        self.ended.insert(hash, ());
    }

    /// The session of a token: hash look-up, then constant-time comparison.
    pub(super) fn session(&self, hash: &TokenHash) -> Option<&Arc<Record<Session>>> {
        let session = self.live.get(hash)?;
        let known = TokenHash::from_hex(&session.facts.hash)?;
        known.matches(hash).then_some(session)
    }

    /// Whether the token belongs to a session, or to an ended one that is remembered.
    pub(super) fn has_known(&self, hash: &TokenHash) -> bool {
        self.live.get(hash).is_some() || self.ended.contains_key(hash)
    }
}
