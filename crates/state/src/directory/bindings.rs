//! Bindings: the connections that an agent may use. They are stored in the agent's row.

use super::commit::RecordChange;
use super::error::DirectoryError;
use super::records::{AgentRecord, BindingRecord, ConnectionRecord, ManagedBy};
use super::rows::{RowId, RowWrite};
use super::stored::{EDIT_TRIES, overtaken};
use super::{Directory, DirectoryWriter, check};
use crate::store::Table;
use keyward_base::id::{AgentId, ConnectionId, OrgId};
use keyward_model::{Agent, BindTerms, BindingLimits, Connection, LimitsChange, Placeholders};

impl Directory {
    /// Binds; `placeholders` were issued by the caller from the provider's key shapes. An existing binding
    /// keeps its placeholders, because programs hold them; only its limits change.
    ///
    /// # Errors
    /// When agent and connection are in two different environments, one of them does not exist in
    /// the org, or the file manages the agent (and `managed_by` is not the file).
    #[expect(clippy::too_many_arguments, reason = "the receiver and five")]
    pub async fn bind(
        &self,
        org: &OrgId,
        agent: &AgentId,
        connection: &ConnectionId,
        placeholders: impl Into<Placeholders>,
        terms: impl Into<BindTerms>,
    ) -> Result<BindingRecord, DirectoryError> {
        let BindTerms { managed_by, limits } = terms.into();
        let new = BindingRecord {
            connection: connection.clone(),
            created: self.shared.clock.now(),
            managed_by,
            placeholders: placeholders.into(),
            direct: true,
            preferred: None,
            limits: BindingLimits::default(),
        };
        let (org, agent) = (org.clone(), agent.clone());
        self.write(|writer| async move { writer.bind(&org, &agent, new, &limits).await }).await
    }

    /// Makes a bound connection the default of the agent, where several fit a request.
    ///
    /// # Errors
    /// When there is no such binding, or the file manages the agent.
    pub async fn make_default(
        &self,
        org: &OrgId,
        agent: &AgentId,
        connection: &ConnectionId,
    ) -> Result<BindingRecord, DirectoryError> {
        let now = self.shared.clock.now();
        let prefer = |agent: &mut AgentRecord| {
            direct_binding(agent, connection)?.preferred = Some(now);
            Ok(())
        };
        self.edit_binding(org, agent, connection, prefer).await
    }

    /// Changes the actions that a binding allows, if `is_wanted` is true for the current agent.
    ///
    /// # Errors
    /// When there is no such binding, the file manages the agent or the binding, or `is_wanted` is false for the agent.
    pub async fn limit_binding(
        &self,
        agent: &AgentRecord,
        connection: &ConnectionId,
        limits: LimitsChange,
        is_wanted: impl Fn(&AgentRecord) -> bool + Send + Sync,
    ) -> Result<BindingRecord, DirectoryError> {
        let limit = |agent: &mut AgentRecord| {
            if !is_wanted(agent) {
                let name = agent.name().to_owned();
                return Err(DirectoryError::Changed { what: "agent", name });
            }
            let binding = direct_binding(agent, connection)?;
            check::editor(binding.managed_by, ManagedBy::Store, "binding", connection.as_str())?;
            binding.limits = binding.limits.changed(&limits);
            Ok(())
        };
        self.edit_binding(&agent.org, &agent.id, connection, limit).await
    }

    /// Changes a direct binding of an agent that no file manages.
    async fn edit_binding(
        &self,
        org: &OrgId,
        agent: &AgentId,
        connection: &ConnectionId,
        edit: impl Fn(&mut AgentRecord) -> Result<(), DirectoryError> + Send + Sync,
    ) -> Result<BindingRecord, DirectoryError> {
        let change = |agent: &mut AgentRecord| {
            check::editable(agent, ManagedBy::Store)?;
            edit(agent)
        };
        let after = self.edit::<Agent, DirectoryError>(org, agent, &change).await?;
        let bound = after.facts.binding(connection).cloned();
        bound.ok_or_else(|| DirectoryError::not_found("binding", connection))
    }

    /// Makes these bindings of the file the defaults, and no others of the file.
    ///
    /// # Errors
    /// When there is no such agent.
    pub async fn set_declared_defaults(
        &self,
        org: &OrgId,
        agent: &AgentId,
        connections: &[ConnectionId],
    ) -> Result<(), DirectoryError> {
        let now = self.shared.clock.now();
        let set = |agent: &mut AgentRecord| {
            let all = agent.facts.bindings.iter_mut();
            for binding in all.filter(|binding| binding.managed_by == ManagedBy::File) {
                binding.preferred = match connections.contains(&binding.connection) {
                    true => binding.preferred.or(Some(now)),
                    false => None,
                };
            }
        };
        self.change::<Agent>(org, agent, set).await.map(drop)
    }

    /// Removes a binding; open streams that use it end. Plugins of the agent keep the connections in their
    /// slots.
    ///
    /// # Errors
    /// When there is none, the file manages it, or it exists only for a plugin.
    pub async fn unbind(
        &self,
        org: &OrgId,
        agent: &AgentId,
        connection: &ConnectionId,
    ) -> Result<(), DirectoryError> {
        self.unbind_by(org, agent, connection, ManagedBy::Store).await
    }

