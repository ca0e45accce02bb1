//! Agents: made, changed, removed. Their tokens are `tokens.rs`'s, what they may use
//! `bindings.rs`'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::DirectoryError;
use super::index::{Claim, Named};
use super::kept::{Collection, Kept};
use super::records::{AgentRecord, ManagedBy};
use super::rows::{At, Read};
use super::view::{OrgView, View};
use super::{Directory, Writer, check};
use crate::crypto::token::TokenHash;
use crate::store::{StoreError, Table};
use keyward_base::id::{AgentId, ConnectionId, OrgId, UserId};
use keyward_model::{Agent, AgentFacts, AgentSpec, Resource};

/// Turns come one by one here, so only another replica can be in the way.
pub(super) const EDIT_TRIES: usize = 5;

/// An agent's row, before and after.
pub(super) struct Edited {
    pub before: AgentRecord,
    pub after: Arc<AgentRecord>,
}

impl Kept for Agent {
    const TABLE: Table = Table::Agents;
    const NAMED: Named = Named::Agent;

    fn of(org: &OrgView) -> &Collection<Self> {
        &org.agents
    }

    fn of_mut(org: &mut OrgView) -> &mut Collection<Self> {
        &mut org.agents
    }

    fn came(view: &mut View, record: &Arc<AgentRecord>) {
        view.put_tokens(record);
    }

    fn went(view: &mut View, record: &AgentRecord) {
        view.remove_tokens(record);
    }
}

impl Directory {
    /// A new agent, without tokens and bindings.
    ///
    /// # Errors
    /// When the spec is refused, the name is taken, or there is no such owner.
    pub async fn add_agent(
        &self,
        org: &OrgId,
        managed_by: ManagedBy,
        spec: AgentSpec,
        owner: Option<UserId>,
    ) -> Result<Arc<AgentRecord>, DirectoryError> {
        Agent::check(&spec)?;
        let facts = AgentFacts { owner, ..AgentFacts::default() };
        let record = AgentRecord::new(org, managed_by, spec, facts, self.shared.clock.now());
        self.write(|writer| async move {
            writer.needs_org(&record.org)?;
            writer.needs_owner(&record.org, record.facts.owner.as_ref())?;
            writer.add(record).await
        })
        .await
    }

    /// Removes an agent with its tokens, bindings and plugins.
    ///
    /// # Errors
    /// When there is none, or the file manages it (and still names it).
    pub async fn remove_agent(&self, org: &OrgId, id: &AgentId) -> Result<(), DirectoryError> {
        self.remove_agent_by(org, id, ManagedBy::Store).await
    }

    /// [`Directory::remove_agent`] by either side.
    ///
    /// # Errors
    /// As there.
    pub async fn remove_agent_by(
        &self,
        org: &OrgId,
        id: &AgentId,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        let at = At::new(Table::Agents, org, id);
        let id = id.clone();
        self.write(|writer| async move { writer.remove_agent(at, id, by).await }).await
    }

    /// Pauses what was taken out of the file, or ends the pause. Writes only when that is a change.
    ///
    /// # Errors
    /// When there is no such agent.
    pub async fn set_agent_paused(
        &self,
        org: &OrgId,
        id: &AgentId,
        paused: bool,
    ) -> Result<Arc<AgentRecord>, DirectoryError> {
        self.edit_agent(org, id, move |agent| {
            agent.facts.paused = paused;
            Ok(())
        })
        .await
    }

    /// Pauses one whoever manages it, until somebody ends that; the file does not. Writes only when that is a
    /// change.
    ///
    /// # Errors
    /// When there is no such agent.
    pub async fn set_agent_held(
        &self,
        org: &OrgId,
        id: &AgentId,
        held: bool,
    ) -> Result<Arc<AgentRecord>, DirectoryError> {
        self.edit_agent(org, id, move |agent| {
            agent.facts.held = held;
            Ok(())
        })
        .await
    }

    /// Gives an agent other labels and another environment. Writes only when that is a change.
    ///
    /// # Errors
    /// When one of its connections is in yet another environment, the labels are out of bounds,
    /// the file manages it (and `by` is not the file), or there is no such agent.
    pub async fn set_agent_labels(
        &self,
        org: &OrgId,
        id: &AgentId,
        (labels, environment): (BTreeMap<String, String>, Option<String>),
        by: ManagedBy,
    ) -> Result<Arc<AgentRecord>, DirectoryError> {
        let (org, id) = (org.clone(), id.clone());
        self.write(|writer| async move {
            let bound = writer.connections_of(&org, &id);
            let change = move |agent: &mut AgentRecord| {
                check::agent_editor(agent, by)?;
                agent.spec.labels.clone_from(&labels);
                agent.spec.environment.clone_from(&environment);
                Agent::check(&agent.spec)?;
                bound.iter().try_for_each(|connection| check::same_environment(agent, connection))
            };
            Ok(writer.edit_agent(&org, &id, &change).await?.after)
        })
        .await
    }

