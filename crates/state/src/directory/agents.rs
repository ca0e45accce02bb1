//! Agents as a [`Stored`] resource: the checks of their owner and environment, and their tokens. The hash of a token is
//! unique in the whole store, by an index row. `bindings.rs` binds connections.

use std::iter;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::commit::RecordChange;
use super::error::DirectoryError;
use super::holders::NamedConnections;
use super::index::{Index, NameKind, Unique};
use super::records::{AgentRecord, IssuedToken, ManagedBy, RevokedToken, TokenRecord};
use super::stored::{Stored, stored_in};
use super::view::View;
use super::{Directory, DirectoryWriter, check};
use crate::crypto::token::{self, TokenHash};
use crate::store::Table;
use keyward_base::id::{AgentId, OrgId, TokenId};
use keyward_base::secret::Secret;
use keyward_model::{AGENT_TOKENS_MAX, Agent, AgentFacts, Record, TokenSpec};

/// Revoked tokens that are remembered of one agent.
const REVOKED_MAX: usize = 50;

/// How long an expired token is kept and can be renewed: the token of a run may expire while the machine sleeps, and
/// the run renews it afterwards.
const RENEWABLE_FOR: SignedDuration = SignedDuration::from_secs(86_400);

impl Stored for Agent {
    const TABLE: Table = Table::Agents;
    const NAMED: NameKind = NameKind::Agent;

    stored_in!(agents);

    fn unique(record: &Record<Self>, index: &Index) -> Vec<Unique> {
        let name = index.unique_name(&record.org, Self::NAMED, record.name());
        let tokens = record.facts.tokens.iter();
        let tokens = tokens.filter_map(|token| index.unique_token(&token.hash));
        iter::once(name).chain(tokens).collect()
    }

    fn add_to_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        view.put_tokens(record);
    }

    fn remove_from_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        view.remove_tokens(record);
    }

    fn held(record: &Record<Self>) -> Option<NamedConnections> {
        let connections = record.facts.bindings.iter().map(|it| it.connection.clone());
        Some(NamedConnections { agent: record.id.clone(), connections: connections.collect() })
    }

    fn may_add(record: &Record<Self>, view: &View) -> Result<(), DirectoryError> {
        check::owner(view, &record.org, record.facts.owner.as_ref())
    }

    /// The agent's connections must fit its environment and its owner.
    fn may_change(
        before: &Record<Self>,
        after: &Record<Self>,
        view: &View,
    ) -> Result<(), DirectoryError> {
        if before.facts.owner != after.facts.owner {
            check::owner(view, &after.org, after.facts.owner.as_ref())?;
        } else if before.environment == after.environment {
            return Ok(());
        }
        let bound = after.facts.bindings.iter();
        let mut bound = bound.filter_map(|it| view.connection(&after.org, &it.connection));
        bound.try_for_each(|connection| check::may_bind(after, connection))
    }

    fn may_remove(record: &Record<Self>, by: ManagedBy, view: &View) -> Result<(), DirectoryError> {
        check::removable(record, by)?;
        check::named_by_no_rule(record, view)
    }

    /// Its plugins are removed with it.
    async fn removal<'a>(
        writer: &'a DirectoryWriter,
        record: &'a Record<Self>,
        change: &'a mut RecordChange,
    ) -> Result<(), DirectoryError> {
        writer.remove_plugins_of(record, change).await
    }
}

impl Directory {
    /// Adds a token: `chosen` (from `--token-stdin`), or an issued one. Also for agents that the file manages, because
    /// a file cannot contain an issued token.
    ///
    /// # Errors
    /// When a chosen token is weak or in use, the expiry is past, or there is no such agent.
    #[expect(clippy::too_many_arguments, reason = "the receiver and five")]
    pub async fn add_token(
        &self,
        org: &OrgId,
        agent: &AgentId,
        label: Option<String>,
        expires: Option<Timestamp>,
        chosen: Option<Secret>,
    ) -> Result<IssuedToken, DirectoryError> {
        check::label(label.as_deref())?;
        if expires.is_some_and(|expires| expires <= self.shared.clock.now()) {
            return Err(DirectoryError::TokenExpired);
        }
        if chosen.as_ref().is_some_and(|chosen| !token::is_acceptable_secret(chosen)) {
            return Err(DirectoryError::TokenRefused);
        }
        let text = chosen.unwrap_or_else(token::issue_agent_token);
        let new = TokenRecord {
            id: TokenId::random(),
            hash: TokenHash::of_secret(&text).to_hex(),
            spec: TokenSpec { label },
            created: self.shared.clock.now(),
            expires,
            managed_by: ManagedBy::Store,
        };
        let issued = IssuedToken { id: new.id.clone(), text, expires };
        let now = new.created;
        let add = |agent: &mut AgentRecord| {
            let tokens = &mut agent.facts.tokens;
            if tokens.iter().any(|token| token.hash == new.hash) {
                return Err(DirectoryError::TokenTaken);
            }
            tokens.retain(|token| is_renewable(token, now));
            if tokens.len() >= AGENT_TOKENS_MAX {
                tokens.retain(|token| token.is_live(now));
            }
            if tokens.len() >= AGENT_TOKENS_MAX {
                return Err(DirectoryError::TooMany { what: "tokens", max: AGENT_TOKENS_MAX });
            }
            tokens.push(new.clone());
            Ok(())
        };
        self.edit::<Agent, DirectoryError>(org, agent, &add).await?;
        Ok(issued)
    }