    /// [`Directory::unbind`] by either side.
    ///
    /// # Errors
    /// As [`Directory::unbind`].
    pub async fn unbind_by(
        &self,
        org: &OrgId,
        agent: &AgentId,
        connection: &ConnectionId,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        let (org, agent, connection) = (org.clone(), agent.clone(), connection.clone());
        self.write(|writer| async move { writer.unbind(&org, &agent, &connection, by).await }).await
    }
}

/// The direct binding of an agent to a connection.
fn direct_binding<'a>(
    agent: &'a mut AgentRecord,
    connection: &ConnectionId,
) -> Result<&'a mut BindingRecord, DirectoryError> {
    let mut all = agent.facts.bindings.iter_mut();
    let found = all.find(|it| it.direct && it.connection == *connection);
    found.ok_or_else(|| DirectoryError::not_found("binding", connection))
}

impl DirectoryWriter {
    async fn unbind(
        &self,
        org: &OrgId,
        agent: &AgentId,
        connection: &ConnectionId,
        by: ManagedBy,
    ) -> Result<(), DirectoryError> {
        let at = RowId::new(Table::Agents, org, agent);
        for _ in 0..EDIT_TRIES {
            let read = self.read::<Agent>(&at).await?;
            // A plugin of another replica that is added after this changes the agent's row, so that this change conflicts.
            self.read_plugins_of(org, agent).await?;
            let after = self.unbound(&read.record, connection, by)?;
            match self.put_changed(&read, after, None).await {
                Err(error) if error.is_conflict() => {}
                other => return other.map(drop),
            }
        }
        Err(overtaken(&at))
    }

    /// The agent without a direct binding. A plugin's slot keeps its own.
    fn unbound(
        &self,
        agent: &AgentRecord,
        connection: &ConnectionId,
        by: ManagedBy,
    ) -> Result<AgentRecord, DirectoryError> {
        let (mut after, view) = (agent.clone(), self.view.load_full());
        let mut plugins = view.plugins_of(&agent.org, &agent.id);
        let slot = plugins.find_map(|it| Some((it, it.slots_with(connection).next()?)));
        let bindings = &mut after.facts.bindings;
        let at = bindings.iter().position(|binding| binding.connection == *connection);
        let at = at.ok_or_else(|| DirectoryError::not_found("binding", connection))?;
        check::editor(bindings[at].managed_by, by, "binding", connection.as_str())?;
        match slot {
            None => drop(bindings.remove(at)),
            Some(_) if bindings[at].direct => {
                bindings[at].direct = false;
                bindings[at].limits = BindingLimits::default();
            }
            Some((plugin, slot)) => {
                let found = view.connection(&agent.org, connection);
                return Err(DirectoryError::BoundBySlot {
                    connection: found.map_or_else(|| connection.to_string(), |it| it.name.clone()),
                    plugin: plugin.name().to_owned(),
                    slot: slot.slot.clone(),
                });
            }
        }
        Ok(after)
    }

    async fn bind(
        &self,
        org: &OrgId,
        agent: &AgentId,
        new: BindingRecord,
        limits: &LimitsChange,
    ) -> Result<BindingRecord, DirectoryError> {
        let at = RowId::new(Table::Connections, org, &new.connection);
        for _ in 0..EDIT_TRIES {
            let connection = self.read::<Connection>(&at).await?.record;
            let read = self.read::<Agent>(&RowId::new(Table::Agents, org, agent)).await?;
            let (after, bound) = bound(&read.record, &connection, &new, limits)?;
            if after == read.record {
                return Ok(bound);
            }
            let mut change = RecordChange::default();
            self.change_in(&mut change, &read, after)?;
            // It is not removed meanwhile.
            change.add(RowWrite::Exists(at.clone()));
            match self.commit(change).await {
                Err(error) if error.is_conflict() => {}
                made => return made.map(|()| bound),
            }
        }
        Err(overtaken(&at))
    }
}

/// The agent with a direct binding to a connection, and that binding.
fn bound(
    agent: &AgentRecord,
    connection: &ConnectionRecord,
    new: &BindingRecord,
    limits: &LimitsChange,
) -> Result<(AgentRecord, BindingRecord), DirectoryError> {
    check::editable(agent, new.managed_by)?;
    check::may_bind(agent, connection)?;
    let mut after = agent.clone();
    after.facts.forget_lost(&connection.provider);
    let mut bindings = after.facts.bindings.iter_mut();
    let bound = match bindings.find(|bound| bound.connection == new.connection) {
        Some(bound) => {
            bound.direct = true;
            bound.limits = bound.limits.changed(limits);
            if new.managed_by == ManagedBy::File {
                bound.managed_by = ManagedBy::File;
            }
            bound.clone()
        }
        None => {
            check::room_for_binding(agent)?;
            let bound = BindingRecord { limits: new.limits.changed(limits), ..new.clone() };
            after.facts.bindings.push(bound.clone());
            bound
        }
    };
    Ok((after, bound))
}
