//! Agents: what holds for them beside what holds for every resource. Tokens are in `tokens.rs`, bindings in
//! `bindings.rs`.

use std::iter;
use std::sync::Arc;

use super::error::DirectoryError;
use super::index::{Claim, Index, Named, Unique};
use super::kept::{Collection, Kept};
use super::records::{AgentRecord, ManagedBy};
use super::rows::At;
use super::view::{OrgView, View};
use super::{Writer, check};
use crate::store::Table;
use keyward_model::{Agent, Record};

/// Turns come one by one here, so only another replica can be in the way.
pub(super) const EDIT_TRIES: usize = 5;

impl Kept for Agent {
    const TABLE: Table = Table::Agents;
    const NAMED: Named = Named::Agent;

    fn of(org: &OrgView) -> &Collection<Self> {
        &org.agents
    }

    fn of_mut(org: &mut OrgView) -> &mut Collection<Self> {
        &mut org.agents
    }

    fn unique(record: &Record<Self>, index: &Index) -> Vec<Unique> {
        let name = index.unique_name(&record.org, Self::NAMED, record.name());
        let tokens = record.facts.tokens.iter();
        let tokens = tokens.filter_map(|token| index.unique_token(&token.hash));
        iter::once(name).chain(tokens).collect()
    }

    fn came(view: &mut View, record: &Arc<Record<Self>>) {
        view.put_tokens(record);
    }

    fn went(view: &mut View, record: &Arc<Record<Self>>) {
        view.remove_tokens(record);
    }

    fn may_add(record: &Record<Self>, view: &View) -> Result<(), DirectoryError> {
        has_owner(record, view)
    }

    /// What it is bound to must fit its environment and its owner.
    fn may_change(
        before: &Record<Self>,
        after: &Record<Self>,
        view: &View,
    ) -> Result<(), DirectoryError> {
        if before.facts.owner != after.facts.owner {
            has_owner(after, view)?;
        } else if before.spec.environment == after.spec.environment {
            return Ok(());
        }
        let bound = after.facts.bindings.iter();
        let mut bound = bound.filter_map(|it| view.connection(&after.org, &it.connection));
        bound.try_for_each(|connection| check::may_bind(after, connection))
    }

    /// What was taken out of the file may be removed by anyone: otherwise nobody could.
    fn may_remove(record: &Record<Self>, by: ManagedBy, _: &View) -> Result<(), DirectoryError> {
        check::agent_remover(record, by)
    }

    async fn gone(writer: Writer, record: Record<Self>) -> Result<(), DirectoryError> {
        writer.remove_plugins_of(&record.org, &record.id).await
    }
}

fn has_owner(agent: &AgentRecord, view: &View) -> Result<(), DirectoryError> {
    match &agent.facts.owner {
        Some(owner) if view.user(&agent.org, owner).is_none() => {
            Err(DirectoryError::not_found("user", owner))
        }
        _ => Ok(()),
    }
}

impl Writer {
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
}