    /// Changes the expiry of a token. Only for tokens that expire: a renewal must not limit a token without an expiry.
    ///
    /// # Errors
    /// When the agent has no such token, or the token does not expire or is in the file.
    pub async fn renew_token(
        &self,
        org: &OrgId,
        agent: &AgentId,
        token: &TokenId,
        expires: Timestamp,
    ) -> Result<(), DirectoryError> {
        let change = |agent: &mut AgentRecord| {
            let mine = |known: &&mut TokenRecord| known.id == *token && known.expires.is_some();
            let found = agent.facts.tokens.iter_mut().find(mine);
            let found = found.ok_or_else(|| DirectoryError::not_found("token", token))?;
            check::editor(found.managed_by, ManagedBy::Store, "token", token.as_str())?;
            found.expires = Some(expires);
            Ok(())
        };
        self.edit::<Agent, DirectoryError>(org, agent, &change).await.map(drop)
    }

    /// Revokes a token, and ends its open streams.
    ///
    /// # Errors
    /// When the agent has no such token, or the file names the agent and has the token.
    pub async fn revoke_token(
        &self,
        org: &OrgId,
        agent: &AgentId,
        token: &TokenId,
    ) -> Result<(), DirectoryError> {
        self.revoke_token_by(org, agent, token, ManagedBy::Store).await
    }

    /// [`Directory::revoke_token`] by either side.
    ///
    /// # Errors
    /// As [`Directory::revoke_token`].
    pub async fn revoke_token_by(
        &self,
        org: &OrgId,
        agent: &AgentId,
        token: &TokenId,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        let revoke = |agent: &mut AgentRecord| {
            let AgentFacts { tokens, revoked, paused, .. } = &mut agent.facts;
            let at = tokens.iter().position(|known| known.id == *token);
            let at = at.ok_or_else(|| DirectoryError::not_found("token", token))?;
            // The file no longer names an agent that is paused.
            if !*paused {
                check::editor(tokens[at].managed_by, by, "token", token.as_str())?;
            }
            let TokenRecord { id, hash, .. } = tokens.remove(at);
            revoked.push(RevokedToken { id, hash });
            let over = revoked.len().saturating_sub(REVOKED_MAX);
            revoked.drain(..over);
            Ok(())
        };
        self.edit::<Agent, DirectoryError>(org, agent, &revoke).await.map(drop)
    }

    /// Sets the token that the file gives the agent under `label`, in place of an earlier one. The same hash again
    /// changes nothing. The caller has checked the token itself with [`token::is_acceptable_secret`].
    ///
    /// # Errors
    /// When another agent has the token, or there is no such agent.
    pub async fn set_chosen_token(
        &self,
        org: &OrgId,
        agent: &AgentId,
        label: Option<String>,
        hash: TokenHash,
    ) -> Result<TokenId, DirectoryError> {
        check::label(label.as_deref())?;
        let new = TokenRecord {
            id: TokenId::random(),
            hash: hash.to_hex(),
            spec: TokenSpec { label },
            created: self.shared.clock.now(),
            expires: None,
            managed_by: ManagedBy::File,
        };
        let is_replaced = |token: &TokenRecord| {
            token.managed_by == ManagedBy::File && token.spec == new.spec && token.hash != new.hash
        };
        let change = |agent: &mut AgentRecord| {
            let AgentFacts { tokens, revoked, .. } = &mut agent.facts;
            revoked.retain(|former| former.hash != new.hash);
            tokens.retain(|token| !is_replaced(token));
            match tokens.iter_mut().find(|token| token.hash == new.hash) {
                Some(known) => {
                    known.spec.clone_from(&new.spec);
                    known.managed_by = ManagedBy::File;
                    known.expires = None;
                }
                None => tokens.push(new.clone()),
            }
            Ok(())
        };
        let after = self.edit::<Agent, DirectoryError>(org, agent, &change).await?;
        let token = after.facts.tokens.iter().find(|token| token.hash == new.hash);
        token.map(|token| token.id.clone()).ok_or(DirectoryError::Interrupted)
    }
}

fn is_renewable(token: &TokenRecord, now: Timestamp) -> bool {
    token.expires.is_none_or(|expires| now.duration_since(expires) < RENEWABLE_FOR)
}