    /// Gives an agent to somebody else, or to the organisation.
    ///
    /// # Errors
    /// When a private connection of somebody else is bound to it, the file manages it, or one of
    /// them does not exist.
    pub async fn set_agent_owner(
        &self,
        org: &OrgId,
        id: &AgentId,
        owner: Option<UserId>,
    ) -> Result<Arc<AgentRecord>, DirectoryError> {
        let (org, id) = (org.clone(), id.clone());
        self.write(|writer| async move {
            writer.needs_owner(&org, owner.as_ref())?;
            let bound = writer.connections_of(&org, &id);
            let change = move |agent: &mut AgentRecord| {
                check::agent_editor(agent, ManagedBy::Store)?;
                agent.facts.owner.clone_from(&owner);
                bound.iter().try_for_each(|connection| check::may_bind(agent, connection))
            };
            Ok(writer.edit_agent(&org, &id, &change).await?.after)
        })
        .await
    }

    /// Changes an agent's row.
    pub(super) async fn edit_agent(
        &self,
        org: &OrgId,
        id: &AgentId,
        change: impl Fn(&mut AgentRecord) -> Result<(), DirectoryError> + Send + Sync + 'static,
    ) -> Result<Arc<AgentRecord>, DirectoryError> {
        let (org, id) = (org.clone(), id.clone());
        self.write(|writer| async move { Ok(writer.edit_agent(&org, &id, &change).await?.after) })
            .await
    }
}

impl Writer {
    async fn remove_agent(&self, at: At, id: AgentId, by: ManagedBy) -> Result<(), DirectoryError> {
        let Read { record: agent, version } = self.read::<Agent>(&at).await?;
        check::agent_remover(&agent, by)?;
        self.erase(&at, Some(version), |view| view.take_out::<Agent>(&agent.org, &id)).await?;
        let name = self.index.name(&agent.org, Named::Agent, agent.name());
        self.drop_tokens(&agent, None).await?;
        self.rows.delete(&name, None).await?;
        self.remove_plugins_of(&agent.org, &id).await
    }

    /// Changes an agent's row under compare-and-swap; a change that changes
    /// nothing writes nothing, one that fails leaves everything as it was.
    pub(super) async fn edit_agent(
        &self,
        org: &OrgId,
        id: &AgentId,
        change: &(impl Fn(&mut AgentRecord) -> Result<(), DirectoryError> + Send + Sync),
    ) -> Result<Edited, DirectoryError> {
        let at = At::new(Table::Agents, org, id);
        for _ in 0..EDIT_TRIES {
            let Read { record: before, version } = self.read::<Agent>(&at).await?;
            let mut after = before.clone();
            change(&mut after)?;
            if after == before {
                return Ok(Edited { before, after: Arc::new(after) });
            }
            match self.commit(&at, after, Some(version)).await {
                Err(error) if error.is_conflict() => {}
                other => return other.map(|after| Edited { before, after }),
            }
        }
        Err(StoreError::Conflict { table: Table::Agents.name(), key: at.key() }.into())
    }

    /// Takes a name before there is anything of that name.
    pub(super) async fn take_name(
        &self,
        at: &At,
        owner: impl ToString,
        (kind, name): (Named, &str),
    ) -> Result<(), DirectoryError> {
        match self.rows.write(at, &Claim::of(owner), None).await {
            Err(error) if error.is_conflict() => {
                Err(DirectoryError::NameTaken { what: kind.as_str(), name: name.to_owned() })
            }
            other => other.map(drop),
        }
    }

    /// After a failed write, index rows that nobody needs. If that fails too, they keep a name or
    /// a token taken until the store is opened again, which drops them.
    pub(super) async fn give_back(&self, taken: &[At]) {
        for at in taken {
            if let Err(error) = self.rows.delete(at, None).await {
                tracing::warn!(row = at.key(), %error, "an index row stays until the next start");
            }
        }
    }

    /// Deletes the index rows of tokens that `before` has and `after` has not.
    pub(super) async fn drop_tokens(
        &self,
        before: &AgentRecord,
        after: Option<&AgentRecord>,
    ) -> Result<(), DirectoryError> {
        let kept = |hash: &str| {
            after.is_some_and(|after| after.facts.tokens.iter().any(|token| token.hash == hash))
        };
        for token in before.facts.tokens.iter().filter(|token| !kept(&token.hash)) {
            if let Some(hash) = TokenHash::from_hex(&token.hash) {
                self.rows.delete(&self.index.token(&hash), None).await?;
            }
        }
        Ok(())
    }

    /// The connections that an agent is bound to.
    fn connections_of(
        &self,
        org: &OrgId,
        id: &AgentId,
    ) -> Vec<Arc<super::records::ConnectionRecord>> {
        let view = self.view.load();
        let ids = |agent: &Arc<AgentRecord>| -> Vec<ConnectionId> {
            agent.facts.bindings.iter().map(|binding| binding.connection.clone()).collect()
        };
        let bound = view.agent(org, id).map(ids).unwrap_or_default();
        bound.iter().filter_map(|id| view.connection(org, id).cloned()).collect()
    }
}
