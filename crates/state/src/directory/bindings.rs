//! Bindings: the connections that an agent may use. They are stored in the agent's row.

use super::error::DirectoryError;
use super::records::{AgentRecord, BindingRecord, ManagedBy};
use super::rows::RowId;
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
        let (now, of) = (self.shared.clock.now(), connection.clone());
        let prefer = move |agent: &mut AgentRecord| {
            direct_binding(agent, &of)?.preferred = Some(now);
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
        is_wanted: impl Fn(&AgentRecord) -> bool + Send + Sync + 'static,
    ) -> Result<BindingRecord, DirectoryError> {
        let of = connection.clone();
        let limit = move |agent: &mut AgentRecord| {
            if !is_wanted(agent) {
                let name = agent.name().to_owned();
                return Err(DirectoryError::Changed { what: "agent", name });
            }
            let binding = direct_binding(agent, &of)?;
            check::editor(binding.managed_by, ManagedBy::Store, "binding", of.as_str())?;
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
        edit: impl Fn(&mut AgentRecord) -> Result<(), DirectoryError> + Send + Sync + 'static,
    ) -> Result<BindingRecord, DirectoryError> {
        let (org, agent, connection) = (org.clone(), agent.clone(), connection.clone());
        self.write(|writer| async move {
            let change = |agent: &mut AgentRecord| {
                check::editable(agent, ManagedBy::Store)?;
                edit(agent)
            };
            let (_, after) = writer.edit::<Agent>(&org, &agent, &change).await?;
            let bound = after.facts.binding(&connection).cloned();
            bound.ok_or_else(|| DirectoryError::not_found("binding", &connection))
        })
        .await
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
        self.read_plugins_of(org, agent).await?;
        let view = self.view.load_full();
        let plugins = || view.plugins_of(org, agent);
        let slot = plugins().find_map(|it| Some((it, it.slots_with(connection).next()?)));
        let change = |agent: &mut AgentRecord| {
            let at =
                agent.facts.bindings.iter().position(|binding| binding.connection == *connection);
            let at = at.ok_or_else(|| DirectoryError::not_found("binding", connection))?;
            let managed_by = agent.facts.bindings[at].managed_by;
            check::editor(managed_by, by, "binding", connection.as_str())?;
            match slot {
                None => drop(agent.facts.bindings.remove(at)),
                Some(_) if agent.facts.bindings[at].direct => {
                    agent.facts.bindings[at].direct = false;
                    agent.facts.bindings[at].limits = BindingLimits::default();
                }
                Some((plugin, slot)) => {
                    return Err(DirectoryError::BoundBySlot {
                        connection: view.connection(org, connection).map_or_else(
                            || connection.to_string(),
                            |connection| connection.name.clone(),
                        ),
                        plugin: plugin.name().to_owned(),
                        slot: slot.slot.clone(),
                    });
                }
            }
            Ok(())
        };
        let (before, after) = self.edit::<Agent>(org, agent, &change).await?;
        self.give_back(&before, &after).await;
        Ok(())
    }

    async fn bind(
        &self,
        org: &OrgId,
        agent: &AgentId,
        new: BindingRecord,
        limits: &LimitsChange,
    ) -> Result<BindingRecord, DirectoryError> {
        let at = RowId::new(Table::Connections, org, &new.connection);
        let connection = self.read::<Connection>(&at).await?.record;
        let change = |agent: &mut AgentRecord| {
            check::editable(agent, new.managed_by)?;
            check::may_bind(agent, &connection)?;
            agent.facts.forget_lost(&connection.provider);
            let known =
                agent.facts.bindings.iter().position(|bound| bound.connection == new.connection);
            match known {
                Some(at) => {
                    let bound = &mut agent.facts.bindings[at];
                    bound.direct = true;
                    bound.limits = bound.limits.changed(limits);
                    if new.managed_by == ManagedBy::File {
                        bound.managed_by = ManagedBy::File;
                    }
                }
                None => {
                    check::room_for_binding(agent)?;
                    let limits = new.limits.changed(limits);
                    agent.facts.bindings.push(BindingRecord { limits, ..new.clone() });
                }
            }
            Ok(())
        };
        let (_, after) = self.edit::<Agent>(org, agent, &change).await?;
        let bound = after.facts.binding(&new.connection).cloned();
        bound.ok_or_else(|| DirectoryError::not_found("binding", &new.connection))
    }
}
